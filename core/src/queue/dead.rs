//! Dead letters: batches that were given up, or delivered as often as allowed.

use super::batch::{Batch, BatchId};
use super::due::Tally;
use super::push::Limits;
use super::size::Size;
use super::value::{Queue, count};

/// The most batches that one change moves to the dead letters by itself. If more are due, later changes move them.
const MOVED_MAX: usize = 100;

/// The most excess dead letters that one change drops. Later changes drop the rest.
const DEAD_DROPPED_MAX: usize = 1_000;

impl Queue {
    /// Whether [`Self::move_exhausted`] has something to do.
    pub fn has_exhausted(&self, now_ms: i64) -> bool {
        self.leased.exhausted(self.lease_clock_ms(now_ms)).is_some()
    }

    /// Moves exhausted batches to the dead letters: those that have come back with no deliveries left. Every other
    /// change of batches does so first.
    pub fn move_exhausted(&mut self, now_ms: i64) {
        self.begin(now_ms);
        for _ in 0..MOVED_MAX {
            let Some(id) = self.leased.exhausted(now_ms) else { break };
            self.move_to_dead(id);
        }
    }

    /// The dead letter with this id.
    pub fn dead_batch(&self, id: BatchId) -> Option<&Batch> {
        self.dead.get(id)
    }

    /// Moves a batch to the dead letters at once.
    pub fn dead_letter(&mut self, now_ms: i64, id: BatchId) {
        self.move_exhausted(now_ms);
        self.move_to_dead(id);
    }

    /// Moves some records of a batch to the dead letters, as a batch of their own with the id `new_id`. The rest stays
    /// as it is; if nothing is left, the batch is removed. The indexes are those of the batch's latest delivery;
    /// records that were taken out since are skipped.
    pub fn dead_letter_records(&mut self, now_ms: i64, id: BatchId, new_id: BatchId, indexes: &[u32]) {
        self.move_exhausted(now_ms);
        self.last_id_us = self.last_id_us.max(new_id.time_us());
        let Some(mut batch) = self.leased.remove(id) else { return };
        let blocks = batch.take(indexes);
        let mut dead = Batch {
            due_ms: batch.due_ms,
            deliveries: batch.deliveries,
            deliveries_before: batch.deliveries_before,
            deliveries_max: batch.deliveries_max,
            ..Batch::default()
        };
        blocks.into_iter().for_each(|block| dead.add(block));
        if batch.size.records > 0 {
            self.leased.insert(id, batch);
        }
        if dead.size.records > 0 {
            dead.close(&mut self.work.jobs);
            count(&mut self.counts.dead_lettered, dead.size.records);
            self.dead.insert(new_id, dead);
        }
    }

    /// How many dead letters, oldest first, must be dropped so that the others are within `limits`; fewer if that would
    /// be too many for one change.
    pub fn excess_dead(&self, limits: Limits) -> u64 {
        let mut left = self.dead.size();
        let is_over = |left: &Size| left.records > limits.max_records || left.bytes > limits.max_bytes;
        if !is_over(&left) {
            return 0;
        }
        let mut excess = 0;
        for (_, batch) in self.dead.iter().take(DEAD_DROPPED_MAX) {
            if !is_over(&left) {
                break;
            }
            left -= batch.size;
            excess += 1;
        }
        excess
    }

    /// Drops the oldest dead letters because they exceed their limits, as part of another change.
    pub fn drop_excess_dead(&mut self, batches: u64) {
        for _ in 0..batches {
            let Some(batch) = self.dead.pop() else { break };
            count(&mut self.counts.dead_dropped, batch.size.records);
            self.work.freed.extend(batch.blocks);
        }
    }

    pub(super) fn move_to_dead(&mut self, id: BatchId) {
        if let Some(mut batch) = self.leased.remove(id) {
            // The batch may stay there for long, so its blocks are compressed.
            batch.close(&mut self.work.jobs);
            count(&mut self.counts.dead_lettered, batch.size.records);
            self.dead.insert(id, batch);
        }
    }

    /// Lets a dead letter be delivered again, as often as a new batch. Its deliveries are numbered on from the last
    /// one.
    pub fn requeue(&mut self, now_ms: i64, id: BatchId) {
        self.move_exhausted(now_ms);
        if let Some(mut batch) = self.dead.remove(id) {
            batch.deliveries_before = batch.deliveries;
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

    /// The dead letters, including batches that are due to become dead letters but that no change has moved yet.
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
