//! Items in the order of their ends, for large numbers: a list of short lists (docs/src/internals/decisions.md, "Leases: a
//! list first, then an index").
//!
//! Counting what has ended adds up the lengths of the short lists that have ended as a whole: a thousand lists for a hundred
//! thousand items. Each short list has the sum of its items, so that what has ended is summed up in the same way.

use std::collections::VecDeque;
use std::fmt::Debug;

use crate::memory::allocated_bytes;

/// The order of items: by their ends in milliseconds, then by their numbers. No two items have the same.
pub(crate) type Order = (i64, u64);

/// An item that ends by itself.
pub(crate) trait Item {
    /// A sum over items.
    type Sum: Clone + Debug + Default;

    fn order(&self) -> Order;

    /// Lets the item end earlier.
    fn shift_back(&mut self, by_ms: i64);

    fn add_to(&self, sum: &mut Self::Sum);

    /// Takes the item out of a sum that it was added to.
    fn sub_from(&self, sum: &mut Self::Sum);
}

/// The most items of a chunk. An insertion moves half of them on average.
const CHUNK_MAX: usize = 128;

/// A short list of items in order, and their sum.
#[derive(Debug, Clone)]
struct Chunk<T: Item> {
    items: VecDeque<T>,
    sum: T::Sum,
}

impl<T: Item> Chunk<T> {
    fn of(items: VecDeque<T>) -> Self {
        let mut sum = T::Sum::default();
        items.iter().for_each(|item| item.add_to(&mut sum));
        Self { items, sum }
    }

    fn find(&self, place: Order) -> Option<usize> {
        self.items.binary_search_by_key(&place, T::order).ok()
    }

    fn insert(&mut self, item: T) {
        item.add_to(&mut self.sum);
        let place = item.order();
        // Most come last.
        match self.items.back().is_none_or(|last| last.order() < place) {
            true => self.items.push_back(item),
            false => self.items.insert(self.items.partition_point(|other| other.order() < place), item),
        }
    }

    fn remove(&mut self, at: usize) -> Option<T> {
        let item = self.items.remove(at)?;
        item.sub_from(&mut self.sum);
        Some(item)
    }

    fn has_ended(&self, now_ms: i64) -> bool {
        self.items.back().is_some_and(|last| last.order().0 <= now_ms)
    }

    /// How many of its items have ended.
    fn ended(&self, now_ms: i64) -> usize {
        self.items.partition_point(|item| item.order().0 <= now_ms)
    }
}

/// See the [module](self).
#[derive(Debug, Clone)]
pub(crate) struct Chunks<T: Item> {
    /// None is empty.
    chunks: VecDeque<Chunk<T>>,
    len: usize,
}

impl<T: Item> Default for Chunks<T> {
    fn default() -> Self {
        Self { chunks: VecDeque::new(), len: 0 }
    }
}

impl<T: Item> Chunks<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn get(&self, place: Order) -> Option<&T> {
        let chunk = self.chunks.get(self.chunk_of(place))?;
        chunk.items.get(chunk.find(place)?)
    }

    pub fn nth(&self, mut n: usize) -> Option<&T> {
        for chunk in &self.chunks {
            match n.checked_sub(chunk.items.len()) {
                Some(beyond) => n = beyond,
                None => return chunk.items.get(n),
            }
        }
        None
    }

    pub fn first(&self) -> Option<&T> {
        self.chunks.front()?.items.front()
    }

    pub fn last(&self) -> Option<&T> {
        self.chunks.back()?.items.back()
    }

    /// How many items have ended at `now_ms`.
    pub fn ended(&self, now_ms: i64) -> usize {
        let (whole, part) = self.split(now_ms);
        self.chunks.range(..whole).map(|chunk| chunk.items.len()).sum::<usize>() + part
    }

    /// The items that have ended at `now_ms`: the sums of whole chunks of them, and the other items.
    pub fn ended_sums(&self, now_ms: i64) -> (impl Iterator<Item = &T::Sum>, impl Iterator<Item = &T>) {
        let (whole, part) = self.split(now_ms);
        let rest = self.chunks.get(whole).into_iter().flat_map(move |chunk| chunk.items.range(..part));
        (self.chunks.range(..whole).map(|chunk| &chunk.sum), rest)
    }

    /// The sums of all chunks.
    pub fn sums(&self) -> impl Iterator<Item = &T::Sum> {
        self.chunks.iter().map(|chunk| &chunk.sum)
    }

    /// How many chunks have ended as a whole, and how many items of the next.
    fn split(&self, now_ms: i64) -> (usize, usize) {
        // Usually none has. A search would touch items all over the first chunk.
        if self.first().is_none_or(|first| first.order().0 > now_ms) {
            return (0, 0);
        }
        let whole = self.chunks.partition_point(|chunk| chunk.has_ended(now_ms));
        (whole, self.chunks.get(whole).map_or(0, |chunk| chunk.ended(now_ms)))
    }

    /// The items that end after `after_ms`.
    pub fn after(&self, after_ms: i64) -> impl Iterator<Item = &T> {
        let (whole, part) = self.split(after_ms);
        self.chunks.range(whole..).flat_map(|chunk| &chunk.items).skip(part)
    }

    pub fn insert(&mut self, item: T) {
        let place = item.order();
        let mut at = self.chunk_of(place);
        self.len += 1;
        if self.chunks.get(at).is_some_and(|chunk| chunk.items.len() >= CHUNK_MAX) {
            at += self.cut(at, place);
        }
        match self.chunks.get_mut(at) {
            Some(chunk) => chunk.insert(item),
            None => self.chunks.push_back(Chunk::of(VecDeque::from([item]))),
        }
    }

    /// Cuts a full chunk in two to make room for an item. Returns what to add to the chunk's index for that item. If the
    /// item comes last, as most do, the chunk stays whole and a new one follows.
    fn cut(&mut self, at: usize, place: Order) -> usize {
        let Some(chunk) = self.chunks.get_mut(at) else { return 0 };
        if chunk.items.back().is_some_and(|last| last.order() < place) {
            return 1;
        }
        let rest = Chunk::of(chunk.items.split_off(CHUNK_MAX / 2));
        rest.items.iter().for_each(|item| item.sub_from(&mut chunk.sum));
        let behind = rest.items.front().is_none_or(|first| first.order() < place);
        self.chunks.insert(at + 1, rest);
        behind.into()
    }

    pub fn remove(&mut self, place: Order) -> Option<T> {
        let at = self.chunk_of(place);
        let chunk = self.chunks.get_mut(at)?;
        let item = chunk.remove(chunk.find(place)?)?;
        self.shortened(at);
        Some(item)
    }

    /// Takes out the first item, if it ends by `until_ms`.
    pub fn take_first(&mut self, until_ms: i64) -> Option<T> {
        let chunk = self.chunks.front_mut()?;
        chunk.items.front().filter(|first| first.order().0 <= until_ms)?;
        let item = chunk.remove(0)?;
        self.shortened(0);
        Some(item)
    }

    /// After an item was taken from a chunk: removes the chunk if it is empty, and joins it with the next if both are short.
    fn shortened(&mut self, at: usize) {
        self.len -= 1;
        let len_of = |at: usize| self.chunks.get(at).map(|chunk| chunk.items.len());
        match (len_of(at), len_of(at + 1)) {
            (Some(0), _) => drop(self.chunks.remove(at)),
            (Some(len), Some(next)) if len + next <= CHUNK_MAX / 2 => {
                let next = self.chunks.remove(at + 1).into_iter().flat_map(|next| next.items);
                if let Some(chunk) = self.chunks.get_mut(at) {
                    next.for_each(|item| chunk.insert(item));
                }
            }
            _ => {}
        }
    }

    /// Lets all items end earlier. Their order stays.
    pub fn shift_back(&mut self, by_ms: i64) {
        self.chunks.iter_mut().flat_map(|chunk| &mut chunk.items).for_each(|item| item.shift_back(by_ms));
    }

    pub fn into_items(self) -> impl Iterator<Item = T> {
        self.chunks.into_iter().flat_map(|chunk| chunk.items)
    }

    /// The chunk that an item of this order is in, or would be in; 0 if there is no chunk.
    fn chunk_of(&self, place: Order) -> usize {
        let before = |chunk: &Chunk<T>| chunk.items.back().is_some_and(|last| last.order() < place);
        self.chunks.partition_point(before).min(self.chunks.len().saturating_sub(1))
    }

    pub fn memory_bytes(&self) -> usize {
        let chunk = |chunk: &Chunk<T>| allocated_bytes(chunk.items.capacity() * size_of::<T>());
        allocated_bytes(self.chunks.capacity() * size_of::<Chunk<T>>()) + self.chunks.iter().map(chunk).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    impl Item for Order {
        type Sum = u64;

        fn order(&self) -> Order {
            *self
        }

        fn shift_back(&mut self, by_ms: i64) {
            self.0 -= by_ms;
        }

        fn add_to(&self, sum: &mut u64) {
            *sum += self.1;
        }

        fn sub_from(&self, sum: &mut u64) {
            *sum -= self.1;
        }
    }

    proptest! {
        /// Thousands of items, inserted between the middle and the end, and taken out anywhere.
        #[test]
        fn agrees_with_a_tree(steps in prop::collection::vec((0_i64..5_000, 0_u8..10, any::<prop::sample::Index>()), 3_000)) {
            let (mut list, mut tree) = (Chunks::default(), BTreeMap::new());
            for (number, (end_ms, kind, pick)) in steps.into_iter().enumerate() {
                let picked = (!tree.is_empty()).then(|| *tree.keys().nth(pick.index(tree.len())).unwrap());
                // First it grows, then it shrinks.
                match (kind, picked) {
                    (0, _) => {
                        let first = tree.keys().next().copied().filter(|first: &Order| first.0 <= end_ms / 8);
                        prop_assert_eq!(list.take_first(end_ms / 8), first);
                        first.map(|first| tree.remove(&first));
                    }
                    (1..=7, Some(picked)) if number > 1_800 || kind == 1 => {
                        prop_assert_eq!(list.remove(picked).map(|item| item.order()), Some(picked));
                        prop_assert!(list.remove(picked).is_none());
                        tree.remove(&picked);
                    }
                    _ => {
                        let place = (if kind < 5 { 5_000 + number as i64 } else { end_ms }, number as u64);
                        list.insert(place);
                        tree.insert(place, ());
                    }
                }
                prop_assert_eq!(list.len(), tree.len());
                let ended = tree.range(..(end_ms + 1, 0)).map(|(&place, ())| place);
                prop_assert_eq!(list.ended(end_ms), ended.clone().count());
                let (whole, others) = list.ended_sums(end_ms);
                prop_assert_eq!(whole.sum::<u64>() + others.map(|item| item.1).sum::<u64>(), ended.map(|place| place.1).sum::<u64>());
                prop_assert_eq!(list.last().map(Order::order), tree.keys().last().copied());
                if number % 100 == 0 {
                    let after = tree.range((end_ms + 1, 0)..).map(|(&place, ())| place);
                    prop_assert!(list.after(end_ms).map(Order::order).eq(after));
                }
                if let Some(picked) = picked {
                    prop_assert_eq!(list.get(picked).is_some(), tree.contains_key(&picked));
                    let at = pick.index(tree.len().max(1));
                    prop_assert_eq!(list.nth(at).map(Order::order), tree.keys().nth(at).copied());
                }
            }
            let chunks = list.chunks.len();
            prop_assert!(chunks <= 1 + 4 * list.len() / CHUNK_MAX, "{} in {chunks}", list.len());
            prop_assert_eq!(list.sums().sum::<u64>(), tree.keys().map(|place| place.1).sum::<u64>());
            list.shift_back(5);
            prop_assert!(list.after(-5).map(|item| item.0 + 5).eq(tree.keys().map(|place| place.0).filter(|&end_ms| end_ms > 0)));
            list.shift_back(-5);
            prop_assert!(list.into_items().map(|item| item.order()).eq(tree.into_keys()));
        }
    }
}
