//! The ledgers with changes that were not acknowledged: an index outside the keys, so that listing takes time only for
//! ledgers that have changed.
//!
//! A database gets an index when a worker first asks for its changes; without a worker it costs nothing. The index is
//! filled by a scan of the keys, in slices, and from then on updated with each change. It may name too many keys, since
//! each is checked before it is listed, but never too few: after events that move thousands of keys at once (SWAPDB,
//! loading), they are scanned again at the next call. Names of deleted keys are dropped.
//!
//! In a cluster, a key that another node serves is not listed: a client could not acknowledge it here. Its name is put
//! aside under its slot until this node serves the slot. So are the keys of a slot that is being imported.
//!
//! No part of the index is persistent. The server remembers until its restart that a ledger came to its place from
//! elsewhere or from an earlier state; a worker that has lost its connection says which versions it has.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::ops::Bound;
use std::sync::Arc;

use gateway_core::ledger::feed::KeyPlace;
use gateway_core::slot::slot_of;

use super::account::{self, AccountRead};
use crate::server::args::OwnedKey;
use crate::server::counter::Counter;
use crate::server::events::{Event, follow_keys};
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
    /// The last number in the queue at the time of the swap. Candidates up to it are to be listed anew, too.
    swapped_at: u64,
    /// The candidate that has waited longest is listed first, so that a ledger that changes all the time does not delay
    /// others. Behind those to list are those that are put aside, slot by slot.
    queue: BTreeMap<Place, Candidate>,
    /// A tree, because a hash table of a million keys would grow all at once.
    places: BTreeMap<Arc<[u8]>, Place>,
    last: u64,
    /// The first slot that the next call looks at, of those that are put aside.
    next_slot: u16,
}

/// A position in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// The slot under which the candidate is put aside, because another node serves it.
    aside: Option<u16>,
    number: u64,
}

impl Place {
    fn first(aside: Option<u16>) -> Place {
        Place { aside, number: 0 }
    }
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
        self.put(Place { aside: None, number: self.last }, candidate);
    }

    fn put(&mut self, place: Place, candidate: Candidate) {
        self.places.insert(candidate.key.clone(), place);
        self.queue.insert(place, candidate);
    }

    fn remove(&mut self, key: &[u8]) -> Option<Candidate> {
        let place = self.places.remove(key)?;
        self.queue.remove(&place).map(|candidate| self.as_of(place, candidate))
    }

    fn as_of(&self, place: Place, candidate: Candidate) -> Candidate {
        let anew = candidate.anew || place.number <= self.swapped_at;
        Candidate { anew, ..candidate }
    }

    /// The first `count` candidates to list, and whether there are more of them.
    fn first(&self, count: usize) -> (Vec<Candidate>, bool) {
        let mut waiting = self.queue.range(..Place::first(Some(0)));
        let of = |(&place, candidate): (&Place, &Candidate)| self.as_of(place, candidate.clone());
        (waiting.by_ref().take(count).map(of).collect(), waiting.next().is_some())
    }

    /// Puts a candidate aside, which another node serves.
    fn put_aside(&mut self, key: &[u8]) {
        if let Some(place) = self.places.get(key).copied()
            && let Some(candidate) = self.queue.remove(&place)
        {
            self.put(Place { aside: Some(slot_of(key)), ..place }, candidate);
        }
    }

    /// The next slots of which candidates are put aside, at most `count`, each with one of them. After the last slot the
    /// next call begins with the first again, and the second value is false.
    fn slots_aside(&mut self, count: usize) -> (Vec<(u16, Candidate)>, bool) {
        let (mut slots, mut from) = (Vec::new(), Some(self.next_slot));
        while let Some(first) = from {
            let Some((place, candidate)) = self.queue.range(Place::first(Some(first))..).next() else { break };
            let Some(slot) = place.aside else { break };
            if slots.len() == count {
                self.next_slot = slot;
                return (slots, true);
            }
            slots.push((slot, candidate.clone()));
            from = slot.checked_add(1);
        }
        self.next_slot = 0;
        (slots, false)
    }

    /// Puts candidates of a slot, at most `count`, back behind those that are to be listed. Returns how many.
    fn take_back(&mut self, slot: u16, count: usize) -> usize {
        let aside = self.queue.range(Place::first(Some(slot))..Place::first(Some(slot + 1)));
        let keys: Vec<_> = aside.take(count).map(|(_, candidate)| candidate.key.clone()).collect();
        for key in &keys {
            if let Some(candidate) = self.remove(key) {
                self.append(candidate);
            }
        }
        keys.len()
    }

    fn is_due_anew(&self, key: &[u8]) -> bool {
        match self.places.get(key) {
            Some(place) => {
                place.number <= self.swapped_at || self.queue.get(place).is_some_and(|candidate| candidate.anew)
            }
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
    follow_keys();
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
    let more_aside = call.is_clustered() && take_back(call, database, count);
    let listed = with(database, |listing| {
        let (candidates, more) = listing.first(count);
        (candidates, more || !listing.scanned)
    });
    let (mut candidates, more) = listed.unwrap_or_default();
    if call.is_clustered() {
        candidates.retain(|candidate| is_served(call, database, candidate));
    }
    (candidates, more || more_aside)
}

/// The slots with candidates put aside of which one call finds out whether this node serves them now. That takes about
/// a microsecond each.
const SLOTS_CHECKED: usize = 200;

/// Of the slots with candidates put aside, takes back those that this node serves now, at most `count` candidates.
/// Returns whether there may be more.
fn take_back(call: &Call, database: i32, mut count: usize) -> bool {
    let (slots, mut more) = with(database, |listing| listing.slots_aside(SLOTS_CHECKED)).unwrap_or_default();
    for (slot, candidate) in slots {
        if call.serves(OwnedKey::new(&candidate.key).key()) {
            count -= with(database, |listing| listing.take_back(slot, count)).unwrap_or_default();
            more |= count == 0;
        }
    }
    more
}

/// Whether this node serves a candidate's key. If not, the candidate is put aside; a key that does not exist is dropped.
fn is_served(call: &Call, database: i32, candidate: &Candidate) -> bool {
    let name = OwnedKey::new(&candidate.key);
    if call.serves(name.key()) {
        return true;
    }
    // While a slot moves away, keys that are gone are served by the new node, and keys that are here by this one: so only
    // a key that is here tells whether its slot is served.
    match AccountRead::glance(call, name.key()) {
        Ok(Some(_)) => with(database, |listing| listing.put_aside(&candidate.key)),
        _ => with(database, |listing| drop(listing.remove(&candidate.key))),
    };
    false
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
    /// The position in the queue behind which to go on.
    behind: Place,
}

fn sweep(call: &mut Call, mut sweep: Sweep) {
    if !call.select_database(sweep.database) {
        return;
    }
    let waiting = with(sweep.database, |listing| {
        let waiting = listing.queue.range((Bound::Excluded(sweep.behind), Bound::Unbounded)).take(SWEPT);
        waiting.map(|(&place, candidate)| (place, candidate.key.clone())).collect::<Vec<_>>()
    });
    let waiting = waiting.unwrap_or_default();
    for (place, key) in &waiting {
        sweep.behind = *place;
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
                call.after(0, sweep, Sweep { database, behind: Place::first(None) });
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

#[cfg(test)]
mod tests {
    use super::*;

    /// However many slots are being imported, a few calls look at each of them once, and what they take back is listed
    /// in the order in which it comes back.
    #[test]
    fn candidates_that_are_put_aside_come_back() {
        let mut listing = Listing::default();
        let keys: Vec<String> = (0..900).map(|number| format!("{{{}}}:{number}", number % 450)).collect();
        for key in &keys {
            listing.insert(key.as_bytes(), false);
            listing.put_aside(key.as_bytes());
        }
        listing.insert(b"here", false);
        // A change of a ledger that is put aside leaves it there.
        listing.insert(keys[0].as_bytes(), true);
        let (candidates, more) = listing.first(200);
        assert_eq!((candidates.len(), &*candidates[0].key, more), (1, &b"here"[..], false));

        let slots: std::collections::BTreeSet<u16> = keys.iter().map(|key| slot_of(key.as_bytes())).collect();
        let mut met = Vec::new();
        loop {
            let (found, more) = listing.slots_aside(200);
            assert!(found.len() <= 200);
            met.extend(found.iter().map(|(slot, _)| *slot));
            if !more {
                break;
            }
        }
        assert_eq!(met, slots.iter().copied().collect::<Vec<_>>());

        assert!(listing.is_due_anew(keys[0].as_bytes()));
        let back: usize = slots.iter().map(|&slot| listing.take_back(slot, 1) + listing.take_back(slot, 200)).sum();
        assert_eq!(back, keys.len());
        assert_eq!(listing.slots_aside(200).0.len(), 0);
        let (candidates, more) = listing.first(2_000);
        assert_eq!((candidates.len(), more), (keys.len() + 1, false));
        assert_eq!(candidates.iter().filter(|candidate| candidate.anew).count(), 1);
        // One that is deleted while it is put aside is gone.
        listing.put_aside(b"here");
        assert!(listing.remove(b"here").is_some());
        assert_eq!(listing.slots_aside(200).0.len(), 0);
    }
}
