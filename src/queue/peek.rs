//! GW.LOGPEEK and GW.LOGLEN: show the oldest records, and count the waiting ones.

use gateway_core::queue::Queue;

use super::args::PopRequest;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::{Call, Outcome};

pub const PEEK: Command = Command {
    name: "GW.LOGPEEK",
    handler: entry!(peek),
    flags: "readonly",
    arity: -2,
    keys: Keys::One(Access::Read),
    summary: "Replies the oldest records of a log queue, oldest first, and leaves them there: up to \
              COUNT of them and up to MAXBYTES, but at least one.",
    complexity: "O(N) in the records replied",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key(),
        Arg::integer("count").after("COUNT").optional(),
        Arg::integer("max-bytes").after("MAXBYTES").optional(),
    ],
};

pub const LEN: Command = Command {
    name: "GW.LOGLEN",
    handler: entry!(len),
    flags: "readonly fast",
    arity: 2,
    keys: Keys::One(Access::Read),
    summary: "Replies the number of records that wait in a log queue, or 0 if it does not exist.",
    complexity: "O(N) in the batches whose leases have ended since the last change",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key()],
};

/// GW.LOGPEEK key [COUNT records] [MAXBYTES bytes]
fn peek(call: &mut Call) -> Outcome {
    let PopRequest { key, bounds, .. } = PopRequest::parse_peek(call)?;
    let (now_ms, reply) = (call.now_ms(), call.reply());
    match call.find::<Queue>(key)? {
        Some(queue) => {
            let records = queue.get().measure(now_ms, bounds.count, bounds.max_bytes);
            reply.array(records as usize);
            queue.get().peek(now_ms, records, &mut |record, _| {
                reply.bytes(record);
            });
        }
        None => {
            reply.array(0);
        }
    }
    Ok(())
}

/// GW.LOGLEN key
fn len(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    args.end()?;
    let len = call.find::<Queue>(key)?.map_or(0, |queue| queue.get().waiting(call.now_ms()).records);
    call.reply().count(len);
    Ok(())
}
