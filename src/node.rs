//! Commands about the node, and commands that work on keys of any of the module's types.

use crate::budget::clock;
use crate::cache;
use crate::limit;
use crate::queue;
use crate::server::call::entry;
use crate::server::command::{self, Access, Arg, Command, Keys};
use crate::server::info::Gauges;
use crate::server::{Call, Outcome, types, value};
use crate::stats;
use crate::top;

/// What there is now on this node: GW.STATS and `INFO gw` show it after the counters. GW.STATSRESET does not change it.
pub const GAUGES: Gauges = &[
    ("leases_waiting", limit::wait::waiting),
    ("log_waiting", queue::wait::waiting),
    ("cache_waiting", cache::flights::waiting),
    ("cache_fill_leases", cache::flights::leases),
    ("top_bytes", top::count::memory_bytes),
];

pub const DESCRIBE: Command = Command {
    name: "GW.DESCRIBE",
    handler: entry!(describe),
    flags: "readonly",
    arity: 2,
    keys: Keys::One(Access::Read),
    summary: "Replies the state of a key of any GW type as a map, or nil if the key does not exist.",
    complexity: "O(1) for windows, buckets, log queues and cache entries; O(N) in the periods of a ledger, in the policies and ledgers of \
                 an account, and in the holds, leases and holders that are replied: 1,000 at most",
    since: "0.1.0",
    tips: "nondeterministic_output",
    args: &[Arg::key()],
};

/// GW.DESCRIBE key
fn describe(call: &mut Call) -> Outcome {
    if let Ok(key) = call.args().key() {
        // What it says of a hold stays true: see there.
        clock::look(call, key);
    }
    types::describe(call)
}

pub const STATS: Command = Command {
    name: "GW.STATS",
    handler: entry!(stats),
    flags: "readonly fast",
    arity: 1,
    keys: Keys::None,
    summary: "Replies this node's counters and gauges as names and numbers, the same as INFO gw.",
    complexity: "O(1)",
    since: "0.1.0",
    tips: "nondeterministic_output request_policy:all_shards response_policy:special",
    args: &[],
};

pub const STATS_RESET: Command = Command {
    name: "GW.STATSRESET",
    handler: entry!(reset_stats),
    flags: "admin",
    arity: 1,
    keys: Keys::None,
    summary: "Sets this node's counters back to 0: those of GW.STATS, INFO gw, GW.CACHESTATS and GW.TOP.",
    complexity: "O(N) in the categories of the cache, at most 1,024",
    since: "0.1.0",
    tips: "request_policy:all_shards response_policy:all_succeeded",
    args: &[],
};

pub const LOAD: Command = Command {
    name: command::name(value::LOAD),
    handler: entry!(types::load_value),
    flags: "write admin",
    arity: 5,
    keys: Keys::One(Access::Overwrite),
    summary: "Internal: stores a whole value, as written by an AOF rewrite.",
    complexity: "O(N) in the size of the value",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("type"), Arg::integer("encoding"), Arg::text("payload")],
};

#[cfg(feature = "fault-injection")]
pub const PANIC: Command = Command {
    name: "GW._PANIC",
    handler: entry!(panic),
    flags: "readonly admin",
    arity: 1,
    keys: Keys::None,
    summary: "Panics, so that a test can watch the guard.",
    complexity: "O(1)",
    since: "0.1.0",
    tips: "",
    args: &[],
};

/// GW.STATS
fn stats(call: &mut Call) -> Outcome {
    call.args().end()?;
    let reply = call.reply();
    reply.map(stats::ALL.len() + GAUGES.len());
    for (name, counter) in stats::ALL {
        reply.bytes(name).count(counter.get());
    }
    for (name, now) in GAUGES {
        reply.bytes(name).count(now());
    }
    Ok(())
}

/// GW.STATSRESET
fn reset_stats(call: &mut Call) -> Outcome {
    call.args().end()?;
    stats::reset();
    cache::stats::reset();
    top::count::reset();
    call.reply().ok();
    Ok(())
}

#[cfg(feature = "fault-injection")]
fn panic(_call: &mut Call) -> Outcome {
    panic!("on purpose")
}
