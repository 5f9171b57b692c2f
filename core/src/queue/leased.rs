//! Batches that are out on a lease, or have come back.

use super::batch::{Batch, BatchId, Batches};
use super::block::Block;
use super::due::{Dues, Tally};
use crate::TIME_MAX_MS;

/// Batches that are out on a lease or have come back, by their ids and by when they are due.
#[derive(Debug, Clone, Default)]
pub(super) struct Leased {
    batches: Batches,
    /// Batches that will be delivered again.
    retried: Dues,
    /// Batches that will become dead letters instead.
    exhausted: Dues,
}

impl Leased {
    pub fn batches(&self) -> &Batches {
        &self.batches
    }

    pub fn blocks_mut(&mut self) -> impl Iterator<Item = &mut Block> {
        self.batches.blocks_mut()
    }

    fn dues(&mut self, batch: &Batch) -> &mut Dues {
        match batch.is_exhausted() {
            true => &mut self.exhausted,
            false => &mut self.retried,
        }
    }

    pub fn insert(&mut self, id: BatchId, batch: Batch) {
        self.remove(id);
        self.dues(&batch).insert(id, &batch);
        self.batches.insert(id, batch);
    }

    pub fn remove(&mut self, id: BatchId) -> Option<Batch> {
        let batch = self.batches.remove(id)?;
        self.dues(&batch).remove(id, &batch);
        Some(batch)
    }

    /// Removes and returns one of the batches.
    pub fn pop(&mut self) -> Option<Batch> {
        let id = self.batches.first_id()?;
        self.remove(id)
    }

    /// The batches to be delivered again at `now_ms`, the first to come back first.
    pub fn returned(&self, now_ms: i64) -> impl Iterator<Item = (BatchId, &Batch)> {
        self.retried.due(now_ms).filter_map(|(id, _)| Some((id, self.batches.get(id)?)))
    }

    /// The number of batches that [`Self::returned`] yields, and of their records.
    pub fn returned_tally(&self, now_ms: i64) -> Tally {
        self.retried.ended(now_ms)
    }

    /// When the oldest record of [`Self::returned`] was pushed.
    pub fn returned_oldest_ms(&self, now_ms: i64) -> Option<i64> {
        self.retried.oldest_ms(now_ms)
    }

    /// The batch that was the first to come back with no deliveries left.
    pub fn exhausted(&self, now_ms: i64) -> Option<BatchId> {
        self.exhausted.due(now_ms).next().map(|(id, _)| id)
    }

    /// The batches that have come back with no deliveries left.
    pub fn exhausted_tally(&self, now_ms: i64) -> Tally {
        self.exhausted.ended(now_ms)
    }

    /// When the next batch comes back to be delivered again.
    pub fn next_due_ms(&self) -> Option<i64> {
        self.retried.first_ms()
    }

    /// Counts the batches that have come back, so that later calls need not count them again.
    pub fn count_returned(&mut self, now_ms: i64) {
        self.retried.count_ended(now_ms);
        self.exhausted.count_ended(now_ms);
    }

    pub fn shift_back(&mut self, by_ms: i64) {
        let (mut retried, mut exhausted) = (Dues::default(), Dues::default());
        for (id, batch) in &mut self.batches.by_id {
            batch.due_ms = (batch.due_ms - by_ms).max(-TIME_MAX_MS);
            let dues = if batch.is_exhausted() { &mut exhausted } else { &mut retried };
            dues.insert(*id, batch);
        }
        (self.retried, self.exhausted) = (retried, exhausted);
    }

    pub fn memory_bytes(&self) -> usize {
        self.batches.memory_bytes() + self.retried.memory_bytes() + self.exhausted.memory_bytes()
    }
}
