//! Dead letters: batches that were delivered as often as they may, or are given up.

use super::batch::{Batch, BatchId};
use super::due::Tally;
use super::value::{Queue, count};

/// The most batches that one change moves to the dead letters by itself. If more are due, the next change goes on.
const MOVED_MAX: usize = 100;

impl Queue {
    /// Whether [`Self::move_exhausted`] has something to do.
    pub fn has_exhausted(&self, now_ms: i64) -> bool {
        self.leased.exhausted(self.lease_clock_ms(now_ms)).is_some()
    }

    /// Moves exhausted batches to the dead letters: those that have come back with no deliveries left. Every other change of
    /// batches begins with it.
    pub fn move_exhausted(&mut self, now_ms: i64) {
        self.begin(now_ms);
        for _ in 0..MOVED_MAX {
            let Some(id) = self.leased.exhausted(now_ms) else { break };
            self.move_to_dead(id);
        }
    }

    /// A batch among the dead letters.
    pub fn dead_batch(&self, id: BatchId) -> Option<&Batch> {
        self.dead.get(id)
    }

    /// Moves a batch to the dead letters at once.
    pub fn dead_letter(&mut self, now_ms: i64, id: BatchId) {
        self.move_exhausted(now_ms);
        self.move_to_dead(id);
    }

    pub(super) fn move_to_dead(&mut self, id: BatchId) {
        if let Some(mut batch) = self.leased.remove(id) {
            // It may stay there for long.
            batch.close(&mut self.work.jobs);
            count(&mut self.counts.dead_lettered, batch.size.records);
            self.dead.insert(id, batch);
        }
    }

    /// Lets a dead letter be delivered again, as if for the first time.
    pub fn requeue(&mut self, now_ms: i64, id: BatchId) {
        self.move_exhausted(now_ms);
        if let Some(mut batch) = self.dead.remove(id) {
            batch.deliveries = 0;
            batch.deliveries_max = batch.deliveries_max.max(1);
            batch.due_ms = now_ms;
            self.leased.insert(id, batch);
        }
    }

    /// Drops a dead letter.
    pub fn drop_dead(&mut self, now_ms: i64, id: BatchId) {
        self.move_exhausted(now_ms);
        if let Some(batch) = self.dead.remove(id) {
            count(&mut self.counts.dropped, batch.size.records);
            self.work.freed.extend(batch.blocks);
        }
    }

    /// The dead letters, including batches that are due to become one and that no change has moved yet.
    pub fn dead(&self, now_ms: i64) -> Tally {
        let mut dead = Tally { batches: self.dead.len() as u64, size: self.dead.size() };
        dead += self.leased.exhausted_tally(self.lease_clock_ms(now_ms));
        dead
    }

    /// The dead letters, oldest first.
    pub fn dead_batches(&self) -> impl Iterator<Item = (BatchId, &Batch)> {
        self.dead.iter()
    }
}
