//! GW.LOGDEAD: the dead letters.

use gateway_core::queue::{Batch, BatchId, Queue};

use super::args::{BYTES_PER_CALL_MAX, parse_batch_id};
use super::change::change;
use super::effect::QueueChange;
use super::reply;
use crate::server::args::Args;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::{Call, Error, Key, Outcome};

const ID_OR_ALL: Arg = Arg::one_of("which", &[Arg::text("batch-id"), Arg::word("all", "ALL")]);

pub const COMMAND: Command = Command {
    name: "GW.LOGDEAD",
    handler: entry!(dead),
    flags: "write",
    arity: -3,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Lists, requeues or drops the dead letters of a log queue: batches that were delivered too often without \
              being acknowledged, or were given up.",
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

/// The most dead letters that one call with `ALL` moves, so that other clients do not wait for long.
const BATCHES_PER_CALL_MAX: u64 = 100;

/// GW.LOGDEAD key LIST [COUNT n] | REQUEUE batch-id | REQUEUE ALL | DROP batch-id | DROP ALL
fn dead(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let operation = args.bytes("operation")?;
    let is_requeue = match operation.to_ascii_uppercase().as_slice() {
        b"LIST" => return list(call, args, key),
        b"REQUEUE" => true,
        b"DROP" => false,
        _ => return Err(Error::unknown_option(operation)),
    };
    let one = if args.peek().is_some_and(|word| word.eq_ignore_ascii_case(b"ALL")) {
        args.optional();
        None
    } else {
        Some(parse_batch_id(&mut args)?)
    };
    args.end()?;
    move_exhausted(call, key)?;
    let done = change(call, key, &[], |queue, _| {
        let (change, count) = match one {
            Some(id) => {
                let change = if is_requeue { QueueChange::RequeueDead(id) } else { QueueChange::DropDead(id) };
                (change, u64::from(queue.dead_batch(id).is_some()))
            }
            None => {
                let count = queue.dead_batches().take(BATCHES_PER_CALL_MAX as usize).count() as u64;
                let change = if is_requeue { QueueChange::RequeueOldestDead } else { QueueChange::DropOldestDead };
                (change(count), count)
            }
        };
        Ok((count > 0).then_some((Some(change), count)))
    })?;
    call.reply().count(done.unwrap_or(0));
    Ok(())
}

/// Moves exhausted batches to the dead letters.
fn move_exhausted(call: &mut Call, key: Key) -> Outcome {
    change(call, key, &[], |_, _| Ok(None)).map(drop)
}

/// LIST [COUNT n]
fn list(call: &mut Call, mut args: Args, key: Key) -> Outcome {
    let mut count = 10;
    while let Some(()) = args.option(&[("COUNT", ())])? {
        count = args.int("COUNT", 1..=1_000)?;
    }
    move_exhausted(call, key)?;
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
    shown.into_iter().for_each(|(id, batch)| reply::batch(&reply, id, batch));
    Ok(())
}
