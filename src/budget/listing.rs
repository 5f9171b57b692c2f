//! Which ledgers have changes that were not acknowledged: an index beside the keys, so that listing them costs as much as
//! there are.
//!
//! A database has an index from the first time that a worker comes for its changes; where none does, it costs nothing. It
//! is filled by a scan of the keys, in slices, and from then on kept by the changes. It may name too many keys, since
//! each is looked at before it is listed, but never too few: where keys have changed places by the thousand (SWAPDB,
//! loading), they are scanned again for the next who asks.
//!
//! Nothing of it is persistent. What a ledger itself does not tell, that it came to its place from elsewhere or from the
//! past, is known here for as long as the server runs, and a worker that has lost its connection says what it has.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::Arc;

use gateway_core::ledger::feed::Place;

use super::account;
use crate::server::args::Name;
use crate::server::events::Event;
use crate::server::key::Glimpse;
use crate::server::scan::Scan;
use crate::server::shared::MainThread;
use crate::server::stats::Counter;
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
        self.last += 1;
        let key: Arc<[u8]> = key.into();
        self.places.insert(key.clone(), self.last);
        self.queue.insert(self.last, Candidate { key, anew });
    }

    fn remove(&mut self, key: &[u8]) -> Option<Candidate> {
        self.queue.remove(&self.places.remove(key)?)
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
        let place = listing.places.get(key)?;
        listing.queue.get_mut(place)?.anew = false;
        Some(())
    });
}

/// Whether a ledger is still to be listed anew: what was read under this key is not acknowledged by it.
pub fn is_due_anew(database: i32, key: &[u8]) -> bool {
    let due = |listing: &mut Listing| Some(listing.queue.get(listing.places.get(key)?)?.anew);
    with(database, due).flatten().unwrap_or(false)
}

/// A ledger was acknowledged, and has changed since: others first.
pub fn still_listed(database: i32, key: &[u8]) {
    with(database, |listing| {
        let anew = listing.remove(key).is_some_and(|candidate| candidate.anew);
        listing.insert(key, anew);
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
        with(database, |listing| listing.generation = generation);
        // A small database is scanned at once.
        call.scan_from_now(Rebuild { database, generation });
    }
    let listed = with(database, |listing| {
        let candidates: Vec<_> = listing.queue.values().take(count).cloned().collect();
        let more = !listing.scanned || listing.queue.len() > candidates.len();
        (candidates, more)
    });
    listed.unwrap_or_default()
}

/// Fills an index.
struct Rebuild {
    database: i32,
    generation: u64,
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
        account::glimpse(value).is_some_and(|ledger| ledger.is_listed(place))
    }

    fn take(&mut self, _call: &mut Call, keys: &[Name]) -> bool {
        self.with(|listing| keys.iter().for_each(|name| listing.insert(name.key().bytes(), false)))
    }

    fn done(self, _call: &mut Call) {
        self.with(|listing| listing.scanned = true);
    }
}

/// Hears of keys that come to a place by other means than changes.
pub fn hear_of_key(call: &mut Call, event: &CStr, key: Key) {
    if [c"rename_to", c"copy_to", c"move_to", c"restore"].contains(&event) {
        relist(call, key);
    }
}

/// Hears of what makes an index worthless.
pub fn hear(_call: &mut Call, event: Event) {
    let mut listings = LISTINGS.borrow();
    match event {
        Event::Flush { database: Some(database) } => {
            listings.get_mut(&database).into_iter().for_each(Listing::give_up);
        }
        Event::SwapDatabases(one, other) => {
            let swapped = [(other, listings.remove(&one)), (one, listings.remove(&other))];
            for (database, listing) in swapped {
                if let Some(mut listing) = listing {
                    listing.give_up();
                    listings.insert(database, listing);
                }
            }
        }
        Event::Flush { database: None } | Event::LoadingStarted | Event::LoadingEnded | Event::RoleChanged { .. } => {
            listings.values_mut().for_each(Listing::give_up);
        }
        Event::ModuleLoaded | Event::ConfigChanged => {}
    }
}
