//! Limits: GW.ALLOW (an exact sliding window), GW.TOKENS (a token bucket), GW.ACQUIRE, GW.RENEW and GW.RELEASE (slots that
//! are held for a time).

pub mod allow;
pub mod leases;
pub mod tokens;

use std::ffi::CStr;

use gateway_core::limit::Verdict;
use gateway_core::UNITS_MAX;

use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::effect::{malformed, Words};
use crate::server::{Call, Error, Key, Outcome};

/// The family's effects: `W at_ms units limit window_ms fixed` for a window, `B at_ms tokens rate per_ms burst` for a
/// bucket, units and tokens negative where they are given back; `L at_ms max ttl_ms token` for a lease granted or renewed and
/// `U at_ms` for one released, with the holder behind it; `w at_ms`, `b at_ms` and `l at_ms` where the clock stepped back.
const EFFECT_NAME: &CStr = c"GW._LIMIT";

pub const EFFECT: Command = Command {
    name: "GW._LIMIT",
    handler: entry!(apply),
    flags: "write admin fast",
    arity: -3,
    keys: Keys::One(Access::Insert),
    summary: "Internal: what an admitted request did to a limiter, for replicas and the AOF.",
    complexity: "O(1) amortized",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("effect"), Arg::text("holder").optional()],
};

/// What a limiter command does with its cost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Takes it if the limit allows.
    Admit,
    /// Only looks.
    Peek,
    /// Takes it whatever the limit says, or gives it back where it is negative: usage known only afterwards.
    Force,
}

impl Mode {
    /// PEEK or FORCE, of which a command takes one.
    fn set(&mut self, mode: Mode) -> Outcome {
        match *self {
            Mode::Admit => *self = mode,
            _ => return Err(Error::new("conflicting option", "PEEK with FORCE")),
        }
        Ok(())
    }

    /// A cost below zero gives back, which only FORCE does.
    fn check_cost(self, cost: i64) -> Outcome {
        if cost < 0 && self != Mode::Force {
            return Err(Error::not_in(0..=COST_MAX, "COST"));
        }
        Ok(())
    }
}

/// The largest cost, and largest amount given back.
const COST_MAX: i64 = UNITS_MAX as i64;

fn apply(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let (operation, words) = Words::new(args.bytes("effect")?)?;
    match operation {
        b'L' | b'U' => leases::apply(call, key, operation, words, args)?,
        _ => {
            args.end()?;
            apply_alone(call, key, operation, words)?;
        }
    }
    call.applied(key, c"gw.limit");
    call.reply().ok();
    Ok(())
}

/// The effects that have no further argument.
fn apply_alone(call: &mut Call, key: Key, operation: u8, words: Words) -> Outcome {
    match operation {
        b'W' => allow::apply(call, key, words),
        b'w' => allow::apply_rewind(call, key, words),
        b'B' => tokens::apply(call, key, words),
        b'b' => tokens::apply_rewind(call, key, words),
        b'l' => leases::apply_rewind(call, key, words),
        _ => Err(malformed()),
    }
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
