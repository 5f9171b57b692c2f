//! When leases end, and totals of the batches whose leases have ended, without looking at each batch.

use std::collections::BTreeMap;

use super::batch::{Batch, BatchId};
use super::block::Block;
use super::size::Size;
use crate::memory::allocated_bytes;

/// A number of batches and of their records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Batches.
    pub batches: u64,
    /// Their records.
    pub size: Size,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, more: Self) {
        self.batches += more.batches;
        self.size += more.size;
    }
}

impl std::ops::SubAssign for Tally {
    fn sub_assign(&mut self, less: Self) {
        self.batches -= less.batches;
        self.size -= less.size;
    }
}

/// What is kept of a batch here, so that the batch itself need not be looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    size: Size,
    oldest_ms: i64,
}

impl Due {
    fn of(batch: &Batch) -> Self {
        Self { size: batch.size, oldest_ms: batch.blocks.first().map_or(0, Block::oldest_ms) }
    }

    fn tally(&self) -> Tally {
        Tally { batches: 1, size: self.size }
    }
}

/// Batches by when they are due.
#[derive(Debug, Clone)]
pub(super) struct Dues {
    by_time: BTreeMap<(i64, BatchId), Due>,
    /// The same due times, sorted by the time of each batch's oldest record.
    by_age: BTreeMap<(i64, BatchId), i64>,
    all: Tally,
    /// The batches that were due at the last change, and the time of that change, so that they are not counted again.
    ended: Tally,
    ended_ms: i64,
}

impl Default for Dues {
    fn default() -> Self {
        let (by_time, by_age) = (BTreeMap::new(), BTreeMap::new());
        Self { by_time, by_age, all: Tally::default(), ended: Tally::default(), ended_ms: i64::MIN }
    }
}

impl Dues {
    pub fn insert(&mut self, id: BatchId, batch: &Batch) {
        let due = Due::of(batch);
        self.by_time.insert((batch.due_ms, id), due);
        self.by_age.insert((due.oldest_ms, id), batch.due_ms);
        self.all += due.tally();
        if batch.due_ms <= self.ended_ms {
            self.ended += due.tally();
        }
    }

    pub fn remove(&mut self, id: BatchId, batch: &Batch) {
        if let Some(due) = self.by_time.remove(&(batch.due_ms, id)) {
            self.by_age.remove(&(due.oldest_ms, id));
            self.all -= due.tally();
            if batch.due_ms <= self.ended_ms {
                self.ended -= due.tally();
            }
        }
    }

    pub fn count_ended(&mut self, now_ms: i64) {
        (self.ended, self.ended_ms) = (self.ended(now_ms), now_ms);
    }

    /// The batches that are due, the first due first.
    pub fn due(&self, now_ms: i64) -> impl Iterator<Item = (BatchId, &Due)> {
        let due = self.by_time.iter().take_while(move |((due_ms, _), _)| *due_ms <= now_ms);
        due.map(|((_, id), due)| (*id, due))
    }

    /// What is due at `now_ms`, which is not before the last change. Counts two sets in step, the batches that have
    /// become due since and those that are not due yet, until one of them is complete: usually one is small.
    pub fn ended(&self, now_ms: i64) -> Tally {
        if self.all.batches == 0 {
            return Tally::default();
        }
        let since = self.by_time.range((self.ended_ms.saturating_add(1), BatchId::default())..);
        let (mut due, mut not_yet) = (since.clone(), since.rev());
        let (mut ended, mut left) = (self.ended, self.all);
        loop {
            match due.next() {
                Some(((due_ms, _), due)) if *due_ms <= now_ms => ended += due.tally(),
                _ => return ended,
            }
            match not_yet.next() {
                Some(((due_ms, _), due)) if *due_ms > now_ms => left -= due.tally(),
                _ => return left,
            }
        }
    }

    /// When the oldest record of the due batches was pushed. Searches from both sides, like [`Self::ended`].
    pub fn oldest_ms(&self, now_ms: i64) -> Option<i64> {
        let (mut due, mut oldest) = (self.due(now_ms), None);
        for (&(oldest_ms, _), &due_ms) in &self.by_age {
            if due_ms <= now_ms {
                return Some(oldest_ms);
            }
            match due.next() {
                Some((_, due)) => oldest = Some(oldest.map_or(due.oldest_ms, |oldest: i64| oldest.min(due.oldest_ms))),
                None => return oldest,
            }
        }
        oldest
    }

    /// When the first batch is due.
    pub fn first_ms(&self) -> Option<i64> {
        self.by_time.keys().next().map(|(due_ms, _)| *due_ms)
    }

    pub fn memory_bytes(&self) -> usize {
        let entries = [size_of::<((i64, BatchId), Due)>(), size_of::<((i64, BatchId), i64)>()];
        let node_bytes: usize = entries.iter().map(|entry| allocated_bytes(11 * entry + 16)).sum();
        self.by_time.len().div_ceil(8) * node_bytes
    }
}
