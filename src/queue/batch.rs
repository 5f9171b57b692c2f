//! Leased batches: GW.LOGACK, GW.LOGNACK, GW.LOGEXTEND and GW.LOGDEAD.

use gateway_core::PERIOD_MAX_MS;
use gateway_core::queue::{Batch, BatchId, Queue, until_ms};

use super::effect::Change;
use super::pop::BYTES_PER_CALL_MAX;
use crate::server::args::Args;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::reply::Reply;
use crate::server::stats::STATS;
use crate::server::{Call, Error, Key, Outcome};

pub const ACK: Command = Command {
    name: "GW.LOGACK",
    handler: entry!(ack),
    flags: "write fast",
    arity: 3,
    keys: Keys::One(Access::Delete),
    summary: "Forgets a leased batch, because its records are where they should be. Replies 1, or 0 where there is no \
              such batch.",
    complexity: "O(log N) in the leased batches",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("batch-id")],
};

pub const NACK: Command = Command {
    name: "GW.LOGNACK",
    handler: entry!(nack),
    flags: "write fast",
    arity: -3,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Gives a leased batch back, to be delivered again now, after a delay, or with DEAD never. Replies 1, or 0 \
              where it is not leased.",
    complexity: "O(log N) in the leased batches",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key(),
        Arg::text("batch-id"),
        Arg::one_of("when", &[Arg::integer("delay-ms").after("DELAY"), Arg::word("dead", "DEAD")]).optional(),
    ],
};

pub const EXTEND: Command = Command {
    name: "GW.LOGEXTEND",
    handler: entry!(extend),
    flags: "write fast",
    arity: 5,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Lets the lease on a batch last for so long from now on. Replies 1, or 0 where it is not leased.",
    complexity: "O(log N) in the leased batches",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("batch-id"), Arg::integer("lease-ms").after("LEASE")],
};

const ID_OR_ALL: Arg = Arg::one_of("which", &[Arg::text("batch-id"), Arg::word("all", "ALL")]);

pub const DEAD: Command = Command {
    name: "GW.LOGDEAD",
    handler: entry!(dead),
    flags: "write",
    arity: -3,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Shows the dead letters of a log queue, has them delivered again, or drops them: batches that came back \
              too often, or were given up.",
    complexity: "O(N) in the records replied, or the batches concerned",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key(),
        Arg::one_of(
            "operation",
            &[
                Arg::block("list", &[Arg::word("list", "LIST"), Arg::integer("count").after("COUNT").optional()]),
                Arg::block("requeue", &[Arg::word("requeue", "REQUEUE"), ID_OR_ALL]),
                Arg::block("drop", &[Arg::word("drop", "DROP"), ID_OR_ALL]),
            ],
        ),
    ],
};

/// What one call does with `ALL`, so that it keeps nobody waiting.
const BATCHES_PER_CALL_MAX: u64 = 100;

fn batch_id(args: &mut Args) -> Result<BatchId, Error> {
    let text = args.bytes("batch-id")?;
    BatchId::parse(text).ok_or_else(|| Error::new("not a batch id", text))
}

/// Makes the change that `decide` wants, replicates it, and replies the number that comes with it.
fn change(
    call: &mut Call,
    key: Key,
    decide: impl FnOnce(&Queue, i64) -> Option<(Change, u64)>,
) -> Result<Option<u64>, Error> {
    let now_ms = call.now_ms();
    let mut opened = call.open::<Queue>(key)?;
    let Some(queue) = opened.get() else { return Ok(None) };
    let buried = queue.counts().buried;
    let decided = decide(queue, now_ms);
    // Without a change of its own, what is due for the dead letters goes there all the same.
    let (change, number) = match decided {
        Some(decided) => decided,
        None if queue.is_unsettled(now_ms) => (Change::Settle, 0),
        None => return Ok(None),
    };
    change.make(queue, now_ms);
    STATS.log_dead.add(queue.counts().buried.saturating_sub(buried));
    drop(opened);
    call.changed(key, c"gw.logbatch", &change.effect(now_ms));
    // Something may be ready now, or at another time than before.
    call.wake(key);
    Ok(decided.map(|_| number))
}

/// GW.LOGACK key batch-id
fn ack(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let (key, id) = (args.key()?, batch_id(&mut args)?);
    args.end()?;
    let acked = change(call, key, |queue, _| queue.batch(id).map(|batch| (Change::Ack(id), batch.size().records)))?;
    STATS.log_acked.add(acked.unwrap_or(0));
    call.reply().int(acked.is_some().into());
    Ok(())
}

/// GW.LOGNACK key batch-id [DELAY ms | DEAD]
fn nack(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let (key, id) = (args.key()?, batch_id(&mut args)?);
    let mut delay_ms = Some(0);
    if let Some(is_dead) = args.option(&[("DELAY", false), ("DEAD", true)])? {
        delay_ms = if is_dead { None } else { Some(args.int("DELAY", 0..=PERIOD_MAX_MS)?) };
    }
    args.end()?;
    let given_back = change(call, key, |queue, now_ms| {
        queue.leased_batch(now_ms, id)?;
        let change = delay_ms.map_or(Change::Kill(id), |delay_ms| Change::Nack(id, until_ms(now_ms, delay_ms)));
        Some((change, 1))
    })?;
    call.reply().int(given_back.is_some().into());
    Ok(())
}

/// GW.LOGEXTEND key batch-id LEASE ms
fn extend(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let (key, id) = (args.key()?, batch_id(&mut args)?);
    args.option(&[("LEASE", ())])?;
    let lease_ms = args.int("LEASE", 1..=PERIOD_MAX_MS)?;
    args.end()?;
    let extended = change(call, key, |queue, now_ms| {
        queue.leased_batch(now_ms, id)?;
        Some((Change::Extend(id, until_ms(now_ms, lease_ms)), 1))
    })?;
    call.reply().int(extended.is_some().into());
    Ok(())
}

/// GW.LOGDEAD key LIST [COUNT n] | REQUEUE batch-id | REQUEUE ALL | DROP batch-id | DROP ALL
fn dead(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let operation = args.bytes("operation")?;
    let is_requeue = match operation.to_ascii_uppercase().as_slice() {
        b"LIST" => return list(call, args, key),
        b"REQUEUE" => true,
        b"DROP" => false,
        _ => return Err(Error::new("unknown option", operation)),
    };
    let one = if args.peek().is_some_and(|word| word.eq_ignore_ascii_case(b"ALL")) {
        args.optional();
        None
    } else {
        Some(batch_id(&mut args)?)
    };
    args.end()?;
    settle(call, key)?;
    let done = change(call, key, |queue, _| match one {
        Some(id) => {
            let change = if is_requeue { Change::Requeue(id) } else { Change::Drop(id) };
            queue.dead_batch(id).map(|_| (change, 1))
        }
        None => match queue.dead_batches().take(BATCHES_PER_CALL_MAX as usize).count() as u64 {
            0 => None,
            count if is_requeue => Some((Change::RequeueOldest(count), count)),
            count => Some((Change::DropOldest(count), count)),
        },
    })?;
    call.reply().count(done.unwrap_or(0));
    Ok(())
}

/// What is dead by now is among the dead letters afterwards.
fn settle(call: &mut Call, key: Key) -> Outcome {
    change(call, key, |_, _| None).map(drop)
}

/// LIST [COUNT n]
fn list(call: &mut Call, mut args: Args, key: Key) -> Outcome {
    let mut count = 10;
    while let Some(()) = args.option(&[("COUNT", ())])? {
        count = args.int("COUNT", 1..=1_000)?;
    }
    settle(call, key)?;
    let reply = call.reply();
    let Some(found) = call.find::<Queue>(key)? else {
        reply.array(0);
        return Ok(());
    };
    let mut bytes = 0;
    let fits = |(_, batch): &(BatchId, &Batch)| {
        let is_first = bytes == 0;
        bytes += batch.size().bytes.max(1);
        is_first || bytes <= BYTES_PER_CALL_MAX
    };
    let shown: Vec<_> = found.get().dead_batches().take(count).take_while(fits).collect();
    reply.array(shown.len());
    shown.into_iter().for_each(|(id, batch)| reply_batch(&reply, id, batch));
    Ok(())
}

/// `[batch-id, [record …], deliveries]`
pub fn reply_batch(reply: &Reply, id: BatchId, batch: &Batch) {
    reply.array(3).bytes(id.to_string()).array(batch.size().records as usize);
    batch.visit(&mut |record, _| {
        reply.bytes(record);
    });
    reply.count(batch.deliveries());
}
