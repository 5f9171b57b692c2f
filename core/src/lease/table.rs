//! Leases by holder and by expiry: a sorted list while they are few, else indexed both by name and by end
//! (docs/src/internals/decisions.md, "Leases: a list first, then an index").
//!
//! Each name is an allocation of its own. A search of a list therefore compares the names' fingerprints, which lie side
//! by side, and reads only the name that it finds.

use xxhash_rust::xxh3::xxh3_64;

use super::entry::Lease;
use crate::indexed::Indexed;
use crate::memory::allocated_bytes;
use crate::ordered::{count_but_last, count_first};
use crate::stored::Stored;

/// The longest list. Beyond it an index costs less than a search.
const LIST_MAX: usize = 32;

/// The most ended leases that one change drops (docs/src/internals/decisions.md, "A change drops 256 ended leases at
/// most").
pub(super) const DROPPED_MAX: usize = 256;

/// Leases in the order of their ends, and their holders' fingerprints in the same order.
#[derive(Debug, Clone)]
pub(super) struct List<T: Stored> {
    leases: Vec<Lease<T>>,
    fingerprints: Vec<u32>,
}

fn fingerprint(holder: &[u8]) -> u32 {
    xxh3_64(holder) as u32
}

#[derive(Debug, Clone)]
pub(super) enum Table<T: Stored> {
    List(List<T>),
    Index(Box<Indexed<Lease<T>>>),
}

impl<T: Stored> Default for Table<T> {
    fn default() -> Self {
        Table::List(List { leases: Vec::new(), fingerprints: Vec::new() })
    }
}

impl<T: Stored> Table<T> {
    pub fn len(&self) -> usize {
        match self {
            Table::List(list) => list.leases.len(),
            Table::Index(index) => index.by_end().len(),
        }
    }

    pub fn get(&self, holder: &[u8]) -> Option<&Lease<T>> {
        match self {
            Table::List(list) if list.leases.is_empty() => None,
            Table::List(list) => list.find(holder, fingerprint(holder)).and_then(|at| list.leases.get(at)),
            Table::Index(index) => index.get((0, holder)),
        }
    }

    /// Prefetches what a search of a list reads; returns a word that depends on it.
    pub fn fetch(&self) -> u64 {
        match self {
            Table::List(list) => {
                let ends = [list.leases.first(), list.leases.last()].map(|lease| lease.map_or(0, |lease| lease.token));
                let fingerprints = [list.fingerprints.first(), list.fingerprints.last()];
                ends[0] ^ ends[1] ^ fingerprints.into_iter().flatten().map(|&word| u64::from(word)).sum::<u64>()
            }
            Table::Index(_) => 0,
        }
    }

    /// Adds a lease of a holder that has none.
    pub fn insert(&mut self, lease: Lease<T>) {
        let fingerprint = fingerprint(&lease.holder);
        self.insert_new(lease, fingerprint);
    }

    /// Adds a lease, in place of the one that its holder has.
    pub fn put(&mut self, lease: Lease<T>) {
        let fingerprint = fingerprint(&lease.holder);
        match self {
            Table::List(list) => {
                if let Some(at) = list.find(&lease.holder, fingerprint) {
                    list.remove(at);
                }
            }
            Table::Index(index) => drop(index.remove((0, &lease.holder))),
        }
        self.insert_new(lease, fingerprint);
    }

    fn insert_new(&mut self, lease: Lease<T>, fingerprint: u32) {
        match self {
            Table::List(list) if list.leases.len() < LIST_MAX => list.insert(lease, fingerprint),
            Table::List(list) => {
                let mut index = Indexed::default();
                std::mem::take(&mut list.leases).into_iter().for_each(|lease| index.insert(lease));
                index.insert(lease);
                *self = Table::Index(Box::new(index));
            }
            Table::Index(index) => index.insert(lease),
        }
    }

    pub fn remove(&mut self, holder: &[u8]) -> Option<Lease<T>> {
        let lease = match self {
            Table::List(list) => {
                let at = list.find(holder, fingerprint(holder))?;
                list.remove(at)
            }
            Table::Index(index) => index.remove((0, holder))?,
        };
        self.shrink();
        Some(lease)
    }

    /// Leases that end after `after_ms`, the first to end first.
    pub fn expiring(&self, after_ms: i64) -> Box<dyn Iterator<Item = &Lease<T>> + '_> {
        match self {
            Table::List(list) => Box::new(list.leases.iter().skip_while(move |lease| lease.expires_at_ms <= after_ms)),
            Table::Index(index) => Box::new(index.by_end().after(after_ms)),
        }
    }

    /// The lease with `n` leases before it, in the order of their ends, ended ones included.
    pub fn nth(&self, n: usize) -> Option<&Lease<T>> {
        match self {
            Table::List(list) => list.leases.get(n),
            Table::Index(index) => index.by_end().nth(n),
        }
    }

    /// How many leases have ended at `now_ms`.
    pub fn expired(&self, now_ms: i64) -> usize {
        match self {
            Table::List(list) => list.expired(now_ms),
            Table::Index(index) => index.by_end().ended(now_ms),
        }
    }

    /// Drops leases that have ended, up to [`DROPPED_MAX`].
    pub fn drop_expired(&mut self, now_ms: i64) {
        match self {
            Table::List(list) => list.drop_first(list.expired(now_ms)),
            Table::Index(_) => {
                for _ in 0..DROPPED_MAX {
                    if self.pop_first(now_ms).is_none() {
                        break;
                    }
                }
            }
        }
    }

    /// Takes out the lease that ends first, if it ends by `until_ms`.
    pub fn pop_first(&mut self, until_ms: i64) -> Option<Lease<T>> {
        let lease = match self {
            Table::List(list) => {
                list.leases.first().filter(|first| first.expires_at_ms <= until_ms)?;
                list.remove(0)
            }
            Table::Index(index) => index.take_first(until_ms)?,
        };
        self.shrink();
        Some(lease)
    }

    /// When the last lease ends.
    pub fn last_expiry_ms(&self) -> Option<i64> {
        match self {
            Table::List(list) => list.leases.last().map(|lease| lease.expires_at_ms),
            Table::Index(index) => index.by_end().last().map(|lease| lease.expires_at_ms),
        }
    }

    pub fn shift_back(&mut self, by_ms: i64) {
        match self {
            Table::List(list) => list.leases.iter_mut().for_each(|lease| lease.expires_at_ms -= by_ms),
            Table::Index(index) => index.shift_back(by_ms),
        }
    }

    /// Turns an index that has become small into a list, well below [`LIST_MAX`], so that a table does not change its
    /// form with every call.
    fn shrink(&mut self) {
        if let Table::Index(index) = self
            && index.by_end().len() <= LIST_MAX / 4
        {
            *self = Table::List(List::of(std::mem::take(&mut **index).into_items().collect()));
        }
    }

    /// Bytes allocated behind the struct, those of names and payloads included.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Table::List(list) => {
                allocated_bytes(list.leases.capacity() * size_of::<Lease<T>>())
                    + allocated_bytes(list.fingerprints.capacity() * size_of::<u32>())
                    + list.leases.iter().map(Lease::memory_bytes).sum::<usize>()
            }
            Table::Index(index) => {
                let leases: usize = index.by_end().sums().sum();
                allocated_bytes(size_of::<Indexed<Lease<T>>>()) + index.memory_bytes() + leases
            }
        }
    }
}

impl<T: Stored> List<T> {
    fn of(leases: Vec<Lease<T>>) -> Self {
        let fingerprints = leases.iter().map(|lease| fingerprint(&lease.holder)).collect();
        Self { leases, fingerprints }
    }

    /// Finds a holder's lease by the name and its fingerprint.
    fn find(&self, holder: &[u8], fingerprint: u32) -> Option<usize> {
        let same = |at: usize| self.leases.get(at).is_some_and(|lease| *lease.holder == *holder);
        let alike = self.fingerprints.iter().enumerate().filter(|&(_, &other)| other == fingerprint);
        alike.map(|(at, _)| at).find(|&at| same(at))
    }

    fn insert(&mut self, lease: Lease<T>, fingerprint: u32) {
        let at = count_but_last(&self.leases, |other| other.order() < lease.order());
        if self.leases.capacity() == 0 {
            // A lock has one holder: no spare room. The smallest allocation has room for four fingerprints.
            self.leases.reserve_exact(1);
            self.fingerprints.reserve_exact(4);
        }
        self.fingerprints.insert(at, fingerprint);
        self.leases.insert(at, lease);
    }

    /// `at` is below the length.
    fn remove(&mut self, at: usize) -> Lease<T> {
        self.fingerprints.remove(at);
        self.leases.remove(at)
    }

    /// `count` is at most the length.
    fn drop_first(&mut self, count: usize) {
        self.fingerprints.drain(..count);
        self.leases.drain(..count);
    }

    /// How many leases have ended.
    fn expired(&self, now_ms: i64) -> usize {
        count_first(&self.leases, |lease| lease.expires_at_ms <= now_ms)
    }
}
