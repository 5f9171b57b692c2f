//! Single flight: leases on keys that are computed, and the clients that wait for them.

use std::sync::Arc;
use std::time::Instant;

use gateway_core::cache::clears::Kind;
use gateway_core::cache::flight::{Asked, Flights, Place, Successor};
use lazy_static::lazy_static;

use super::entry::Entry;
use super::group::Group;
use crate::server::args::Name;
use crate::server::blocked::Parked;
use crate::server::call::now_ms;
use crate::server::events::Event;
use crate::server::shared::MainThread;
use crate::server::{Call, Key};

/// Leases that one timer ends, before others are served.
const ENDS_PER_SLICE: usize = 256;

/// Waiting clients that are told of a value at once: their replies are written before anybody else is served.
const WAKES_PER_SLICE: usize = 128;

/// How often the keys are looked at that clients wait for: the server tells of no SET, nor of any command on its own types,
/// unless it is to tell of each one.
const LOOK_EVERY_MS: u64 = 100;

/// Keys looked at before others are served.
const LOOKS_PER_SLICE: usize = 256;

/// What a lease's value belongs to: clearing any of it makes the lease worthless.
pub struct Scope {
    pub category: Box<[u8]>,
    /// Of the stale entry that is being refreshed.
    pub tags: Box<[Arc<Group>]>,
}

struct State {
    flights: Flights<Parked, Scope>,
    /// When the timer is due that ends the next lease.
    timer_at_ms: Option<i64>,
    /// Whether keys are being deleted that were cleared before: nothing that concerns leases.
    reclaiming: bool,
    /// Whether keys are looked at every now and then.
    looking: bool,
}

lazy_static! {
    static ref STATE: MainThread<State> = MainThread::new(State::new());
    static ref START: Instant = Instant::now();
}

impl State {
    fn new() -> Self {
        // Tokens are made of the time, so that those of before a restart are not handed out again.
        let token_first = u64::try_from(now_ms()).unwrap_or(0) * 1_000;
        Self { flights: Flights::new(token_first), timer_at_ms: None, reclaiming: false, looking: false }
    }
}

/// A clock that never steps back: leases are for a while.
fn clock_ms() -> i64 {
    START.elapsed().as_millis() as i64
}

fn place<'a>(call: &Call, key: Key<'a>) -> (i32, &'a [u8]) {
    (call.database(), key.bytes())
}

pub fn ask(call: &Call, key: Key, lease_ms: u64, scope: impl FnOnce() -> Scope) -> Asked {
    let asked = STATE.borrow().flights.ask(place(call, key), lease_ms, clock_ms(), scope);
    set_timer(call);
    asked
}

/// Lets a parked client wait for a key's lease to be filled or to end.
pub fn wait(call: &Call, key: Key, waiter: Parked, lease_ms: u64) {
    let State { flights, looking, .. } = &mut *STATE.borrow();
    flights.wait(place(call, key), waiter, lease_ms);
    if !std::mem::replace(looking, true) {
        call.after(LOOK_EVERY_MS, |call, ()| look_at_waited_for(call), ());
    }
}

fn look_at_waited_for(call: &mut Call) {
    let places = {
        let State { flights, looking, .. } = &mut *STATE.borrow();
        let places = flights.waited_for();
        *looking = !places.is_empty();
        places
    };
    look_at_some(call, places.into_iter());
}

/// Whoever waits for a key that has come to hold another type is told so.
fn look_at_some(call: &mut Call, mut places: std::vec::IntoIter<Place>) {
    for (database, name) in places.by_ref().take(LOOKS_PER_SLICE) {
        let name = Name::new(&name);
        if call.select_database(database) && call.find::<Entry>(name.key()).is_err() {
            filled(call, name.key());
        }
    }
    if places.len() > 0 {
        call.after(0, look_at_some, places);
    } else if STATE.borrow().looking {
        call.after(LOOK_EVERY_MS, |call, ()| look_at_waited_for(call), ());
    }
}

/// A client no longer waits.
pub fn gone(waiter: Parked) {
    STATE.borrow().flights.gone(waiter);
}

/// Whether the token is that of the key's lease, and a value with these names may be stored by it. Where one of the names
/// was cleared since the token was given out, the lease ends.
pub fn may_fill<'a>(call: &Call, key: Key, token: u64, category: &[u8], tags: impl Iterator<Item = &'a [u8]>) -> bool {
    let outdated = {
        let flights = &STATE.borrow().flights;
        if !flights.holds(place(call, key), token, clock_ms()) {
            return false;
        }
        let mut names = tags.map(|tag| (Kind::Tag, tag)).chain([(Kind::Category, category)]);
        names.any(|(kind, name)| flights.cleared_since(token, kind, name))
    };
    if outdated {
        revoked(call, key);
    }
    !outdated
}

/// All entries of that name were cleared.
pub fn cleared(kind: Kind, name: &[u8]) {
    STATE.borrow().flights.cleared(kind, name);
}

/// How long the key's lease lasts yet, 0 where there is none.
pub fn left_ms(call: &Call, key: Key) -> u64 {
    STATE.borrow().flights.left_ms(place(call, key), clock_ms())
}

/// The key has a value, or can have none: whoever waits looks for himself.
pub fn filled(call: &Call, key: Key) {
    let waiters = {
        let flights = &mut STATE.borrow().flights;
        if flights.is_empty() {
            return;
        }
        flights.filled(place(call, key))
    };
    wake_some(call, waiters.into_iter());
}

/// Those whose turn comes later may lose patience or leave meanwhile, and are then passed over.
fn wake_some(call: &Call, mut waiters: std::vec::IntoIter<Parked>) {
    for waiter in waiters.by_ref().take(WAKES_PER_SLICE) {
        call.call_back(waiter, LOOK_AGAIN);
    }
    if waiters.len() > 0 {
        call.after(0, |call, waiters| wake_some(call, waiters), waiters);
    }
}

/// The key was deleted: what is being computed for it is not to come back.
pub fn revoked(call: &Call, key: Key) {
    let successor = {
        let State { flights, reclaiming, .. } = &mut *STATE.borrow();
        if flights.is_empty() || *reclaiming {
            return;
        }
        flights.revoked(place(call, key), clock_ms())
    };
    go_on(call, successor);
}

/// As [`revoked`], of all leases that are meant. Of many who wait, some are told a little later.
pub fn revoked_where(call: &Call, is_meant: impl Fn(i32, &[u8], &Scope) -> bool) {
    STATE.borrow().flights.revoked_where(is_meant);
    hand_over_some(call);
}

fn hand_over_some(call: &Call) {
    let (successors, more) = end_some(Flights::next_void);
    go_on(call, successors);
    if more {
        call.after(0, |call, ()| hand_over_some(call), ());
    }
}

/// What ends one lease: `None` where there is none to end, and then who gets the next one.
type End = fn(&mut Flights<Parked, Scope>, now_ms: i64) -> Option<Option<Successor<Parked>>>;

/// Ends as many leases as one slice may. Returns who gets the next ones, and whether there may be more to end.
fn end_some(end: End) -> (Vec<Successor<Parked>>, bool) {
    let flights = &mut STATE.borrow().flights;
    let mut successors = Vec::new();
    for _ in 0..ENDS_PER_SLICE {
        match end(flights, clock_ms()) {
            Some(successor) => successors.extend(successor),
            None => return (successors, false),
        }
    }
    (successors, true)
}

/// Runs `task`, which deletes what readers have long been told is gone.
pub fn while_reclaiming(task: impl FnOnce()) {
    STATE.borrow().reclaiming = true;
    task();
    STATE.borrow().reclaiming = false;
}

/// The message that tells a waiting client to look for the value; any other is the token of its lease.
pub const LOOK_AGAIN: u64 = 0;

fn go_on(call: &Call, successors: impl IntoIterator<Item = Successor<Parked>>) {
    for (waiter, token) in successors {
        call.call_back(waiter, token);
    }
    set_timer(call);
}

/// One timer, for the lease that ends first.
fn set_timer(call: &Call) {
    let State { flights, timer_at_ms, .. } = &mut *STATE.borrow();
    let Some(end_ms) = flights.next_end_ms() else { return };
    if timer_at_ms.is_none_or(|at_ms| end_ms < at_ms) {
        *timer_at_ms = Some(end_ms);
        let delay_ms = u64::try_from(end_ms - clock_ms()).unwrap_or(0);
        call.after(delay_ms, end_due, end_ms);
    }
}

fn end_due(call: &mut Call, at_ms: i64) {
    {
        let timer_at_ms = &mut STATE.borrow().timer_at_ms;
        // One that was set earlier, for a later end: the other one has taken its place.
        if *timer_at_ms != Some(at_ms) {
            return;
        }
        *timer_at_ms = None;
    }
    // What this slice leaves to do is due at once: a timer for it is set.
    let (successors, _) = end_some(Flights::end_due);
    go_on(call, successors);
}

/// Keys that come and go by other commands than the cache's.
pub fn key_changed(call: &mut Call, event: &std::ffi::CStr, key: Key) {
    match event.to_bytes() {
        b"del" | b"move_from" | b"rename_from" => revoked(call, key),
        b"restore" | b"copy_to" | b"move_to" | b"rename_to" => filled(call, key),
        _ => {}
    }
}

pub fn happened(call: &mut Call, event: Event) {
    match event {
        Event::Flush { database } => {
            revoked_where(call, |place, _, _| database.is_none_or(|flushed| flushed == place));
        }
        Event::SwapDatabases(one, other) => revoked_where(call, |place, _, _| place == one || place == other),
        // Who waits is told by the server, and hears of no lease on a replica.
        Event::RoleChanged { primary: false } => STATE.borrow().flights = State::new().flights,
        _ => {}
    }
}
