//! A block: consecutive records, their bytes in one buffer, their lengths and times in another.
//!
//! The lengths stay beside the bytes, so that records are counted, skipped and dropped without expanding anything.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use std::sync::Arc;

use super::bounds::BLOCK_BYTES;
use super::pack::{Job, Pack};
use super::size::Size;
use crate::TIME_MAX_MS;
use crate::codec::{Corrupt, Reader, Writer, get_varint, put_varint};
use crate::memory::allocated_bytes;

/// The most bytes that a record's length and time take in the index.
const ENTRY_BYTES_MAX: usize = 20;

/// Records in the order in which they came. They are appended at the end while the block is open, and taken from the
/// front.
#[derive(Debug, Clone, Default)]
pub(super) struct Block {
    /// For each record its length and the milliseconds since the record before it, as varints (the second in zigzag form: a
    /// clock may step back).
    index: Vec<u8>,
    data: Data,
    data_len: usize,
    /// Where the oldest record that is left begins.
    front: Cursor,
    /// The records that are left.
    size: Size,
    /// The time of the youngest record.
    newest_ms: i64,
}

#[derive(Debug, Clone)]
enum Data {
    Open(Vec<u8>),
    Closed(Arc<Pack>),
}

impl Default for Data {
    fn default() -> Self {
        Data::Open(Vec::new())
    }
}

/// A place between two records.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    index_at: usize,
    data_at: usize,
    /// The time of the previous record; at the start, the base of the first record's time.
    at_ms: i64,
}

/// A record's place and time.
#[derive(Debug, Clone, Copy)]
struct Entry {
    start: usize,
    end: usize,
    at_ms: i64,
}

impl Cursor {
    /// The record that begins here; the cursor moves behind it. `None` if there is no whole entry.
    fn next(&mut self, index: &[u8]) -> Option<Entry> {
        let len = usize::try_from(get_varint(index, &mut self.index_at)?).ok()?;
        let zigzag = get_varint(index, &mut self.index_at)?;
        let later_ms = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
        let start = self.data_at;
        self.data_at = start.checked_add(len)?;
        self.at_ms = self.at_ms.checked_add(later_ms)?;
        Some(Entry { start, end: self.data_at, at_ms: self.at_ms })
    }
}

impl Block {
    pub fn size(&self) -> Size {
        self.size
    }

    /// When the oldest record that is left was pushed.
    pub fn oldest_ms(&self) -> i64 {
        self.front.clone().next(&self.index).map_or(self.newest_ms, |entry| entry.at_ms)
    }

    /// Whether a record of this length still fits. An empty block takes a record of any length.
    pub fn has_room(&self, record_len: usize) -> bool {
        match &self.data {
            Data::Open(_) if self.data_len == 0 && self.index.is_empty() => true,
            Data::Open(_) => self.data_len + self.index.len() + record_len + ENTRY_BYTES_MAX <= BLOCK_BYTES,
            Data::Closed(_) => false,
        }
    }

    /// Appends a record that the block has room for. A buffer that must grow doubles, but reserves `spacious_bytes` at
    /// once.
    pub fn push(&mut self, record: &[u8], at_ms: i64, spacious_bytes: usize) {
        if self.data_len + record.len() > self.capacity() {
            self.forget_skipped();
        }
        let Data::Open(data) = &mut self.data else { return };
        let needed = data.len() + record.len();
        if needed > data.capacity() {
            let generous = needed.max(2 * data.capacity()).max(spacious_bytes);
            let capacity = allocated_bytes(generous).min(BLOCK_BYTES).max(needed);
            data.reserve_exact(capacity - data.len());
        }
        data.extend_from_slice(record);
        self.data_len = data.len();
        if self.index.is_empty() {
            (self.front.at_ms, self.newest_ms) = (at_ms, at_ms);
        }
        let later_ms = at_ms - self.newest_ms;
        self.newest_ms = at_ms;
        put_varint(&mut self.index, record.len() as u64);
        put_varint(&mut self.index, ((later_ms << 1) ^ (later_ms >> 63)).cast_unsigned());
        self.size += Size { records: 1, bytes: record.len() as u64 };
    }

    fn capacity(&self) -> usize {
        match &self.data {
            Data::Open(data) => data.capacity(),
            Data::Closed(_) => usize::MAX,
        }
    }

    /// Moves the records that are left to the front of the buffer if they are fewer bytes than the skipped ones before
    /// them. So a short queue stays in a small buffer, however much is pushed and popped.
    fn forget_skipped(&mut self) {
        let Data::Open(data) = &mut self.data else { return };
        let (data_at, index_at) = (self.front.data_at, self.front.index_at);
        if data_at + index_at < (data.len() + self.index.len()).div_ceil(2) {
            return;
        }
        data.drain(..data_at);
        self.index.drain(..index_at);
        self.data_len = data.len();
        (self.front.data_at, self.front.index_at) = (0, 0);
    }

    /// Closes the block: nothing more will be appended. Frees spare room, and returns the job that compresses the block.
    pub fn close(&mut self) -> Option<Job> {
        self.forget_skipped();
        if allocated_bytes(self.index.len()) < allocated_bytes(self.index.capacity()) {
            self.index.shrink_to_fit();
        }
        let Data::Open(data) = &mut self.data else { return None };
        let mut data = std::mem::take(data);
        if allocated_bytes(data.len()) < allocated_bytes(data.capacity()) {
            data.shrink_to_fit();
        }
        let (pack, job) = Pack::raw(data);
        self.data = Data::Closed(pack);
        job
    }

    /// Expands a closed block for good, because it is about to be read in several steps.
    pub fn expand(&mut self) {
        if let Data::Closed(pack) = &self.data {
            self.data = Data::Open(pack.to_vec(self.data_len));
        }
    }

    /// Passes the `count` oldest records and their times to `visit`.
    pub fn visit(&self, count: u64, visit: &mut dyn FnMut(&[u8], i64)) {
        let mut visit_in = |data: &[u8]| {
            let mut at = self.front;
            for _ in 0..count.min(self.size.records) {
                let Some(entry) = at.next(&self.index) else { break };
                visit(data.get(entry.start..entry.end).unwrap_or_default(), entry.at_ms);
            }
        };
        match &self.data {
            Data::Open(data) => visit_in(data),
            Data::Closed(pack) => pack.with(self.data_len, visit_in),
        }
    }

    /// The lengths of the records that are left, oldest first.
    pub fn lens(&self) -> impl Iterator<Item = u64> + '_ {
        let mut at = self.front;
        (0..self.size.records).map_while(move |_| at.next(&self.index)).map(|entry| (entry.end - entry.start) as u64)
    }

    /// Removes the `count` oldest records, or all if there are fewer. Returns what was removed.
    pub fn skip(&mut self, count: u64) -> Size {
        let mut skipped = Size::default();
        for _ in 0..count {
            let Some(entry) = self.front.next(&self.index) else { break };
            skipped += Size { records: 1, bytes: (entry.end - entry.start) as u64 };
        }
        self.size -= skipped;
        skipped
    }

    /// How many of the oldest records hold at least `bytes` together; all if they hold less.
    pub fn oldest_holding(&self, bytes: u64) -> u64 {
        let (mut count, mut held) = (0, 0);
        for len in self.lens() {
            if held >= bytes {
                break;
            }
            held += len;
            count += 1;
        }
        count
    }

    /// Writes the records that are left as they are kept: a compressed block is written compressed.
    pub fn save(&self, out: &mut dyn Writer) {
        match &self.data {
            Data::Open(data) => {
                out.uint(0);
                out.int(self.front.at_ms);
                out.bytes(self.index.get(self.front.index_at..).unwrap_or_default());
                let data = data.get(self.front.data_at..).unwrap_or_default();
                out.uint(data.len() as u64);
                out.uint(0);
                out.bytes(data);
            }
            Data::Closed(pack) => {
                let mut at = Cursor { at_ms: self.front.at_ms, ..Cursor::default() };
                let mut skipped = 0u64;
                while at.index_at < self.front.index_at && at.next(&self.index).is_some() {
                    skipped += 1;
                }
                // The base of the first entry's time, computed from the time at the cursor.
                let base_ms = self.front.at_ms - (at.at_ms - self.front.at_ms);
                out.uint(skipped);
                out.int(base_ms);
                out.bytes(&self.index);
                out.uint(self.data_len as u64);
                pack.saved(|bytes, packed| {
                    out.uint(u64::from(packed));
                    out.bytes(bytes);
                });
            }
        }
    }

    /// Reads what [`Self::save`] wrote. Compressed bytes are expanded once, to no more than a block may hold, to check them.
    pub fn load(from: &mut dyn Reader) -> Result<Self, Corrupt> {
        let skipped = from.uint()?;
        let base_ms = from.time_ms("a record's time")?;
        let index = from.bytes(BLOCK_BYTES + ENTRY_BYTES_MAX)?;
        let data_len = usize::try_from(from.uint()?).map_err(|_| Corrupt("a length out of bounds"))?;
        let packed = from.uint_max(1, "neither raw nor compressed")? == 1;
        let bytes = from.bytes(data_len)?;
        let mut block = Self { index, data_len, ..Self::default() };
        block.front.at_ms = base_ms;
        let mut end = block.front;
        let mut records = 0;
        while end.index_at < block.index.len() {
            let entry = end.next(&block.index).ok_or(Corrupt("a broken index of records"))?;
            if !(0..=TIME_MAX_MS).contains(&entry.at_ms) {
                return Err(Corrupt("a record's time"));
            }
            records += 1;
        }
        let fits = records == 1 || data_len.saturating_add(block.index.len()) <= BLOCK_BYTES;
        if end.data_at != data_len || !fits || skipped >= records {
            return Err(Corrupt("an index that contradicts its records"));
        }
        block.newest_ms = end.at_ms;
        block.size = Size { records, bytes: data_len as u64 };
        block.skip(skipped);
        block.data = match packed {
            true => Data::Closed(Pack::packed(&bytes, data_len).ok_or(Corrupt("a block that does not expand"))?),
            false if bytes.len() == data_len => Data::Open(bytes),
            false => return Err(Corrupt("records cut short")),
        };
        Ok(block)
    }

    /// Bytes allocated.
    pub fn memory_bytes(&self) -> usize {
        let data = match &self.data {
            Data::Open(data) => allocated_bytes(data.capacity()),
            Data::Closed(pack) => pack.memory_bytes(self.data_len),
        };
        data + allocated_bytes(self.index.capacity())
    }

    /// Allocations to free with it.
    pub fn allocations(&self) -> usize {
        match &self.data {
            Data::Open(_) => 2,
            Data::Closed(pack) => 1 + pack.allocations(),
        }
    }

    /// The buffers that may be moved to other addresses; their contents must stay as they are.
    pub fn buffers_mut(&mut self) -> impl Iterator<Item = &mut Vec<u8>> {
        let (open, closed) = match &mut self.data {
            Data::Open(data) => (Some(data), None),
            Data::Closed(pack) => (None, Some(pack)),
        };
        std::iter::once(&mut self.index).chain(open).chain(closed.into_iter().flat_map(Pack::buffers_mut))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_full_near_its_last_byte() {
        let mut block = Block::default();
        block.push(&[7; 30_000], 5, 0);
        let rest = BLOCK_BYTES - ENTRY_BYTES_MAX - block.data_len - block.index.len();
        assert!(block.has_room(rest) && !block.has_room(rest + 1));
        block.push(&vec![7; rest], 5, 0);
        assert!(block.capacity() <= BLOCK_BYTES);
        assert!(!block.has_room(0));
    }

    #[test]
    fn popped_bytes_are_reused_before_the_buffer_grows() {
        let mut block = Block::default();
        block.push(&[7; 100], 0, 0);
        for round in 0..10_000u64 {
            block.push(&round.to_le_bytes(), 0, 0);
            block.skip(1);
        }
        let mut read = Vec::new();
        block.visit(9, &mut |record, _| read.push(record.to_vec()));
        assert_eq!(read, [9_999u64.to_le_bytes()]);
        assert!(block.capacity() <= 256 && block.index.capacity() <= 256, "{}", block.capacity());
    }

    #[test]
    fn records_keep_their_times() {
        let mut block = Block::default();
        for at_ms in [1_000, 1_000, 1_500, 1_400, 2_000] {
            block.push(b"x", at_ms, 0);
        }
        for expected in [1_000, 1_000, 1_500, 1_400, 2_000] {
            assert_eq!(block.oldest_ms(), expected);
            block.skip(1);
        }
    }
}
