//! The log queue: byte records in the order they came, bounded in number and size, handed out for good or on a lease.
//!
//! Records lie in blocks of up to 64 KB, oldest block first, so that pushing is a copy to the end of a buffer, and whatever
//! concerns many records goes block by block. A block that is full is compressed, by whoever runs the queue's
//! [`Work`]: on another thread, or never. Whether it has been is no part of the value, nor is where blocks begin: queues with
//! the same records, batches and counts are equal.
//!
//! A leased batch is taken out of the blocks and kept by its name. It returns by the passing of time alone: a batch
//! whose lease has ended is delivered again before any other record, and nothing has to be done at that moment. Batches that
//! came back too often, and records that were given up, are dead letters: they have bounds of their own.

mod batch;
mod block;
mod due;
mod garbage;
mod ids;
mod lease;
mod pack;
mod pieces;
mod rates;
mod saved;

use std::collections::VecDeque;

pub use batch::{BATCH_RECORDS_MAX, Batch, BatchId, DELIVERIES_MAX};
use batch::{Batches, Leased};
pub use block::Size;
use block::{BLOCK_BYTES, Block};
pub use due::Tally;
pub use garbage::Garbage;
pub use ids::IDS_MAX;
use ids::Ids;
pub use lease::{Lease, Next, until_ms};
use pack::Job;
use rates::{COUNTS, Rates};
pub use saved::Part;

/// The most a counter counts to: centuries of pushes, and small enough that sums of counters never overflow.
pub const COUNT_MAX: u64 = 1 << 62;

/// So many blocks are freed at once without anybody noticing.
const FREED_BLOCKS_MAX: usize = 16;

/// How much a queue may hold: after a push, records that wait or are leased; after any change, dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub max_records: u64,
    /// Of the records' own bytes: what was pushed, not what it takes to keep it.
    pub max_bytes: u64,
}

/// What a push does when the queue would hold more than its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest records that nobody has a lease on go, and are counted.
    DropOldest,
    /// Nothing of the batch is stored.
    Reject,
}

/// What has to go so that the rest and the batch fit. Always the oldest, and no more than that takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PushPlan {
    /// Records in the queue to drop.
    pub drop_oldest: u64,
    /// Records of the batch itself, from its front, for which there is no room even then.
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

/// Records since the queue was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pushed, those that were dropped at once included.
    pub pushed: u64,
    /// Handed out for the first time, for good or on a lease.
    pub popped: u64,
    /// Acknowledged.
    pub acked: u64,
    /// Handed out again.
    pub redelivered: u64,
    /// Dropped because the queue was full.
    pub dropped: u64,
    /// Gone to the dead letters.
    pub buried: u64,
    /// Dropped because there were too many dead letters.
    pub dead_dropped: u64,
}

impl Counts {
    fn all(&self) -> [u64; 7] {
        [self.pushed, self.popped, self.acked, self.redelivered, self.dropped, self.buried, self.dead_dropped]
    }
}

fn count(counter: &mut u64, more: u64) {
    *counter = counter.saturating_add(more).min(COUNT_MAX);
}

/// A first-in, first-out queue of records: any bytes, also none.
///
/// An empty queue is a value too: it carries the counts.
///
/// Every change takes the time at which it was decided, in unix milliseconds, and depends on nothing but that, its
/// other arguments and the value: a primary and its replicas end with equal queues.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    /// The records that wait and are in no batch, oldest first. No block is empty, and only the last is appended to.
    blocks: VecDeque<Block>,
    waiting: Size,
    leased: Leased,
    dead: Batches,
    ids: Ids,
    counts: Counts,
    /// The time of the last change.
    at_ms: i64,
    /// The time in the last name of a batch.
    last_id_us: u64,
    /// Of this node, since it has the queue: records refused, records pushed again, and how the counts have grown.
    rejected: u64,
    repeated: u64,
    rates: Rates,
    work: Work,
}

/// What is left to do after changes, on any thread: blocks to compress, and many blocks to free.
#[derive(Debug, Clone, Default)]
pub struct Work {
    jobs: Vec<Job>,
    freed: Vec<Block>,
}

impl Work {
    /// Compresses; what is to be freed goes to `garbage`.
    pub fn run(self, garbage: &mut Garbage) {
        garbage.add_blocks(self.freed);
        self.jobs.into_iter().for_each(Job::run);
    }
}

impl Queue {
    pub fn new() -> Self {
        Self::default()
    }

    /// Records that wait, also in batches that have come back, and their own bytes.
    pub fn waiting(&self, now_ms: i64) -> Size {
        let mut waiting = self.leased.returned_tally(self.lease_clock_ms(now_ms)).size;
        waiting += self.waiting;
        waiting
    }

    /// What counts towards the limits of a push: records that wait or are leased.
    pub fn held(&self, now_ms: i64) -> Size {
        let mut held = self.waiting;
        held += self.leased.batches().size();
        held -= self.leased.exhausted_tally(self.lease_clock_ms(now_ms)).size;
        held
    }

    /// As of the last change.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// With what has become a dead letter since.
    pub fn counts_at(&self, now_ms: i64) -> Counts {
        let mut counts = self.counts;
        count(&mut counts.buried, self.leased.exhausted_tally(self.lease_clock_ms(now_ms)).size.records);
        counts
    }

    /// Records refused by this node because the queue was full.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Counts a refusal, which is no change of the value.
    pub fn count_rejected(&mut self, now_ms: i64, records: u64) {
        self.rates.mark(now_ms, self.all_counts(now_ms));
        count(&mut self.rejected, records);
    }

    /// Records of pushes that this node did not store because their ids were known.
    pub fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Counts a push that was sent again, which is no change of the value.
    pub fn count_repeated(&mut self, now_ms: i64, records: u64) {
        self.rates.mark(now_ms, self.all_counts(now_ms));
        count(&mut self.repeated, records);
    }

    /// The counts' increase per minute on this node over the last 30 to 60 seconds, and that of [`Self::rejected`] and
    /// [`Self::repeated`].
    pub fn per_minute(&self, now_ms: i64) -> (Counts, u64, u64) {
        let [pushed, popped, acked, redelivered, dropped, buried, dead_dropped, rejected, repeated] =
            self.rates.per_minute(now_ms, self.all_counts(now_ms));
        (Counts { pushed, popped, acked, redelivered, dropped, buried, dead_dropped }, rejected, repeated)
    }

    fn all_counts(&self, now_ms: i64) -> [u64; COUNTS] {
        let [a, b, c, d, e, f, g] = self.counts_at(now_ms).all();
        [a, b, c, d, e, f, g, self.rejected, self.repeated]
    }

    /// Whether a push under this id was stored, and is remembered.
    pub fn is_repeated(&self, now_ms: i64, id: &[u8]) -> bool {
        self.ids.contains(self.lease_clock_ms(now_ms), id)
    }

    /// When the oldest of the records that wait was pushed.
    pub fn oldest_ms(&self, now_ms: i64) -> Option<i64> {
        let returned = self.leased.returned_oldest_ms(self.lease_clock_ms(now_ms));
        returned.into_iter().chain(self.blocks.front().map(Block::oldest_ms)).min()
    }

    /// What changes left to do, where there is any.
    pub fn take_work(&mut self) -> Option<Work> {
        (!self.work.jobs.is_empty() || !self.work.freed.is_empty()).then(|| std::mem::take(&mut self.work))
    }

    /// Decides what a push of records of these lengths does. Changes nothing: the caller validates, then applies
    /// the plan with [`Self::push`].
    ///
    /// A queue that already holds more than `limits` is cut down to them by a push that drops, and refuses one that
    /// does not. Leased records count and are never dropped: while they alone are more than `limits`, records of the batch
    /// are.
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

    /// Drops the oldest `drop_oldest` of the records that wait, then appends `records`; `dropped_new` records of the batch
    /// were skipped and only count. Asks no limits.
    pub fn push<'a>(
        &mut self,
        now_ms: i64,
        drop_oldest: u64,
        records: impl IntoIterator<Item = &'a [u8]>,
        dropped_new: u64,
    ) {
        self.settle(now_ms);
        let dropped = self.remove_front(drop_oldest).records.saturating_add(dropped_new);
        count(&mut self.counts.dropped, dropped);
        let before = self.waiting.records;
        records.into_iter().for_each(|record| self.push_back(record, now_ms));
        count(&mut self.counts.pushed, (self.waiting.records - before).saturating_add(dropped_new));
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
        // A long queue allocates its blocks whole; a short one has at most a quarter of itself to spare.
        let spacious_bytes =
            usize::try_from(self.waiting.bytes / 4).map_or(BLOCK_BYTES, |bytes| bytes.min(BLOCK_BYTES));
        if let Some(open) = self.blocks.back_mut() {
            open.push(record, at_ms, spacious_bytes);
            self.waiting += Size { records: 1, bytes: record.len() as u64 };
        }
    }

    /// What every change begins with.
    fn begin(&mut self, now_ms: i64) {
        let behind_ms = self.at_ms - now_ms;
        if behind_ms > 0 {
            // The clock has stepped back: no lease lasts longer than it was given for, and no id is remembered for longer.
            self.leased.shift_back(behind_ms);
            self.ids.shift_back(behind_ms);
        }
        self.at_ms = now_ms;
        self.ids.forget(now_ms);
        self.leased.count_returned(now_ms);
        self.rates.mark(now_ms, self.all_counts(now_ms));
    }

    /// `now_ms` on the clock by which the leases were given, which may be ahead of one that has stepped back.
    fn lease_clock_ms(&self, now_ms: i64) -> i64 {
        now_ms.max(self.at_ms)
    }

    /// Removes the oldest `count` of the records that wait, or all.
    fn remove_front(&mut self, count: u64) -> Size {
        let mut left = count;
        let mut removed = Size::default();
        let mut whole = 0;
        for block in &mut self.blocks {
            let size = block.size();
            if left < size.records {
                removed += block.skip(left);
                break;
            }
            left -= size.records;
            removed += size;
            whole += 1;
        }
        let freed = self.blocks.drain(..whole);
        if whole > FREED_BLOCKS_MAX {
            self.work.freed.extend(freed);
        } else {
            drop(freed);
        }
        self.waiting -= removed;
        if self.blocks.is_empty() {
            // The list of blocks of a queue that was long once.
            self.blocks.shrink_to(4);
        }
        removed
    }

    /// The fewest of the oldest records that wait which hold at least `bytes`.
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

#[cfg(test)]
mod tests;
