//! Categories: what entries are counted under.
//!
//! Names come from clients, so their number is bounded: beyond the first 1,023, all others are counted as `(other)`. That
//! is this node's book-keeping alone: an entry keeps its category's true name, in the table or of its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use lazy_static::lazy_static;

use crate::server::shared::MainThread;
use crate::server::stats::Counter;

const CATEGORIES_MAX: usize = 1_024;

/// What entries of surplus categories are counted as. The first slot, so that any number outside the table means it too.
const OTHER: &[u8] = b"(other)";

/// A category's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Category(u16);

/// A category's counters.
pub struct Counters {
    pub hits: Counter,
    pub misses: Counter,
    pub sets: Counter,
    /// Entries there are and their values' bytes. The server may free entries in the background: true atomics.
    entries: AtomicU64,
    bytes: AtomicU64,
}

impl Counters {
    const fn new() -> Self {
        Self {
            hits: Counter::new(),
            misses: Counter::new(),
            sets: Counter::new(),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn entry_made(&self, bytes: usize) {
        self.entries.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn entry_gone(&self, bytes: usize) {
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
    }
}

static COUNTERS: [Counters; CATEGORIES_MAX] = [const { Counters::new() }; CATEGORIES_MAX];

#[derive(Default)]
struct Names {
    numbers: HashMap<Box<[u8]>, u16>,
    /// By number, after the first.
    names: Vec<Box<[u8]>>,
}

lazy_static! {
    static ref NAMES: MainThread<Names> = MainThread::new(Names::default());
}

impl Category {
    /// The category of that name; a new one where there is room.
    pub fn named(name: &[u8]) -> Self {
        Self::with_room(name, CATEGORIES_MAX)
    }

    /// The category of a key that was not found. Readers may ask for whatever they like: they get half of the table at
    /// most, so that there is room for what is really stored.
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

    /// Does the table say what this category is called? Not of the surplus.
    pub fn has_name(self) -> bool {
        self.0 != 0
    }

    /// The category of that name where anything was ever counted in it.
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

    /// Was anything ever counted in it? Only the surplus category may not have been.
    pub fn was_used(self) -> bool {
        let Counters { hits, misses, sets, .. } = self.counters();
        self.0 != 0 || hits.get() + misses.get() + sets.get() + self.counters().entries() > 0
    }

    pub fn counters(self) -> &'static Counters {
        COUNTERS.get(usize::from(self.0)).unwrap_or(&COUNTERS[0])
    }
}
