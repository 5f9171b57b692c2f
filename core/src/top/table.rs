//! The names of one span of time with their counts, in bounded memory: see the [module's documentation](super).

use crate::memory::allocated_bytes;

/// A name's count in a span. The name's bytes lie among those of all names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// What was counted since the name has entered the table: the least that it can have counted.
    pub seen: u128,
    /// With the floor, the most that it can have counted.
    pub excess: u128,
    pub fingerprint: u64,
    at: u32,
    key_len: u8,
    label_len: u8,
}

impl Entry {
    /// The name, whose bytes are among `names`.
    pub fn name<'a>(&self, names: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let own = names.get(self.at as usize..).unwrap_or_default();
        let (key, rest) = own.split_at_checked(self.key_len.into()).unwrap_or_default();
        (key, rest.get(..self.label_len.into()).unwrap_or_default())
    }
}

/// Entries of a span that is over, heaviest `keys` at most.
#[derive(Debug, Clone, Default)]
pub(super) struct Summary {
    /// The most that a name without an entry can have counted.
    pub floor: u128,
    pub entries: Box<[Entry]>,
    pub names: Box<[u8]>,
}

impl Summary {
    pub fn memory_bytes(&self) -> usize {
        allocated_bytes(size_of_val(&*self.entries)) + allocated_bytes(self.names.len())
    }
}

/// Entries of a span that is under way, found by their fingerprints.
#[derive(Debug)]
pub(super) struct Table {
    keys: usize,
    floor: u128,
    /// At most `2 * keys`.
    entries: Vec<Entry>,
    names: Vec<u8>,
    /// One more than the place of an entry, or 0. At most a quarter of it is used; a search goes on from the place of a fingerprint
    /// to the first 0.
    index: Box<[u16]>,
}

impl Table {
    pub fn new(keys: usize) -> Self {
        let index = vec![0; (8 * keys).next_power_of_two()];
        Self {
            keys,
            floor: 0,
            entries: Vec::with_capacity(2 * keys),
            names: Vec::new(),
            index: index.into_boxed_slice(),
        }
    }

    pub fn keys(&self) -> usize {
        self.keys
    }

    pub fn floor(&self) -> u128 {
        self.floor
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub fn names(&self) -> &[u8] {
        &self.names
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.floor == 0
    }

    pub fn is_full(&self) -> bool {
        self.entries.len() >= 2 * self.keys
    }

    pub fn memory_bytes(&self) -> usize {
        allocated_bytes(self.entries.capacity() * size_of::<Entry>())
            + allocated_bytes(self.names.capacity())
            + allocated_bytes(size_of_val(&*self.index))
    }

    /// The entry of a name with this fingerprint.
    #[inline]
    pub fn get_mut(&mut self, fingerprint: u64) -> Option<&mut Entry> {
        let mask = self.index.len() - 1;
        let mut place = fingerprint as usize & mask;
        loop {
            let at = usize::from(*self.index.get(place)?).checked_sub(1)?;
            if self.entries.get(at)?.fingerprint == fingerprint {
                return self.entries.get_mut(at);
            }
            place = (place + 1) & mask;
        }
    }

    /// Adds an entry of a name that has none. The table is not full.
    #[inline]
    pub fn insert(&mut self, (key, label): (&[u8], &[u8]), fingerprint: u64, excess: u128, seen: u128) {
        let (at, key_len, label_len) = (self.names.len() as u32, key.len() as u8, label.len() as u8);
        self.names.extend_from_slice(key);
        if !label.is_empty() {
            self.names.extend_from_slice(label);
        }
        add_to_index(&mut self.index, fingerprint, self.entries.len());
        self.entries.push(Entry { seen, excess, fingerprint, at, key_len, label_len });
    }

    /// Gives up all but the `keys` heaviest entries, or fewer if several are alike: the floor rises to the heaviest that it
    /// gives up, and by `more`. `given_up` is called with the fingerprint of each, and the most that it can have counted.
    pub fn shrink(&mut self, more: u128, mut given_up: impl FnMut(u64, u128)) {
        if self.entries.len() <= self.keys {
            return;
        }
        let mut excesses: Vec<u128> = self.entries.iter().map(|entry| entry.excess).collect();
        // The largest of those that do not stay.
        let (_, &mut rise, _) = excesses.select_nth_unstable_by(self.keys, |one, other| other.cmp(one));
        let (floor, rise) = (self.floor, rise.saturating_add(more));
        self.floor = floor.saturating_add(rise);
        let mut kept = 0;
        let names = &mut self.names;
        self.entries.retain_mut(|entry| {
            if entry.excess <= rise {
                given_up(entry.fingerprint, floor.saturating_add(entry.excess));
                return false;
            }
            entry.excess -= rise;
            // Names lie in the order of their entries.
            let (at, len) = (entry.at as usize, usize::from(entry.key_len) + usize::from(entry.label_len));
            names.copy_within(at..at + len, kept);
            entry.at = kept as u32;
            kept += len;
            true
        });
        self.names.truncate(kept);
        self.index.fill(0);
        for (at, entry) in self.entries.iter().enumerate() {
            add_to_index(&mut self.index, entry.fingerprint, at);
        }
    }

    /// Adds what was counted in another span. At most `keys` entries before, and after it.
    pub fn merge(&mut self, other: &Summary) {
        self.floor = self.floor.saturating_add(other.floor);
        for entry in &other.entries {
            match self.get_mut(entry.fingerprint) {
                Some(own) => {
                    own.excess = own.excess.saturating_add(entry.excess);
                    own.seen = own.seen.saturating_add(entry.seen);
                }
                None => self.insert(entry.name(&other.names), entry.fingerprint, entry.excess, entry.seen),
            }
        }
        self.shrink(0, |_, _| {});
    }

    /// Ends the span: returns what was counted, and begins with nothing.
    pub fn close(&mut self) -> Summary {
        self.shrink(0, |_, _| {});
        let summary =
            Summary { floor: self.floor, entries: self.entries.as_slice().into(), names: self.names.as_slice().into() };
        self.floor = 0;
        self.entries.clear();
        self.names.clear();
        self.index.fill(0);
        summary
    }
}

/// Makes the entry at `at` found by its fingerprint. The index has room.
#[inline]
fn add_to_index(index: &mut [u16], fingerprint: u64, at: usize) {
    let mask = index.len() - 1;
    let mut place = fingerprint as usize & mask;
    while let Some(slot) = index.get_mut(place) {
        if *slot == 0 {
            *slot = at as u16 + 1;
            return;
        }
        place = (place + 1) & mask;
    }
}
