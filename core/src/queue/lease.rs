//! Handing records out: for good, or in batches that come back unless they are acknowledged.

use super::batch::{Batch, BatchId, DELIVERIES_MAX};
use super::block::{Block, Size};
use super::due::Tally;
use super::{COUNT_MAX, Limits, Queue, count};
use crate::TIME_MAX_MS;

/// The most batches that one change moves to the dead letters by itself. If more are due, the next goes on.
const BURIED_MAX: usize = 100;

/// The most dead letters that one change drops because there are too many. If more have to go, the next goes on.
const DEAD_DROPPED_MAX: usize = 1_000;

/// What a consumer that asks for a lease gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A batch that has come back, as it was.
    Again(BatchId),
    /// So many of the records that wait.
    New {
        records: u64,
    },
    Nothing,
}

/// A lease as it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub id: BatchId,
    /// When the batch comes back.
    pub until_ms: i64,
    /// After how many deliveries it goes to the dead letters instead.
    pub deliveries_max: u64,
}

impl Queue {
    /// How many records [`Self::peek`] and [`Self::pop`] are to take at `now_ms` to get `count` at most and no more than
    /// `max_bytes`, but at least one, where there is one.
    pub fn measure(&self, now_ms: i64, count: u64, max_bytes: u64) -> u64 {
        measured(self.oldest_blocks(now_ms), count, max_bytes)
    }

    /// Hands the `count` oldest records and their times to `visit`: those of batches that have come back, then those that
    /// wait.
    pub fn peek(&self, now_ms: i64, count: u64, visit: &mut dyn FnMut(&[u8], i64)) {
        let mut left = count;
        for block in self.oldest_blocks(now_ms) {
            if left == 0 {
                break;
            }
            block.visit(left, visit);
            left = left.saturating_sub(block.size().records);
        }
    }

    fn oldest_blocks(&self, now_ms: i64) -> impl Iterator<Item = &Block> {
        let returned = self.leased.returned(self.lease_clock_ms(now_ms));
        returned.flat_map(|(_, batch)| &batch.blocks).chain(&self.blocks)
    }

    /// Expands the block of which a pop of `count` records that wait takes a part, so that the next pop need not do it
    /// again. Changes nothing of the value.
    pub fn warm(&mut self, count: u64) {
        let mut left = count;
        for block in &mut self.blocks {
            if left < block.size().records {
                if left > 0 {
                    block.expand();
                }
                return;
            }
            left -= block.size().records;
        }
    }

    /// Removes the `records` oldest records, as [`Self::peek`] shows them. A batch that has come back and is taken in part
    /// is one no longer: the rest of it waits, in front of all others.
    pub fn pop(&mut self, now_ms: i64, records: u64) {
        self.settle(now_ms);
        let mut left = records;
        while left > 0 {
            let Some((id, _)) = self.leased.returned(now_ms).next() else { break };
            let Some(batch) = self.leased.remove(id) else { break };
            count(&mut self.counts.redelivered, left.min(batch.size.records));
            let mut rest = Vec::new();
            for mut block in batch.blocks {
                left -= block.skip(left).records;
                if block.size().records > 0 {
                    rest.push(block);
                }
            }
            for block in rest.into_iter().rev() {
                self.waiting += block.size();
                self.blocks.push_front(block);
            }
        }
        let popped = self.remove_front(left);
        count(&mut self.counts.popped, popped.records);
    }

    /// What a lease given now would be on: the batch that came back first, or else new records as [`Self::measure`] counts
    /// them.
    pub fn next_batch(&self, now_ms: i64, count: u64, max_bytes: u64) -> Next {
        if let Some((id, _)) = self.leased.returned(self.lease_clock_ms(now_ms)).next() {
            return Next::Again(id);
        }
        match measured(self.blocks.iter(), count, max_bytes) {
            0 => Next::Nothing,
            records => Next::New { records },
        }
    }

    /// Whether [`Self::settle`] has something to do.
    pub fn is_unsettled(&self, now_ms: i64) -> bool {
        self.leased.exhausted(self.lease_clock_ms(now_ms)).is_some()
    }

    /// Whether the clock has stepped back since the last change while batches are leased. Until a change, which
    /// [`Self::settle`] is enough for, their leases stand still.
    pub fn is_behind(&self, now_ms: i64) -> bool {
        now_ms < self.at_ms && self.leased.batches().len() > 0
    }

    /// Moves batches that have come back once too often to the dead letters. Every other change begins with it.
    pub fn settle(&mut self, now_ms: i64) {
        self.begin(now_ms);
        for _ in 0..BURIED_MAX {
            let Some(id) = self.leased.exhausted(now_ms) else { break };
            self.bury(id);
        }
    }

    /// Takes the `records` oldest of those that wait out into a batch of their own.
    pub fn lease(&mut self, now_ms: i64, lease: Lease, records: u64) {
        self.settle(now_ms);
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
                // The front stays expanded: it is where the next records come from.
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
    pub fn lease_again(&mut self, now_ms: i64, lease: Lease) {
        self.settle(now_ms);
        if let Some(mut batch) = self.leased.remove(lease.id) {
            batch.due_ms = lease.until_ms;
            batch.deliveries = (batch.deliveries + 1).min(COUNT_MAX);
            batch.deliveries_max = lease.deliveries_max.min(DELIVERIES_MAX);
            batch.taken = Vec::new();
            count(&mut self.counts.redelivered, batch.size.records);
            self.leased.insert(lease.id, batch);
        }
    }

    /// A batch that is out, or has come back and is not dead as of now.
    pub fn leased_batch(&self, now_ms: i64, id: BatchId) -> Option<&Batch> {
        let now_ms = self.lease_clock_ms(now_ms);
        self.leased.batches().get(id).filter(|batch| !batch.is_exhausted() || batch.due_ms > now_ms)
    }

    /// A batch in whatever state.
    pub fn batch(&self, id: BatchId) -> Option<&Batch> {
        self.leased.batches().get(id).or_else(|| self.dead.get(id))
    }

    /// A batch that is dead.
    pub fn dead_batch(&self, id: BatchId) -> Option<&Batch> {
        self.dead.get(id)
    }

    /// Forgets a batch whose records are where they should be, also where its lease has ended or it is dead.
    pub fn ack(&mut self, now_ms: i64, id: BatchId) {
        self.settle(now_ms);
        if let Some(batch) = self.leased.remove(id).or_else(|| self.dead.remove(id)) {
            count(&mut self.counts.acked, batch.size.records);
        }
    }

    /// Gives a batch back, to be delivered again from `due_ms` on; for the last time, and it is dead.
    pub fn nack(&mut self, now_ms: i64, id: BatchId, due_ms: i64) {
        self.settle(now_ms);
        if self.leased.batches().get(id).is_some_and(Batch::is_exhausted) {
            self.bury(id);
        }
        self.set_due(id, due_ms);
    }

    /// Gives a batch to the dead letters at once.
    pub fn give_up(&mut self, now_ms: i64, id: BatchId) {
        self.settle(now_ms);
        self.bury(id);
    }

    /// Gives some records of a batch to the dead letters, as a batch of their own under the name `new_id`. The rest stays as
    /// it is; if nothing is left, the batch is gone. The indexes are those of the batch's latest delivery; records that
    /// have been taken out since are skipped.
    pub fn give_up_records(&mut self, now_ms: i64, id: BatchId, new_id: BatchId, indexes: &[u32]) {
        self.settle(now_ms);
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
            count(&mut self.counts.buried, dead.size.records);
            self.dead.insert(new_id, dead);
        }
    }

    /// The number of dead letters, oldest first, that have to go so that the rest is within `limits`; or a part of them, if
    /// they are many.
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

    /// Drops the oldest dead letters because there are too many, as part of another change.
    pub fn drop_excess_dead(&mut self, batches: u64) {
        for _ in 0..batches {
            let Some(batch) = self.dead.pop() else { break };
            count(&mut self.counts.dead_dropped, batch.size.records);
            self.work.freed.extend(batch.blocks);
        }
    }

    /// Lets a lease last until `until_ms`, also where it has ended and nobody has taken the batch since.
    pub fn extend(&mut self, now_ms: i64, id: BatchId, until_ms: i64) {
        self.settle(now_ms);
        self.set_due(id, until_ms);
    }

    fn set_due(&mut self, id: BatchId, due_ms: i64) {
        if let Some(mut batch) = self.leased.remove(id) {
            batch.due_ms = due_ms;
            self.leased.insert(id, batch);
        }
    }

    fn bury(&mut self, id: BatchId) {
        if let Some(mut batch) = self.leased.remove(id) {
            // It may lie there for long.
            batch.close(&mut self.work.jobs);
            count(&mut self.counts.buried, batch.size.records);
            self.dead.insert(id, batch);
        }
    }

    /// Has a dead batch delivered again, for as many deliveries as if it were new. Their numbers go on.
    pub fn requeue(&mut self, now_ms: i64, id: BatchId) {
        self.settle(now_ms);
        if let Some(mut batch) = self.dead.remove(id) {
            batch.deliveries_before = batch.deliveries;
            batch.deliveries_max = batch.deliveries_max.max(1);
            batch.due_ms = now_ms;
            self.leased.insert(id, batch);
        }
    }

    /// Drops a dead batch.
    pub fn drop_dead(&mut self, now_ms: i64, id: BatchId) {
        self.settle(now_ms);
        if let Some(batch) = self.dead.remove(id) {
            count(&mut self.counts.dropped, batch.size.records);
            self.work.freed.extend(batch.blocks);
        }
    }

    /// Batches that are out.
    pub fn leased(&self, now_ms: i64) -> Tally {
        let now_ms = self.lease_clock_ms(now_ms);
        let batches = self.leased.batches();
        let mut leased = Tally { batches: batches.len() as u64, size: batches.size() };
        leased -= self.leased.returned_tally(now_ms);
        leased -= self.leased.exhausted_tally(now_ms);
        leased
    }

    /// Batches that are dead, those included that no change has moved there yet.
    pub fn dead(&self, now_ms: i64) -> Tally {
        let mut dead = Tally { batches: self.dead.len() as u64, size: self.dead.size() };
        dead += self.leased.exhausted_tally(self.lease_clock_ms(now_ms));
        dead
    }

    /// The dead batches, oldest first.
    pub fn dead_batches(&self) -> impl Iterator<Item = (BatchId, &Batch)> {
        self.dead.iter()
    }

    /// When the next batch comes back to be delivered again. In the past where one has.
    pub fn next_due_ms(&self, now_ms: i64) -> Option<i64> {
        let behind_ms = self.lease_clock_ms(now_ms) - now_ms;
        self.leased.next_due_ms().map(|due_ms| due_ms - behind_ms)
    }

    /// A name for a new batch, after all that this queue and, by `last_us`, this node know of.
    pub fn next_id(&self, now_ms: i64, last_us: u64, node: u32) -> BatchId {
        BatchId::next(last_us.max(self.last_id_us), now_ms, node)
    }

    /// The time in the last name given to a batch.
    pub fn last_id_us(&self) -> u64 {
        self.last_id_us
    }
}

/// The end of a lease of `ms` that is given now.
pub fn until_ms(now_ms: i64, ms: u64) -> i64 {
    now_ms.saturating_add_unsigned(ms).min(TIME_MAX_MS)
}

/// How many of the blocks' records, up to `count`, have no more than `max_bytes`; at least one.
fn measured<'a>(blocks: impl Iterator<Item = &'a Block>, count: u64, max_bytes: u64) -> u64 {
    let mut taken = Size::default();
    for block in blocks {
        let size = block.size();
        if taken.records + size.records <= count && taken.bytes + size.bytes <= max_bytes {
            taken += size;
            continue;
        }
        for len in block.lens() {
            if taken.records == count || (taken.bytes + len > max_bytes && taken.records > 0) {
                return taken.records;
            }
            taken += Size { records: 1, bytes: len };
        }
    }
    taken.records
}
