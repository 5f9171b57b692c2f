//! Limits: GW.ALLOW (an exact sliding window), GW.TOKENS (a token bucket), GW.ACQUIRE, GW.RENEW and GW.RELEASE (slots that
//! are held for a time).

pub mod allow;
pub mod leases;
pub mod tokens;

use std::ffi::CStr;

use gateway_core::bucket::TokenBucket;
use gateway_core::lease::Leases;
use gateway_core::limit::Verdict;
use gateway_core::window::SlidingWindow;
use gateway_core::{TIME_MAX_MS, UNITS_MAX};

use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::effect::{Effect, Words, malformed};
use crate::server::key::Opened;
use crate::server::{Call, Error, Key, Outcome, Value};

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
        b'w' => apply_rewind::<SlidingWindow>(call, key, words),
        b'B' => tokens::apply(call, key, words),
        b'b' => apply_rewind::<TokenBucket>(call, key, words),
        b'l' => apply_rewind::<Leases>(call, key, words),
        _ => Err(malformed()),
    }
}

/// What the limiters' values have in common.
trait Limiter: Value {
    /// The operation that tells replicas of [`Self::rewind`].
    const REWIND: u8;

    /// Takes an earlier present where the clock has stepped back. Returns whether it had.
    fn rewind(&mut self, now_ms: i64) -> bool;

    /// When the key may go.
    fn expires_at_ms(&self) -> i64;
}

/// Changes a limiter, made by `new` where there is none, and the key's expiry where that moves with it.
fn change<T: Limiter>(opened: &mut Opened<T>, new: impl FnOnce() -> T, change: impl FnOnce(&mut T)) {
    let value = opened.get_or_insert_with(new);
    let before_ms = value.expires_at_ms();
    change(value);
    let expires_at_ms = value.expires_at_ms();
    if expires_at_ms != before_ms {
        opened.expire_at(expires_at_ms);
    }
}

/// What a denial does: nothing, unless the clock has stepped back, which it takes note of so that nobody is locked out
/// until the clock has caught up. Returns the effect.
fn denied<T: Limiter>(opened: &mut Opened<T>, now_ms: i64) -> Option<Effect> {
    let rewound = opened.get().is_some_and(|value| value.rewind(now_ms));
    rewound.then(|| Effect::of(EFFECT_NAME, T::REWIND, [now_ms]))
}

fn apply_rewind<T: Limiter>(call: &mut Call, key: Key, mut words: Words) -> Outcome {
    let at_ms = words.int(0..=TIME_MAX_MS)?;
    words.end()?;
    if let Some(value) = call.open::<T>(key)?.get() {
        value.rewind(at_ms);
    }
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
