//! GW.ACQUIRE, GW.RENEW and GW.RELEASE: at most `max` slots at once, each with a holder and an expiry of its own.

use std::ffi::CStr;

use gateway_core::UNITS_MAX;
use gateway_core::lease::{Grant, Leases};

use super::args::{parse_holder, parse_ttl_ms};
use super::effect::{LAST_TOKEN, SlotChange, clock_step};
use super::limiter::Limiter;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::key::Opened;
use crate::server::{Call, Key, Outcome, Str};
use crate::stats::STATS;

pub const ACQUIRE: Command = Command {
    name: "GW.ACQUIRE",
    handler: entry!(acquire),
    flags: "write deny-oom fast",
    arity: 6,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Takes one of `max` slots for a holder until its time to live has passed. Replies acquired, in_use, max, \
              retry_after_ms, fencing_token.",
    complexity: "O(log N) in the holders; O(N) after `max` was lowered far below their number",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::integer("max"), Arg::text("holder"), Arg::integer("ttl-ms").after("TTL")],
};

pub const RENEW: Command = Command {
    name: "GW.RENEW",
    handler: entry!(renew),
    flags: "write fast",
    arity: 5,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Extends a holder's slot. Replies 1, or 0 if the holder has no slot: it has expired or was never acquired.",
    complexity: "O(log N) in the holders",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("holder"), Arg::integer("ttl-ms").after("TTL")],
};

pub const RELEASE: Command = Command {
    name: "GW.RELEASE",
    handler: entry!(release),
    flags: "write fast",
    arity: 3,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Frees a holder's slot. Replies 1, or 0 if the holder has no slot: it has expired or was never acquired.",
    complexity: "O(log N) in the holders",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("holder")],
};

/// GW.ACQUIRE key max holder TTL ms
fn acquire(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let max = args.int("max", 0..=UNITS_MAX)?;
    let holder = parse_holder(&mut args)?;
    let ttl_ms = parse_ttl_ms(args)?;

    let now_ms = call.now_ms();
    let mut opened = call.open::<Leases>(key)?;
    let grant = decide(&mut opened, now_ms, max, holder);
    if grant.acquired {
        STATS.leases_acquired.add(1);
        let change = SlotChange::Grant { at_ms: now_ms, max, ttl_ms, token: grant.token };
        change.make(&mut opened, holder);
        drop(opened);
        call.replicate_with(key, change.event(), &change.effect(), &[holder]);
    } else {
        STATS.leases_denied.add(1);
        let effect = clock_step(&mut opened, now_ms);
        drop(opened);
        if let Some(effect) = effect {
            call.replicate(key, Leases::EVENT, &effect);
        }
    }
    call.reply()
        .array(5)
        .int(grant.acquired.into())
        .count(grant.in_use)
        .count(grant.max)
        .int(grant.retry_after_ms)
        .count(grant.token);
    Ok(())
}

fn decide(opened: &mut Opened<Leases>, at_ms: i64, max: u64, holder: Str) -> Grant {
    let none = Leases::default();
    let slots = opened.get().map_or(&none, |slots| slots);
    let mut grant = slots.decide(at_ms, max, holder.bytes());
    if grant.acquired && slots.token_of(at_ms, holder.bytes()).is_none() {
        grant.token = grant.token.max(LAST_TOKEN.get() + 1);
    }
    grant
}

/// GW.RENEW key holder TTL ms
fn renew(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let holder = parse_holder(&mut args)?;
    let ttl_ms = parse_ttl_ms(args)?;
    change_held(call, key, holder, |at_ms| SlotChange::Renew { at_ms, ttl_ms })
}

/// GW.RELEASE key holder
fn release(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let holder = parse_holder(&mut args)?;
    args.end()?;
    change_held(call, key, holder, |at_ms| SlotChange::Release { at_ms })
}

/// Changes the holder's slot and replies 1, or replies 0 if the holder has none.
fn change_held(call: &mut Call, key: Key, holder: Str, change: impl FnOnce(i64) -> SlotChange) -> Outcome {
    let now_ms = call.now_ms();
    let mut opened = call.open::<Leases>(key)?;
    let held = opened.get().is_some_and(|slots| slots.token_of(now_ms, holder.bytes()).is_some());
    let change = held.then(|| change(now_ms));
    if let Some(change) = &change {
        change.make(&mut opened, holder);
    }
    drop(opened);
    if let Some(change) = &change {
        call.replicate_with(key, change.event(), &change.effect(), &[holder]);
    }
    call.reply().int(held.into());
    Ok(())
}

impl Limiter for Leases {
    const EVENT: &'static CStr = c"gw.acquire";
    const CLOCK_STEP: u8 = b'l';

    fn adopt_clock(&mut self, now_ms: i64) -> bool {
        self.rewind(now_ms)
    }

    fn expiry_ms(&self) -> i64 {
        self.expires_at_ms()
    }
}
