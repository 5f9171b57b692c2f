//! The index itself.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::entry::{Entry, Group, New};
use super::rows::Rows;
use super::similarity::Similarity;
use super::vector::{Vector, sign_bytes};

/// Where an entry is: its row, and the hash of its id.
#[derive(Debug, Clone, Copy)]
struct Place {
    hash: u32,
    row: u32,
}

/// A hash as the table wants it, which takes bits from both ends.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// Entries by id, with their vectors.
///
/// Parts of entries that a search looks at, row by row, lie together; everything else of an entry is in an allocation of its
/// own. A row that becomes free is filled with the last one.
pub struct Index<G: Group> {
    dimensions: usize,
    threshold: Option<Similarity>,
    pub(super) signs: Rows,
    pub(super) codes: Rows,
    pub(super) inverse_lengths: Vec<f32>,
    pub(super) expires_at_ms: Vec<i64>,
    /// When each entry was set or served last, as a count of these. This node's own, and not a part of the value.
    pub(super) used: Vec<Cell<u32>>,
    pub(super) entries: Vec<Box<Entry<G>>>,
    places: HashTable<Place>,
    hasher: RandomState,
    ticks: Cell<u32>,
    /// The bytes of all entries, without their rows.
    entry_bytes: usize,
}

/// Appends to a list that grows by an eighth: lists that double are a quarter empty on average.
fn push<T>(list: &mut Vec<T>, item: T) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len() / 8 + 4);
    }
    list.push(item);
}

impl<G: Group> Index<G> {
    /// An index without entries, for vectors of so many dimensions, at least 1.
    pub fn new(dimensions: usize) -> Self {
        Self {
            dimensions,
            threshold: None,
            signs: Rows::new(sign_bytes(dimensions)),
            codes: Rows::new(dimensions),
            inverse_lengths: Vec::new(),
            expires_at_ms: Vec::new(),
            used: Vec::new(),
            entries: Vec::new(),
            places: HashTable::new(),
            hasher: RandomState::new(),
            ticks: Cell::new(0),
            entry_bytes: 0,
        }
    }

    /// The number of dimensions of all vectors.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The number of entries, with those that are expired or cleared and not removed yet.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The threshold of searches that name none.
    pub fn threshold(&self) -> Option<Similarity> {
        self.threshold
    }

    /// Sets that threshold.
    pub fn set_threshold(&mut self, threshold: Similarity) {
        self.threshold = Some(threshold);
    }

    /// The entries with the times from which on they are no longer served, in unix milliseconds.
    pub fn entries(&self) -> impl Iterator<Item = (&Entry<G>, i64)> {
        self.entries.iter().map(|entry| &**entry).zip(self.expires_at_ms.iter().copied())
    }

    /// The entry of that id, expired or cleared or not, and the time from which on it is no longer served.
    pub fn get(&self, id: &[u8]) -> Option<(&Entry<G>, i64)> {
        let row = self.row_of(id)?;
        Some((self.entries.get(row)?, *self.expires_at_ms.get(row)?))
    }

    /// The latest time at which an entry expires, which is when the index does; 0 if there is none.
    pub fn ends_at_ms(&self) -> i64 {
        self.expires_at_ms.iter().copied().max().unwrap_or(0)
    }

    /// Sets an entry, in place of the one of that id. The vector has the index's dimensions.
    pub fn set(&mut self, vector: &Vector, new: New) {
        debug_assert_eq!(vector.dimensions(), self.dimensions);
        let expires_at_ms = new.expires_at_ms;
        self.put(vector, Entry::new(new), expires_at_ms);
    }

    pub(super) fn put(&mut self, vector: &Vector, entry: Entry<G>, expires_at_ms: i64) {
        self.remove(entry.id());
        self.entry_bytes += entry.memory_bytes();
        let hash = self.hash(entry.id());
        let place = Place { hash, row: self.entries.len() as u32 };
        self.places.insert_unique(spread(hash), place, |place| spread(place.hash));
        self.signs.push(&vector.signs());
        self.codes.push(vector.codes());
        push(&mut self.inverse_lengths, vector.inverse_length());
        push(&mut self.expires_at_ms, expires_at_ms);
        push(&mut self.used, Cell::new(0));
        push(&mut self.entries, Box::new(entry));
        self.touch(self.entries.len() - 1);
    }

    /// Removes an entry. Returns it, if there was one, and when it was to expire.
    pub fn remove(&mut self, id: &[u8]) -> Option<(Box<Entry<G>>, i64)> {
        let row = self.row_of(id)?;
        let last = self.entries.len() - 1;
        let hash = self.hash(id);
        if let Ok(found) = self.places.find_entry(spread(hash), |place| place.row as usize == row) {
            found.remove();
        }
        if row != last {
            let hash = self.hash(self.entries[last].id());
            if let Some(moved) = self.places.find_mut(spread(hash), |place| place.row as usize == last) {
                moved.row = row as u32;
            }
        }
        self.signs.swap_remove(row);
        self.codes.swap_remove(row);
        self.inverse_lengths.swap_remove(row);
        self.used.swap_remove(row);
        let expires_at_ms = self.expires_at_ms.swap_remove(row);
        let entry = self.entries.swap_remove(row);
        self.entry_bytes -= entry.memory_bytes();
        Some((entry, expires_at_ms))
    }

    /// Adds the entries of another index of as many dimensions, in their order, and takes over its threshold.
    pub fn append(&mut self, mut other: Self) {
        self.threshold = other.threshold.or(self.threshold);
        let entries = std::mem::take(&mut other.entries);
        for (row, entry) in entries.into_iter().enumerate() {
            let expires_at_ms = other.expires_at_ms.get(row).copied().unwrap_or(0);
            if let Ok(vector) = Vector::from_codes(other.codes.get(row)) {
                self.put(&vector, *entry, expires_at_ms);
            }
        }
    }

    /// Never to serve an entry again at that similarity or below. Returns whether that changes anything.
    pub fn reject(&mut self, id: &[u8], at: Similarity) -> bool {
        let Some(entry) = self.row_of(id).and_then(|row| self.entries.get_mut(row)) else { return false };
        let before = entry.memory_bytes();
        let is_new = entry.reject(at);
        self.entry_bytes += entry.memory_bytes() - before;
        is_new
    }

    /// Remembers that the entry of a row was used now. Does not change the value.
    pub(super) fn touch(&self, row: usize) {
        let now = self.ticks.get().wrapping_add(1);
        self.ticks.set(now);
        if let Some(used) = self.used.get(row) {
            used.set(now);
        }
    }

    /// How many uses ago the entry of a row was used. After 2^32 uses the count begins again: an entry that was not used for
    /// so long may be taken for one that was used lately.
    pub(super) fn idle(&self, used: &Cell<u32>) -> u32 {
        self.ticks.get().wrapping_sub(used.get())
    }

    fn hash(&self, id: &[u8]) -> u32 {
        // Half of the hash's bits are enough for a million ids.
        self.hasher.hash_one(id) as u32
    }

    pub(super) fn row_of(&self, id: &[u8]) -> Option<usize> {
        let has_id = |place: &Place| self.entries.get(place.row as usize).is_some_and(|entry| entry.id() == id);
        self.places.find(spread(self.hash(id)), has_id).map(|place| place.row as usize)
    }

    /// Frees up to so many entries. Returns whether there are more. Only for an index that is given up: it is not one any
    /// more.
    pub fn free_some(&mut self, entries: usize) -> bool {
        self.entries.truncate(self.entries.len().saturating_sub(entries));
        !self.entries.is_empty()
    }

    /// The bytes of all entries' own allocations.
    pub(super) fn entry_bytes(&self) -> usize {
        self.entry_bytes
    }

    /// Bytes of the table of ids: a byte and a place for each bucket.
    pub(super) fn places_bytes(&self) -> usize {
        self.places.allocation_size()
    }
}

impl<G: Group> Clone for Index<G> {
    fn clone(&self) -> Self {
        Self {
            signs: self.signs.clone(),
            codes: self.codes.clone(),
            inverse_lengths: self.inverse_lengths.clone(),
            expires_at_ms: self.expires_at_ms.clone(),
            used: self.used.clone(),
            entries: self.entries.clone(),
            places: self.places.clone(),
            hasher: self.hasher.clone(),
            ticks: self.ticks.clone(),
            ..*self
        }
    }
}
