//! The queue itself.

use std::collections::VecDeque;

use super::batch::Batches;
use super::block::Block;
use super::bounds::COUNT_MAX;
use super::ids::Ids;
use super::leased::Leased;
use super::rates::{COUNTS, Rates};
use super::size::Size;
use super::work::Work;

/// More blocks than this are left for other threads to free.
const FREED_BLOCKS_MAX: usize = 16;

/// Numbers of records since the queue was created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pushed, including records that were dropped at once.
    pub pushed: u64,
    /// Handed out for the first time, for good or on a lease.
    pub popped: u64,
    /// Acknowledged.
    pub acked: u64,
    /// Handed out again.
    pub redelivered: u64,
    /// Dropped because the queue was full.
    pub dropped: u64,
    /// Moved to the dead letters.
    pub dead_lettered: u64,
    /// Dropped because the dead letters exceeded their limits.
    pub dead_dropped: u64,
}

impl Counts {
    pub(super) fn all(&self) -> [u64; 7] {
        [self.pushed, self.popped, self.acked, self.redelivered, self.dropped, self.dead_lettered, self.dead_dropped]
    }
}

/// Increases a counter, up to [`COUNT_MAX`].
pub(super) fn count(counter: &mut u64, more: u64) {
    *counter = counter.saturating_add(more).min(COUNT_MAX);
}

/// A first-in, first-out queue of records of any bytes, which may be empty.
///
/// An empty queue is a value, too: it keeps the counts.
///
/// Every change takes the time at which it was decided, in unix milliseconds, and depends only on that time, its other
/// arguments and the value, so that a primary and its replicas have equal queues.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    /// The records that are in no batch, oldest first. No block is empty, and only the last is appended to.
    pub(super) blocks: VecDeque<Block>,
    pub(super) waiting: Size,
    pub(super) leased: Leased,
    pub(super) dead: Batches,
    pub(super) ids: Ids,
    pub(super) counts: Counts,
    /// The time of the last change.
    pub(super) at_ms: i64,
    /// The time in the id of the last batch.
    pub(super) last_id_us: u64,
    /// Of this node alone, since it has had the queue: records rejected, records pushed again, and how the counts have
    /// grown.
    rejected: u64,
    repeated: u64,
    rates: Rates,
    pub(super) work: Work,
}

impl Queue {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// The records that wait to be handed out, including those of batches that have come back.
    pub fn waiting(&self, now_ms: i64) -> Size {
        let mut waiting = self.leased.returned_tally(self.lease_clock_ms(now_ms)).size;
        waiting += self.waiting;
        waiting
    }

    /// What counts towards the limits of a push: waiting and leased records.
    pub fn held(&self, now_ms: i64) -> Size {
        let mut held = self.waiting;
        held += self.leased.batches().size();
        held -= self.leased.exhausted_tally(self.lease_clock_ms(now_ms)).size;
        held
    }

    /// The counts as of the last change.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The counts at `now_ms`, including batches that have become dead letters since the last change.
    pub fn counts_at(&self, now_ms: i64) -> Counts {
        let mut counts = self.counts;
        count(&mut counts.dead_lettered, self.leased.exhausted_tally(self.lease_clock_ms(now_ms)).size.records);
        counts
    }

    /// Records that this node has rejected because the queue was full.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Counts rejected records. This does not change the value.
    pub fn count_rejected(&mut self, now_ms: i64, records: u64) {
        self.rates.mark(now_ms, self.all_counts(now_ms));
        count(&mut self.rejected, records);
    }

    /// Records that this node did not store because the id of their push was remembered.
    pub fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Counts records that were pushed again. This does not change the value.
    pub fn count_repeated(&mut self, now_ms: i64, records: u64) {
        self.rates.mark(now_ms, self.all_counts(now_ms));
        count(&mut self.repeated, records);
    }

    /// The increase per minute of the counts, of [`Self::rejected`] and of [`Self::repeated`], on this node over the
    /// last 30 to 60 seconds.
    pub fn per_minute(&self, now_ms: i64) -> (Counts, u64, u64) {
        let [pushed, popped, acked, redelivered, dropped, dead_lettered, dead_dropped, rejected, repeated] =
            self.rates.per_minute(now_ms, self.all_counts(now_ms));
        let counts = Counts { pushed, popped, acked, redelivered, dropped, dead_lettered, dead_dropped };
        (counts, rejected, repeated)
    }

    fn all_counts(&self, now_ms: i64) -> [u64; COUNTS] {
        let [a, b, c, d, e, f, g] = self.counts_at(now_ms).all();
        [a, b, c, d, e, f, g, self.rejected, self.repeated]
    }

    /// When the oldest waiting record was pushed.
    pub fn oldest_ms(&self, now_ms: i64) -> Option<i64> {
        let returned = self.leased.returned_oldest_ms(self.lease_clock_ms(now_ms));
        returned.into_iter().chain(self.blocks.front().map(Block::oldest_ms)).min()
    }

    /// The work left by changes, if there is any.
    pub fn take_work(&mut self) -> Option<Work> {
        (!self.work.is_empty()).then(|| std::mem::take(&mut self.work))
    }

    /// Begins every change: moves the ends of leases and ids back if the clock has stepped back, forgets ids, and
    /// counts the batches that have come back.
    pub(super) fn begin(&mut self, now_ms: i64) {
        let behind_ms = self.at_ms - now_ms;
        if behind_ms > 0 {
            // No lease lasts longer than it was granted for, and no id is remembered for longer.
            self.leased.shift_back(behind_ms);
            self.ids.shift_back(behind_ms);
        }
        self.at_ms = now_ms;
        self.ids.forget(now_ms);
        self.leased.count_returned(now_ms);
        self.rates.mark(now_ms, self.all_counts(now_ms));
    }

    /// `now_ms` by the clock of the leases, which is ahead of a clock that has stepped back.
    pub(super) fn lease_clock_ms(&self, now_ms: i64) -> i64 {
        now_ms.max(self.at_ms)
    }

    /// Removes the `count` oldest records that are in no batch, or all if there are fewer.
    pub(super) fn remove_front(&mut self, count: u64) -> Size {
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
            // A queue that was long before has a long list of blocks.
            self.blocks.shrink_to(4);
        }
        removed
    }
}
