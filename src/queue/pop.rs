//! GW.LOGPOP, GW.LOGPEEK and GW.LOGLEN: takes records out, looks at them, counts them.

use gateway_core::queue::Queue;

use super::EFFECT_NAME;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::effect::Effect;
use crate::server::reply::Reply;
use crate::server::stats::STATS;
use crate::server::{Call, Error, Key, Outcome};

pub const POP: Command = Command {
    name: "GW.LOGPOP",
    handler: entry!(pop),
    flags: "write fast",
    arity: -2,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Takes the oldest records out of a log queue and replies them, oldest first: up to COUNT \
              of them and up to 1 MiB, but at least one.",
    complexity: "O(N) in the records replied",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::integer("count").after("COUNT").optional()],
};

pub const PEEK: Command = Command {
    name: "GW.LOGPEEK",
    handler: entry!(peek),
    flags: "readonly",
    arity: -2,
    keys: Keys::One(Access::Read),
    summary: "Replies the oldest records of a log queue, oldest first, and leaves them there: up to \
              COUNT of them and up to 1 MiB, but at least one.",
    complexity: "O(N) in the records replied",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::integer("count").after("COUNT").optional()],
};

pub const LEN: Command = Command {
    name: "GW.LOGLEN",
    handler: entry!(len),
    flags: "readonly fast",
    arity: 2,
    keys: Keys::One(Access::Read),
    summary: "Replies the number of records in a log queue, 0 where there is none.",
    complexity: "O(1)",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key()],
};

/// Larger batches would hold the server for too long, a millisecond or more; a consumer simply asks again.
const COUNT_PER_CALL_MAX: u64 = 10_000;
const BYTES_PER_CALL_MAX: usize = 1 << 20;

/// key [COUNT n]
fn parse<'a>(call: &Call<'a>) -> Result<(Key<'a>, u64), Error> {
    let mut args = call.args();
    let key = args.key()?;
    let mut count = 1;
    while let Some(()) = args.option(&[("COUNT", ())])? {
        count = args.int("COUNT", 1..=COUNT_PER_CALL_MAX)?;
    }
    Ok((key, count))
}

/// GW.LOGPOP key [COUNT records]
fn pop(call: &mut Call) -> Outcome {
    let (key, count) = parse(call)?;
    let reply = call.reply();
    let mut opened = call.open::<Queue>(key)?;
    let popped = match opened.get() {
        Some(queue) => {
            // The reply is written from the queue's own blocks, so it comes before the change.
            let replied = reply_front(&reply, queue, count);
            queue.drop_front(replied)
        }
        None => {
            reply.array(0);
            0
        }
    };
    drop(opened);
    if popped > 0 {
        STATS.log_popped.add(popped);
        call.changed(key, c"gw.logpop", &Effect::of(EFFECT_NAME, b'D', [popped as i64]));
    }
    Ok(())
}

/// GW.LOGPEEK key [COUNT records]
fn peek(call: &mut Call) -> Outcome {
    let (key, count) = parse(call)?;
    match call.find::<Queue>(key)? {
        Some(queue) => {
            reply_front(&call.reply(), queue.get(), count);
        }
        None => {
            call.reply().array(0);
        }
    }
    Ok(())
}

/// GW.LOGLEN key
fn len(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    args.end()?;
    let len = call.find::<Queue>(key)?.map_or(0, |queue| queue.get().len());
    call.reply().count(len);
    Ok(())
}

/// Replies the oldest records: `count` of them, and no more bytes than one call should. Returns how many it were.
fn reply_front(reply: &Reply, queue: &Queue, count: u64) -> u64 {
    let mut bytes = 0;
    let fits = |record: &&[u8]| {
        bytes += record.len();
        // The first goes whatever its size.
        bytes <= BYTES_PER_CALL_MAX || bytes == record.len()
    };
    let replied = queue.front(count).take_while(fits).count();
    reply.array(replied);
    queue.front(replied as u64).for_each(|record| {
        reply.bytes(record);
    });
    replied as u64
}
