//! Items that end by themselves, in the order of their ends and found by their names, for large numbers: each call costs
//! O(log n), and none moves everything at once, as a hash table does when it grows.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};

use crate::chunks::{Chunks, Item, Order};
use crate::memory::allocated_bytes;

/// An item with a name that no other has.
pub(crate) trait Named: Item {
    /// The kind of the name, and the name: the same name of two kinds is two names.
    fn name(&self) -> (u8, &[u8]);
}

/// See the [module](self).
#[derive(Debug, Clone)]
pub(crate) struct Indexed<T: Named> {
    by_end: Chunks<T>,
    /// The items' ends, by the hashes of their names and their numbers.
    by_name: BTreeMap<(u64, u64), i64>,
    hashes: RandomState,
}

impl<T: Named> Default for Indexed<T> {
    fn default() -> Self {
        Self { by_end: Chunks::default(), by_name: BTreeMap::new(), hashes: RandomState::new() }
    }
}

impl<T: Named> Indexed<T> {
    /// The items by their ends.
    pub fn by_end(&self) -> &Chunks<T> {
        &self.by_end
    }

    pub fn get(&self, name: (u8, &[u8])) -> Option<&T> {
        self.by_end.get(self.place_of(name)?)
    }

    fn place_of(&self, name: (u8, &[u8])) -> Option<Order> {
        let hash = self.hashes.hash_one(name);
        let alike = self.by_name.range((hash, 0)..=(hash, u64::MAX)).map(|(&(_, number), &end_ms)| (end_ms, number));
        // Hashes of different names may be equal.
        alike.into_iter().find(|&place| self.by_end.get(place).is_some_and(|item| item.name() == name))
    }

    /// Adds an item, whose name no other has.
    pub fn insert(&mut self, item: T) {
        let (end_ms, number) = item.order();
        self.by_name.insert((self.hashes.hash_one(item.name()), number), end_ms);
        self.by_end.insert(item);
    }

    pub fn remove(&mut self, name: (u8, &[u8])) -> Option<T> {
        let item = self.by_end.remove(self.place_of(name)?)?;
        self.by_name.remove(&(self.hashes.hash_one(name), item.order().1));
        Some(item)
    }

    /// Takes out the item that ends first, if it ends by `until_ms`.
    pub fn take_first(&mut self, until_ms: i64) -> Option<T> {
        let item = self.by_end.take_first(until_ms)?;
        self.by_name.remove(&(self.hashes.hash_one(item.name()), item.order().1));
        Some(item)
    }

    /// Lets all items end earlier: O(n), some nanoseconds for each.
    pub fn shift_back(&mut self, by_ms: i64) {
        self.by_end.shift_back(by_ms);
        self.by_name.values_mut().for_each(|end_ms| *end_ms -= by_ms);
    }

    pub fn into_items(self) -> impl Iterator<Item = T> {
        self.by_end.into_items()
    }

    /// Bytes allocated behind the struct.
    pub fn memory_bytes(&self) -> usize {
        // A node has room for 11 entries, and is three quarters full on average.
        let entry = size_of::<(u64, u64)>() + size_of::<i64>();
        self.by_end.memory_bytes() + self.by_name.len().div_ceil(8) * allocated_bytes(11 * entry + 16)
    }
}
