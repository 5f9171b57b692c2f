//! Serves GW.LOGPOP from a queue, at once or after a wait.

use gateway_core::queue::{BatchLease, Next, Queue, until_ms};
use lazy_static::lazy_static;

use super::args::{Bounds, PopRequest};
use super::effect::{LAST_ID_US, QueueChange, due};
use super::reply;
use crate::server::effect::Effect;
use crate::server::{Call, Error, Key};
use crate::stats::STATS;

lazy_static! {
    /// Distinguishes the ids of batches of this process from those of all others.
    pub static ref NODE: u32 = random();
}

/// A random number of the operating system, which seeds the hash tables of the standard library.
fn random() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one("node") as u32
}

/// Pops and replies, if there are records. Returns whether there were any.
pub fn serve(call: &mut Call, request: &PopRequest) -> Result<bool, Error> {
    match request.lease_ms {
        None => pop_for_good(call, request.key, request.bounds),
        Some(lease_ms) => pop_on_lease(call, request, lease_ms),
    }
}

pub fn reply_nothing(call: &Call, request: &PopRequest) {
    match request.lease_ms {
        None => call.reply().array(0),
        Some(_) => call.reply().null(),
    };
}

fn pop_for_good(call: &mut Call, key: Key, bounds: Bounds) -> Result<bool, Error> {
    let (now_ms, reply) = (call.now_ms(), call.reply());
    let mut opened = call.open::<Queue>(key)?;
    let Some(queue) = opened.get() else { return Ok(false) };
    let records = queue.measure(now_ms, bounds.count, bounds.max_bytes);
    let change = match records {
        0 => match due(queue, now_ms) {
            Some(change) => change,
            None => return Ok(false),
        },
        records => QueueChange::Pop { records },
    };
    if records > 0 {
        // The reply is written from the queue's own blocks, so it must come before the change.
        queue.warm(records);
        reply.array(records as usize);
        queue.peek(now_ms, records, &mut |record, _| {
            reply.bytes(record);
        });
    }
    let effect = make(change, queue, now_ms);
    drop(opened);
    call.replicate(key, change.event(), &effect);
    Ok(records > 0)
}

/// Leases a batch and replies it, if there are records. Returns whether there were any.
fn pop_on_lease(call: &mut Call, request: &PopRequest, lease_ms: u64) -> Result<bool, Error> {
    let (now_ms, reply, key) = (call.now_ms(), call.reply(), request.key);
    let mut opened = call.open::<Queue>(key)?;
    let Some(queue) = opened.get() else { return Ok(false) };
    let lease = |id| BatchLease { id, until_ms: until_ms(now_ms, lease_ms), deliveries_max: request.deliveries_max };
    let (id, change) = match queue.next_batch(now_ms, request.bounds.count, request.bounds.max_bytes) {
        Next::Again(id) => (Some(id), QueueChange::LeaseAgain(lease(id))),
        Next::New { records } => {
            let id = queue.next_id(now_ms, LAST_ID_US.get(), *NODE);
            (Some(id), QueueChange::Lease { lease: lease(id), records })
        }
        Next::Nothing => match due(queue, now_ms) {
            Some(change) => (None, change),
            None => return Ok(false),
        },
    };
    let effect = make(change, queue, now_ms);
    if let Some((id, batch)) = id.and_then(|id| Some((id, queue.batch(id)?))) {
        reply::batch(&reply, id, batch);
    }
    drop(opened);
    call.replicate(key, change.event(), &effect);
    Ok(id.is_some())
}

/// Makes the change and counts it in the statistics; returns its effect.
fn make(change: QueueChange, queue: &mut Queue, now_ms: i64) -> Effect {
    let before = queue.counts();
    let effect = change.decide(queue, now_ms);
    let after = queue.counts();
    STATS.log_popped.add(after.popped.saturating_sub(before.popped));
    STATS.log_redelivered.add(after.redelivered.saturating_sub(before.redelivered));
    STATS.log_dead.add(after.dead_lettered.saturating_sub(before.dead_lettered));
    effect
}
