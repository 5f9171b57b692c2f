//! The queue against its definition, over a million random steps.

use super::super::batch::Batches;
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

type Record = (Vec<u8>, i64);

#[derive(Debug, Clone)]
struct ModelBatch {
    /// The records, with their indexes in the latest delivery.
    records: Vec<(u32, Record)>,
    delivered: u32,
    due_ms: i64,
    /// How long its lease or delay was granted for.
    granted_ms: u64,
    deliveries: u64,
    deliveries_before: u64,
    deliveries_max: u64,
}

impl ModelBatch {
    fn is_exhausted(&self) -> bool {
        self.deliveries - self.deliveries_before >= self.deliveries_max
    }

    fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().map(|(_, record)| record)
    }

    /// Delivers the batch, with its records numbered anew.
    fn deliver(&mut self, lease: BatchLease, granted_ms: u64) {
        self.deliveries += 1;
        (self.due_ms, self.granted_ms, self.deliveries_max) = (lease.until_ms, granted_ms, lease.deliveries_max);
        self.delivered = self.records.len() as u32;
        self.records.iter_mut().zip(0..).for_each(|((at, _), index)| *at = index);
    }
}

/// The queue by its definition.
#[derive(Debug, Default)]
struct Model {
    waiting: VecDeque<Record>,
    leased: BTreeMap<BatchId, ModelBatch>,
    dead: BTreeMap<BatchId, ModelBatch>,
    counts: Counts,
    at_ms: i64,
    /// Until when ids are remembered.
    ids: BTreeMap<u8, i64>,
    id_ms: u64,
}

fn size_of_all<'a>(records: impl IntoIterator<Item = &'a Record>) -> Size {
    let mut size = Size::default();
    records.into_iter().for_each(|(record, _)| size += Size { records: 1, bytes: record.len() as u64 });
    size
}

impl Model {
    fn begin(&mut self, now_ms: i64) {
        let behind_ms = (self.at_ms - now_ms).max(0);
        self.leased.values_mut().for_each(|batch| batch.due_ms -= behind_ms);
        self.ids.values_mut().for_each(|until_ms| *until_ms = (*until_ms - behind_ms).max(0));
        self.at_ms = now_ms;
    }

    fn settle(&mut self, now_ms: i64) {
        self.begin(now_ms);
        let is_dead = |batch: &ModelBatch| batch.due_ms <= now_ms && batch.is_exhausted();
        let dead: Vec<_> = self.leased.iter().filter(|(_, batch)| is_dead(batch)).map(|(id, _)| *id).collect();
        dead.into_iter().for_each(|id| self.bury(id));
    }

    fn bury(&mut self, id: BatchId) {
        if let Some(batch) = self.leased.remove(&id) {
            self.counts.dead_lettered += batch.records.len() as u64;
            self.dead.insert(id, batch);
        }
    }

    /// Batches to be delivered again, as seen at `now_ms`.
    fn returned(&self, now_ms: i64) -> Vec<BatchId> {
        let now_ms = now_ms.max(self.at_ms);
        let is_due = |batch: &ModelBatch| batch.due_ms <= now_ms && !batch.is_exhausted();
        let mut returned: Vec<_> =
            self.leased.iter().filter(|(_, batch)| is_due(batch)).map(|(id, batch)| (batch.due_ms, *id)).collect();
        returned.sort();
        returned.into_iter().map(|(_, id)| id).collect()
    }

    /// The next records to be popped, in order.
    fn oldest(&self, now_ms: i64, count: u64) -> Vec<&Record> {
        let returned = self.returned(now_ms);
        let of_batches = returned.iter().flat_map(|id| self.leased[id].records());
        of_batches.chain(&self.waiting).take(count as usize).collect()
    }

    /// Waiting and leased records.
    fn held(&self, now_ms: i64) -> Size {
        let clock_ms = now_ms.max(self.at_ms);
        let counting = self.leased.values().filter(|batch| batch.due_ms > clock_ms || !batch.is_exhausted());
        size_of_all(self.waiting.iter().chain(counting.flat_map(ModelBatch::records)))
    }

    fn is_repeated(&self, now_ms: i64, id: u8) -> bool {
        self.ids.get(&id).is_some_and(|until_ms| *until_ms > now_ms.max(self.at_ms))
    }

    fn remember(&mut self, now_ms: i64, id: u8, id_ms: u64) {
        let until_ms = now_ms + id_ms as i64;
        if id_ms < self.id_ms {
            self.ids.values_mut().for_each(|known_ms| *known_ms = until_ms.min(*known_ms));
        }
        self.id_ms = id_ms;
        self.ids.insert(id, until_ms);
    }

    fn keep_dead(&mut self, limits: Limits) {
        loop {
            let size = size_of_all(self.dead.values().flat_map(ModelBatch::records));
            if size.records <= limits.max_records && size.bytes <= limits.max_bytes {
                break;
            }
            let (_, batch) = self.dead.pop_first().unwrap();
            self.counts.dead_dropped += batch.records.len() as u64;
        }
    }

    /// Gives up records by their indexes in the latest delivery. Returns whether any was there.
    fn dead_letter_records(&mut self, now_ms: i64, id: BatchId, new_id: BatchId, indexes: &[u32]) {
        self.settle(now_ms);
        let Some(batch) = self.leased.get_mut(&id) else { return };
        let (gone, rest): (Vec<_>, Vec<_>) = batch.records.drain(..).partition(|(index, _)| indexes.contains(index));
        batch.records = rest;
        if !gone.is_empty() {
            self.counts.dead_lettered += gone.len() as u64;
            // A batch of its own, with its records numbered anew.
            let records: Vec<_> = (0..).zip(gone.into_iter().map(|(_, record)| record)).collect();
            self.dead.insert(new_id, ModelBatch { delivered: records.len() as u32, records, ..batch.clone() });
        }
        if batch.records.is_empty() {
            self.leased.remove(&id);
        }
    }

    fn measure(&self, records: &[&Record], max_bytes: u64) -> u64 {
        let mut bytes = 0;
        let mut fits = |record: &&&Record| {
            bytes += record.0.len() as u64;
            bytes <= max_bytes
        };
        (records.iter().take_while(|record| fits(record)).count() as u64).max(u64::from(!records.is_empty()))
    }

    fn push(
        &mut self,
        now_ms: i64,
        batch: Vec<Vec<u8>>,
        limits: Limits,
        when_full: WhenFull,
    ) -> Result<PushPlan, PushError> {
        if let Some(index) = batch.iter().position(|record| record.len() as u64 > limits.max_bytes) {
            return Err(PushError::TooLarge { index });
        }
        let over = |held: Size| held.records > limits.max_records || held.bytes > limits.max_bytes;
        let batch: Vec<Record> = batch.into_iter().map(|record| (record, now_ms)).collect();
        let (before, new) = (self.waiting.len(), batch.len());
        let mut held = self.held(now_ms);
        held += size_of_all(&batch);
        if over(held) && when_full == WhenFull::Reject {
            return Err(PushError::Full);
        }
        self.settle(now_ms);
        self.waiting.extend(batch);
        let mut dropped = 0;
        while over(held) {
            let Some(record) = self.waiting.pop_front() else { break };
            held -= size_of_all([&record]);
            dropped += 1;
        }
        self.counts.pushed += new as u64;
        self.counts.dropped += dropped as u64;
        let drop_oldest = dropped.min(before);
        Ok(PushPlan { drop_oldest: drop_oldest as u64, skip_new: dropped - drop_oldest })
    }

    fn pop(&mut self, now_ms: i64, count: u64) {
        self.settle(now_ms);
        let mut left = count as usize;
        for id in self.returned(now_ms) {
            if left == 0 {
                break;
            }
            let mut batch = self.leased.remove(&id).unwrap();
            let taken = left.min(batch.records.len());
            self.counts.redelivered += taken as u64;
            left -= taken;
            batch.records.drain(taken..).rev().for_each(|(_, record)| self.waiting.push_front(record));
        }
        for _ in 0..left {
            if self.waiting.pop_front().is_none() {
                break;
            }
            self.counts.popped += 1;
        }
    }

    fn lease(&mut self, now_ms: i64, lease: BatchLease, granted_ms: u64, count: u64) {
        self.settle(now_ms);
        let records = self.waiting.drain(..count as usize).map(|record| (0, record)).collect();
        self.counts.popped += count;
        let mut batch = ModelBatch {
            records,
            delivered: 0,
            due_ms: 0,
            granted_ms: 0,
            deliveries: 0,
            deliveries_before: 0,
            deliveries_max: 0,
        };
        batch.deliver(lease, granted_ms);
        self.leased.insert(lease.id, batch);
    }
}

/// A step. Batches are chosen by their index among the existing ones.
#[derive(Debug, Clone)]
enum Step {
    Wait(i64),
    Push { lens: Vec<usize>, limits: Limits, when_full: WhenFull, id: Option<(u8, u64)> },
    Pop { count: u64, max_bytes: u64 },
    BatchLease { count: u64, max_bytes: u64, ms: u64, deliveries_max: u64 },
    Ack(usize, Delivery),
    Nack(usize, u64, Delivery),
    DeadLetter(usize, Delivery),
    DeadLetterRecords(usize, Vec<u32>),
    Extend(usize, u64, Delivery),
    Requeue(usize),
    DropDead(usize),
    BoundDead(Limits),
    Settle,
    Work,
    Move { from: usize, count: usize },
    SaveAndLoad,
}

/// The delivery that a consumer names: the latest, an earlier one, or none.
#[derive(Debug, Clone, Copy)]
enum Delivery {
    Latest,
    Before(u64),
    Any,
}

fn delivery() -> impl Strategy<Value = Delivery> {
    prop_oneof![3 => Just(Delivery::Latest), 1 => (1..3u64).prop_map(Delivery::Before), 3 => Just(Delivery::Any)]
}

fn record_len() -> impl Strategy<Value = usize> {
    prop_oneof![
        20 => 0..4usize,
        60 => 0..300usize,
        20 => 0..3_000usize,
        2 => 0..70_000usize,
        1 => 65_500..65_540usize,
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let max_records = prop_oneof![1 => 0..4u64, 20 => 0..2_000u64, 300 => Just(u64::MAX)];
    let max_bytes = prop_oneof![1 => 0..400u64, 20 => 0..2_000_000u64, 300 => Just(u64::MAX)];
    (max_records, max_bytes).prop_map(|(max_records, max_bytes)| Limits { max_records, max_bytes })
}

fn step() -> impl Strategy<Value = Step> {
    let when_full = prop_oneof![Just(WhenFull::DropOldest), Just(WhenFull::Reject)];
    let max_bytes = || prop_oneof![Just(u64::MAX), 0..5_000u64];
    let id_ms = prop_oneof![9 => Just(3_000u64), 1 => 1..5_000u64];
    let id = prop_oneof![2 => Just(None), 1 => (any::<u8>(), id_ms).prop_map(Some)];
    let dead_limits = (prop_oneof![0..30u64, Just(u64::MAX)], prop_oneof![0..9_000u64, Just(u64::MAX)]);
    prop_oneof![
        100 => prop_oneof![20 => 0..50i64, 1 => -2_000..2_000i64].prop_map(Step::Wait),
        400 => (prop::collection::vec(record_len(), 1..5), limits(), when_full, id)
            .prop_map(|(lens, limits, when_full, id)| Step::Push { lens, limits, when_full, id }),
        150 => (1..4u64, max_bytes()).prop_map(|(count, max_bytes)| Step::Pop { count, max_bytes }),
        1 => (0..2_000u64, max_bytes()).prop_map(|(count, max_bytes)| Step::Pop { count, max_bytes }),
        150 => (1..20u64, max_bytes(), 1..2_000u64, 1..4u64).prop_map(|(count, max_bytes, ms, deliveries_max)| {
            Step::BatchLease { count, max_bytes, ms, deliveries_max }
        }),
        80 => (0..9usize, delivery()).prop_map(|(at, delivery)| Step::Ack(at, delivery)),
        40 => (0..9usize, 0..500u64, delivery()).prop_map(|(at, ms, delivery)| Step::Nack(at, ms, delivery)),
        10 => (0..9usize, delivery()).prop_map(|(at, delivery)| Step::DeadLetter(at, delivery)),
        40 => (0..9usize, prop::collection::vec(0..12u32, 1..6)).prop_map(|(at, indexes)| Step::DeadLetterRecords(at, indexes)),
        20 => (0..9usize, 1..2_000u64, delivery()).prop_map(|(at, ms, delivery)| Step::Extend(at, ms, delivery)),
        20 => (0..9usize).prop_map(Step::Requeue),
        20 => (0..9usize).prop_map(Step::DropDead),
        3 => dead_limits.prop_map(|(max_records, max_bytes)| Step::BoundDead(Limits { max_records, max_bytes })),
        5 => Just(Step::Settle),
        20 => Just(Step::Work),
        10 => (0..8usize, 1..4usize).prop_map(|(from, count)| Step::Move { from, count }),
        2 => Just(Step::SaveAndLoad),
    ]
}

/// The `number`th record. Any two records differ, if they are long enough.
fn record(number: u64, len: usize) -> Vec<u8> {
    let mut record = vec![number as u8; len];
    record.iter_mut().zip(number.to_le_bytes()).for_each(|(byte, of_number)| *byte = of_number);
    record
}

fn assert_same(queue: &Queue, model: &Model, now_ms: i64) {
    let mut read = Vec::new();
    queue.peek(now_ms, u64::MAX, &mut |record, at_ms| read.push((record.to_vec(), at_ms)));
    assert!(read.iter().eq(model.oldest(now_ms, u64::MAX)));
    type Told = BTreeMap<BatchId, (Vec<Record>, u64, i64)>;
    let batches = |batches: &Batches| -> Told {
        let records = |batch: &Batch| {
            let mut records = Vec::new();
            batch.visit(&mut |record, at_ms| records.push((record.to_vec(), at_ms)));
            (records, batch.deliveries(), batch.due_ms())
        };
        batches.iter().map(|(id, batch)| (id, records(batch))).collect()
    };
    let of_model = |batches: &BTreeMap<BatchId, ModelBatch>| -> Told {
        let told = |batch: &ModelBatch| (batch.records().cloned().collect(), batch.deliveries, batch.due_ms);
        batches.iter().map(|(id, batch)| (*id, told(batch))).collect()
    };
    assert_eq!(batches(queue.leased.batches()), of_model(&model.leased));
    let due_apart =
        |told: Told| told.into_iter().map(|(id, (records, number, _))| (id, records, number)).collect::<Vec<_>>();
    assert_eq!(due_apart(batches(&queue.dead)), due_apart(of_model(&model.dead)));
}

/// All figures of a queue are correct at that moment, regardless of when it was last changed.
fn assert_figures(queue: &Queue, model: &Model, now_ms: i64) {
    let tally = |batches: &[&ModelBatch]| Tally {
        batches: batches.len() as u64,
        size: size_of_all(batches.iter().flat_map(|batch| batch.records())),
    };
    let clock_ms = now_ms.max(model.at_ms);
    let (ended, out): (Vec<_>, Vec<_>) = model.leased.values().partition(|batch| batch.due_ms <= clock_ms);
    let (exhausted, returned): (Vec<_>, Vec<_>) = ended.into_iter().partition(|batch| batch.is_exhausted());
    let mut dead: Vec<_> = model.dead.values().collect();
    dead.extend(&exhausted);
    assert_eq!((queue.leased(now_ms), queue.dead(now_ms)), (tally(&out), tally(&dead)));
    let mut waiting = size_of_all(&model.waiting);
    waiting += tally(&returned).size;
    assert_eq!(queue.waiting(now_ms), waiting);
    let first = |batch: &&ModelBatch| batch.records[0].1.1;
    assert_eq!(queue.oldest_ms(now_ms), returned.iter().map(first).chain(model.waiting.front().map(|r| r.1)).min());
    let dead_lettered = model.counts.dead_lettered + tally(&exhausted).size.records;
    assert_eq!(queue.counts_at(now_ms), Counts { dead_lettered, ..model.counts });
    assert_eq!(queue.held(now_ms), model.held(now_ms));
    // A lease lasts as long as it was granted for, never longer, however the clock was set.
    if now_ms == model.at_ms {
        assert!(model.leased.values().all(|batch| batch.due_ms <= until_ms(now_ms, batch.granted_ms)));
    }
}

/// The queue, another queue with the same changes but other blocks, and the model.
#[derive(Default)]
struct Trial {
    queue: Queue,
    replica: Queue,
    model: Model,
    now_ms: i64,
    records: u64,
    dead_limits: Option<Limits>,
    /// The latest delivery of each batch that ever existed.
    deliveries: BTreeMap<BatchId, u64>,
}

impl Trial {
    /// Whether a consumer with that delivery still has the batch: by the queue and by the model.
    fn holds(&self, id: BatchId, delivery: Delivery) -> bool {
        let latest = self.deliveries[&id];
        let (number, holds) = match delivery {
            Delivery::Latest => (Some(latest), true),
            Delivery::Before(by) => (Some(latest.saturating_sub(by)), false),
            Delivery::Any => (None, true),
        };
        assert_eq!(self.queue.batch(id).unwrap().is_latest(number), holds);
        holds
    }

    fn both(&mut self, change: impl Fn(&mut Queue, i64)) {
        change(&mut self.queue, self.now_ms);
        change(&mut self.replica, self.now_ms);
    }

    fn leased_at(&self, at: usize) -> Option<BatchId> {
        self.model.leased.keys().nth(at).copied()
    }

    fn dead_at(&self, at: usize) -> Option<BatchId> {
        self.model.dead.keys().nth(at).copied()
    }

    fn step(&mut self, step: Step) {
        let now_ms = self.now_ms;
        match step {
            Step::Wait(ms) => self.now_ms = (now_ms + ms).max(0),
            Step::Push { lens, limits, when_full, id } => {
                if let Some((id, _)) = id {
                    let is_repeated = self.queue.is_repeated(now_ms, &[id]);
                    assert_eq!(is_repeated, self.model.is_repeated(now_ms, id));
                    if is_repeated {
                        return;
                    }
                }
                let first = self.records;
                self.records += lens.len() as u64;
                let batch: Vec<_> = lens.iter().zip(first..).map(|(len, number)| record(number, *len)).collect();
                let plan = self.queue.plan_push(now_ms, lens.iter().copied(), limits, when_full);
                if let Ok(PushPlan { drop_oldest, skip_new }) = plan {
                    let stored: Vec<_> = batch.iter().skip(skip_new).map(Vec::as_slice).collect();
                    self.both(|queue, now_ms| queue.push(now_ms, drop_oldest, stored.iter().copied(), skip_new as u64));
                }
                assert_eq!(plan, self.model.push(now_ms, batch, limits, when_full));
                if let (Ok(_), Some((id, id_ms))) = (plan, id) {
                    self.both(|queue, now_ms| queue.remember(now_ms, &[id], id_ms));
                    self.model.remember(now_ms, id, id_ms);
                }
            }
            Step::Pop { count, max_bytes } => {
                let count = self.queue.measure(now_ms, count, max_bytes);
                let oldest = self.model.oldest(now_ms, count);
                assert_eq!(self.model.measure(&oldest, max_bytes), count);
                self.queue.warm(count);
                assert!(front(&self.queue, now_ms, count).iter().eq(oldest.iter().map(|record| &record.0)));
                self.both(|queue, now_ms| queue.pop(now_ms, count));
                self.model.pop(now_ms, count);
            }
            Step::BatchLease { count, max_bytes, ms, deliveries_max } => {
                let until_ms = until_ms(now_ms, ms);
                match self.queue.next_batch(now_ms, count, max_bytes) {
                    Next::Again(id) => {
                        assert_eq!(self.model.returned(now_ms).first(), Some(&id));
                        let lease = BatchLease { id, until_ms, deliveries_max };
                        self.both(|queue, now_ms| queue.lease_again(now_ms, lease));
                        self.model.settle(now_ms);
                        let batch = self.model.leased.get_mut(&id).unwrap();
                        batch.deliver(lease, ms);
                        self.model.counts.redelivered += batch.records.len() as u64;
                        let before = self.deliveries.insert(id, self.queue.batch(id).unwrap().deliveries()).unwrap();
                        assert_eq!(self.deliveries[&id], before + 1);
                    }
                    Next::New { records } => {
                        let oldest: Vec<_> = self.model.waiting.iter().take(count as usize).collect();
                        assert_eq!(self.model.measure(&oldest, max_bytes), records);
                        let id = self.queue.next_id(now_ms, 0, 7);
                        let lease = BatchLease { id, until_ms, deliveries_max };
                        self.both(|queue, now_ms| queue.lease(now_ms, lease, records));
                        self.model.lease(now_ms, lease, ms, records);
                        assert_eq!(self.deliveries.insert(id, 1), None);
                    }
                    Next::Nothing => {
                        assert!(self.model.waiting.is_empty() && self.model.returned(now_ms).is_empty());
                    }
                }
            }
            Step::Ack(at, delivery) => {
                let Some(id) = self.leased_at(at).or_else(|| self.dead_at(at)) else { return };
                if !self.holds(id, delivery) {
                    return;
                }
                self.both(|queue, now_ms| queue.ack(now_ms, id));
                self.model.settle(now_ms);
                let batch = self.model.leased.remove(&id).or_else(|| self.model.dead.remove(&id)).unwrap();
                self.model.counts.acked += batch.records.len() as u64;
            }
            Step::Nack(at, ms, delivery) => {
                let Some(id) = self.leased_at(at).filter(|id| self.holds(*id, delivery)) else { return };
                let due_ms = until_ms(now_ms, ms);
                self.both(|queue, now_ms| queue.nack(now_ms, id, due_ms));
                self.model.settle(now_ms);
                match self.model.leased.get_mut(&id) {
                    Some(batch) if batch.is_exhausted() => self.model.bury(id),
                    Some(batch) => (batch.due_ms, batch.granted_ms) = (due_ms, ms),
                    None => {}
                }
            }
            Step::DeadLetter(at, delivery) => {
                let Some(id) = self.leased_at(at).filter(|id| self.holds(*id, delivery)) else { return };
                self.both(|queue, now_ms| queue.dead_letter(now_ms, id));
                self.model.settle(now_ms);
                self.model.bury(id);
            }
            Step::DeadLetterRecords(at, indexes) => {
                let Some(id) = self.leased_at(at) else { return };
                let batch = &self.model.leased[&id];
                let there = indexes.iter().any(|wanted| batch.records.iter().any(|(index, _)| index == wanted));
                let outside = indexes.iter().find(|index| **index >= batch.delivered);
                let expected = outside.map_or(Ok(there), |index| Err(*index));
                assert_eq!(self.queue.batch(id).unwrap().has_any(&indexes), expected);
                if expected != Ok(true) {
                    return;
                }
                let new_id = self.queue.next_id(now_ms, 0, 7);
                self.deliveries.insert(new_id, batch.deliveries);
                self.both(|queue, now_ms| queue.dead_letter_records(now_ms, id, new_id, &indexes));
                self.model.dead_letter_records(now_ms, id, new_id, &indexes);
            }
            Step::Extend(at, ms, delivery) => {
                let Some(id) = self.leased_at(at).filter(|id| self.holds(*id, delivery)) else { return };
                let until_ms = until_ms(now_ms, ms);
                self.both(|queue, now_ms| queue.extend(now_ms, id, until_ms));
                self.model.settle(now_ms);
                if let Some(batch) = self.model.leased.get_mut(&id) {
                    (batch.due_ms, batch.granted_ms) = (until_ms, ms);
                }
            }
            Step::Requeue(at) => {
                let Some(id) = self.dead_at(at) else { return };
                self.both(|queue, now_ms| queue.requeue(now_ms, id));
                self.model.settle(now_ms);
                let batch = self.model.dead.remove(&id).unwrap();
                let batch = ModelBatch { due_ms: now_ms, granted_ms: 0, deliveries_before: batch.deliveries, ..batch };
                self.model.leased.insert(id, batch);
            }
            Step::DropDead(at) => {
                let Some(id) = self.dead_at(at) else { return };
                self.both(|queue, now_ms| queue.drop_dead(now_ms, id));
                self.model.settle(now_ms);
                let batch = self.model.dead.remove(&id).unwrap();
                self.model.counts.dropped += batch.records.len() as u64;
            }
            Step::BoundDead(limits) => self.dead_limits = Some(limits),
            Step::Settle => {
                self.both(|queue, now_ms| queue.move_exhausted(now_ms));
                self.model.settle(now_ms);
                assert!(!self.queue.has_exhausted(now_ms));
            }
            Step::Work => run_work(&mut self.queue),
            Step::Move { from, count } => {
                let mut left = count;
                self.queue.buffers(from, &mut |buffer| {
                    let mut moved = Vec::with_capacity(buffer.capacity());
                    moved.append(buffer);
                    *buffer = moved;
                    left -= 1;
                    left > 0
                });
            }
            Step::SaveAndLoad => {
                assert_same(&self.queue, &self.model, now_ms);
                let copy = loaded(&saved(&self.queue)).unwrap();
                assert_eq!(digest(&copy), digest(&self.queue));
                assert_eq!(digest(&rewritten(&self.queue)), digest(&self.queue));
                self.replica = copy;
            }
        }
        if let Some(limits) = self.dead_limits {
            let excess = self.queue.excess_dead(limits);
            self.both(|queue, _| queue.drop_excess_dead(excess));
            self.model.keep_dead(limits);
        }
        assert_eq!(self.queue.counts(), self.model.counts);
        assert_figures(&self.queue, &self.model, self.now_ms);
    }
}

proptest! {
    // A million steps in all.
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_queue_does_what_its_definition_says(steps in prop::collection::vec(step(), 2_000)) {
        let mut trial = Trial { now_ms: 1_000_000, ..Trial::default() };
        steps.into_iter().for_each(|step| trial.step(step));
        let Trial { queue, replica, model, now_ms, .. } = trial;
        assert_same(&queue, &model, now_ms);
        prop_assert_eq!(digest(&replica), digest(&queue));
        prop_assert_eq!(digest(&queue.clone()), digest(&queue));
    }
}
