//! Categories, by which entries are counted.
//!
//! Names come from clients, so their number is bounded: after the first 1,023, all others are counted as `(other)`. That
//! concerns only this node's counters; an entry keeps the true name of its category in any case.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use gateway_core::cache::category_of;
use gateway_core::money::Amount;
use lazy_static::lazy_static;

use crate::server::Key;
use crate::server::counter::Counter;
use crate::server::shared::MainThread;
use crate::stats::STATS;

const CATEGORIES_MAX: usize = 1_024;

/// The name under which surplus categories are counted. It has number 0; a number outside the table means the same.
const OTHER: &[u8] = b"(other)";

/// A category, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Category(u16);

/// A category's counters. Each GW.CACHEGET and GW.CACHEFETCH without an error counts as one of `hits`, `stale_hits` and `misses`.
pub struct Counters {
    pub hits: Counter,
    pub stale_hits: Counter,
    pub misses: Counter,
    /// Misses on a key that another client has a lease for, whether or not they waited for its value.
    pub pending: Counter,
    /// Fill leases given out, at once or after a wait.
    pub leader_grants: Counter,
    /// Fill leases given up by GW.CACHERELEASE.
    pub releases: Counter,
    pub wait_timeouts: Counter,
    pub sets: Counter,
    /// Entries that GW.CACHECLEAR has cleared: by the category, as part of ALL, or by a pattern.
    pub clears: Counter,
    pub errors: Counter,
    /// Entries that have expired. The server may free entries on another thread, so additions are atomic.
    expired: AtomicU64,
    /// The sum of SAVED over all hits: its low and its high half.
    saved_picos: [AtomicU64; 2],
}

impl Counters {
    const fn new() -> Self {
        Self {
            hits: Counter::new(),
            stale_hits: Counter::new(),
            misses: Counter::new(),
            pending: Counter::new(),
            leader_grants: Counter::new(),
            releases: Counter::new(),
            wait_timeouts: Counter::new(),
            sets: Counter::new(),
            clears: Counter::new(),
            errors: Counter::new(),
            expired: AtomicU64::new(0),
            saved_picos: [const { AtomicU64::new(0) }; 2],
        }
    }

    pub fn reset(&self) {
        let Self { hits, stale_hits, misses, pending, leader_grants, releases, .. } = self;
        let Self { wait_timeouts, sets, clears, errors, expired, saved_picos, .. } = self;
        let asked = [hits, stale_hits, misses, pending, leader_grants, releases];
        for counter in asked.into_iter().chain([wait_timeouts, sets, clears, errors]) {
            counter.reset();
        }
        expired.store(0, Ordering::Relaxed);
        saved_picos.iter().for_each(|half| half.store(0, Ordering::Relaxed));
    }

    pub fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }

    pub fn entry_expired(&self) {
        self.expired.fetch_add(1, Ordering::Relaxed);
    }

    pub fn saved(&self) -> Amount {
        let [low, high] = self.saved_picos.each_ref().map(|half| u128::from(half.load(Ordering::Relaxed)));
        i128::try_from(high << 64 | low).ok().and_then(Amount::from_picos).unwrap_or(Amount::MAX)
    }

    /// Adds to [`Self::saved`]; only on the main thread.
    pub fn add_saved(&self, amount: Amount) {
        let sum = self.saved().saturating_add(amount).min(Amount::MAX).picos() as u128;
        let [low, high] = &self.saved_picos;
        low.store(sum as u64, Ordering::Relaxed);
        high.store((sum >> 64) as u64, Ordering::Relaxed);
    }
}

static COUNTERS: [Counters; CATEGORIES_MAX] = [const { Counters::new() }; CATEGORIES_MAX];

#[derive(Default)]
struct Names {
    numbers: HashMap<Box<[u8]>, u16>,
    /// By number, from 1 on.
    names: Vec<Box<[u8]>>,
}

lazy_static! {
    static ref NAMES: MainThread<Names> = MainThread::new(Names::default());
}

impl Category {
    /// All categories that the table has no room for.
    pub const OTHER: Self = Self(0);

    /// The category of that name; a new one, if there is room.
    pub fn named(name: &[u8]) -> Self {
        Self::with_room(name, CATEGORIES_MAX)
    }

    /// The category of a key that was not found. Readers may ask for any name, so they fill at most half of the table:
    /// the rest is for names that are really stored.
    pub fn asked_for(name: &[u8]) -> Self {
        Self::with_room(name, CATEGORIES_MAX / 2)
    }

    fn with_room(name: &[u8], room: usize) -> Self {
        let mut names = NAMES.borrow();
        if let Some(&number) = names.numbers.get(name) {
            return Self(number);
        }
        if names.names.len() + 1 >= room || name == OTHER {
            return Self(0);
        }
        names.names.push(name.into());
        let number = names.names.len() as u16;
        names.numbers.insert(name.into(), number);
        Self(number)
    }

    /// The category of that name, if anything was ever counted in it.
    pub fn find(name: &[u8]) -> Option<Self> {
        match NAMES.borrow().numbers.get(name) {
            Some(&number) => Some(Self(number)),
            None => (name == OTHER).then_some(Self(0)),
        }
    }

    /// All categories in the order they were first seen.
    pub fn all() -> impl ExactSizeIterator<Item = Category> {
        (0..=NAMES.borrow().names.len() as u16).map(Self).collect::<Vec<_>>().into_iter()
    }

    pub fn name(self) -> Vec<u8> {
        match usize::from(self.0).checked_sub(1) {
            Some(index) => NAMES.borrow().names.get(index).map_or(OTHER.to_vec(), |name| name.to_vec()),
            None => OTHER.to_vec(),
        }
    }

    pub fn counters(self) -> &'static Counters {
        COUNTERS.get(usize::from(self.0)).unwrap_or(&COUNTERS[0])
    }
}

/// Counts a command on a key that has replied an error.
pub fn count_error(key: Key) {
    STATS.cache_errors.add(1);
    Category::asked_for(category_of(key.bytes())).counters().errors.add(1);
}
