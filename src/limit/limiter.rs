//! The family's values by what they have in common: the clock, the expiry, and the units of windows and buckets.

use std::ffi::CStr;

use gateway_core::limit::Verdict;
use gateway_core::top::{Label, Meter};

use crate::server::counter::Counter;
use crate::server::effect::{Effect, Words};
use crate::server::key::Opened;
use crate::server::{Error, Value};

/// A value of this family.
pub trait Limiter: Value {
    /// The keyspace event of the command that takes units or slots.
    const EVENT: &'static CStr;

    /// The operation of [`clock_step`](super::effect::clock_step).
    const CLOCK_STEP: u8;

    /// If the clock has stepped back, moves recorded times back with it. Returns whether it has.
    fn adopt_clock(&mut self, now_ms: i64) -> bool;

    /// When the key expires.
    fn expiry_ms(&self) -> i64;
}

/// Changes a limiter, made by `new` if there is none, and moves the key's expiry if the change moves it.
pub fn update<L: Limiter>(opened: &mut Opened<L>, new: impl FnOnce() -> L, change: impl FnOnce(&mut L)) {
    let limiter = opened.get_or_insert_with(new);
    let before_ms = limiter.expiry_ms();
    change(limiter);
    let expiry_ms = limiter.expiry_ms();
    if expiry_ms != before_ms {
        opened.expire_at(expiry_ms);
    }
}

/// A limiter that requests take units from: a sliding window or a token bucket.
pub trait UnitLimiter: Limiter {
    /// The limit, as the command gives it.
    type Rule: Copy;

    /// The operation of [`usage`](super::effect::usage).
    const USAGE: u8;

    /// The command's name, as GW.TOP shows what has refused a request.
    const LABEL: Label<'static>;

    /// The meter in which GW.TOP counts the units.
    const METER: Meter<'static>;

    /// Requests admitted, denied, peeked at and forced.
    fn counters() -> [&'static Counter; 4];

    /// A limiter from which nothing has been taken, which is what a key that does not exist stands for.
    fn unused(at_ms: i64, rule: Self::Rule) -> Self;

    fn verdict(&mut self, at_ms: i64, rule: Self::Rule, cost: u64) -> Verdict;

    /// Takes units, or gives them back if they are negative.
    fn take(&mut self, at_ms: i64, rule: Self::Rule, units: i64);

    /// Milliseconds until the limiter is unused again, if no request follows.
    fn unused_after_ms(&self, at_ms: i64) -> i64;

    /// A rule as words of an effect.
    fn write_rule(rule: Self::Rule, effect: &mut Effect);
    fn read_rule(words: &mut Words) -> Result<Self::Rule, Error>;
}

/// Units taken, or given back.
pub struct Usage<L: UnitLimiter> {
    pub at_ms: i64,
    /// Negative if they are given back.
    pub units: i64,
    pub rule: L::Rule,
}

impl<L: UnitLimiter> Usage<L> {
    /// The verdict on a request of `cost` under the same rule.
    pub fn verdict(&self, opened: &mut Opened<L>, cost: u64) -> Verdict {
        match opened.get() {
            Some(limiter) => limiter.verdict(self.at_ms, self.rule, cost),
            None => L::unused(self.at_ms, self.rule).verdict(self.at_ms, self.rule, cost),
        }
    }

    /// Takes the units or gives them back. Returns whether that has changed anything: nothing can be given back to a
    /// limiter that is unused.
    pub fn record(&self, opened: &mut Opened<L>) -> bool {
        let Self { at_ms, units, rule } = *self;
        let is_unused = |limiter: &mut L| limiter.verdict(at_ms, rule, 0).reset_after_ms == 0;
        if units == 0 || (units < 0 && opened.get().is_none_or(is_unused)) {
            return false;
        }
        update(opened, || L::unused(at_ms, rule), |limiter| limiter.take(at_ms, rule, units));
        true
    }
}
