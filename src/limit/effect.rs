//! The family's effects.
//!
//! | operation | words | event |
//! |---|---|---|
//! | `W` | `at_ms units limit window_ms fixed`: units were taken from a window, or given back if negative | `gw.allow` |
//! | `B` | `at_ms tokens rate per_ms burst`: the same for a bucket | `gw.tokens` |
//! | `L` | `at_ms max ttl_ms token`, and the holder: a slot was granted | `gw.acquire` |
//! | `R` | `at_ms ttl_ms`, and the holder: a slot was renewed | `gw.renew` |
//! | `U` | `at_ms`, and the holder: a slot was released | `gw.release` |
//! | `w` `b` `l` | `at_ms`: a denial has recorded a backward step of the clock | `gw.allow` `gw.tokens` `gw.acquire` |

use std::ffi::CStr;

use gateway_core::bucket::TokenBucket;
use gateway_core::lease::{Leases, TOKEN_MAX};
use gateway_core::window::SlidingWindow;
use gateway_core::{PERIOD_MAX_MS, TIME_MAX_MS, UNITS_MAX};

use super::args::{COST_MAX, parse_holder};
use super::limiter::{Limiter, UnitLimiter, Usage, update};
use crate::server::args::Args;
use crate::server::call::entry;
use crate::server::command::{self, Access, Arg, Command, Keys};
use crate::server::counter::Counter;
use crate::server::effect::{Effect, Words, newer};
use crate::server::key::Opened;
use crate::server::{Call, Error, Key, Outcome, Str};

const NAME: &CStr = c"GW._LIMIT";

pub const COMMAND: Command = Command {
    name: command::name(NAME),
    handler: entry!(apply),
    flags: "write admin fast",
    arity: -3,
    keys: Keys::One(Access::Insert),
    summary: "Internal: applies what a request did to a limiter, on replicas and from the AOF.",
    complexity: "O(1) amortized",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("effect"), Arg::text("holder").optional()],
};

/// GW._LIMIT key effect [holder]
fn apply(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let (operation, words) = Words::new(args.bytes("effect")?)?;
    let event = match operation {
        b'W' => apply_usage::<SlidingWindow>(call, key, words, args)?,
        b'B' => apply_usage::<TokenBucket>(call, key, words, args)?,
        b'w' => apply_clock_step::<SlidingWindow>(call, key, words, args)?,
        b'b' => apply_clock_step::<TokenBucket>(call, key, words, args)?,
        b'l' => apply_clock_step::<Leases>(call, key, words, args)?,
        _ => apply_to_slot(call, key, operation, words, args)?,
    };
    call.pass_on(key, event);
    call.reply().ok();
    Ok(())
}

pub fn usage<L: UnitLimiter>(usage: &Usage<L>) -> Effect {
    let mut effect = Effect::of(NAME, L::USAGE, [usage.at_ms, usage.units]);
    L::write_rule(usage.rule, &mut effect);
    effect
}

/// Returns the event, as the others below do.
fn apply_usage<L: UnitLimiter>(
    call: &mut Call,
    key: Key,
    mut words: Words,
    args: Args,
) -> Result<&'static CStr, Error> {
    let usage = Usage::<L> {
        at_ms: words.int(0..=TIME_MAX_MS)?,
        units: words.int(-COST_MAX..=COST_MAX)?,
        rule: L::read_rule(&mut words)?,
    };
    words.end()?;
    args.end()?;
    usage.record(&mut call.open(key)?);
    Ok(L::EVENT)
}

/// On denial, records a backward clock step, if any, and returns its effect. Otherwise clients would be locked out until
/// the clock has caught up.
pub fn clock_step<L: Limiter>(opened: &mut Opened<L>, now_ms: i64) -> Option<Effect> {
    let stepped_back = opened.get().is_some_and(|limiter| limiter.adopt_clock(now_ms));
    stepped_back.then(|| Effect::of(NAME, L::CLOCK_STEP, [now_ms]))
}

fn apply_clock_step<L: Limiter>(
    call: &mut Call,
    key: Key,
    mut words: Words,
    args: Args,
) -> Result<&'static CStr, Error> {
    let at_ms = words.int(0..=TIME_MAX_MS)?;
    words.end()?;
    args.end()?;
    if let Some(limiter) = call.open::<L>(key)?.get() {
        limiter.adopt_clock(at_ms);
    }
    Ok(L::EVENT)
}

/// The largest fencing token that this node has given out or seen, under any key: a key that is deleted and made again
/// within the same millisecond does not start over.
pub static LAST_TOKEN: Counter = Counter::new();

/// A change of one holder's slot. Its effect is followed by the holder.
pub enum SlotChange {
    Grant { at_ms: i64, max: u64, ttl_ms: u64, token: u64 },
    Renew { at_ms: i64, ttl_ms: u64 },
    Release { at_ms: i64 },
}

impl SlotChange {
    pub fn make(&self, opened: &mut Opened<Leases>, holder: Str) {
        match *self {
            Self::Grant { at_ms, max, ttl_ms, token } => {
                update(opened, Leases::default, |slots| {
                    slots.grant(at_ms, max, holder.bytes(), ttl_ms, token);
                    LAST_TOKEN.raise(slots.last_token());
                });
            }
            Self::Renew { at_ms, ttl_ms } if opened.get().is_some() => {
                update(opened, Leases::default, |slots| {
                    // Without a token of its own a grant keeps the holder's.
                    slots.grant(at_ms, slots.max(), holder.bytes(), ttl_ms, 0);
                });
            }
            Self::Renew { .. } => {}
            Self::Release { at_ms } => {
                if let Some(slots) = opened.get() {
                    slots.release(at_ms, holder.bytes());
                }
            }
        }
    }

    pub fn event(&self) -> &'static CStr {
        match self {
            Self::Grant { .. } => Leases::EVENT,
            Self::Renew { .. } => c"gw.renew",
            Self::Release { .. } => c"gw.release",
        }
    }

    pub fn effect(&self) -> Effect {
        match *self {
            Self::Grant { at_ms, max, ttl_ms, token } => {
                Effect::of(NAME, b'L', [at_ms, max.cast_signed(), ttl_ms.cast_signed(), token.cast_signed()])
            }
            Self::Renew { at_ms, ttl_ms } => Effect::of(NAME, b'R', [at_ms, ttl_ms.cast_signed()]),
            Self::Release { at_ms } => Effect::of(NAME, b'U', [at_ms]),
        }
    }

    fn read(operation: u8, mut words: Words) -> Result<Self, Error> {
        let mut at_ms = || words.int(0..=TIME_MAX_MS);
        let change = match operation {
            b'L' => Self::Grant {
                at_ms: at_ms()?,
                max: words.int(0..=UNITS_MAX)?,
                ttl_ms: words.int(1..=PERIOD_MAX_MS)?,
                token: words.int(0..=TOKEN_MAX)?,
            },
            b'R' => Self::Renew { at_ms: at_ms()?, ttl_ms: words.int(1..=PERIOD_MAX_MS)? },
            b'U' => Self::Release { at_ms: at_ms()? },
            _ => return Err(newer()),
        };
        words.end().map(|()| change)
    }
}

fn apply_to_slot(
    call: &mut Call,
    key: Key,
    operation: u8,
    words: Words,
    mut args: Args,
) -> Result<&'static CStr, Error> {
    let change = SlotChange::read(operation, words)?;
    let holder = parse_holder(&mut args)?;
    args.end()?;
    change.make(&mut call.open(key)?, holder);
    Ok(change.event())
}
