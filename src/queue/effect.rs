//! The family's effects.
//!
//! The words begin with the time at which the change was decided.
//!
//! | operation | further words | event |
//! |---|---|---|
//! | `P` | pushed: how many of the oldest records were dropped, and how many of the pushed; the records stored follow | `gw.logpush` |
//! | `D` | popped: how many records | `gw.logpop` |
//! | `L` | leased: the batch's id, the end of the lease, the most deliveries, how many records | `gw.logpop` |
//! | `R` | leased again: the same without the number of records | `gw.logpop` |
//! | `A` | acknowledged: the batch's id | `gw.logack` |
//! | `N` | given back: the batch's id, when it is due | `gw.lognack` |
//! | `K` | given up, and so a dead letter: the batch's id | `gw.lognack` |
//! | `E` | extended: the batch's id, the end of the lease | `gw.logextend` |
//! | `Q` `X` | a dead letter was requeued, dropped: the batch's id | `gw.logdead` |
//! | `U` `Z` | dead letters were requeued, dropped: how many of the oldest | `gw.logdead` |
//! | `S` | exhausted batches became dead letters: nothing | `gw.logdead` |
//! | `H` `B` `G` `V` | without a time: the head of a queue that is rewritten, a block of records, a leased batch, a dead letter; its encoding follows | `gw.load` |

use std::ffi::CStr;

use gateway_core::TIME_MAX_MS;
use gateway_core::codec::Decoder;
use gateway_core::queue::{BatchId, BatchLease, COUNT_MAX, DELIVERIES_MAX, Part, Queue};

use super::worker;
use crate::server::args::Args;
use crate::server::call::entry;
use crate::server::command::{self, Access, Arg, Command, Keys};
use crate::server::counter::Counter;
use crate::server::effect::{Effect, Words, malformed, newer};
use crate::server::key::Opened;
use crate::server::value::{LOAD_EVENT, Rewrite};
use crate::server::{Call, Error, Outcome};

const NAME: &CStr = c"GW._QUEUE";

pub const COMMAND: Command = Command {
    name: command::name(NAME),
    handler: entry!(apply),
    flags: "write admin",
    arity: -3,
    keys: Keys::One(Access::Insert),
    summary: "Internal: applies what a command did to a log queue, on replicas and from the AOF.",
    complexity: "O(N) in the records concerned",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("effect"), Arg::text("record").optional().multiple()],
};

/// The largest time in the name of a batch that this node has given out or seen, under any key. So a key that is deleted
/// and made again while the clock has stepped back gives no two batches the same name.
pub static LAST_ID_US: Counter = Counter::new();

/// A change of a queue by anything but a push.
#[derive(Clone, Copy)]
pub enum QueueChange {
    Pop {
        records: u64,
    },
    Lease {
        lease: BatchLease,
        records: u64,
    },
    LeaseAgain(BatchLease),
    Ack(BatchId),
    Nack(BatchId, i64),
    /// The batch is given up.
    DeadLetter(BatchId),
    Extend(BatchId, i64),
    RequeueDead(BatchId),
    DropDead(BatchId),
    RequeueOldestDead(u64),
    DropOldestDead(u64),
    /// Moves exhausted batches to the dead letters, as every other change does first.
    MoveExhausted,
}

impl QueueChange {
    pub fn make(self, queue: &mut Queue, now_ms: i64) {
        let oldest = |queue: &Queue, count: u64| -> Vec<BatchId> {
            queue.dead_batches().take(count as usize).map(|(id, _)| id).collect()
        };
        match self {
            QueueChange::Pop { records } => queue.pop(now_ms, records),
            QueueChange::Lease { lease, records } => {
                LAST_ID_US.raise(lease.id.time_us());
                queue.lease(now_ms, lease, records);
            }
            QueueChange::LeaseAgain(lease) => queue.lease_again(now_ms, lease),
            QueueChange::Ack(id) => queue.ack(now_ms, id),
            QueueChange::Nack(id, due_ms) => queue.nack(now_ms, id, due_ms),
            QueueChange::DeadLetter(id) => queue.dead_letter(now_ms, id),
            QueueChange::Extend(id, until_ms) => queue.extend(now_ms, id, until_ms),
            QueueChange::RequeueDead(id) => queue.requeue(now_ms, id),
            QueueChange::DropDead(id) => queue.drop_dead(now_ms, id),
            QueueChange::RequeueOldestDead(count) => {
                oldest(queue, count).into_iter().for_each(|id| queue.requeue(now_ms, id))
            }
            QueueChange::DropOldestDead(count) => {
                oldest(queue, count).into_iter().for_each(|id| queue.drop_dead(now_ms, id))
            }
            QueueChange::MoveExhausted => queue.move_exhausted(now_ms),
        }
        worker::submit(queue);
    }

    pub fn event(self) -> &'static CStr {
        match self {
            QueueChange::Pop { .. } | QueueChange::Lease { .. } | QueueChange::LeaseAgain(_) => c"gw.logpop",
            QueueChange::Ack(_) => c"gw.logack",
            QueueChange::Nack(..) | QueueChange::DeadLetter(_) => c"gw.lognack",
            QueueChange::Extend(..) => c"gw.logextend",
            QueueChange::RequeueDead(_)
            | QueueChange::DropDead(_)
            | QueueChange::RequeueOldestDead(_)
            | QueueChange::DropOldestDead(_)
            | QueueChange::MoveExhausted => c"gw.logdead",
        }
    }

    pub fn effect(self, now_ms: i64) -> Effect {
        let with_id = |operation, id: BatchId| {
            let mut effect = Effect::of(NAME, operation, [now_ms]);
            effect.word(id.to_string().as_bytes());
            effect
        };
        let with_lease = |operation, BatchLease { id, until_ms, deliveries_max }| {
            let mut effect = with_id(operation, id);
            effect.int(until_ms);
            effect.int(deliveries_max.cast_signed());
            effect
        };
        let with_time = |operation, id, at_ms| {
            let mut effect = with_id(operation, id);
            effect.int(at_ms);
            effect
        };
        match self {
            QueueChange::Pop { records } => Effect::of(NAME, b'D', [now_ms, records.cast_signed()]),
            QueueChange::Lease { lease, records } => {
                let mut effect = with_lease(b'L', lease);
                effect.int(records.cast_signed());
                effect
            }
            QueueChange::LeaseAgain(lease) => with_lease(b'R', lease),
            QueueChange::Ack(id) => with_id(b'A', id),
            QueueChange::Nack(id, due_ms) => with_time(b'N', id, due_ms),
            QueueChange::DeadLetter(id) => with_id(b'K', id),
            QueueChange::Extend(id, until_ms) => with_time(b'E', id, until_ms),
            QueueChange::RequeueDead(id) => with_id(b'Q', id),
            QueueChange::DropDead(id) => with_id(b'X', id),
            QueueChange::RequeueOldestDead(count) => Effect::of(NAME, b'U', [now_ms, count.cast_signed()]),
            QueueChange::DropOldestDead(count) => Effect::of(NAME, b'Z', [now_ms, count.cast_signed()]),
            QueueChange::MoveExhausted => Effect::of(NAME, b'S', [now_ms]),
        }
    }

    /// Reads what [`Self::effect`] wrote, after the operation and the time.
    fn read(operation: u8, words: &mut Words) -> Result<Self, Error> {
        let change = match operation {
            b'D' => QueueChange::Pop { records: words.int(1..=COUNT_MAX)? },
            b'L' => QueueChange::Lease { lease: lease(words)?, records: words.int(1..=COUNT_MAX)? },
            b'R' => QueueChange::LeaseAgain(lease(words)?),
            b'A' => QueueChange::Ack(id(words)?),
            b'N' => QueueChange::Nack(id(words)?, words.int(0..=TIME_MAX_MS)?),
            b'K' => QueueChange::DeadLetter(id(words)?),
            b'E' => QueueChange::Extend(id(words)?, words.int(0..=TIME_MAX_MS)?),
            b'Q' => QueueChange::RequeueDead(id(words)?),
            b'X' => QueueChange::DropDead(id(words)?),
            b'U' => QueueChange::RequeueOldestDead(words.int(1..=COUNT_MAX)?),
            b'Z' => QueueChange::DropOldestDead(words.int(1..=COUNT_MAX)?),
            b'S' => QueueChange::MoveExhausted,
            _ => return Err(newer()),
        };
        Ok(change)
    }
}

pub const PUSH_EVENT: &CStr = c"gw.logpush";

/// The effect of a push. The records that were stored follow.
pub fn pushed(now_ms: i64, drop_oldest: u64, dropped_new: u64) -> Effect {
    Effect::of(NAME, b'P', [now_ms, drop_oldest.cast_signed(), dropped_new.cast_signed()])
}

fn id(words: &mut Words) -> Result<BatchId, Error> {
    BatchId::parse(words.word()?).ok_or_else(malformed)
}

fn lease(words: &mut Words) -> Result<BatchLease, Error> {
    let id = id(words)?;
    Ok(BatchLease { id, until_ms: words.int(0..=TIME_MAX_MS)?, deliveries_max: words.int(1..=DELIVERIES_MAX)? })
}

/// GW._QUEUE key effect [record …]
fn apply(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let (operation, mut words) = Words::new(args.bytes("effect")?)?;
    let mut opened = call.open::<Queue>(key)?;
    let event = if let Some(part) = part_of(operation) {
        words.end()?;
        apply_part(&mut opened, part, args)?
    } else {
        let now_ms = words.int(0..=TIME_MAX_MS)?;
        if operation == b'P' {
            apply_push(&mut opened, now_ms, words, args)?
        } else {
            let change = QueueChange::read(operation, &mut words)?;
            words.end()?;
            args.end()?;
            change.make(opened.get().ok_or_else(malformed)?, now_ms);
            change.event()
        }
    };
    drop(opened);
    call.pass_on(key, event);
    call.wake(key);
    call.reply().ok();
    Ok(())
}

fn part_of(operation: u8) -> Option<Part> {
    match operation {
        b'H' => Some(Part::Head),
        b'B' => Some(Part::Waiting),
        b'G' => Some(Part::Leased),
        b'V' => Some(Part::Dead),
        _ => None,
    }
}

fn apply_part(opened: &mut Opened<Queue>, part: Part, mut args: Args) -> Result<&'static CStr, Error> {
    let mut from = Decoder::new(args.bytes("record")?);
    args.end()?;
    let queue = opened.get_or_insert_with(Queue::new);
    queue.load_part(part, &mut from).and_then(|()| from.finish()).map_err(|_| malformed())?;
    LAST_ID_US.raise(queue.last_id_us());
    worker::submit(queue);
    Ok(LOAD_EVENT)
}

fn apply_push(
    opened: &mut Opened<Queue>,
    now_ms: i64,
    mut words: Words,
    mut args: Args,
) -> Result<&'static CStr, Error> {
    let (drop_oldest, dropped_new) = (words.int(0..=COUNT_MAX)?, words.int(0..=COUNT_MAX)?);
    words.end()?;
    // None, if all of the pushed records were dropped.
    let records = args.rest("record").unwrap_or_default();
    let queue = opened.get_or_insert_with(Queue::new);
    queue.push(now_ms, drop_oldest, records.iter().map(|record| record.bytes()), dropped_new);
    worker::submit(queue);
    Ok(PUSH_EVENT)
}

/// Rewrites a queue as the parts that it consists of: a compressed block stays compressed.
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
