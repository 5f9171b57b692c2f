//! What a command did to a log queue, for replicas and the AOF.
//!
//! Every change begins with the time at which it was decided; what else it says:
//!
//! | | |
//! |---|---|
//! | `P` | pushed: how many of the oldest were dropped, and of the batch; the records stored follow |
//! | `D` | popped: how many |
//! | `L` | leased: the batch's name, until when, its maximum of deliveries, how many records |
//! | `R` | leased again: the same without the number |
//! | `A` `K` `Q` `X` | acknowledged, given to the dead letters, requeued, dropped: the batch's name |
//! | `N` `E` | given back, extended: the batch's name, until when |
//! | `U` `Z` | requeued, dropped: how many of the dead batches, the oldest first |
//! | `S` | moved to the dead letters what came back once too often: nothing |
//!
//! `H`, `B`, `G` and `V`, without a time, carry the parts of a queue that is written anew: its head, a block of records, a
//! leased batch, a dead one.

use std::ffi::CStr;

use gateway_core::TIME_MAX_MS;
use gateway_core::codec::Decoder;
use gateway_core::queue::{BatchId, COUNT_MAX, DELIVERIES_MAX, Lease, Part, Queue};

use super::{LAST_ID_US, worker};
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::effect::{Effect, Words, malformed};
use crate::server::value::Rewrite;
use crate::server::{Call, Error, Outcome};

pub const COMMAND: Command = Command {
    name: "GW._QUEUE",
    handler: entry!(apply),
    flags: "write admin",
    arity: -3,
    keys: Keys::One(Access::Insert),
    summary: "Internal: what a command did to a log queue, for replicas and the AOF.",
    complexity: "O(N) in the records concerned",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("effect"), Arg::text("record").optional().multiple()],
};

const NAME: &CStr = c"GW._QUEUE";

/// A change of a queue, as decided.
#[derive(Clone, Copy)]
pub enum Change {
    Pop { records: u64 },
    Lease { lease: Lease, records: u64 },
    LeaseAgain(Lease),
    Ack(BatchId),
    Nack(BatchId, i64),
    Kill(BatchId),
    Extend(BatchId, i64),
    Requeue(BatchId),
    Drop(BatchId),
    RequeueOldest(u64),
    DropOldest(u64),
    Settle,
}

impl Change {
    pub fn make(self, queue: &mut Queue, now_ms: i64) {
        let oldest = |queue: &Queue, count: u64| -> Vec<BatchId> {
            queue.dead_batches().take(count as usize).map(|(id, _)| id).collect()
        };
        match self {
            Change::Pop { records } => queue.pop(now_ms, records),
            Change::Lease { lease, records } => {
                LAST_ID_US.raise(lease.id.time_us());
                queue.lease(now_ms, lease, records);
            }
            Change::LeaseAgain(lease) => queue.lease_again(now_ms, lease),
            Change::Ack(id) => queue.ack(now_ms, id),
            Change::Nack(id, due_ms) => queue.nack(now_ms, id, due_ms),
            Change::Kill(id) => queue.kill(now_ms, id),
            Change::Extend(id, until_ms) => queue.extend(now_ms, id, until_ms),
            Change::Requeue(id) => queue.requeue(now_ms, id),
            Change::Drop(id) => queue.drop_dead(now_ms, id),
            Change::RequeueOldest(count) => oldest(queue, count).into_iter().for_each(|id| queue.requeue(now_ms, id)),
            Change::DropOldest(count) => oldest(queue, count).into_iter().for_each(|id| queue.drop_dead(now_ms, id)),
            Change::Settle => queue.settle(now_ms),
        }
        worker::submit(queue);
    }

    pub fn effect(self, now_ms: i64) -> Effect {
        let with_id = |operation, id: BatchId| {
            let mut effect = Effect::of(NAME, operation, [now_ms]);
            effect.word(id.to_string().as_bytes());
            effect
        };
        let with_lease = |operation, Lease { id, until_ms, deliveries_max }| {
            let mut effect = with_id(operation, id);
            effect.int(until_ms);
            effect.int(deliveries_max as i64);
            effect
        };
        let with_time = |operation, id, at_ms| {
            let mut effect = with_id(operation, id);
            effect.int(at_ms);
            effect
        };
        match self {
            Change::Pop { records } => Effect::of(NAME, b'D', [now_ms, records as i64]),
            Change::Lease { lease, records } => {
                let mut effect = with_lease(b'L', lease);
                effect.int(records as i64);
                effect
            }
            Change::LeaseAgain(lease) => with_lease(b'R', lease),
            Change::Ack(id) => with_id(b'A', id),
            Change::Nack(id, due_ms) => with_time(b'N', id, due_ms),
            Change::Kill(id) => with_id(b'K', id),
            Change::Extend(id, until_ms) => with_time(b'E', id, until_ms),
            Change::Requeue(id) => with_id(b'Q', id),
            Change::Drop(id) => with_id(b'X', id),
            Change::RequeueOldest(count) => Effect::of(NAME, b'U', [now_ms, count as i64]),
            Change::DropOldest(count) => Effect::of(NAME, b'Z', [now_ms, count as i64]),
            Change::Settle => Effect::of(NAME, b'S', [now_ms]),
        }
    }

    /// Reads what [`Self::effect`] wrote, behind the operation and the time.
    fn read(operation: u8, words: &mut Words) -> Result<Self, Error> {
        let change = match operation {
            b'D' => Change::Pop { records: words.int(1..=COUNT_MAX)? },
            b'L' => Change::Lease { lease: lease(words)?, records: words.int(1..=COUNT_MAX)? },
            b'R' => Change::LeaseAgain(lease(words)?),
            b'A' => Change::Ack(id(words)?),
            b'N' => Change::Nack(id(words)?, words.int(0..=TIME_MAX_MS)?),
            b'K' => Change::Kill(id(words)?),
            b'E' => Change::Extend(id(words)?, words.int(0..=TIME_MAX_MS)?),
            b'Q' => Change::Requeue(id(words)?),
            b'X' => Change::Drop(id(words)?),
            b'U' => Change::RequeueOldest(words.int(1..=COUNT_MAX)?),
            b'Z' => Change::DropOldest(words.int(1..=COUNT_MAX)?),
            b'S' => Change::Settle,
            _ => return Err(malformed()),
        };
        Ok(change)
    }
}

pub fn pushed(now_ms: i64, drop_oldest: u64, dropped_new: u64) -> Effect {
    Effect::of(NAME, b'P', [now_ms, drop_oldest as i64, dropped_new as i64])
}

fn id(words: &mut Words) -> Result<BatchId, Error> {
    BatchId::parse(words.word()?).ok_or_else(malformed)
}

fn lease(words: &mut Words) -> Result<Lease, Error> {
    let id = id(words)?;
    Ok(Lease { id, until_ms: words.int(0..=TIME_MAX_MS)?, deliveries_max: words.int(1..=DELIVERIES_MAX)? })
}

fn apply(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let (operation, mut words) = Words::new(args.bytes("effect")?)?;
    let part = match operation {
        b'H' => Some(Part::Head),
        b'B' => Some(Part::Waiting),
        b'G' => Some(Part::Leased),
        b'V' => Some(Part::Dead),
        _ => None,
    };
    let mut opened = call.open::<Queue>(key)?;
    if let Some(part) = part {
        words.end()?;
        let mut from = Decoder::new(args.bytes("record")?);
        args.end()?;
        let queue = opened.get_or_insert_with(Queue::new);
        queue.load_part(part, &mut from).and_then(|()| from.finish()).map_err(|_| malformed())?;
        LAST_ID_US.raise(queue.last_id_us());
        worker::submit(queue);
    } else {
        let now_ms = words.int(0..=TIME_MAX_MS)?;
        if operation == b'P' {
            let (drop_oldest, dropped_new) = (words.int(0..=COUNT_MAX)?, words.int(0..=COUNT_MAX)?);
            words.end()?;
            let records = args.rest("record").unwrap_or_default();
            let queue = opened.get_or_insert_with(Queue::new);
            queue.push(now_ms, drop_oldest, records.iter().map(|record| record.bytes()), dropped_new);
            worker::submit(queue);
        } else {
            let change = Change::read(operation, &mut words)?;
            words.end()?;
            args.end()?;
            change.make(opened.get().ok_or_else(malformed)?, now_ms);
        }
    }
    drop(opened);
    call.applied(key, c"gw.queue");
    call.wake(key);
    call.reply().ok();
    Ok(())
}

/// Writes a queue anew, as the parts it is kept in: a compressed block stays compressed.
pub fn rewrite(queue: &Queue, out: &mut Rewrite) {
    queue.save_parts(&mut |part, payload| {
        let operation = match part {
            Part::Head => b'H',
            Part::Waiting => b'B',
            Part::Leased => b'G',
            Part::Dead => b'V',
        };
        out.effect(&Effect::new(NAME, operation), std::iter::once(payload.0.as_slice()));
    });
}
