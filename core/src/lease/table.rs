//! Leases by holder and by expiry: a sorted list while they are few, else indexed both by name and by end
//! (docs/src/internals/decisions.md, "Leases: a list first, then an index").
//!
//! Each name is an allocation of its own. A search of a list therefore compares the names' fingerprints, which lie side
//! by side, and reads only the name that it finds.

use std::collections::HashMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::entry::{Lease, Order};
use super::sorted::Sorted;
use crate::memory::allocated_bytes;
use crate::ordered::{count_but_last, count_first};

/// The longest list. Beyond it an index costs less than a search.
const LIST_MAX: usize = 32;

/// The most ended leases that one change drops (docs/src/internals/decisions.md, "A change drops 256 ended leases at
/// most").
pub(super) const DROPPED_MAX: usize = 256;

/// Leases in the order of their ends, and their holders' fingerprints in the same order.
#[derive(Debug, Clone)]
pub(super) struct List<T> {
    leases: Vec<Lease<T>>,
    fingerprints: Vec<u32>,
}

fn fingerprint(holder: &[u8]) -> u32 {
    xxh3_64(holder) as u32
}

#[derive(Debug, Clone)]
pub(super) enum Table<T> {
    List(List<T>),
    Index(Box<Index<T>>),
}

#[derive(Debug, Clone)]
pub(super) struct Index<T> {
    by_holder: HashMap<Arc<[u8]>, Order>,
    by_end: Sorted<T>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table::List(List { leases: Vec::new(), fingerprints: Vec::new() })
    }
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self { by_holder: HashMap::new(), by_end: Sorted::default() }
    }
}

impl<T> Table<T> {
    pub fn len(&self) -> usize {
        match self {
            Table::List(list) => list.leases.len(),
            Table::Index(index) => index.by_end.len(),
        }
    }

    pub fn get(&self, holder: &[u8]) -> Option<&Lease<T>> {
        match self {
            Table::List(list) if list.leases.is_empty() => None,
            Table::List(list) => list.find(holder, fingerprint(holder)).and_then(|at| list.leases.get(at)),
            Table::Index(index) => index.by_end.get(*index.by_holder.get(holder)?),
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
            Table::Index(index) => {
                if let Some(place) = index.by_holder.remove(&lease.holder) {
                    index.by_end.remove(place);
                }
            }
        }
        self.insert_new(lease, fingerprint);
    }

    fn insert_new(&mut self, lease: Lease<T>, fingerprint: u32) {
        match self {
            Table::List(list) if list.leases.len() < LIST_MAX => list.insert(lease, fingerprint),
            Table::List(list) => {
                let mut index = Index::default();
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
            Table::Index(index) => {
                let place = index.by_holder.remove(holder)?;
                index.by_end.remove(place)?
            }
        };
        self.shrink();
        Some(lease)
    }

    /// Leases that end after `after_ms`, the first to end first.
    pub fn expiring(&self, after_ms: i64) -> Box<dyn Iterator<Item = &Lease<T>> + '_> {
        match self {
            Table::List(list) => Box::new(list.leases.iter().skip_while(move |lease| lease.expires_at_ms <= after_ms)),
            Table::Index(index) => Box::new(index.by_end.after(after_ms)),
        }
    }

    /// The lease with `n` leases before it, in the order of their ends, ended ones included.
    pub fn nth(&self, n: usize) -> Option<&Lease<T>> {
        match self {
            Table::List(list) => list.leases.get(n),
            Table::Index(index) => index.by_end.nth(n),
        }
    }

    /// How many leases have ended at `now_ms`.
    pub fn expired(&self, now_ms: i64) -> usize {
        match self {
            Table::List(list) => list.expired(now_ms),
            Table::Index(index) => index.by_end.ended(now_ms),
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
            Table::Index(index) => {
                let first = index.by_end.take_first(until_ms)?;
                index.by_holder.remove(&first.holder);
                first
            }
        };
        self.shrink();
        Some(lease)
    }

    /// When the last lease ends.
    pub fn last_expiry_ms(&self) -> Option<i64> {
        match self {
            Table::List(list) => list.leases.last().map(|lease| lease.expires_at_ms),
            Table::Index(index) => index.by_end.last().map(|lease| lease.expires_at_ms),
        }
    }

    pub fn shift_back(&mut self, by_ms: i64) {
        match self {
            Table::List(list) => list.leases.iter_mut().for_each(|lease| lease.expires_at_ms -= by_ms),
            Table::Index(index) => {
                let mut shifted = Index::default();
                for mut lease in std::mem::take(&mut index.by_end).into_leases() {
                    lease.expires_at_ms -= by_ms;
                    shifted.insert(lease);
                }
                **index = shifted;
            }
        }
    }

    /// Turns an index that has become small into a list, well below [`LIST_MAX`], so that a table does not change its
    /// form with every call.
    fn shrink(&mut self) {
        if let Table::Index(index) = self
            && index.by_end.len() <= LIST_MAX / 4
        {
            *self = Table::List(List::of(std::mem::take(&mut index.by_end).into_leases().collect()));
        }
    }

    pub fn memory_bytes(&self) -> usize {
        let names: usize = self.expiring(i64::MIN).map(|lease| allocated_bytes(16 + lease.holder.len())).sum();
        names
            + match self {
                Table::List(list) => {
                    allocated_bytes(list.leases.capacity() * size_of::<Lease<T>>())
                        + allocated_bytes(list.fingerprints.capacity() * size_of::<u32>())
                }
                // Roughly the size of the standard hash table, which is 7/8 full at most.
                Table::Index(index) => {
                    let slot = size_of::<Arc<[u8]>>() + size_of::<Order>() + 1;
                    let slots = (index.by_holder.capacity() * 8).div_ceil(7).next_power_of_two();
                    allocated_bytes(size_of::<Index<T>>()) + index.by_end.memory_bytes() + allocated_bytes(slots * slot)
                }
            }
    }
}

impl<T> List<T> {
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

impl<T> Index<T> {
    fn insert(&mut self, lease: Lease<T>) {
        self.by_holder.insert(Arc::clone(&lease.holder), lease.order());
        self.by_end.insert(lease);
    }
}
