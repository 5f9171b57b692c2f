//! Which ledgers have changes that were not acknowledged: an index beside the keys, so that listing them costs as much as
//! there are.
//!
//! A database has an index from the first time that a worker comes for its changes; where none does, it costs nothing. It
//! is filled by a scan of the keys, in slices, and from then on kept by the changes. It may name too many keys, since
//! each is looked at before it is listed, but never too few: where keys have changed places by the thousand (SWAPDB,
//! loading), they are scanned again for the next who asks. Names of keys that are gone are dropped.
//!
//! Nothing of it is persistent. What a ledger itself does not tell, that it came to its place from elsewhere or from the
//! past, is known here for as long as the server runs, and a worker that has lost its connection says what it has.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::Arc;

use gateway_core::ledger::feed::Place;

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
    /// Of the scan that fills it; 0 where one is due.
    generation: u64,
    scanned: bool,
    /// Databases were swapped: every ledger that the scan meets is to be listed anew.
    swapped: bool,
    /// The last place that there was then: what waits up to it is to be listed anew as well.
    swapped_at: u64,
    /// Who waits longest is listed first: a ledger that changes all the time does not keep others waiting.
    queue: BTreeMap<u64, Candidate>,
    /// A tree, since a table of a million keys would grow in one go.
    places: BTreeMap<Arc<[u8]>, u64>,
    last: u64,
}

/// A key that may hold a ledger with something to list.
#[derive(Clone)]
pub struct Candidate {
    pub key: Arc<[u8]>,
    /// It came to its place by other means than changes: what a reader has of that place may be of another ledger.
    pub anew: bool,
}

impl Listing {
    /// At the end of the queue, unless it is in it.
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
            // The scan has yet to come to it, or may have come already: it comes before the worker is told that this is all.
            None => self.swapped,
        }
    }

    /// As [`Self::give_up`], and what a reader has of any of these places is of another ledger.
    fn swap(&mut self) {
        self.give_up();
        (self.swapped, self.swapped_at) = (true, self.last);
    }

    /// The keys must be scanned again. Those that are here stay, and are looked at in their turn.
    fn give_up(&mut self) {
        (self.generation, self.scanned) = (0, false);
    }
}

fn with<T>(database: i32, act: impl FnOnce(&mut Listing) -> T) -> Option<T> {
    LISTINGS.borrow().get_mut(&database).map(act)
}

/// A ledger has changed.
pub fn changed(call: &Call, key: Key) {
    let mut listings = LISTINGS.borrow();
    if listings.is_empty() {
        return;
    }
    if let Some(listing) = listings.get_mut(&call.database()) {
        listing.insert(key.bytes(), false);
    }
}

/// A ledger must be listed anew: see [`Candidate::anew`].
pub fn relist(call: &Call, key: Key) {
    with(call.database(), |listing| listing.insert(key.bytes(), true));
}

/// A ledger was read, and has nothing to list or is gone.
pub fn settled(database: i32, key: &[u8]) {
    with(database, |listing| listing.remove(key));
}

/// A ledger was listed anew: that is done.
pub fn listed_anew(database: i32, key: &[u8]) {
    with(database, |listing| {
        if let Some(candidate) = listing.remove(key) {
            listing.append(Candidate { anew: false, ..candidate });
        }
    });
}

/// Whether a ledger is still to be listed anew: what was read under this key is not acknowledged by it.
pub fn is_due_anew(database: i32, key: &[u8]) -> bool {
    with(database, |listing| listing.is_due_anew(key)).unwrap_or(false)
}

/// A ledger was acknowledged, and has changed since: others first.
pub fn still_listed(database: i32, key: &[u8]) {
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
        let place = Place::new(self.database, key.bytes());
        account::glimpse(value).is_some_and(|ledger| self.all || ledger.is_listed(place))
    }

    fn take(&mut self, _call: &mut Call, keys: &[OwnedKey]) -> bool {
        self.with(|listing| keys.iter().for_each(|name| listing.insert(name.key().bytes(), false)))
    }

    fn done(self, _call: &mut Call) {
        self.with(|listing| (listing.scanned, listing.swapped) = (true, false));
    }
}

/// Hears of keys that come to a place by other means than changes, and of those that are gone. A ledger that is made under
/// the name of one that is gone has versions above all that were read of that one.
pub fn hear_of_key(call: &mut Call, event: &CStr, key: Key) {
    if [c"rename_to", c"copy_to", c"move_to", c"restore"].contains(&event) {
        relist(call, key);
    } else if [c"del", c"expired", c"evicted", c"rename_from", c"move_from"].contains(&event) {
        settled(call.database(), key.bytes());
    }
}

/// Candidates looked at in one slice of a [`Sweep`], in some tens of microseconds, and the time between two.
const SWEPT: usize = 200;
const SWEEP_PAUSE_MS: u64 = 1;

/// Drops the candidates whose keys are gone, after a flush. Not at the flush itself: keys that are loaded again after it
/// are the same as before (DEBUG RELOAD, a replica's resynchronisation), and are listed anew where they were to be.
struct Sweep {
    database: i32,
    /// The place it has come to.
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
        if let Ok(None) = AccountRead::find(call, OwnedKey::new(key).key()) {
            settled(sweep.database, key);
        }
    }
    if waiting.len() == SWEPT {
        call.after(SWEEP_PAUSE_MS, self::sweep, sweep);
    }
}

/// Hears of what makes an index worthless.
pub fn hear(call: &mut Call, event: Event) {
    let mut listings = LISTINGS.borrow();
    match event {
        Event::Flush { database } => {
            let flushed = listings.iter_mut().filter(|&(&of, _)| database.is_none_or(|database| database == of));
            for (&database, listing) in flushed {
                listing.give_up();
                call.after(0, sweep, Sweep { database, at: 0 });
            }
        }
        // Whoever follows one of them finds other ledgers there, whether the other one was followed or not.
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
        Event::ModuleLoaded | Event::ConfigChanged => {}
    }
}
