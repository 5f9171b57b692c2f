//! The ledgers with changes that were not acknowledged: an index beside the keys, so that listing them takes time only for
//! those that have changed.
//!
//! A database has an index from the first time that a worker asks for its changes; without a worker it costs nothing. The
//! index is filled by a scan of the keys, in slices, and from then on kept up to date by the changes. It may name too many
//! keys, since each is looked at before it is listed, but never too few: if keys have changed places by the thousand
//! (SWAPDB, loading), they are scanned again at the next question. Names of keys that are gone are dropped.
//!
//! Nothing of the index is persistent. That a ledger came to its place from elsewhere or from the past is known here for as
//! long as the server runs; a worker that has lost its connection tells which versions it has.

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
use crate::server::{Call, Key};

/// By database.
static LISTINGS: MainThread<BTreeMap<i32, Listing>> = MainThread::new(BTreeMap::new());

/// Tells one index of a database from the next.
static GENERATION: Counter = Counter::new();

#[derive(Default)]
struct Listing {
    /// The scan that fills it; 0 if one is due.
    generation: u64,
    scanned: bool,
    /// Databases were swapped: every ledger that the scan meets is to be listed anew.
    swapped: bool,
    /// The last place in the queue at that time: candidates up to it are to be listed anew, too.
    swapped_at: u64,
    /// The candidate that has waited longest is listed first: a ledger that changes all the time keeps no other waiting.
    queue: BTreeMap<u64, Candidate>,
    /// A tree, since a table of a million keys would grow in one go.
    places: BTreeMap<Arc<[u8]>, u64>,
    last: u64,
}

/// A key that may hold a ledger with something to list.
#[derive(Clone)]
pub struct Candidate {
    pub key: Arc<[u8]>,
    /// It came to its place by other means than changes: a reader may have another ledger's amounts under that place.
    pub anew: bool,
}

impl Listing {
    /// Puts a key at the end of the queue, unless it is in the queue.
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
            // Whether or not the scan has come to it: it does before the worker is told that there is no more.
            None => self.swapped,
        }
    }

    /// As [`Self::give_up`], and marks all places as those of other ledgers.
    fn swap(&mut self) {
        self.give_up();
        (self.swapped, self.swapped_at) = (true, self.last);
    }

    /// Notes that the keys must be scanned again. Candidates stay, and are looked at in their turn.
    fn give_up(&mut self) {
        (self.generation, self.scanned) = (0, false);
    }
}

fn with<T>(database: i32, act: impl FnOnce(&mut Listing) -> T) -> Option<T> {
    LISTINGS.borrow().get_mut(&database).map(act)
}

/// After a ledger has changed.
pub fn changed(call: &Call, key: Key) {
    let mut listings = LISTINGS.borrow();
    if listings.is_empty() {
        return;
    }
    if let Some(listing) = listings.get_mut(&call.database()) {
        listing.insert(key.bytes(), false);
    }
}

/// Removes a ledger that has nothing to list, or is gone.
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

/// Whether a ledger is still to be listed anew: then versions that were read under this key are not its own.
pub fn is_due_anew(database: i32, key: &[u8]) -> bool {
    with(database, |listing| listing.is_due_anew(key)).unwrap_or(false)
}

/// Puts a ledger that was acknowledged and has changed since behind all others.
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

/// The first `count` candidates, and whether there may be others.
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
    /// All ledgers, with something to list or not.
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

/// Follows keys that come to a place by other means than changes, and keys that are gone. A ledger that is made under the
/// name of one that is gone has larger versions than that one had.
pub fn on_key_event(call: &mut Call, event: &CStr, key: Key) {
    if [c"rename_to", c"copy_to", c"move_to", c"restore"].contains(&event) {
        let is_followed = with(call.database(), |_| ()).is_some();
        if is_followed && AccountRead::glance(call, key).is_ok_and(|found| found.is_some()) {
            with(call.database(), |listing| listing.insert(key.bytes(), true));
        }
    } else if [c"del", c"expired", c"evicted", c"rename_from", c"move_from"].contains(&event) {
        remove(call.database(), key.bytes());
    }
}

/// Candidates looked at in one slice of a [`Sweep`], which takes some tens of microseconds, and the pause between slices.
const SWEPT: usize = 200;
const SWEEP_PAUSE_MS: u64 = 1;

/// Drops the candidates whose keys are gone, after a flush. Not at the flush itself: keys that are loaded again after it
/// are the same as before (DEBUG RELOAD, a replica's resynchronisation), and those to be listed anew still are.
struct Sweep {
    database: i32,
    /// The place in the queue to go on from.
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

/// Follows events that make an index worthless.
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
        // A worker that follows one of them finds other ledgers there, whether the other one was followed or not.
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
        Event::ModuleLoaded | Event::ConfigChanged | Event::ClockSetBack => {}
    }
}
