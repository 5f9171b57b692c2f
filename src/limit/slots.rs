//! GW.ACQUIRE, GW.RENEW and GW.RELEASE: at most `max` slots at once, each with a holder and an expiry of its own.

use gateway_core::lease::{Grant, Leases};

use super::args::{AcquireRequest, parse_holder, parse_ttl_ms};
use super::effect::{SlotChange, clock_step};
use super::grant::{decide, deny, grant_slot, holds, reply};
use super::limiter::Limiter as _;
use super::wait;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::{Call, Error, Key, Outcome, Str};
use crate::stats::STATS;

pub const ACQUIRE: Command = Command {
    name: "GW.ACQUIRE",
    handler: entry!(acquire),
    flags: "write deny-oom fast blocking",
    arity: -6,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Takes one of `max` slots for a holder until its time to live has passed. Replies acquired, in_use, max, \
              retry_after_ms, fencing_token. With BLOCK it waits if there is none, in the order of arrival.",
    complexity: "O(log N) in the holders; O(N) after `max` was lowered far below their number",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key(),
        Arg::integer("max"),
        Arg::text("holder"),
        Arg::integer("ttl-ms").after("TTL"),
        Arg::integer("timeout-ms").after("BLOCK").optional(),
    ],
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

/// GW.ACQUIRE key max holder TTL ms [BLOCK ms]
fn acquire(call: &mut Call) -> Outcome {
    let request = AcquireRequest::parse(call)?;
    let grant = try_to_acquire(call, &request)?;
    match request.block_ms {
        _ if grant.acquired => {
            STATS.leases_acquired.add(1);
            reply(call, &grant);
        }
        // With a maximum of 0 no wait would ever end.
        Some(timeout_ms) if request.max > 0 && call.may_wait() => wait::wait(call, &request, timeout_ms),
        _ => deny(call, &request, &grant),
    }
    Ok(())
}

/// Takes a slot if there is one that nobody else waits for.
fn try_to_acquire(call: &mut Call, request: &AcquireRequest) -> Result<Grant, Error> {
    let &AcquireRequest { key, max, holder, ttl_ms, now_ms, .. } = request;
    // Waiting clients come first.
    let is_waited_for = wait::serve(call, key);
    let mut opened = call.open::<Leases>(key)?;
    let grant = decide(&mut opened, now_ms, max, holder);
    if !grant.acquired {
        let effect = clock_step(&mut opened, now_ms);
        drop(opened);
        if let Some(effect) = effect {
            call.replicate(key, Leases::EVENT, &effect);
        }
        return Ok(grant);
    }
    if is_waited_for && !holds(&mut opened, now_ms, holder) {
        drop(opened);
        // More slots may have become free than are granted at once.
        let in_use = grant.in_use - 1;
        if wait::is_first_in_line(call, key, in_use) {
            return Ok(Grant { acquired: false, in_use, max, retry_after_ms: 1, token: 0 });
        }
        opened = call.open(key)?;
    }
    let change = grant_slot(&mut opened, now_ms, &grant, holder, ttl_ms);
    drop(opened);
    call.replicate_with(key, change.event(), &change.effect(), &[holder]);
    if is_waited_for {
        wait::holder_acquired(call, key, holder.bytes(), grant.token);
        // The slot that ends next may be another one now.
        wait::serve(call, key);
    }
    Ok(grant)
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
    let held = holds(&mut opened, now_ms, holder);
    let change = held.then(|| change(now_ms));
    if let Some(change) = &change {
        change.make(&mut opened, holder);
    }
    drop(opened);
    if let Some(change) = &change {
        call.replicate_with(key, change.event(), &change.effect(), &[holder]);
        wait::serve(call, key);
    }
    call.reply().int(held.into());
    Ok(())
}
