//! Records of ids that are remembered for a while, in order of arrival, and found by the ids' fingerprints.

use std::collections::VecDeque;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use crate::memory::allocated_bytes;

/// An id as 64 bits of XXH3. Collisions are rare enough, and do no harm if they are made on purpose
/// (docs/src/internals/decisions.md, "Ids are remembered as fingerprints").
pub fn fingerprint(id: &[u8]) -> u64 {
    xxh3_64(id)
}

/// A record of an id.
pub trait Record {
    fn fingerprint(&self) -> u64;

    /// The time in milliseconds from which it may be forgotten, not negative.
    fn until_ms(&self) -> i64;
}

/// [`Record::until_ms`] of the record that stays in the place of one that was [taken](Recent::take).
pub const TAKEN_UNTIL_MS: i64 = i64::MIN;

/// Places of taken records are closed when they are more than one in this number,
const PLACES_PER_TAKEN_MIN: usize = 5;

/// and not just a few.
const CLOSED_MIN: usize = 64;

/// The number of places for which an allocation grows, at least.
const GROWTH_MIN: usize = 4;

fn was_taken(record: &impl Record) -> bool {
    record.until_ms() == TAKEN_UNTIL_MS
}

/// Records, oldest first, with an index by fingerprint that takes about 8 bytes for each.
#[derive(Debug, Clone)]
pub struct Recent<R> {
    /// The first of them was not taken.
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

impl<R: Record + PartialEq> PartialEq for Recent<R> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<R: Record + Eq> Eq for Recent<R> {}

impl<R: Record> Recent<R> {
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &R> {
        self.records.iter().filter(|record| !was_taken(*record))
    }

    /// Like [`Self::iter`], to change the records. Their fingerprints must stay the same.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut R> {
        self.records.iter_mut().filter(|record| !was_taken(*record))
    }

    pub fn get(&self, fingerprint: u64) -> Option<&R> {
        self.records.get(self.position(fingerprint)?)
    }

    /// Replaces the record of the same id, or appends the record. If there are `max` already, the oldest is dropped.
    pub fn put(&mut self, record: R, max: usize) {
        if let Some(known) = self.position(record.fingerprint()).and_then(|at| self.records.get_mut(at)) {
            *known = record;
            return;
        }
        if self.len() >= max {
            self.forget_first();
        }
        self.make_room();
        let (fingerprint, number) = (record.fingerprint(), self.first.wrapping_add(self.records.len() as u32));
        self.records.push_back(record);
        let (records, first) = (&self.records, self.first);
        self.numbers.insert_unique(fingerprint, number, |&number| fingerprint_of(records, first, number));
    }

    /// Takes a record out. [`Record::until_ms`] of the default record is [`TAKEN_UNTIL_MS`]. Takes O(n) once for each n/4
    /// records that are taken, since their places are closed then.
    pub fn take(&mut self, fingerprint: u64) -> Option<R>
    where
        R: Default,
    {
        let position = self.position(fingerprint)?;
        let number = self.first.wrapping_add(position as u32);
        self.numbers.find_entry(fingerprint, |&other| other == number).ok()?.remove();
        let record = self.records.get_mut(position).map(std::mem::take)?;
        self.drop_taken();
        if (self.records.len() - self.len()) * PLACES_PER_TAKEN_MIN > self.records.len() + CLOSED_MIN {
            self.records.retain(|record| !was_taken(record));
            self.numbers.clear();
            for (position, record) in self.records.iter().enumerate() {
                let number = self.first.wrapping_add(position as u32);
                let (records, first) = (&self.records, self.first);
                self.numbers
                    .insert_unique(record.fingerprint(), number, |&number| fingerprint_of(records, first, number));
            }
        }
        Some(record)
    }

    /// Whether [`Self::forget`] would forget any.
    pub fn is_due(&self, at_ms: i64) -> bool {
        self.records.front().is_some_and(|record| record.until_ms() <= at_ms)
    }

    /// Forgets records whose time has come: at most `count`, oldest first, up to the first that has to stay.
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
        self.drop_taken();
    }

    /// Drops the places of taken records before the first that was not.
    fn drop_taken(&mut self) {
        while self.records.front().is_some_and(was_taken) {
            self.records.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }

    /// Grows to the allocator's next size if there is no place left: by a quarter at most, so that many records take
    /// little more than they need.
    fn make_room(&mut self) {
        let (len, capacity) = (self.records.len(), self.records.capacity());
        if len == capacity {
            let bytes = allocated_bytes((capacity + GROWTH_MIN) * size_of::<R>());
            self.records.reserve_exact(bytes / size_of::<R>().max(1) - len);
        }
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

    impl Default for Note {
        fn default() -> Self {
            Note(0, TAKEN_UNTIL_MS)
        }
    }

    impl Record for Note {
        fn fingerprint(&self) -> u64 {
            self.0
        }

        fn until_ms(&self) -> i64 {
            self.1
        }
    }

    const MAX: usize = 400;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Put,
        Take,
        Forget,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![4 => Just(Step::Put), 2 => Just(Step::Take), 1 => Just(Step::Forget)]
    }

    proptest! {
        #[test]
        fn agrees_with_a_list_that_is_searched(steps in prop::collection::vec((0_u64..600, 0_i64..2, step()), 1..4_000)) {
            let (mut recent, mut list, mut now_ms) = (Recent::default(), Vec::<Note>::new(), 0);
            for (id, wait_ms, step) in steps {
                now_ms += wait_ms;
                match step {
                    Step::Forget => {
                        recent.forget(now_ms, 3);
                        for _ in 0..3 {
                            if list.first().is_some_and(|first| first.1 <= now_ms) {
                                list.remove(0);
                            }
                        }
                    }
                    Step::Take => {
                        let known = list.iter().position(|known| known.0 == id).map(|at| list.remove(at));
                        prop_assert_eq!(recent.take(id), known);
                    }
                    Step::Put => {
                        let note = Note(id, now_ms + 1_000);
                        recent.put(note, MAX);
                        match list.iter_mut().find(|known| known.0 == id) {
                            Some(known) => *known = note,
                            None => {
                                list.push(note);
                                list.drain(..list.len().saturating_sub(MAX));
                            }
                        }
                    }
                }
                prop_assert_eq!(recent.len(), list.len());
                prop_assert!(recent.records.len() <= list.len() * 5 / 4 + CLOSED_MIN);
                prop_assert_eq!(recent.get(id), list.iter().find(|known| known.0 == id));
                prop_assert!(recent.iter().eq(&list));
            }
        }
    }
}
