//! GW.LOGSTATS: a queue's figures.

use gateway_core::queue::Queue;
use gateway_core::stored::Stored as _;

use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::reply::Reply;
use crate::server::{Call, Outcome};

pub const COMMAND: Command = Command {
    name: "GW.LOGSTATS",
    handler: entry!(stats),
    flags: "readonly",
    arity: 2,
    keys: Keys::One(Access::Read),
    summary: "Replies a log queue's figures as a map, or nil if it does not exist: what it holds, since when, what went \
              through it, and how much of that in the last minute.",
    complexity: "O(N) in the leased batches whose leases have ended, or in the others, whichever are fewer",
    since: "0.1.0",
    tips: "nondeterministic_output",
    args: &[Arg::key()],
};

/// GW.LOGSTATS key
fn stats(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    args.end()?;
    let reply = call.reply();
    match call.find::<Queue>(key)? {
        Some(queue) => {
            reply.map(FIGURES);
            figures(queue.get(), call.now_ms(), &reply);
        }
        None => {
            reply.null();
        }
    }
    Ok(())
}

/// The number of [`figures`].
const FIGURES: usize = 9 + 2 * 9;

/// Names and numbers.
fn figures(queue: &Queue, now_ms: i64, reply: &Reply) {
    let (leased, dead) = (queue.leased(now_ms), queue.dead(now_ms));
    let oldest_age_ms = queue.oldest_ms(now_ms).map_or(0, |oldest_ms| (now_ms - oldest_ms).max(0));
    for (name, figure) in [
        ("length", queue.waiting(now_ms).records),
        ("leased", leased.size.records),
        ("leased_batches", leased.batches),
        ("dead", dead.size.records),
        ("dead_batches", dead.batches),
        ("record_bytes", queue.held(now_ms).bytes),
        ("dead_bytes", dead.size.bytes),
        ("memory_bytes", queue.total_bytes() as u64),
        ("oldest_age_ms", oldest_age_ms.unsigned_abs()),
    ] {
        reply.bytes(name).count(figure);
    }
    let counts = queue.counts_at(now_ms);
    let (rates, rejected_rate, repeated_rate) = queue.per_minute(now_ms);
    for (name, count, rate) in [
        ("pushed", counts.pushed, rates.pushed),
        ("popped", counts.popped, rates.popped),
        ("acked", counts.acked, rates.acked),
        ("redelivered", counts.redelivered, rates.redelivered),
        ("dropped", counts.dropped, rates.dropped),
        ("dead_lettered", counts.dead_lettered, rates.dead_lettered),
        ("dead_dropped", counts.dead_dropped, rates.dead_dropped),
        ("rejected", queue.rejected(), rejected_rate),
        ("repeated", queue.repeated(), repeated_rate),
    ] {
        reply.bytes(name).count(count);
        reply.bytes(format!("{name}_per_minute")).count(rate);
    }
}
