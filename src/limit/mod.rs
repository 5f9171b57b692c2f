//! Rate limits: GW.ALLOW (an exact sliding window) and GW.TOKENS (a token bucket).

pub mod allow;
pub mod tokens;

use std::ffi::CStr;

use gateway_core::limit::Verdict;

use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::effect::{malformed, Words};
use crate::server::{Call, Outcome};

/// The family's effects: `W at_ms units limit window_ms` for a window, `B at_ms tokens rate per_ms burst` for a bucket.
const EFFECT_NAME: &CStr = c"GW._LIMIT";

pub const EFFECT: Command = Command {
    name: "GW._LIMIT",
    handler: entry!(apply),
    flags: "write admin fast",
    arity: 3,
    keys: Keys::One(Access::Insert),
    summary: "Internal: what an admitted request did to a limiter, for replicas and the AOF.",
    complexity: "O(1) amortized",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("effect")],
};

/// What a limiter command does with its cost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Takes it if the limit allows.
    Admit,
    /// Only looks.
    Peek,
}

fn apply(call: &Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let (operation, words) = Words::new(args.bytes("effect")?)?;
    args.end()?;
    match operation {
        b'W' => allow::apply(call, key, words)?,
        b'B' => tokens::apply(call, key, words)?,
        _ => return Err(malformed()),
    }
    call.applied(key, c"gw.limit");
    call.reply().ok();
    Ok(())
}

/// The five integers that every limiter replies.
fn reply(call: &Call, verdict: &Verdict) {
    call.reply()
        .array(5)
        .int(verdict.allowed.into())
        .count(verdict.limit)
        .count(verdict.remaining)
        .int(verdict.retry_after_ms)
        .int(verdict.reset_after_ms);
}
