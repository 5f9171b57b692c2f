//! Pushing: what fits, what is dropped to make room, and storing the records.

use super::block::Block;
use super::bounds::BLOCK_BYTES;
use super::size::Size;
use super::value::{Queue, count};

/// How much a queue may hold: waiting and leased records, checked after a push; or dead letters, checked after any
/// change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most records.
    pub max_records: u64,
    /// The most bytes of the records as they were pushed, regardless of the memory that they take.
    pub max_bytes: u64,
}

/// What a push does when the queue would hold more than its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Drops the oldest records that are in no batch, and counts them.
    DropOldest,
    /// Stores none of the pushed records.
    Reject,
}

/// What has to be dropped so that the pushed records fit: always the oldest, and no more than needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PushPlan {
    /// Records in the queue to drop.
    pub drop_oldest: u64,
    /// Pushed records to leave out, from the first on, because there is no room for them even then.
    pub skip_new: usize,
}

/// Why pushed records cannot be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushError {
    /// They do not fit beside the records in the queue.
    Full,
    /// A record is longer than `max_bytes`: no queue with these limits can ever hold it.
    TooLarge {
        /// The record's index among those pushed, from 0.
        index: usize,
    },
}

impl Queue {
    /// Decides what a push of records of these lengths does. Changes nothing: the caller applies the plan with
    /// [`Self::push`].
    ///
    /// If the queue already holds more than `limits`, a push that drops cuts it down to them; a push that rejects
    /// fails. Leased records count and are never dropped: if they alone exceed `limits`, pushed records are dropped
    /// instead.
    ///
    /// # Errors
    /// If the records cannot be stored.
    pub fn plan_push(
        &self,
        now_ms: i64,
        record_lens: impl Iterator<Item = usize> + Clone,
        limits: Limits,
        when_full: WhenFull,
    ) -> Result<PushPlan, PushError> {
        let mut new = Size::default();
        for (index, len) in record_lens.clone().enumerate() {
            if len as u64 > limits.max_bytes {
                return Err(PushError::TooLarge { index });
            }
            new.records += 1;
            new.bytes = new.bytes.saturating_add(len as u64);
        }
        let held = self.held(now_ms);
        let excess_records = held.records.saturating_add(new.records).saturating_sub(limits.max_records);
        let excess_bytes = held.bytes.saturating_add(new.bytes).saturating_sub(limits.max_bytes);
        if excess_records == 0 && excess_bytes == 0 {
            return Ok(PushPlan::default());
        }
        if when_full == WhenFull::Reject {
            return Err(PushError::Full);
        }
        if excess_records <= self.waiting.records && excess_bytes <= self.waiting.bytes {
            let drop_oldest = excess_records.max(self.oldest_holding(excess_bytes));
            return Ok(PushPlan { drop_oldest, skip_new: 0 });
        }
        let mut others = held;
        others -= self.waiting;
        let mut skip_new = 0;
        for len in record_lens {
            if others.records + new.records <= limits.max_records
                && others.bytes.saturating_add(new.bytes) <= limits.max_bytes
            {
                break;
            }
            new.records -= 1;
            new.bytes = new.bytes.saturating_sub(len as u64);
            skip_new += 1;
        }
        Ok(PushPlan { drop_oldest: self.waiting.records, skip_new })
    }

    /// Drops the `drop_oldest` oldest records that are in no batch, then appends `records` without checking limits. The
    /// plan has left out `dropped_new` other records, which are only counted.
    pub fn push<'a>(
        &mut self,
        now_ms: i64,
        drop_oldest: u64,
        records: impl IntoIterator<Item = &'a [u8]>,
        dropped_new: u64,
    ) {
        self.move_exhausted(now_ms);
        let dropped = self.remove_front(drop_oldest).records.saturating_add(dropped_new);
        count(&mut self.counts.dropped, dropped);
        let before = self.waiting.records;
        records.into_iter().for_each(|record| self.push_back(record, now_ms));
        count(&mut self.counts.pushed, (self.waiting.records - before).saturating_add(dropped_new));
    }

    /// Whether a push with this id was stored, and is still remembered.
    pub fn is_repeated(&self, now_ms: i64, id: &[u8]) -> bool {
        self.ids.contains(self.lease_clock_ms(now_ms), id)
    }

    /// Remembers the id of a push for `for_ms`, as part of the same change.
    pub fn remember(&mut self, now_ms: i64, id: &[u8], for_ms: u64) {
        self.ids.remember(now_ms, id, for_ms);
    }

    fn push_back(&mut self, record: &[u8], at_ms: i64) {
        if !self.blocks.back().is_some_and(|block| block.has_room(record.len())) {
            if let Some(full) = self.blocks.back_mut() {
                self.work.jobs.extend(full.close());
            }
            self.blocks.push_back(Block::default());
        }
        // A long queue allocates blocks at full size; a short one has at most a quarter of its size to spare.
        let spacious_bytes =
            usize::try_from(self.waiting.bytes / 4).map_or(BLOCK_BYTES, |bytes| bytes.min(BLOCK_BYTES));
        if let Some(open) = self.blocks.back_mut() {
            open.push(record, at_ms, spacious_bytes);
            self.waiting += Size { records: 1, bytes: record.len() as u64 };
        }
    }

    /// How many of the oldest records hold at least `bytes` together.
    fn oldest_holding(&self, bytes: u64) -> u64 {
        let (mut count, mut left) = (0, bytes);
        for block in &self.blocks {
            if left <= block.size().bytes {
                return count + block.oldest_holding(left);
            }
            count += block.size().records;
            left -= block.size().bytes;
        }
        count
    }
}
