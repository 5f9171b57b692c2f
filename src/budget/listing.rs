//! The ledgers with changes that were not acknowledged: an index outside the keys, so that listing takes time only for
//! ledgers that have changed.
//!
//! A database gets an index when a worker first asks for its changes; without a worker it costs nothing. The index is
//! filled by a scan of the keys, in slices, and from then on updated with each change. It may name too many keys, since
//! each is checked before it is listed, but never too few: after events that move thousands of keys at once (SWAPDB,
//! loading), they are scanned again at the next call. Names of deleted keys are dropped.
//!
//! No part of the index is persistent. The server remembers until its restart that a ledger came to its place from
//! elsewhere or from an earlier state; a worker that has lost its connection says which versions it has.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::Arc;

use gateway_core::ledger::feed::KeyPlace;

use super::account::{self, AccountRead};
use crate::server::args::OwnedKey;
use crate::server::counter::Counter;
use crate::server::events::Event;
use crate::server::key::Glimpse;
use crate::server::scan::Scan;
use crate::server::shared::MainThread;
use crate::server::value::LOAD_EVENT;
use crate::server::{Call, Key};

/// Listings by database.
static LISTINGS: MainThread<BTreeMap<i32, Listing>> = MainThread::new(BTreeMap::new());

/// Distinguishes the successive indexes of a database.
static GENERATION: Counter = Counter::new();

#[derive(Default)]
struct Listing {
    /// The number of the scan that fills it; 0 if a scan is due.
    generation: u64,
    scanned: bool,
    /// Whether databases were swapped, so that every ledger that the scan meets is to be listed anew.
    swapped: bool,
    /// The last position in the queue at the time of the swap. Candidates up to it are to be listed anew, too.
    swapped_at: u64,
    /// The candidate that has waited longest is listed first, so that a ledger that changes all the time does not delay
    /// others.
    queue: BTreeMap<u64, Candidate>,
    /// A tree, because a hash table of a million keys would grow all at once.
    places: BTreeMap<Arc<[u8]>, u64>,
    last: u64,
}

/// A key that may hold a ledger with something to list.
#[derive(Clone)]
pub struct Candidate {
    pub key: Arc<[u8]>,
    /// Whether it came to its place by other means than changes, so that a reader may have another ledger's amounts for
    /// that place.
    pub anew: bool,
}

impl Listing {
    /// Puts a key at the end of the queue, unless it is already in the queue.
    fn insert(&mut self, key: &[u8], anew: bool) {
        if let Some(place) = self.places.get(key) {
            if let Some(candidate) = self.queue.get_mut(place) {
                candidate.anew |= anew;
            }
            return;
        }
        let anew = anew || self.swapped;
        self.append(Candidate { key: key.into(), anew });
    }

    fn append(&mut self, candidate: Candidate) {
        self.last += 1;
        self.places.insert(candidate.key.clone(), self.last);
        self.queue.insert(self.last, candidate);
    }

    fn remove(&mut self, key: &[u8]) -> Option<Candidate> {
        let place = self.places.remove(key)?;
        self.queue.remove(&place).map(|candidate| self.as_of(place, candidate))
    }

    fn as_of(&self, place: u64, candidate: Candidate) -> Candidate {
        let anew = candidate.anew || place <= self.swapped_at;
        Candidate { anew, ..candidate }
    }

    fn is_due_anew(&self, key: &[u8]) -> bool {
        match self.places.get(key) {
            Some(place) => *place <= self.swapped_at || self.queue.get(place).is_some_and(|candidate| candidate.anew),
            // This also holds before the scan reaches the key: the scan ends before a worker is told that there is no
            // more.
            None => self.swapped,
        }
    }

    /// Like [`Self::give_up`], but also marks all places as those of other ledgers.
    fn swap(&mut self) {
        self.give_up();
        (self.swapped, self.swapped_at) = (true, self.last);
    }

    /// Notes that the keys must be scanned again. Candidates stay, and are checked in their turn.
    fn give_up(&mut self) {
        (self.generation, self.scanned) = (0, false);
    }
}

fn with<T>(database: i32, act: impl FnOnce(&mut Listing) -> T) -> Option<T> {
    LISTINGS.borrow().get_mut(&database).map(act)
}

/// Notes that a ledger has changed.
pub fn changed(call: &Call, key: Key) {
    let mut listings = LISTINGS.borrow();
    if listings.is_empty() {
        return;
    }
    if let Some(listing) = listings.get_mut(&call.database()) {
        listing.insert(key.bytes(), false);
    }
}

/// Removes a ledger that has nothing to list, or that is gone.
pub fn remove(database: i32, key: &[u8]) {
    with(database, |listing| listing.remove(key));
}

/// Notes that a ledger was listed anew.
pub fn done_anew(database: i32, key: &[u8]) {
    with(database, |listing| {
        if let Some(candidate) = listing.remove(key) {
            listing.append(Candidate { anew: false, ..candidate });
        }
    });
}

/// Whether a ledger is still to be listed anew. If so, versions that were read under this key are not its own.
pub fn is_due_anew(database: i32, key: &[u8]) -> bool {
    with(database, |listing| listing.is_due_anew(key)).unwrap_or(false)
}

/// Moves a ledger that was acknowledged, but has changed since, behind all others.
pub fn requeue(database: i32, key: &[u8]) {
    with(database, |listing| match listing.remove(key) {
        Some(candidate) => listing.append(candidate),
        None => listing.insert(key, false),
    });
}

/// Keeps an index of the selected database from now on.
pub fn watch(call: &Call) {
    LISTINGS.borrow().entry(call.database()).or_default();
}

/// The first `count` candidates, and whether there may be more.
pub fn first(call: &mut Call, count: usize) -> (Vec<Candidate>, bool) {
    watch(call);
    let database = call.database();
    if with(database, |listing| listing.generation) == Some(0) {
        GENERATION.add(1);
        let generation = GENERATION.get();
        let swapped = with(database, |listing| {
            listing.generation = generation;
            listing.swapped
        });
        // A small database is scanned at once.
        call.scan_from_now(Rebuild { database, generation, all: swapped == Some(true) });
    }
    let listed = with(database, |listing| {
        let waiting = listing.queue.iter().take(count);
        let candidates: Vec<_> = waiting.map(|(&place, candidate)| listing.as_of(place, candidate.clone())).collect();
        let more = !listing.scanned || listing.queue.len() > candidates.len();
        (candidates, more)
    });
    listed.unwrap_or_default()
}

/// Fills an index.
struct Rebuild {
    database: i32,
    generation: u64,
    /// Whether to list all ledgers, even those without unacknowledged changes.
    all: bool,
}

impl Rebuild {
    fn with(&self, act: impl FnOnce(&mut Listing)) -> bool {
        let same = |listing: &mut Listing| {
            listing.generation == self.generation && {
                act(listing);
                true
            }
        };
        with(self.database, same).unwrap_or(false)
    }
}

impl Scan for Rebuild {
    const CHANGES: bool = false;

    fn wants(&mut self, key: Key, value: &Glimpse) -> bool {
        let place = KeyPlace::new(self.database, key.bytes());
        account::glimpse(value).is_some_and(|ledger| self.all || ledger.is_listed(place))
    }

    fn take(&mut self, _call: &mut Call, keys: &[OwnedKey]) -> bool {
        self.with(|listing| keys.iter().for_each(|name| listing.insert(name.key().bytes(), false)))
    }

    fn done(self, _call: &mut Call) {
        self.with(|listing| (listing.scanned, listing.swapped) = (true, false));
    }
}

/// Follows keys that come to a place by other means than changes, and keys that are gone. A ledger that is created
/// under the name of a deleted one has larger versions than that one had.
pub fn on_key_event(call: &mut Call, event: &CStr, key: Key) {
    if [c"rename_to", c"copy_to", c"move_to", c"restore", LOAD_EVENT].contains(&event) {
        let is_followed = with(call.database(), |_| ()).is_some();
        if is_followed && AccountRead::glance(call, key).is_ok_and(|found| found.is_some()) {
            with(call.database(), |listing| listing.insert(key.bytes(), true));
        }
    } else if [c"del", c"expired", c"evicted", c"rename_from", c"move_from"].contains(&event) {
        remove(call.database(), key.bytes());
    }
}

/// The candidates checked in one slice of a [`Sweep`], which takes some tens of microseconds, and the pause between
/// slices.
const SWEPT: usize = 200;
const SWEEP_PAUSE_MS: u64 = 1;

/// After a flush, drops the candidates whose keys are gone. This happens later than the flush, because keys that are
/// loaded right after it are the same as before (DEBUG RELOAD, a replica's resynchronisation), and candidates that are
/// to be listed anew must stay so.
struct Sweep {
    database: i32,
    /// The position in the queue from which to go on.
    at: u64,
}

fn sweep(call: &mut Call, mut sweep: Sweep) {
    if !call.select_database(sweep.database) {
        return;
    }
    let waiting = with(sweep.database, |listing| {
        let waiting = listing.queue.range(sweep.at..).take(SWEPT);
        waiting.map(|(&place, candidate)| (place, candidate.key.clone())).collect::<Vec<_>>()
    });
    let waiting = waiting.unwrap_or_default();
    for (place, key) in &waiting {
        sweep.at = place + 1;
        if let Ok(None) = AccountRead::glance(call, OwnedKey::new(key).key()) {
            remove(sweep.database, key);
        }
    }
    if waiting.len() == SWEPT {
        call.after(SWEEP_PAUSE_MS, self::sweep, sweep);
    }
}

/// Follows events that invalidate an index.
pub fn on_server_event(call: &mut Call, event: Event) {
    let mut listings = LISTINGS.borrow();
    match event {
        Event::Flush { database } => {
            let flushed = listings.iter_mut().filter(|&(&of, _)| database.is_none_or(|database| database == of));
            for (&database, listing) in flushed {
                listing.give_up();
                call.after(0, sweep, Sweep { database, at: 0 });
            }
        }
        // A worker that follows one of them finds other ledgers there, whether or not the other database was followed.
        Event::SwapDatabases(one, other) => {
            let swapped = [(other, listings.remove(&one)), (one, listings.remove(&other))];
            if swapped.iter().any(|(_, listing)| listing.is_some()) {
                for (database, listing) in swapped {
                    let mut listing = listing.unwrap_or_default();
                    listing.swap();
                    listings.insert(database, listing);
                }
            }
        }
        Event::LoadingStarted | Event::LoadingEnded | Event::RoleChanged { .. } => {
            listings.values_mut().for_each(Listing::give_up);
        }
        // What was loaded beside the keys is scanned again when loading has ended.
        Event::LoadingBeside(_)
        | Event::SlotsImported
        | Event::ModuleLoaded
        | Event::ConfigChanged
        | Event::ClockSetBack => {}
    }
}
