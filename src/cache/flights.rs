//! Single flight: fill leases on keys whose values are being computed, and the clients that wait for those values.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use gateway_core::cache::clears::Kind;
use gateway_core::cache::flight::{Flights, LeaseAnswer, LeasedKey, Successors, Wanted};
use lazy_static::lazy_static;

use super::category::Category;
use super::entry::Entry;
use super::group::Group;
use crate::server::args::OwnedKey;
use crate::server::blocked::Parked;
use crate::server::events::{Event, follow_keys};
use crate::server::shared::MainThread;
use crate::server::{Call, Key};
use crate::stats::STATS;

/// The most leases that one slice ends, before other clients are served.
const ENDS_PER_SLICE: usize = 256;

/// The most waiting clients that one slice calls back: their replies are written before other clients are served.
const WAKES_PER_SLICE: usize = 128;

/// How often to poll keys with waiters; the server does not notify us of SET, nor of other commands on its own types, unless
/// we subscribe to all of them.
const POLL_EVERY_MS: u64 = 100;

/// The most keys that one slice polls, before other clients are served.
const POLLS_PER_SLICE: usize = 256;

/// The groups that a lease's value belongs to. If any of them is cleared, the lease is revoked.
pub struct Scope {
    pub category: Box<[u8]>,
    /// The groups of the tags of the stale entry that is being refreshed.
    pub tags: Box<[Arc<Group>]>,
}

struct State {
    flights: Flights<Parked, Scope>,
    /// When the timer that ends the next lease fires.
    timer_at_ms: Option<i64>,
    /// Whether cleared entries are being deleted, which does not concern leases.
    reclaiming: bool,
    /// Whether keys with waiters are being polled.
    polling: bool,
}

lazy_static! {
    static ref STATE: MainThread<State> = MainThread::new(State::new());
    static ref START: Instant = Instant::now();
}

impl State {
    fn new() -> Self {
        Self { flights: Flights::new(random), timer_at_ms: None, reclaiming: false, polling: false }
    }
}

/// A number for a token. The standard library keys its hashes with random bytes of the operating system, once per process,
/// and SipHash under a key that nobody knows is a pseudo-random function. So the hashes of a count are as good as random
/// numbers: nobody can guess the next one from those before, and the chance that another node, or this one after a
/// restart,
/// repeats one is 1 in 2^53.
fn random() -> u64 {
    lazy_static! {
        static ref KEYED: RandomState = RandomState::new();
    }
    static COUNT: AtomicU64 = AtomicU64::new(0);
    KEYED.hash_one(COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A clock that never steps back, for the ends of leases.
fn clock_ms() -> i64 {
    START.elapsed().as_millis() as i64
}

fn by_database<'a>(call: &Call, key: Key<'a>) -> (i32, &'a [u8]) {
    (call.database(), key.bytes())
}

/// Asks for the key's lease: the caller gets it, or another caller has it.
pub fn ask(call: &Call, key: Key, wanted: Wanted, scope: impl FnOnce() -> Scope) -> LeaseAnswer {
    follow_keys();
    let answer = STATE.borrow().flights.ask(by_database(call, key), wanted, clock_ms(), scope);
    set_timer(call);
    answer
}

/// Lets a parked client wait for a key's lease to be filled or to end.
pub fn wait(call: &Call, key: Key, waiter: Parked, wanted: Wanted) {
    let State { flights, polling, .. } = &mut *STATE.borrow();
    flights.wait(by_database(call, key), waiter, wanted);
    if !std::mem::replace(polling, true) {
        call.after(POLL_EVERY_MS, |call, ()| poll(call), ());
    }
}

fn poll(call: &mut Call) {
    let places = {
        let State { flights, polling, .. } = &mut *STATE.borrow();
        let places = flights.waited_for();
        *polling = !places.is_empty();
        places
    };
    poll_some(call, places.into_iter());
}

/// Clients that wait for a key that now holds another type are called back, and get that error. So are those that wait for a
/// key that another node of the cluster serves now, where its value will be.
fn poll_some(call: &mut Call, mut places: std::vec::IntoIter<LeasedKey>) {
    for (database, name) in places.by_ref().take(POLLS_PER_SLICE) {
        let name = OwnedKey::new(&name);
        if !call.select_database(database) {
            continue;
        }
        if !call.serves(name.key()) {
            call_back_all(call, name.key(), END);
        } else if call.glance::<Entry>(name.key()).is_err() {
            filled(call, name.key());
        }
    }
    if places.len() > 0 {
        call.after(0, poll_some, places);
    } else if STATE.borrow().polling {
        call.after(POLL_EVERY_MS, |call, ()| poll(call), ());
    }
}

/// How many fill leases are in force.
pub fn leases() -> u64 {
    STATE.borrow().flights.len() as u64
}

/// How many clients wait now.
pub fn waiting() -> u64 {
    STATE.borrow().flights.waiting_len() as u64
}

/// Forgets a client that no longer waits.
pub fn gone(waiter: Parked) {
    STATE.borrow().flights.gone(waiter);
}

/// Whether the token is that of the key's lease, and a value of this category and these tags may be stored with it. If one
/// of them was cleared since the lease was granted, the lease is revoked.
pub fn may_fill<'a>(call: &Call, key: Key, token: u64, category: &[u8], tags: impl Iterator<Item = &'a [u8]>) -> bool {
    let outdated = {
        let flights = &STATE.borrow().flights;
        let Some(lease) = flights.held(by_database(call, key), token, clock_ms()) else { return false };
        let mut names = tags.map(|tag| (Kind::Tag, tag)).chain([(Kind::Category, category)]);
        names.any(|(kind, name)| flights.cleared_since(&lease, kind, name))
    };
    if outdated {
        revoked(call, key);
    }
    !outdated
}

/// To be called when all entries of that name were cleared.
pub fn cleared(kind: Kind, name: &[u8]) {
    STATE.borrow().flights.cleared(kind, name);
}

/// Milliseconds until the key's lease ends; 0 if there is none.
pub fn left_ms(call: &Call, key: Key) -> u64 {
    STATE.borrow().flights.left_ms(by_database(call, key), clock_ms())
}

/// To be called when the key has a value, or cannot have one: calls back the clients that wait for it, to look.
pub fn filled(call: &Call, key: Key) {
    call_back_all(call, key, LOOK_AGAIN);
}

/// Ends the key's lease, and calls back the clients that wait for it.
fn call_back_all(call: &Call, key: Key, message: u64) {
    let waiters = {
        let flights = &mut STATE.borrow().flights;
        if flights.is_empty() {
            return;
        }
        flights.filled(by_database(call, key))
    };
    call_back_some(call, waiters.into_iter(), message);
}

/// Calls clients back in slices. Clients whose wait ends meanwhile are skipped.
fn call_back_some(call: &Call, mut waiters: std::vec::IntoIter<Parked>, message: u64) {
    for waiter in waiters.by_ref().take(WAKES_PER_SLICE) {
        call.call_back(waiter, message);
    }
    if waiters.len() > 0 {
        call.after(0, |call, (waiters, message)| call_back_some(call, waiters, message), (waiters, message));
    }
}

/// To be called when the key was deleted: the value that is being computed for it must not be stored. The next client
/// that waits gets a lease.
pub fn revoked(call: &Call, key: Key) {
    let successors = {
        let State { flights, reclaiming, .. } = &mut *STATE.borrow();
        if flights.is_empty() || *reclaiming {
            return;
        }
        flights.revoked(by_database(call, key), clock_ms())
    };
    hand_over(call, successors);
}

/// Gives up the key's lease for its holder. Returns whether the token is that of the lease.
pub fn released(call: &Call, key: Key, token: u64) -> bool {
    let successors = {
        let flights = &mut STATE.borrow().flights;
        let Some(lease) = flights.held(by_database(call, key), token, clock_ms()) else { return false };
        STATS.cache_releases.add(1);
        Category::asked_for(&lease.scope.category).counters().releases.add(1);
        flights.revoked(by_database(call, key), clock_ms())
    };
    hand_over(call, successors);
    true
}

/// Like [`revoked`], for all leases that `is_meant`. Many waiting clients are called back in slices.
pub fn revoked_where(call: &Call, is_meant: impl Fn(i32, &[u8], &Scope) -> bool) {
    STATE.borrow().flights.revoked_where(is_meant);
    hand_over_some(call);
}

fn hand_over_some(call: &Call) {
    let (successors, more) = end_some(Flights::next_void);
    hand_over(call, successors);
    if more {
        call.after(0, |call, ()| hand_over_some(call), ());
    }
}

/// Ends one lease. `None` if there is none to end.
type End = fn(&mut Flights<Parked, Scope>, now_ms: i64) -> Option<Successors<Parked>>;

/// Ends the leases of one slice. Returns the clients to be called back, and whether there may be more to end.
fn end_some(end: End) -> (Successors<Parked>, bool) {
    let flights = &mut STATE.borrow().flights;
    let mut successors = Vec::new();
    for _ in 0..ENDS_PER_SLICE {
        match end(flights, clock_ms()) {
            Some(more) => successors.extend(more),
            None => return (successors, false),
        }
    }
    (successors, true)
}

/// Runs `task`, which deletes entries that were cleared before.
pub fn while_reclaiming(task: impl FnOnce()) {
    STATE.borrow().reclaiming = true;
    task();
    STATE.borrow().reclaiming = false;
}

/// Messages to a waiting client: to ask again, since the value or the client's own lease is there, or to reply that it cannot
/// wait here any longer. Any other message is the token of its lease.
pub const LOOK_AGAIN: u64 = 0;
pub const END: u64 = u64::MAX;

/// Calls back the clients that get a lease, and those that ask again.
fn hand_over(call: &Call, successors: Successors<Parked>) {
    for (waiter, message) in successors {
        call.call_back(waiter, message);
    }
    set_timer(call);
}

/// Sets a timer for the lease that ends first, if none is set for then or before.
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
        // A timer that was set later, for an earlier end, has taken the place of this one.
        if *timer_at_ms != Some(at_ms) {
            return;
        }
        *timer_at_ms = None;
    }
    // What this slice leaves to do is due at once, and gets a timer.
    let (successors, _) = end_some(Flights::end_due);
    hand_over(call, successors);
}

/// Follows keys that appear or disappear by other commands than the cache's.
pub fn on_key_event(call: &mut Call, event: &std::ffi::CStr, key: Key) {
    match event.to_bytes() {
        b"del" | b"move_from" | b"rename_from" => revoked(call, key),
        b"restore" | b"copy_to" | b"move_to" | b"rename_to" => filled(call, key),
        _ => {}
    }
}

pub fn on_server_event(call: &mut Call, event: Event) {
    match event {
        Event::Flush { database } => {
            revoked_where(call, |held_in, _, _| database.is_none_or(|flushed| flushed == held_in));
        }
        Event::SwapDatabases(one, other) => revoked_where(call, |held_in, _, _| held_in == one || held_in == other),
        // A replica has no leases. Most servers have ended the waits by now, but Valkey in a cluster leaves that to modules.
        Event::RoleChanged { primary: false } => {
            let flights = std::mem::replace(&mut STATE.borrow().flights, State::new().flights);
            for waiter in flights.waiting() {
                call.call_back(waiter, END);
            }
        }
        _ => {}
    }
}
