//! GW.ACQUIRE with BLOCK: clients that wait for a slot.
//!
//! Each key has a [`Line`] of them (docs/src/internals/decisions.md, "Clients that wait for slots"). Whatever may free
//! a slot serves the line first: a release and every new call for the key at once, an expiry by an alarm, and a change
//! of the key as a whole (DEL, FLUSHALL, RENAME, …) by an alarm for the next moment, because a listener may not change
//! keys. So no client waits while a slot that its maximum allows is free, and a new call finds only slots that nobody
//! waits for.
//!
//! A slot is granted to a client that waits like any other, and replicated like any other; the client is told afterwards.
//! A client that disconnects in between has a slot that nobody uses, as if it had disconnected before it read a reply.
//!
//! Lines are this node's: neither saved nor replicated.

use std::collections::HashMap;
use std::ffi::CStr;

use gateway_core::lease::{Leases, Line};
use lazy_static::lazy_static;

use super::args::AcquireRequest;
use super::effect::clock_step;
use super::grant::{decide, deny, grant_slot, reply};
use super::limiter::Limiter as _;
use crate::server::alarm::{Alarms, Place};
use crate::server::args::OwnedKey;
use crate::server::blocked::{Parked, Parking};
use crate::server::events::{Event, follow_keys};
use crate::server::shared::MainThread;
use crate::server::{Call, Error, Key, Outcome};
use crate::stats::STATS;

/// The most slots that are granted at once, before other clients are served.
const GRANTS_PER_SLICE: usize = 128;

/// How long until the line is looked at again, if no key may be changed: during CLIENT PAUSE or a failover.
const PAUSED_MS: i64 = 50;

/// How long until the line is looked at again in any case: the clock may step ahead, a key of another type may be replaced,
/// an effect may be applied on a primary that an AOF is piped into, and in a cluster the key's slot may move without
/// any
/// notice from the server.
const LOOK_AGAIN_MS: i64 = 1_000;

/// The message to a client that cannot wait here any longer; any other is its fencing token.
const END: u64 = 0;

const PARKING: Parking = Parking { called_back, timed_out, gone };

#[derive(Default)]
struct Waiting {
    /// By key. None is empty.
    lines: HashMap<Place, Line<Parked>>,
    /// Where each client stands.
    clients: HashMap<Parked, (Place, u64)>,
}

lazy_static! {
    static ref WAITING: MainThread<Waiting> = MainThread::new(Waiting::default());
    static ref ALARMS: Alarms = Alarms::new(|call, key| {
        serve(call, key);
    });
}

fn place(call: &Call, key: Key) -> Place {
    (call.database(), key.bytes().to_vec())
}

/// Whether any client waits for any key.
fn is_any() -> bool {
    !WAITING.borrow().lines.is_empty()
}

/// How many clients wait now.
pub fn waiting() -> u64 {
    WAITING.borrow().clients.len() as u64
}

fn is_waited_for(call: &Call, key: Key) -> bool {
    is_any() && WAITING.borrow().lines.contains_key(&place(call, key))
}

/// Lets the client wait for a slot, at most `timeout_ms` (0: for ever).
pub fn wait(call: &mut Call, request: &AcquireRequest, timeout_ms: u64) {
    STATS.leases_waited.add(1);
    follow_keys();
    let client = call.park(timeout_ms, PARKING);
    {
        let Waiting { lines, clients } = &mut *WAITING.borrow();
        let place = place(call, request.key);
        let line = lines.entry(place.clone()).or_default();
        let number = line.join(request.holder.bytes(), request.max, request.ttl_ms, client);
        clients.insert(client, (place, number));
    }
    set_alarm(call, request.key);
}

/// Removes a client that no longer waits.
fn gone(client: Parked) {
    let Waiting { lines, clients } = &mut *WAITING.borrow();
    let Some((place, number)) = clients.remove(&client) else { return };
    if let Some(line) = lines.get_mut(&place) {
        line.leave(number, &client);
        if line.is_empty() {
            lines.remove(&place);
        }
    }
}

/// Grants free slots to the clients that wait for them. Returns whether clients still wait for the key.
pub fn serve(call: &mut Call, key: Key) -> bool {
    if !is_waited_for(call, key) {
        return false;
    }
    if !call.may_change() {
        ALARMS.set(call, key, call.now_ms() + PAUSED_MS);
        return true;
    }
    if !call.serves(key) {
        end_where(call, |place, own| place == own, &place(call, key));
        return false;
    }
    // A key that holds another type may hold slots again later: its clients wait on.
    let mut granted = 0;
    while granted < GRANTS_PER_SLICE && serve_first(call, key).unwrap_or(false) {
        granted += 1;
    }
    set_alarm(call, key);
    is_waited_for(call, key)
}

/// Grants a slot to the first client whose maximum allows it. Returns whether there was one.
fn serve_first(call: &mut Call, key: Key) -> Result<bool, Error> {
    let (now_ms, place) = (call.now_ms(), place(call, key));
    let mut opened = call.open::<Leases>(key)?;
    let in_use = opened.get().map_or(0, |slots| slots.in_use(now_ms));
    let first = {
        let lines = &mut WAITING.borrow().lines;
        lines.get_mut(&place).and_then(|line| line.first(in_use).and_then(|number| line.take(number)))
    };
    let Some(first) = first else {
        // As on denial: otherwise the line would stand still until the clock has caught up.
        let effect = clock_step(&mut opened, now_ms);
        drop(opened);
        if let Some(effect) = effect {
            call.replicate(key, Leases::EVENT, &effect);
        }
        return Ok(false);
    };
    let holder = OwnedKey::new(&first.holder);
    let grant = decide(&mut opened, now_ms, first.max, holder.key());
    let change = grant_slot(&mut opened, now_ms, &grant, holder.key(), first.ttl_ms);
    drop(opened);
    call.replicate_with(key, change.event(), &change.effect(), &[holder.key()]);
    STATS.leases_acquired.add(first.clients.len() as u64);
    tell(call, &place, &first.clients, grant.token);
    Ok(true)
}

/// Whether a free slot, with `in_use` taken, belongs to a client that waits: nobody may overtake it.
pub fn is_first_in_line(call: &Call, key: Key, in_use: u64) -> bool {
    WAITING.borrow().lines.get(&place(call, key)).is_some_and(|line| line.first(in_use).is_some())
}

/// To be called when a holder has got a slot without waiting: clients that wait for the same holder's slot have it,
/// too.
pub fn holder_acquired(call: &Call, key: Key, holder: &[u8], token: u64) {
    let place = place(call, key);
    let taken = {
        let lines = &mut WAITING.borrow().lines;
        lines.get_mut(&place).and_then(|line| line.place_of(holder).and_then(|number| line.take(number)))
    };
    if let Some(taken) = taken {
        STATS.leases_acquired.add(taken.clients.len() as u64);
        tell(call, &place, &taken.clients, token);
    }
}

/// Ends the waits of clients that were taken out of the line of `place`.
fn tell(call: &Call, place: &Place, told: &[Parked], message: u64) {
    {
        let Waiting { lines, clients } = &mut *WAITING.borrow();
        told.iter().for_each(|client| drop(clients.remove(client)));
        if lines.get(place).is_some_and(Line::is_empty) {
            lines.remove(place);
        }
    }
    for &client in told {
        call.call_back(client, message);
    }
}

/// Sets an alarm for when the next slot ends that a client in the line can use.
fn set_alarm(call: &Call, key: Key) {
    let Some(max) = WAITING.borrow().lines.get(&place(call, key)).and_then(Line::max) else { return };
    let now_ms = call.now_ms();
    let wait_ms = match call.find::<Leases>(key) {
        Ok(Some(slots)) => slots.get().decide(now_ms, max, &[]).retry_after_ms,
        Ok(None) => 0,
        Err(_) => LOOK_AGAIN_MS,
    };
    ALARMS.set(call, key, now_ms + wait_ms.min(LOOK_AGAIN_MS));
}

/// To be called when a key's slots have changed, or the key has appeared or disappeared, in a call that may not change
/// keys: the line is served in the next moment.
fn serve_soon(call: &Call, key: Key) {
    if is_waited_for(call, key) {
        ALARMS.set(call, key, call.now_ms());
    }
}

/// Ends the waits for all keys that `is_meant`.
fn end_where<T>(call: &Call, is_meant: impl Fn(&Place, &T) -> bool, which: &T) {
    let ended: Vec<_> = {
        let lines = &mut WAITING.borrow().lines;
        let places: Vec<_> = lines.keys().filter(|place| is_meant(place, which)).cloned().collect();
        places.into_iter().filter_map(|place| lines.remove(&place).map(|line| (place, line))).collect()
    };
    for (place, line) in ended {
        line.into_places().for_each(|own| tell(call, &place, &own.clients, END));
    }
}

fn called_back(call: &mut Call, message: u64) -> Outcome {
    let request = AcquireRequest::parse(call)?;
    if message == END {
        return Err(call.wait_ended(request.key));
    }
    let mut grant = request.look(call)?;
    // A granted slot stays granted, whatever has happened to the key since.
    (grant.acquired, grant.retry_after_ms, grant.token) = (true, 0, message);
    grant.in_use = grant.in_use.max(1);
    reply(call, &grant);
    Ok(())
}

/// The reply is a denial, as if the client had not waited.
fn timed_out(call: &mut Call) -> Outcome {
    let request = AcquireRequest::parse(call)?;
    let grant = request.look(call)?;
    deny(call, &request, &grant);
    Ok(())
}

/// Follows keys that appear or disappear by other commands.
pub fn on_key_event(call: &mut Call, _event: &CStr, key: Key) {
    serve_soon(call, key);
}

pub fn on_server_event(call: &mut Call, event: Event) {
    match event {
        Event::Flush { database } => {
            serve_databases_soon(call, |own| database.is_none_or(|flushed| flushed == own));
        }
        Event::SwapDatabases(one, other) => serve_databases_soon(call, |own| own == one || own == other),
        Event::LoadingEnded => serve_databases_soon(call, |_| true),
        Event::ClockSetBack => ALARMS.ring_all_soon(call),
        // Most servers unblock the clients themselves. Valkey 9 does not after a failover of a cluster.
        Event::RoleChanged { primary: false } => end_where(call, |_, ()| true, &()),
        _ => {}
    }
}

fn serve_databases_soon(call: &mut Call, is_meant: impl Fn(i32) -> bool) {
    if !is_any() {
        return;
    }
    let places: Vec<_> = WAITING.borrow().lines.keys().filter(|place| is_meant(place.0)).cloned().collect();
    let before = call.database();
    for (database, name) in places {
        if call.select_database(database) {
            serve_soon(call, OwnedKey::new(&name).key());
        }
    }
    call.select_database(before);
}
