//! The family's effects.
//!
//! The words begin with the time at which the change was decided. The last word of `P` to `S` is the number of the
//! oldest dead letters that were dropped because there were too many; it is left out if it is 0.
//!
//! | operation | further words | event |
//! |---|---|---|
//! | `P` | pushed: the number of oldest records dropped, and of pushed records dropped; the records stored follow | `gw.logpush` |
//! | `I` | pushed under an id: like `P`, but first how long the id is remembered; the id follows, then the records stored | `gw.logpush` |
//! | `D` | popped: the number of records | `gw.logpop` |
//! | `L` | leased: the batch's id, the end of the lease, the most deliveries, the number of records | `gw.logpop` |
//! | `R` | leased again: the same without the number of records | `gw.logpop` |
//! | `A` | acknowledged: the batch's id | `gw.logack` |
//! | `N` | given back: the batch's id, when it is due | `gw.lognack` |
//! | `K` | given up, so that it is a dead letter: the batch's id | `gw.lognack` |
//! | `J` | records of a batch were given up, and are a dead letter of their own: the batch's id, the dead letter's id; the records' indexes follow | `gw.lognack` |
//! | `E` | extended: the batch's id, the end of the lease | `gw.logextend` |
//! | `Q` `X` | a dead letter was requeued, or dropped: the batch's id | `gw.logdead` |
//! | `U` `Z` | dead letters were requeued, or dropped: the number of oldest ones | `gw.logdead` |
//! | `S` | exhausted batches became dead letters: no further words | `gw.logdead` |
//! | `C` | the clock had stepped back, and the ends of the leases were moved back: no further words | `gw.logextend` |
//! | `H` `O` `B` `G` `V` | without a time: the head of a queue that is rewritten, ids of pushes, a block of records, a leased batch, or a dead letter; its encoding follows | `gw.load` |

use std::ffi::CStr;

use gateway_core::queue::{BATCH_RECORDS_MAX, BatchId, BatchLease, COUNT_MAX, DELIVERIES_MAX, Part, PushPlan, Queue};
use gateway_core::{PERIOD_MAX_MS, TIME_MAX_MS};

use super::args::ID_BYTES_MAX;
use super::settings::dead_limits;
use super::worker;
use crate::server::args::Args;
use crate::server::call::entry;
use crate::server::command::{self, Access, Arg, Command, Keys};
use crate::server::counter::Counter;
use crate::server::effect::{Effect, Words, malformed, newer};
use crate::server::key::Opened;
use crate::server::value::{LOAD_EVENT, Rewrite};
use crate::server::{Call, Error, Outcome};
use crate::stats::STATS;

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
    args: &[Arg::key(), Arg::text("effect"), Arg::text("argument").optional().multiple()],
};

/// The largest time in the id of any batch that this node has created or seen, under any key. So if a key is deleted
/// and created again while the clock has stepped back, no two batches get the same id.
pub static LAST_ID_US: Counter = Counter::new();

/// A change of a queue, other than a push.
#[derive(Clone, Copy)]
pub enum QueueChange<'a> {
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
    /// Some of the batch's records are given up, under a new id.
    DeadRecords {
        id: BatchId,
        new_id: BatchId,
        indexes: &'a [u32],
    },
    Extend(BatchId, i64),
    RequeueDead(BatchId),
    DropDead(BatchId),
    RequeueOldestDead(u64),
    DropOldestDead(u64),
    /// Moves exhausted batches to the dead letters, as all other changes do first.
    MoveExhausted,
    /// Moves the ends of leases back with the clock, as all other changes do first.
    StepBack,
}

/// The change that is due in a queue even if a command changes nothing.
pub fn due(queue: &Queue, now_ms: i64) -> Option<QueueChange<'static>> {
    if queue.has_exhausted(now_ms) {
        return Some(QueueChange::MoveExhausted);
    }
    queue.is_behind(now_ms).then_some(QueueChange::StepBack)
}

/// Drops the oldest dead letters if there are too many. Returns the number dropped, for the effect.
pub fn drop_excess_dead(queue: &mut Queue) -> u64 {
    let batches = queue.excess_dead(dead_limits());
    if batches > 0 {
        let before = queue.counts().dead_dropped;
        queue.drop_excess_dead(batches);
        STATS.log_dead_dropped.add(queue.counts().dead_dropped.saturating_sub(before));
    }
    batches
}

impl QueueChange<'_> {
    /// Makes the change on the node that decided it, and returns its effect. Also decides which dead letters are too
    /// many.
    pub fn decide(self, queue: &mut Queue, now_ms: i64) -> Effect {
        self.make(queue, now_ms);
        let dead_dropped = drop_excess_dead(queue);
        worker::submit(queue);
        let mut effect = self.effect(now_ms);
        end_with(&mut effect, dead_dropped);
        effect
    }

    fn make(self, queue: &mut Queue, now_ms: i64) {
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
            QueueChange::DeadRecords { id, new_id, indexes } => {
                LAST_ID_US.raise(new_id.time_us());
                queue.dead_letter_records(now_ms, id, new_id, indexes);
            }
            QueueChange::Extend(id, until_ms) => queue.extend(now_ms, id, until_ms),
            QueueChange::RequeueDead(id) => queue.requeue(now_ms, id),
            QueueChange::DropDead(id) => queue.drop_dead(now_ms, id),
            QueueChange::RequeueOldestDead(count) => {
                oldest(queue, count).into_iter().for_each(|id| queue.requeue(now_ms, id))
            }
            QueueChange::DropOldestDead(count) => {
                oldest(queue, count).into_iter().for_each(|id| queue.drop_dead(now_ms, id))
            }
            QueueChange::MoveExhausted | QueueChange::StepBack => queue.move_exhausted(now_ms),
        }
    }

    pub fn event(self) -> &'static CStr {
        match self {
            QueueChange::Pop { .. } | QueueChange::Lease { .. } | QueueChange::LeaseAgain(_) => c"gw.logpop",
            QueueChange::Ack(_) => c"gw.logack",
            QueueChange::Nack(..) | QueueChange::DeadLetter(_) | QueueChange::DeadRecords { .. } => c"gw.lognack",
            QueueChange::Extend(..) | QueueChange::StepBack => c"gw.logextend",
            QueueChange::RequeueDead(_)
            | QueueChange::DropDead(_)
            | QueueChange::RequeueOldestDead(_)
            | QueueChange::DropOldestDead(_)
            | QueueChange::MoveExhausted => c"gw.logdead",
        }
    }

    fn effect(self, now_ms: i64) -> Effect {
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
            QueueChange::DeadRecords { id, new_id, .. } => {
                let mut effect = with_id(b'J', id);
                effect.word(new_id.to_string().as_bytes());
                effect
            }
            QueueChange::Extend(id, until_ms) => with_time(b'E', id, until_ms),
            QueueChange::RequeueDead(id) => with_id(b'Q', id),
            QueueChange::DropDead(id) => with_id(b'X', id),
            QueueChange::RequeueOldestDead(count) => Effect::of(NAME, b'U', [now_ms, count.cast_signed()]),
            QueueChange::DropOldestDead(count) => Effect::of(NAME, b'Z', [now_ms, count.cast_signed()]),
            QueueChange::MoveExhausted => Effect::of(NAME, b'S', [now_ms]),
            QueueChange::StepBack => Effect::of(NAME, b'C', [now_ms]),
        }
    }
}

impl<'a> QueueChange<'a> {
    /// Reads what [`Self::effect`] wrote, after the operation and the time.
    fn read(operation: u8, words: &mut Words, indexes: &'a [u32]) -> Result<Self, Error> {
        let change = match operation {
            b'D' => QueueChange::Pop { records: words.int(1..=COUNT_MAX)? },
            b'L' => QueueChange::Lease { lease: lease(words)?, records: words.int(1..=COUNT_MAX)? },
            b'R' => QueueChange::LeaseAgain(lease(words)?),
            b'A' => QueueChange::Ack(id(words)?),
            b'N' => QueueChange::Nack(id(words)?, words.int(0..=TIME_MAX_MS)?),
            b'K' => QueueChange::DeadLetter(id(words)?),
            b'J' => QueueChange::DeadRecords { id: id(words)?, new_id: id(words)?, indexes },
            b'E' => QueueChange::Extend(id(words)?, words.int(0..=TIME_MAX_MS)?),
            b'Q' => QueueChange::RequeueDead(id(words)?),
            b'X' => QueueChange::DropDead(id(words)?),
            b'U' => QueueChange::RequeueOldestDead(words.int(1..=COUNT_MAX)?),
            b'Z' => QueueChange::DropOldestDead(words.int(1..=COUNT_MAX)?),
            b'S' => QueueChange::MoveExhausted,
            b'C' => QueueChange::StepBack,
            _ => return Err(newer()),
        };
        Ok(change)
    }
}

pub const PUSH_EVENT: &CStr = c"gw.logpush";

/// The effect of a push. If the push has an id, it is remembered for `id_ms`. The id and the records stored follow as
/// arguments.
pub fn pushed(now_ms: i64, plan: PushPlan, id_ms: Option<u64>, dead_dropped: u64) -> Effect {
    let PushPlan { drop_oldest, skip_new } = plan;
    let mut effect = match id_ms {
        None => Effect::of(NAME, b'P', [now_ms]),
        Some(id_ms) => Effect::of(NAME, b'I', [now_ms, id_ms.cast_signed()]),
    };
    effect.int(drop_oldest.cast_signed());
    effect.int(i64::try_from(skip_new).unwrap_or(i64::MAX));
    end_with(&mut effect, dead_dropped);
    effect
}

fn end_with(effect: &mut Effect, dead_dropped: u64) {
    if dead_dropped > 0 {
        effect.int(dead_dropped.cast_signed());
    }
}

/// Reads the last word, which [`end_with`] wrote.
fn end_of(mut words: Words) -> Result<u64, Error> {
    let dead_dropped = words.int_or(0..=COUNT_MAX, 0)?;
    words.end().map(|()| dead_dropped)
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
        match operation {
            b'P' => apply_push(&mut opened, now_ms, None, words, args)?,
            b'I' => {
                let id_ms = words.int(1..=PERIOD_MAX_MS)?;
                let id = args.name("id", ID_BYTES_MAX).map_err(|_| malformed())?;
                apply_push(&mut opened, now_ms, Some((id.bytes(), id_ms)), words, args)?
            }
            _ => apply_change(&mut opened, operation, now_ms, words, args)?,
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
        b'O' => Some(Part::Ids),
        b'B' => Some(Part::Waiting),
        b'G' => Some(Part::Leased),
        b'V' => Some(Part::Dead),
        _ => None,
    }
}

fn apply_part(opened: &mut Opened<Queue>, part: Part, mut args: Args) -> Result<&'static CStr, Error> {
    let payload = args.bytes("record")?;
    args.end()?;
    // A part that is refused makes no key.
    let mut new = Queue::new();
    opened.get().unwrap_or(&mut new).load_part(part, payload).map_err(|_| malformed())?;
    let queue = opened.get_or_insert_with(|| new);
    LAST_ID_US.raise(queue.last_id_us());
    worker::submit(queue);
    Ok(LOAD_EVENT)
}

fn apply_change(
    opened: &mut Opened<Queue>,
    operation: u8,
    now_ms: i64,
    mut words: Words,
    mut args: Args,
) -> Result<&'static CStr, Error> {
    let mut indexes = Vec::new();
    if operation == b'J' {
        for _ in args.clone().rest("index").map_err(|_| malformed())? {
            indexes.push(args.int("index", 0..=BATCH_RECORDS_MAX - 1).map_err(|_| malformed())?);
        }
    }
    let change = QueueChange::read(operation, &mut words, &indexes)?;
    let dead_dropped = end_of(words)?;
    args.end()?;
    let queue = opened.get().ok_or_else(malformed)?;
    change.make(queue, now_ms);
    queue.drop_excess_dead(dead_dropped);
    worker::submit(queue);
    Ok(change.event())
}

fn apply_push(
    opened: &mut Opened<Queue>,
    now_ms: i64,
    id: Option<(&[u8], u64)>,
    mut words: Words,
    mut args: Args,
) -> Result<&'static CStr, Error> {
    let (drop_oldest, dropped_new) = (words.int(0..=COUNT_MAX)?, words.int(0..=COUNT_MAX)?);
    let dead_dropped = end_of(words)?;
    // There are no records if all pushed records were dropped.
    let records = args.rest("record").unwrap_or_default();
    let queue = opened.get_or_insert_with(Queue::new);
    queue.push(now_ms, drop_oldest, records.iter().map(|record| record.bytes()), dropped_new);
    if let Some((id, id_ms)) = id {
        queue.remember(now_ms, id, id_ms);
    }
    queue.drop_excess_dead(dead_dropped);
    worker::submit(queue);
    Ok(PUSH_EVENT)
}

/// Rewrites a queue in its parts: a compressed block stays compressed.
pub fn rewrite(queue: &Queue, out: &mut Rewrite) {
    queue.save_parts(&mut |part, payload| {
        let operation = match part {
            Part::Head => b'H',
            Part::Ids => b'O',
            Part::Waiting => b'B',
            Part::Leased => b'G',
            Part::Dead => b'V',
        };
        out.effect(&Effect::new(NAME, operation), std::iter::once(payload.0.as_slice()));
    });
}
