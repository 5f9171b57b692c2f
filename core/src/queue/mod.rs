//! The log queue: byte records in the order they came, bounded in number and size.
//!
//! Records lie in blocks of up to 64 KB, oldest block first, so that pushing is a copy to the end of a buffer,
//! popping hands out slices of one, and whatever concerns many records goes block by block.

mod block;

use crate::codec::{Corrupt, Reader, Writer};
use crate::memory::allocated_bytes;
use block::{read_record, Block, BLOCK_BYTES};
use std::collections::{vec_deque, VecDeque};

/// The version of the saved form that [`Queue::save`] writes.
pub const VERSION: u32 = 1;

/// The most a counter counts to: centuries of pushes, and small enough that sums of counters never overflow.
pub const COUNT_MAX: u64 = 1 << 62;

/// The most records, and about the most bytes, in one of a queue's [chunks](Queue::chunks).
const CHUNK_RECORDS: u64 = 512;
const CHUNK_BYTES: usize = 64 * 1024;

/// The longest a record's length can be, written down.
const LENGTH_BYTES_MAX: u64 = 10;

/// How much a queue may hold after a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub max_records: u64,
    /// Of the records' own bytes: what was pushed, not what it takes to keep it.
    pub max_bytes: u64,
}

/// What a push does when the queue would hold more than its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest records go, and are counted.
    DropOldest,
    /// Nothing of the batch is stored.
    Reject,
}

/// What has to go so that the rest and the batch fit. Always the oldest, and no more than that takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PushPlan {
    /// Records in the queue to drop.
    pub drop_oldest: u64,
    /// Records of the batch itself, from its front, for which there is no room even in an empty queue.
    pub skip_new: usize,
}

/// Why a batch cannot be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushError {
    /// The batch does not fit beside what is there.
    Full,
    /// The batch's record `index`, from 0, is longer than `max_bytes`: no queue with these limits can ever hold it.
    TooLarge { index: usize },
}

/// A first-in, first-out queue of records: any bytes, also none.
///
/// An empty queue is a value too: it carries the counts.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    /// Oldest first, none of them empty. Only the last is appended to.
    blocks: VecDeque<Block>,
    len: u64,
    bytes: u64,
    popped: u64,
    dropped: u64,
}

impl Queue {
    pub fn new() -> Self {
        Self::default()
    }

    /// Records in the queue.
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes of the records in the queue, their own alone.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Records ever pushed, those that were dropped at once included: `popped + dropped + len`.
    pub fn pushed(&self) -> u64 {
        self.popped + self.dropped + self.len
    }

    /// Records ever popped.
    pub fn popped(&self) -> u64 {
        self.popped
    }

    /// Records ever dropped because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Decides what a push of records of these lengths does. Changes nothing: the caller validates, then applies
    /// the plan with [`Self::apply_push`].
    ///
    /// A queue that already holds more than `limits` is cut down to them by a push that drops, and refuses one that
    /// does not.
    pub fn plan_push(
        &self,
        record_lens: impl Iterator<Item = usize> + Clone,
        limits: Limits,
        when_full: WhenFull,
    ) -> Result<PushPlan, PushError> {
        let (mut new_records, mut new_bytes) = (0u64, 0u64);
        for (index, len) in record_lens.clone().enumerate() {
            if len as u64 > limits.max_bytes {
                return Err(PushError::TooLarge { index });
            }
            new_records += 1;
            new_bytes = new_bytes.saturating_add(len as u64);
        }
        let excess_records = self.len.saturating_add(new_records).saturating_sub(limits.max_records);
        let excess_bytes = self.bytes.saturating_add(new_bytes).saturating_sub(limits.max_bytes);
        if excess_records == 0 && excess_bytes == 0 {
            return Ok(PushPlan::default());
        }
        if when_full == WhenFull::Reject {
            return Err(PushError::Full);
        }
        if excess_records <= self.len && excess_bytes <= self.bytes {
            let drop_oldest = excess_records.max(self.oldest_holding(excess_bytes));
            return Ok(PushPlan { drop_oldest, skip_new: 0 });
        }
        let mut skip_new = 0;
        for len in record_lens {
            if new_records <= limits.max_records && new_bytes <= limits.max_bytes {
                break;
            }
            new_records -= 1;
            new_bytes = new_bytes.saturating_sub(len as u64);
            skip_new += 1;
        }
        Ok(PushPlan { drop_oldest: self.len, skip_new })
    }

    /// Drops the oldest `drop_oldest` records, then appends `records`; `dropped_new` records of the batch were skipped
    /// and only count. Asks no limits: a primary and its replicas apply the same plan and end with equal queues.
    pub fn apply_push<'a>(&mut self, drop_oldest: u64, records: impl IntoIterator<Item = &'a [u8]>, dropped_new: u64) {
        let dropped = self.remove_front(drop_oldest).saturating_add(dropped_new);
        self.dropped = self.dropped.saturating_add(dropped).min(COUNT_MAX);
        for record in records {
            self.push_back(record);
        }
    }

    fn push_back(&mut self, record: &[u8]) {
        if !self.blocks.back().is_some_and(|block| block.has_room(record.len())) {
            if let Some(full) = self.blocks.back_mut() {
                full.close();
            }
            self.blocks.push_back(Block::default());
        }
        // A long queue allocates its blocks whole; a short one has at most a quarter of itself to spare.
        let spacious_bytes = usize::try_from(self.bytes / 4).map_or(BLOCK_BYTES, |bytes| bytes.min(BLOCK_BYTES));
        if let Some(open) = self.blocks.back_mut() {
            open.push(record, spacious_bytes);
            self.len += 1;
            self.bytes += record.len() as u64;
        }
    }

    /// The oldest `count` records, or all there are, oldest first. Nothing is copied.
    pub fn front(&self, count: u64) -> Records<'_> {
        Records { blocks: self.blocks.iter(), encoded: &[], at: 0, left: count.min(self.len) }
    }

    /// Removes the oldest `count` records, or all there are, and counts them as popped. Returns how many.
    pub fn drop_front(&mut self, count: u64) -> u64 {
        let popped = self.remove_front(count);
        self.popped = self.popped.saturating_add(popped).min(COUNT_MAX);
        popped
    }

    fn remove_front(&mut self, count: u64) -> u64 {
        let count = count.min(self.len);
        let mut left = count;
        while let Some(block) = self.blocks.front_mut() {
            if left < block.len() {
                self.bytes -= block.skip(left);
                break;
            }
            left -= block.len();
            self.bytes -= block.bytes();
            self.blocks.pop_front();
        }
        self.len -= count;
        if self.blocks.is_empty() {
            // The list of blocks of a queue that was long once.
            self.blocks.shrink_to(4);
        }
        count
    }

    /// The fewest of the oldest records that hold at least `bytes`.
    fn oldest_holding(&self, bytes: u64) -> u64 {
        let (mut count, mut left) = (0, bytes);
        for block in &self.blocks {
            if left <= block.bytes() {
                return count + block.oldest_holding(left);
            }
            count += block.len();
            left -= block.bytes();
        }
        count
    }

    /// All records in portions for one command each: at most 512 records and 64 KB, or one longer record.
    pub fn chunks(&self) -> Chunks<'_> {
        Chunks { rest: self.front(self.len) }
    }

    /// Sets the counts of a queue whose records are pushed anew. Fails above [`COUNT_MAX`], changing nothing.
    pub fn set_counts(&mut self, popped: u64, dropped: u64) -> Result<(), Corrupt> {
        if popped > COUNT_MAX || dropped > COUNT_MAX {
            return Err(Corrupt("a count out of bounds"));
        }
        (self.popped, self.dropped) = (popped, dropped);
        Ok(())
    }

    /// The counts, then the records block by block, a byte string each.
    pub fn save(&self, out: &mut dyn Writer) {
        out.uint(self.popped);
        out.uint(self.dropped);
        out.uint(self.len);
        out.uint(self.bytes);
        for block in &self.blocks {
            out.bytes(block.encoded());
        }
    }

    /// Reads what [`Self::save`] of that `version` wrote. The records are pushed anew, so that the blocks are as this
    /// version of the code makes them.
    pub fn load(from: &mut dyn Reader, version: u32) -> Result<Self, Corrupt> {
        if version != VERSION {
            return Err(Corrupt("a queue of an unknown version"));
        }
        let mut queue = Self::new();
        queue.popped = from.uint_max(COUNT_MAX, "records popped")?;
        queue.dropped = from.uint_max(COUNT_MAX, "records dropped")?;
        let len = from.uint_max(COUNT_MAX, "records")?;
        let bytes = from.uint_max(COUNT_MAX, "bytes")?;
        while queue.len < len {
            let lengths_max = (len - queue.len).saturating_mul(LENGTH_BYTES_MAX);
            let encoded_max = lengths_max.saturating_add(bytes - queue.bytes);
            let encoded = from.bytes(usize::try_from(encoded_max).unwrap_or(usize::MAX))?;
            let mut at = 0;
            if encoded.is_empty() {
                return Err(Corrupt("a block without records"));
            }
            while at < encoded.len() {
                queue.push_back(read_record(&encoded, &mut at).ok_or(Corrupt("a record cut short"))?);
                if queue.len > len || queue.bytes > bytes {
                    return Err(Corrupt("more in the blocks than was counted"));
                }
            }
        }
        if queue.bytes != bytes {
            return Err(Corrupt("less in the blocks than was counted"));
        }
        Ok(queue)
    }

    /// The counts and each record: equal for queues with equal records and counts, however their blocks came about.
    pub fn digest(&self, out: &mut dyn Writer) {
        out.uint(self.popped);
        out.uint(self.dropped);
        out.uint(self.len);
        self.front(self.len).for_each(|record| out.bytes(record));
    }

    /// Bytes allocated behind the struct itself. Takes time in the number of blocks.
    pub fn memory_bytes(&self) -> usize {
        let buffers: usize = self.blocks.iter().map(|block| allocated_bytes(block.buffer().capacity())).sum();
        buffers + allocated_bytes(self.blocks.capacity() * size_of::<Block>())
    }

    /// Allocations to free with the value.
    pub fn allocations(&self) -> usize {
        self.blocks.len() + usize::from(self.blocks.capacity() > 0)
    }

    /// Visits the blocks' buffers from index `from` on, for defragmentation, until `visit` returns false. Returns where
    /// to go on, `None` at the end. A visitor may move a buffer, not change what is in it.
    pub fn buffers(&mut self, from: usize, visit: &mut dyn FnMut(&mut Vec<u8>) -> bool) -> Option<usize> {
        let count = self.blocks.len();
        let stopped = self.blocks.iter_mut().enumerate().skip(from).find_map(|(index, block)| {
            let go_on = visit(block.buffer_mut());
            (!go_on).then_some(index + 1)
        });
        stopped.filter(|next| *next < count)
    }
}

/// Records of a queue, oldest first.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    /// The blocks after the one being read.
    blocks: vec_deque::Iter<'a, Block>,
    encoded: &'a [u8],
    at: usize,
    left: u64,
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.left == 0 {
            return None;
        }
        if self.at == self.encoded.len() {
            (self.encoded, self.at) = (self.blocks.next()?.encoded(), 0);
        }
        self.left -= 1;
        read_record(self.encoded, &mut self.at)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Records<'_> {}

/// A queue's records in portions. See [`Queue::chunks`].
#[derive(Debug, Clone)]
pub struct Chunks<'a> {
    rest: Records<'a>,
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Records<'a>;

    fn next(&mut self) -> Option<Records<'a>> {
        let mut chunk = self.rest.clone();
        let mut bytes = self.rest.next()?.len();
        chunk.left = 1;
        while chunk.left < CHUNK_RECORDS {
            let mut next = self.rest.clone();
            match next.next() {
                Some(record) if bytes + record.len() <= CHUNK_BYTES => bytes += record.len(),
                _ => break,
            }
            self.rest = next;
            chunk.left += 1;
        }
        Some(chunk)
    }
}

#[cfg(test)]
mod tests;
