//! Handing out batches that come back unless they are acknowledged.

use super::batch::{Batch, BatchId};
use super::block::Block;
use super::bounds::{COUNT_MAX, DELIVERIES_MAX};
use super::due::Tally;
use super::take::measured;
use super::value::{Queue, count};

/// What a consumer gets when it asks for a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A batch that has come back.
    Again(BatchId),
    /// A new batch.
    New {
        /// How many of the oldest records that are in no batch go into it.
        records: u64,
    },
    /// There is no record to hand out.
    Nothing,
}

/// The terms of a batch's lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLease {
    /// The batch.
    pub id: BatchId,
    /// When the batch comes back, in unix milliseconds.
    pub until_ms: i64,
    /// After this number of deliveries the batch becomes a dead letter instead of coming back.
    pub deliveries_max: u64,
}

impl Queue {
    /// What a consumer gets now: the batch that came back first, or else the number of new records that
    /// [`Self::measure`] returns.
    pub fn next_batch(&self, now_ms: i64, count: u64, max_bytes: u64) -> Next {
        if let Some((id, _)) = self.leased.returned(self.lease_clock_ms(now_ms)).next() {
            return Next::Again(id);
        }
        match measured(self.blocks.iter(), count, max_bytes) {
            0 => Next::Nothing,
            records => Next::New { records },
        }
    }

    /// Moves the `records` oldest records that are in no batch into a new batch.
    pub fn lease(&mut self, now_ms: i64, lease: BatchLease, records: u64) {
        self.move_exhausted(now_ms);
        let mut batch = Batch {
            due_ms: lease.until_ms,
            deliveries: 1,
            deliveries_max: lease.deliveries_max.min(DELIVERIES_MAX),
            ..Batch::default()
        };
        let mut left = records;
        while let Some(front) = self.blocks.front_mut().filter(|_| left > 0) {
            if front.size().records <= left {
                left -= front.size().records;
                batch.blocks.extend(self.blocks.pop_front());
            } else {
                // The front block stays expanded: the next records come from it.
                front.expand();
                let bytes: u64 = front.lens().take(left as usize).sum();
                let mut part = Block::default();
                front.visit(left, &mut |record, at_ms| part.push(record, at_ms, bytes as usize));
                front.skip(left);
                batch.blocks.push(part);
                left = 0;
            }
        }
        batch.blocks.iter().for_each(|block| batch.size += block.size());
        self.waiting -= batch.size;
        self.last_id_us = self.last_id_us.max(lease.id.time_us());
        if batch.size.records > 0 {
            count(&mut self.counts.popped, batch.size.records);
            self.leased.insert(lease.id, batch);
        }
    }

    /// Delivers a batch again.
    pub fn lease_again(&mut self, now_ms: i64, lease: BatchLease) {
        self.move_exhausted(now_ms);
        if let Some(mut batch) = self.leased.remove(lease.id) {
            batch.due_ms = lease.until_ms;
            batch.deliveries = (batch.deliveries + 1).min(COUNT_MAX);
            batch.deliveries_max = lease.deliveries_max.min(DELIVERIES_MAX);
            batch.taken = Vec::new();
            count(&mut self.counts.redelivered, batch.size.records);
            self.leased.insert(lease.id, batch);
        }
    }

    /// The batch with this id if it is leased, or has come back and is not a dead letter at `now_ms`.
    pub fn leased_batch(&self, now_ms: i64, id: BatchId) -> Option<&Batch> {
        let now_ms = self.lease_clock_ms(now_ms);
        self.leased.batches().get(id).filter(|batch| !batch.is_exhausted() || batch.due_ms > now_ms)
    }

    /// The batch with this id, in any state.
    pub fn batch(&self, id: BatchId) -> Option<&Batch> {
        self.leased.batches().get(id).or_else(|| self.dead.get(id))
    }

    /// Acknowledges a batch whose records are safely stored, even if its lease has ended or it is a dead letter.
    pub fn ack(&mut self, now_ms: i64, id: BatchId) {
        self.move_exhausted(now_ms);
        if let Some(batch) = self.leased.remove(id).or_else(|| self.dead.remove(id)) {
            count(&mut self.counts.acked, batch.size.records);
        }
    }

    /// Gives a batch back, to be delivered again from `due_ms` on; with no deliveries left, it becomes a dead letter.
    pub fn nack(&mut self, now_ms: i64, id: BatchId, due_ms: i64) {
        self.move_exhausted(now_ms);
        if self.leased.batches().get(id).is_some_and(Batch::is_exhausted) {
            self.move_to_dead(id);
        }
        self.set_due(id, due_ms);
    }

    /// Extends a lease until `until_ms`, even one that has ended, if the batch was not handed out since.
    pub fn extend(&mut self, now_ms: i64, id: BatchId, until_ms: i64) {
        self.move_exhausted(now_ms);
        self.set_due(id, until_ms);
    }

    fn set_due(&mut self, id: BatchId, due_ms: i64) {
        if let Some(mut batch) = self.leased.remove(id) {
            batch.due_ms = due_ms;
            self.leased.insert(id, batch);
        }
    }

    /// Whether the clock has stepped back since the last change while batches are leased. Until the next change no time
    /// passes for their leases; [`Self::move_exhausted`] is such a change.
    pub fn is_behind(&self, now_ms: i64) -> bool {
        now_ms < self.at_ms && self.leased.batches().len() > 0
    }

    /// The batches that are out on a lease.
    pub fn leased(&self, now_ms: i64) -> Tally {
        let now_ms = self.lease_clock_ms(now_ms);
        let batches = self.leased.batches();
        let mut leased = Tally { batches: batches.len() as u64, size: batches.size() };
        leased -= self.leased.returned_tally(now_ms);
        leased -= self.leased.exhausted_tally(now_ms);
        leased
    }

    /// When the next batch comes back to be delivered again; in the past if one has.
    pub fn next_due_ms(&self, now_ms: i64) -> Option<i64> {
        let behind_ms = self.lease_clock_ms(now_ms) - now_ms;
        self.leased.next_due_ms().map(|due_ms| due_ms - behind_ms)
    }

    /// The id of a new batch. It is later than all ids that this queue has seen, and than `last_us`, the largest time
    /// in the ids that this node knows of.
    pub fn next_id(&self, now_ms: i64, last_us: u64, node: u32) -> BatchId {
        BatchId::next(last_us.max(self.last_id_us), now_ms, node)
    }

    /// The time in the last batch's id, in unix microseconds.
    pub fn last_id_us(&self) -> u64 {
        self.last_id_us
    }
}
