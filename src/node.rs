//! Commands about the node and about keys of any of the module's types.

use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::{Call, Outcome, stats};

pub const DESCRIBE: Command = Command {
    name: "GW.DESCRIBE",
    handler: entry!(describe),
    flags: "readonly",
    arity: 2,
    keys: Keys::One(Access::Read),
    summary: "Replies the state of a key of any GW type as a map, nil where there is none.",
    complexity: "O(1) for limiters and cache entries, O(N) in the periods and holds of a ledger and in the holders of slots",
    since: "0.1.0",
    tips: "nondeterministic_output",
    args: &[Arg::key()],
};

pub const STATS: Command = Command {
    name: "GW.STATS",
    handler: entry!(stats::stats),
    flags: "readonly fast",
    arity: 1,
    keys: Keys::None,
    summary: "Replies this node's counters as names and numbers; the same as INFO gw.",
    complexity: "O(1)",
    since: "0.1.0",
    tips: "nondeterministic_output request_policy:all_shards response_policy:special",
    args: &[],
};

pub const LOAD: Command = Command {
    name: "GW._LOAD",
    handler: entry!(load),
    flags: "write admin",
    arity: 5,
    keys: Keys::One(Access::Overwrite),
    summary: "Internal: a whole value, as a rewritten AOF has it.",
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

fn describe(call: &mut Call) -> Outcome {
    crate::MODULE.describe(call)
}

fn load(call: &mut Call) -> Outcome {
    crate::MODULE.load_value(call)
}

#[cfg(feature = "fault-injection")]
fn panic(_call: &mut Call) -> Outcome {
    panic!("on purpose")
}
