//! Leases by holder and by expiry.
//!
//! Most keys have few holders: those are a sorted list, searched from end to end. Many are indexed both ways.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound::{Excluded, Included};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::memory::allocated_bytes;

/// The longest list. Beyond it an index costs less than a search.
const LIST_MAX: usize = 32;

/// How many that have ended one change drops: a hundred thousand at once would take a tenth of a second.
pub(super) const DROPPED_MAX: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease<T> {
    pub holder: Holder,
    pub expires_at_ms: i64,
    pub token: u64,
    /// What the holder holds beside its slot.
    pub load: T,
}

impl<T> Lease<T> {
    /// Tokens are unique, so no two leases stand in the same place.
    fn place(&self) -> Place {
        (self.expires_at_ms, self.token)
    }
}

type Place = (i64, u64);

/// A holder's name, and a fingerprint of it: a search through a list compares those, and reads the name of the one that
/// it finds. Names lie each in a place of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Shared between the two indexes.
    name: Arc<[u8]>,
    fingerprint: u64,
}

impl Holder {
    pub fn new(name: &[u8]) -> Self {
        Self { name: name.into(), fingerprint: xxh3_64(name) }
    }

    pub fn name(&self) -> &[u8] {
        &self.name
    }
}

#[derive(Debug, Clone)]
pub(super) enum Table<T> {
    /// By place.
    List(Vec<Lease<T>>),
    Index(Box<Index<T>>),
}

#[derive(Debug, Clone)]
pub(super) struct Index<T> {
    by_holder: HashMap<Arc<[u8]>, Place>,
    by_place: BTreeMap<Place, Lease<T>>,
    /// Hint: up to this time, so many have ended.
    ended: Cell<(i64, usize)>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table::List(Vec::new())
    }
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self { by_holder: HashMap::new(), by_place: BTreeMap::new(), ended: Cell::new((i64::MIN, 0)) }
    }
}

impl<T> Table<T> {
    pub fn len(&self) -> usize {
        match self {
            Table::List(list) => list.len(),
            Table::Index(index) => index.by_place.len(),
        }
    }

    pub fn get(&self, holder: &[u8]) -> Option<&Lease<T>> {
        match self {
            Table::List(list) => place_of(list, holder).and_then(|at| list.get(at)),
            Table::Index(index) => index.by_place.get(index.by_holder.get(holder)?),
        }
    }

    /// Adds a lease of a holder that has none.
    pub fn insert(&mut self, lease: Lease<T>) {
        match self {
            Table::List(list) if list.len() < LIST_MAX => {
                // Most leases end after all others.
                let last = list.last().is_none_or(|last| last.place() < lease.place());
                let at = if last { list.len() } else { list.partition_point(|other| other.place() < lease.place()) };
                if list.capacity() == 0 {
                    // One holder is what a lock has: no spare room.
                    list.reserve_exact(1);
                }
                list.insert(at, lease);
            }
            Table::List(list) => {
                let mut index = Index::default();
                std::mem::take(list).into_iter().for_each(|lease| index.insert(lease));
                index.insert(lease);
                *self = Table::Index(Box::new(index));
            }
            Table::Index(index) => index.insert(lease),
        }
    }

    pub fn remove(&mut self, holder: &[u8]) -> Option<Lease<T>> {
        let lease = match self {
            Table::List(list) => {
                let at = place_of(list, holder)?;
                list.remove(at)
            }
            Table::Index(index) => {
                let place = index.by_holder.remove(holder)?;
                index.note_gone(place);
                index.by_place.remove(&place)?
            }
        };
        self.settle();
        Some(lease)
    }

    /// Leases that end after `after_ms`, the first to end first.
    pub fn expiring(&self, after_ms: i64) -> Box<dyn Iterator<Item = &Lease<T>> + '_> {
        match self {
            Table::List(list) => Box::new(list.iter().skip_while(move |lease| lease.expires_at_ms <= after_ms)),
            Table::Index(index) => {
                let first = (after_ms.saturating_add(i64::from(after_ms != i64::MIN)), 0);
                Box::new(index.by_place.range(first..).map(|(_, lease)| lease))
            }
        }
    }

    /// How many have ended at `now_ms`.
    pub fn expired(&self, now_ms: i64) -> usize {
        match self {
            Table::List(list) => expired(list, now_ms),
            Table::Index(index) => index.ended(now_ms),
        }
    }

    /// Drops leases that have ended, up to [`DROPPED_MAX`].
    pub fn drop_expired(&mut self, now_ms: i64) {
        match self {
            Table::List(list) => drop(list.drain(..expired(list, now_ms))),
            Table::Index(_) => {
                for _ in 0..DROPPED_MAX {
                    if self.pop_first(now_ms).is_none() {
                        break;
                    }
                }
            }
        }
    }

    /// Takes out the lease that ends first, where it ends by `until_ms`.
    pub fn pop_first(&mut self, until_ms: i64) -> Option<Lease<T>> {
        let lease = match self {
            Table::List(list) => {
                list.first().filter(|first| first.expires_at_ms <= until_ms)?;
                list.remove(0)
            }
            Table::Index(index) => {
                let first = index.by_place.first_entry().filter(|first| first.key().0 <= until_ms)?.remove();
                index.by_holder.remove(first.holder.name());
                index.note_gone(first.place());
                first
            }
        };
        self.settle();
        Some(lease)
    }

    /// When the last one ends.
    pub fn last_expiry_ms(&self) -> Option<i64> {
        match self {
            Table::List(list) => list.last().map(|lease| lease.expires_at_ms),
            Table::Index(index) => index.by_place.last_key_value().map(|(place, _)| place.0),
        }
    }

    pub fn shift_back(&mut self, by_ms: i64) {
        match self {
            Table::List(list) => list.iter_mut().for_each(|lease| lease.expires_at_ms -= by_ms),
            Table::Index(index) => {
                let mut shifted = Index::default();
                for (_, mut lease) in std::mem::take(&mut index.by_place) {
                    lease.expires_at_ms -= by_ms;
                    shifted.insert(lease);
                }
                **index = shifted;
            }
        }
    }

    /// Gives back what a table that has become small no longer needs. Well below the list's length, so that a table does
    /// not change its form with every call.
    fn settle(&mut self) {
        if let Table::Index(index) = self {
            if index.by_place.len() <= LIST_MAX / 4 {
                *self = Table::List(std::mem::take(&mut index.by_place).into_values().collect());
            }
        }
    }

    pub fn memory_bytes(&self) -> usize {
        let names: usize = self.expiring(i64::MIN).map(|lease| allocated_bytes(16 + lease.holder.name.len())).sum();
        names
            + match self {
                Table::List(list) => allocated_bytes(list.capacity() * size_of::<Lease<T>>()),
                // About what the standard collections take: a tree node for each 8 leases, a hash table 7/8 full at most.
                Table::Index(index) => {
                    let node = allocated_bytes(11 * (size_of::<Place>() + size_of::<Lease<T>>()) + 16);
                    let slot = size_of::<Arc<[u8]>>() + size_of::<Place>() + 1;
                    let slots = (index.by_holder.capacity() * 8).div_ceil(7).next_power_of_two();
                    allocated_bytes(size_of::<Index<T>>())
                        + index.by_place.len().div_ceil(8) * node
                        + allocated_bytes(slots * slot)
                }
            }
    }
}

fn place_of<T>(list: &[Lease<T>], holder: &[u8]) -> Option<usize> {
    let fingerprint = xxh3_64(holder);
    list.iter().position(|lease| lease.holder.fingerprint == fingerprint && *lease.holder.name == *holder)
}

/// How many of a list have ended. Most often none has, which the first tells.
fn expired<T>(list: &[Lease<T>], now_ms: i64) -> usize {
    let ended = |lease: &Lease<T>| lease.expires_at_ms <= now_ms;
    match list.first() {
        Some(first) if ended(first) => list.partition_point(ended),
        _ => 0,
    }
}

impl<T> Index<T> {
    /// How many have ended: each is counted once, as long as the clock goes on.
    fn ended(&self, now_ms: i64) -> usize {
        let (until_ms, before) = self.ended.get();
        let (from, before) = match until_ms <= now_ms {
            true => (Excluded((until_ms, u64::MAX)), before),
            false => (Included((i64::MIN, 0)), 0),
        };
        let ended = before + self.by_place.range((from, Included((now_ms, u64::MAX)))).count();
        self.ended.set((now_ms, ended));
        ended
    }

    fn note_gone(&mut self, place: Place) {
        let (until_ms, ended) = self.ended.get();
        if place.0 <= until_ms {
            self.ended.set((until_ms, ended - 1));
        }
    }

    fn insert(&mut self, lease: Lease<T>) {
        let (until_ms, ended) = self.ended.get();
        if lease.expires_at_ms <= until_ms {
            self.ended.set((until_ms, ended + 1));
        }
        self.by_holder.insert(Arc::clone(&lease.holder.name), lease.place());
        self.by_place.insert(lease.place(), lease);
    }
}
