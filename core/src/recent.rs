//! Records of ids that are remembered for a while, in the order in which they came, and found by the ids' fingerprints.

use std::collections::VecDeque;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use crate::memory::allocated_bytes;

/// An id as 64 bits of XXH3. Two ids have the same by chance with a probability of 2^-64: with 100,000 ids remembered, one
/// in 1.8 * 10^14 new ids is taken for an old one. Collisions made on purpose do no harm: a client that chooses ids can as
/// well repeat one.
pub fn fingerprint(id: &[u8]) -> u64 {
    xxh3_64(id)
}

/// A record of an id.
pub trait Record {
    fn fingerprint(&self) -> u64;

    /// The time in milliseconds from which it may be forgotten.
    fn until_ms(&self) -> i64;
}

/// Records, oldest first. Finding one by its fingerprint takes about 8 bytes more for each.
#[derive(Debug, Clone)]
pub struct Recent<R> {
    records: VecDeque<R>,
    /// The number of the first record. Records are numbered in turn, wrapping around.
    first: u32,
    /// The records' numbers, by their fingerprints.
    numbers: HashTable<u32>,
}

impl<R> Default for Recent<R> {
    fn default() -> Self {
        Self { records: VecDeque::new(), first: 0, numbers: HashTable::new() }
    }
}

impl<R: PartialEq> PartialEq for Recent<R> {
    fn eq(&self, other: &Self) -> bool {
        self.records == other.records
    }
}

impl<R: Eq> Eq for Recent<R> {}

impl<R: Record> Recent<R> {
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &R> {
        self.records.iter()
    }

    /// As [`Self::iter`], to change the records; their fingerprints must stay.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut R> {
        self.records.iter_mut()
    }

    pub fn get(&self, fingerprint: u64) -> Option<&R> {
        self.records.get(self.position(fingerprint)?)
    }

    /// Puts a record in place of the one of the same id, or behind all others; the oldest then goes if there are `max`.
    pub fn put(&mut self, record: R, max: usize) {
        if let Some(known) = self.position(record.fingerprint()).and_then(|at| self.records.get_mut(at)) {
            *known = record;
            return;
        }
        if self.records.len() >= max {
            self.forget_first();
        }
        let (fingerprint, number) = (record.fingerprint(), self.first.wrapping_add(self.records.len() as u32));
        self.records.push_back(record);
        let (records, first) = (&self.records, self.first);
        self.numbers.insert_unique(fingerprint, number, |&number| fingerprint_of(records, first, number));
    }

    /// Whether [`Self::forget`] would forget any.
    pub fn is_due(&self, at_ms: i64) -> bool {
        self.records.front().is_some_and(|record| record.until_ms() <= at_ms)
    }

    /// Forgets records whose time has come, `count` at most, from the oldest on up to the first that is to stay.
    pub fn forget(&mut self, at_ms: i64, count: usize) {
        for _ in 0..count {
            if !self.is_due(at_ms) {
                break;
            }
            self.forget_first();
        }
        if self.records.len() < self.records.capacity() / 4 {
            let keep = self.records.len() * 2;
            self.records.shrink_to(keep);
            let (records, first) = (&self.records, self.first);
            self.numbers.shrink_to(keep, |&number| fingerprint_of(records, first, number));
        }
    }

    fn forget_first(&mut self) {
        let Some(record) = self.records.pop_front() else { return };
        let first = self.first;
        if let Ok(number) = self.numbers.find_entry(record.fingerprint(), |&number| number == first) {
            number.remove();
        }
        self.first = first.wrapping_add(1);
    }

    fn position(&self, fingerprint: u64) -> Option<usize> {
        let same =
            |&number: &u32| at(&self.records, self.first, number).is_some_and(|it| it.fingerprint() == fingerprint);
        self.numbers.find(fingerprint, same).map(|number| number.wrapping_sub(self.first) as usize)
    }

    pub fn memory_bytes(&self) -> usize {
        allocated_bytes(self.records.capacity() * size_of::<R>()) + allocated_bytes(self.numbers.allocation_size())
    }
}

fn at<R>(records: &VecDeque<R>, first: u32, number: u32) -> Option<&R> {
    records.get(number.wrapping_sub(first) as usize)
}

fn fingerprint_of<R: Record>(records: &VecDeque<R>, first: u32, number: u32) -> u64 {
    at(records, first, number).map_or(0, R::fingerprint)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Note(u64, i64);

    impl Record for Note {
        fn fingerprint(&self) -> u64 {
            self.0
        }

        fn until_ms(&self) -> i64 {
            self.1
        }
    }

    const MAX: usize = 50;

    proptest! {
        #[test]
        fn agrees_with_a_list_that_is_searched(steps in prop::collection::vec((0_u64..80, 0_i64..9, any::<bool>()), 1..2_000)) {
            let (mut recent, mut list, mut now_ms) = (Recent::default(), Vec::<Note>::new(), 0);
            for (id, wait_ms, forgets) in steps {
                now_ms += wait_ms;
                if forgets {
                    recent.forget(now_ms, 3);
                    for _ in 0..3 {
                        if list.first().is_some_and(|first| first.1 <= now_ms) {
                            list.remove(0);
                        }
                    }
                } else {
                    let note = Note(id, now_ms + 100);
                    recent.put(note, MAX);
                    match list.iter_mut().find(|known| known.0 == id) {
                        Some(known) => *known = note,
                        None => {
                            list.push(note);
                            list.drain(..list.len().saturating_sub(MAX));
                        }
                    }
                }
                prop_assert_eq!(recent.get(id), list.iter().find(|known| known.0 == id));
                prop_assert!(recent.iter().eq(&list));
            }
        }
    }
}
