//! Leases in the order of their ends, for large numbers: a list of short lists (docs/src/internals/decisions.md,
//! "Leases: a list first, then an index").
//!
//! Counting the ended leases adds up the lengths of the lists that have ended as a whole: a thousand lists for a hundred
//! thousand leases.

use std::collections::VecDeque;

use super::entry::{Lease, Order};
use crate::memory::allocated_bytes;

/// The most leases of a chunk. An insertion moves half of them on average.
const CHUNK_MAX: usize = 128;

/// See the [module](self).
#[derive(Debug, Clone)]
pub(super) struct Sorted<T> {
    /// None is empty.
    chunks: VecDeque<VecDeque<Lease<T>>>,
    len: usize,
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self { chunks: VecDeque::new(), len: 0 }
    }
}

impl<T> Sorted<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn get(&self, place: Order) -> Option<&Lease<T>> {
        let chunk = self.chunks.get(self.chunk_of(place))?;
        chunk.get(chunk.binary_search_by_key(&place, Lease::order).ok()?)
    }

    pub fn nth(&self, mut n: usize) -> Option<&Lease<T>> {
        for chunk in &self.chunks {
            match n.checked_sub(chunk.len()) {
                Some(beyond) => n = beyond,
                None => return chunk.get(n),
            }
        }
        None
    }

    pub fn last(&self) -> Option<&Lease<T>> {
        self.chunks.back()?.back()
    }

    /// How many leases have ended at `now_ms`.
    pub fn ended(&self, now_ms: i64) -> usize {
        let ended = |lease: &Lease<T>| lease.expires_at_ms <= now_ms;
        // Usually none has. A search would touch leases all over the first chunk.
        if !self.chunks.front().and_then(VecDeque::front).is_some_and(ended) {
            return 0;
        }
        let whole = self.chunks.partition_point(|chunk| chunk.back().is_some_and(ended));
        let part = self.chunks.get(whole).map_or(0, |chunk| chunk.partition_point(ended));
        self.chunks.range(..whole).map(VecDeque::len).sum::<usize>() + part
    }

    /// The leases that end after `after_ms`.
    pub fn after(&self, after_ms: i64) -> impl Iterator<Item = &Lease<T>> {
        let ended = move |lease: &Lease<T>| lease.expires_at_ms <= after_ms;
        let whole = self.chunks.partition_point(|chunk| chunk.back().is_some_and(ended));
        self.chunks.range(whole..).flatten().skip_while(move |lease| ended(lease))
    }

    /// Adds a lease.
    pub fn insert(&mut self, lease: Lease<T>) {
        let place = lease.order();
        let mut at = self.chunk_of(place);
        self.len += 1;
        if self.chunks.get(at).is_some_and(|chunk| chunk.len() >= CHUNK_MAX) {
            at += self.split(at, place);
        }
        match self.chunks.get_mut(at) {
            // Most come last.
            Some(chunk) if chunk.back().is_none_or(|last| last.order() < place) => chunk.push_back(lease),
            Some(chunk) => chunk.insert(chunk.partition_point(|other| other.order() < place), lease),
            None => self.chunks.push_back(VecDeque::from([lease])),
        }
    }

    /// Cuts a full chunk in two to make room for a lease. Returns what to add to the chunk's index for that lease. If
    /// the lease comes last, as most do, the chunk stays whole and a new one follows.
    fn split(&mut self, at: usize, place: Order) -> usize {
        let Some(chunk) = self.chunks.get_mut(at) else { return 0 };
        let rest = match chunk.back() {
            Some(last) if last.order() < place => VecDeque::new(),
            _ => chunk.split_off(CHUNK_MAX / 2),
        };
        let behind = rest.front().is_none_or(|first| first.order() < place);
        if !rest.is_empty() {
            self.chunks.insert(at + 1, rest);
        }
        behind.into()
    }

    pub fn remove(&mut self, place: Order) -> Option<Lease<T>> {
        let at = self.chunk_of(place);
        let chunk = self.chunks.get_mut(at)?;
        let lease = chunk.remove(chunk.binary_search_by_key(&place, Lease::order).ok()?)?;
        self.shortened(at);
        Some(lease)
    }

    /// Takes out the first lease, if it ends by `until_ms`.
    pub fn take_first(&mut self, until_ms: i64) -> Option<Lease<T>> {
        let chunk = self.chunks.front_mut()?;
        chunk.front().filter(|first| first.expires_at_ms <= until_ms)?;
        let lease = chunk.pop_front()?;
        self.shortened(0);
        Some(lease)
    }

    /// After a lease was taken from a chunk: removes the chunk if it is empty, and joins it with the next if both are short.
    fn shortened(&mut self, at: usize) {
        self.len -= 1;
        let len_of = |at: usize| self.chunks.get(at).map(VecDeque::len);
        match (len_of(at), len_of(at + 1)) {
            (Some(0), _) => drop(self.chunks.remove(at)),
            (Some(len), Some(next)) if len + next <= CHUNK_MAX / 2 => {
                let next = self.chunks.remove(at + 1);
                self.chunks.get_mut(at).into_iter().zip(next).for_each(|(chunk, next)| chunk.extend(next));
            }
            _ => {}
        }
    }

    pub fn into_leases(self) -> impl Iterator<Item = Lease<T>> {
        self.chunks.into_iter().flatten()
    }

    /// The chunk that a lease of this order is in, or would be in; 0 if there is no chunk.
    fn chunk_of(&self, place: Order) -> usize {
        let before = |chunk: &VecDeque<Lease<T>>| chunk.back().is_some_and(|last| last.order() < place);
        self.chunks.partition_point(before).min(self.chunks.len().saturating_sub(1))
    }

    pub fn memory_bytes(&self) -> usize {
        let chunk = |chunk: &VecDeque<Lease<T>>| allocated_bytes(chunk.capacity() * size_of::<Lease<T>>());
        allocated_bytes(self.chunks.capacity() * size_of::<VecDeque<Lease<T>>>())
            + self.chunks.iter().map(chunk).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn lease((expires_at_ms, token): Order) -> Lease<()> {
        Lease { holder: Arc::from(&b"h"[..]), expires_at_ms, token, payload: () }
    }

    proptest! {
        /// Thousands of leases, inserted between the middle and the end, and taken out anywhere.
        #[test]
        fn agrees_with_a_tree(steps in prop::collection::vec((0_i64..5_000, 0_u8..10, any::<prop::sample::Index>()), 3_000)) {
            let (mut sorted, mut tree) = (Sorted::default(), BTreeMap::new());
            for (number, (end_ms, kind, pick)) in steps.into_iter().enumerate() {
                let picked = (!tree.is_empty()).then(|| *tree.keys().nth(pick.index(tree.len())).unwrap());
                // First it grows, then it shrinks.
                match (kind, picked) {
                    (0, _) => {
                        let first = tree.keys().next().copied().filter(|first: &Order| first.0 <= end_ms / 8);
                        prop_assert_eq!(sorted.take_first(end_ms / 8).map(|lease| lease.order()), first);
                        first.map(|first| tree.remove(&first));
                    }
                    (1..=7, Some(picked)) if number > 1_800 || kind == 1 => {
                        prop_assert_eq!(sorted.remove(picked).map(|lease| lease.order()), Some(picked));
                        prop_assert!(sorted.remove(picked).is_none());
                        tree.remove(&picked);
                    }
                    _ => {
                        let place = (if kind < 5 { 5_000 + number as i64 } else { end_ms }, number as u64);
                        sorted.insert(lease(place));
                        tree.insert(place, ());
                    }
                }
                prop_assert_eq!(sorted.len(), tree.len());
                prop_assert_eq!(sorted.ended(end_ms), tree.range(..(end_ms + 1, 0)).count());
                prop_assert_eq!(sorted.last().map(Lease::order), tree.keys().last().copied());
                if number % 100 == 0 {
                    let after = tree.range((end_ms + 1, 0)..).map(|(&place, ())| place);
                    prop_assert!(sorted.after(end_ms).map(Lease::order).eq(after));
                }
                if let Some(picked) = picked {
                    prop_assert_eq!(sorted.get(picked).is_some(), tree.contains_key(&picked));
                    let at = pick.index(tree.len().max(1));
                    prop_assert_eq!(sorted.nth(at).map(Lease::order), tree.keys().nth(at).copied());
                }
            }
            let chunks = sorted.chunks.len();
            prop_assert!(chunks <= 1 + 4 * sorted.len() / CHUNK_MAX, "{} in {chunks}", sorted.len());
            prop_assert!(sorted.into_leases().map(|lease| lease.order()).eq(tree.into_keys()));
        }
    }
}
