//! Grants and denials of slots, at once or after a wait.

use std::ffi::CStr;

use gateway_core::lease::{Grant, Leases};
use gateway_core::top::Label;

use super::args::AcquireRequest;
use super::effect::{LAST_TOKEN, SlotChange};
use super::limiter::Limiter;
use crate::server::key::Opened;
use crate::server::{Call, Str};
use crate::stats::STATS;
use crate::top::count;

pub fn decide(opened: &mut Opened<Leases>, at_ms: i64, max: u64, holder: Str) -> Grant {
    let none = Leases::default();
    let slots = opened.get().map_or(&none, |slots| slots);
    let mut grant = slots.decide(at_ms, max, holder.bytes());
    if grant.acquired && slots.token_of(at_ms, holder.bytes()).is_none() {
        grant.token = grant.token.max(LAST_TOKEN.get() + 1);
    }
    grant
}

/// Whether the holder has a slot.
pub fn holds(opened: &mut Opened<Leases>, at_ms: i64, holder: Str) -> bool {
    opened.get().is_some_and(|slots| slots.token_of(at_ms, holder.bytes()).is_some())
}

/// Makes a grant that was decided.
pub fn grant_slot(opened: &mut Opened<Leases>, at_ms: i64, grant: &Grant, holder: Str, ttl_ms: u64) -> SlotChange {
    let change = SlotChange::Grant { at_ms, max: grant.max, ttl_ms, token: grant.token };
    change.make(opened, holder);
    change
}

/// Counts a denial, notifies of it, and replies it.
pub fn deny(call: &Call, request: &AcquireRequest, grant: &Grant) {
    STATS.leases_denied.add(1);
    call.tell_denied(request.key);
    const LABEL: Label = Label::new(b"GW.ACQUIRE");
    count::denied(request.now_ms, request.key, LABEL);
    reply(call, grant);
}

pub fn reply(call: &Call, grant: &Grant) {
    call.reply()
        .array(5)
        .int(grant.acquired.into())
        .count(grant.in_use)
        .count(grant.max)
        .int(grant.retry_after_ms)
        .count(grant.token);
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
