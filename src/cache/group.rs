//! Groups: entries that are cleared together share one, by category and by tag.
//!
//! Each entry points to the group of its category and to those of its tags. To clear a group is to mark it, whatever its
//! size, and to forget it: every reader sees the mark at once, and entries that are set from then on are in a new group of
//! the same name. All entries together share an era in the same way.
//!
//! A group's figures tell how many entries a mark has cleared. The server may free entries on other threads, so the figures
//! are changed atomically, and each has the mark in its own highest bit: an entry is subtracted once, when it is dropped or
//! when it is cleared.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashTable;

use super::category::{Category, Counters};

const MARK: u64 = 1 << 63;

/// A count that a mark ends.
#[derive(Default)]
struct Marked(AtomicU64);

impl Marked {
    fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Returns whether it was still counting.
    fn sub(&self, count: u64) -> bool {
        self.0.fetch_sub(count, Ordering::Relaxed) & MARK == 0
    }

    fn change(&self, before: u64, after: u64) {
        if before != after {
            self.add(after.wrapping_sub(before));
        }
    }

    /// The count; 0 once it is marked.
    fn get(&self) -> u64 {
        Some(self.0.load(Ordering::Relaxed)).filter(|count| count & MARK == 0).unwrap_or(0)
    }

    fn is_marked(&self) -> bool {
        self.0.load(Ordering::Relaxed) & MARK != 0
    }

    /// Returns the count until now; 0 if it was marked before.
    fn mark(&self) -> u64 {
        Some(self.0.fetch_or(MARK, Ordering::Relaxed)).filter(|count| count & MARK == 0).unwrap_or(0)
    }
}

/// Entries, and the bytes of their values: as stored, and unpacked.
#[derive(Default)]
struct Held {
    entries: Marked,
    bytes: Marked,
    raw_bytes: Marked,
}

impl Held {
    fn figures(&self) -> [&Marked; 3] {
        [&self.entries, &self.bytes, &self.raw_bytes]
    }

    fn add(&self, [entries, bytes, raw_bytes]: [u64; 3]) {
        self.entries.add(entries);
        self.bytes.add(bytes);
        self.raw_bytes.add(raw_bytes);
    }

    /// Returns whether it was still counting.
    fn sub(&self, [entries, bytes, raw_bytes]: [u64; 3]) -> bool {
        self.bytes.sub(bytes);
        self.raw_bytes.sub(raw_bytes);
        self.entries.sub(entries)
    }

    fn change(&self, before: [u64; 2], after: [u64; 2]) {
        self.bytes.change(before[0], after[0]);
        self.raw_bytes.change(before[1], after[1]);
    }

    fn mark(&self) -> [u64; 3] {
        self.figures().map(Marked::mark)
    }
}

/// All entries, of every category, that were set since all were cleared last.
#[derive(Default)]
pub struct Era {
    entries: Marked,
    /// The entries of categories that have no counters of their own.
    surplus: Held,
}

impl Era {
    pub fn clear(&self) -> u64 {
        self.surplus.mark();
        self.entries.mark()
    }

    pub fn surplus(&self) -> [u64; 3] {
        self.surplus.figures().map(Marked::get)
    }
}

/// The entries of one category, or of one tag.
pub struct Group {
    name: Box<[u8]>,
    /// The category with the counters for hits and the like.
    category: Category,
    /// `None` for a tag: its entries are counted in their categories.
    era: Option<Arc<Era>>,
    held: Held,
}

impl Group {
    pub fn of_category(name: &[u8], category: Category, era: &Arc<Era>) -> Self {
        Self { name: name.into(), category, era: Some(Arc::clone(era)), held: Held::default() }
    }

    pub fn of_tag(name: &[u8]) -> Self {
        Self { name: name.into(), category: Category::OTHER, era: None, held: Held::default() }
    }

    /// A group that is cleared before it has entries: for entries that were saved as cleared.
    pub fn into_cleared(self) -> Arc<Self> {
        self.clear();
        Arc::new(self)
    }

    pub fn name(&self) -> &[u8] {
        &self.name
    }

    pub fn counters(&self) -> &'static Counters {
        self.category.counters()
    }

    pub fn is_cleared(&self) -> bool {
        self.held.entries.is_marked() || self.era.as_ref().is_some_and(|era| era.entries.is_marked())
    }

    /// The counts that the group's entries are part of, if its category has no counters of its own.
    fn surplus(&self) -> Option<&Held> {
        self.era.as_ref().filter(|_| self.category == Category::OTHER).map(|era| &era.surplus)
    }

    /// Clears the group. Returns how many entries it had.
    pub fn clear(&self) -> u64 {
        let held = self.held.mark();
        let [entries, ..] = held;
        if let Some(surplus) = self.surplus() {
            surplus.sub(held);
        }
        match &self.era {
            // They were counted when the era ended.
            Some(era) if !era.entries.sub(entries) => 0,
            _ => entries,
        }
    }

    /// Adds an entry of the category, with the bytes of its value as stored and unpacked.
    pub fn entry_made(&self, [bytes, raw_bytes]: [u64; 2]) {
        let one = [1, bytes, raw_bytes];
        self.held.add(one);
        // A copy of a cleared entry is cleared, too.
        if self.held.entries.is_marked() {
            return;
        }
        if let Some(era) = &self.era {
            era.entries.add(1);
        }
        if let Some(surplus) = self.surplus() {
            surplus.add(one);
        }
    }

    /// Changes the bytes of an entry, after its value has changed.
    pub fn entry_resized(&self, before: [u64; 2], after: [u64; 2]) {
        self.held.change(before, after);
        if let Some(surplus) = self.surplus() {
            surplus.change(before, after);
        }
    }

    /// Subtracts an entry of the category.
    pub fn entry_gone(&self, [bytes, raw_bytes]: [u64; 2]) {
        let one = [1, bytes, raw_bytes];
        if !self.held.sub(one) {
            return;
        }
        if let Some(era) = &self.era {
            era.entries.sub(1);
        }
        if let Some(surplus) = self.surplus() {
            surplus.sub(one);
        }
    }

    /// Adds an entry that has the tag.
    pub fn tagged(&self) {
        self.held.entries.add(1);
    }

    pub fn untagged(&self) {
        self.held.entries.sub(1);
    }

    /// Entries, the bytes of their values as stored, and unpacked.
    pub fn held(&self) -> [u64; 3] {
        match self.is_cleared() {
            true => [0; 3],
            false => self.held.figures().map(Marked::get),
        }
    }
}

/// The number of parts. It is so large that no part takes long to grow, to be swept or to be freed, even with millions
/// of groups.
const SHARDS: usize = 1_024;

/// A part with fewer groups is not worth sweeping.
const SWEEP_MIN: usize = 16;

/// Uses other bits of the hash than those that place a group within its part.
fn shard_of(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

#[derive(Default)]
struct Shard {
    /// By the hashes of their names.
    groups: HashTable<Arc<Group>>,
    /// With this many groups, it is worth looking for those without entries.
    sweep_at: usize,
}

/// Groups by name. Those that have lost their last entry are removed as new ones come, so that there are at most twice as
/// many as are in use.
pub struct Groups {
    shards: Vec<Shard>,
    /// Keyed at random: names come from clients, and no client may fill one part with them.
    hasher: RandomState,
}

impl Default for Groups {
    fn default() -> Self {
        let shards = std::iter::repeat_with(Shard::default).take(SHARDS).collect();
        Self { shards, hasher: RandomState::new() }
    }
}

impl Groups {
    /// The group of that name, made if there is none.
    pub fn named(&mut self, name: &[u8], new: impl FnOnce() -> Group) -> Arc<Group> {
        let Self { shards, hasher } = self;
        let hash = hasher.hash_one(name);
        // No part is left once `free_some` was called.
        let Some(shard) = shards.get_mut(shard_of(hash)) else { return Arc::new(new()) };
        if let Some(found) = shard.groups.find(hash, |group| group.name() == name) {
            return Arc::clone(found);
        }
        if shard.groups.len() >= shard.sweep_at.max(SWEEP_MIN) {
            // Only this thread hands groups out, so one that nothing else points to stays so.
            shard.groups.retain(|group| Arc::strong_count(group) > 1);
            shard.sweep_at = 2 * shard.groups.len();
        }
        let made = Arc::new(new());
        shard.groups.insert_unique(hash, Arc::clone(&made), |group| hasher.hash_one(group.name()));
        made
    }

    pub fn find(&self, name: &[u8]) -> Option<&Group> {
        let hash = self.hasher.hash_one(name);
        let found = self.shards.get(shard_of(hash))?.groups.find(hash, |group| group.name() == name);
        found.map(|group| &**group)
    }

    /// Clears the group of that name, and returns how many entries it had.
    pub fn clear(&mut self, name: &[u8]) -> u64 {
        let hash = self.hasher.hash_one(name);
        let Some(shard) = self.shards.get_mut(shard_of(hash)) else { return 0 };
        match shard.groups.find_entry(hash, |group| group.name() == name) {
            Ok(found) => found.remove().0.clear(),
            Err(_) => 0,
        }
    }

    /// Frees a part of the groups. Returns whether there is more.
    pub fn free_some(&mut self) -> bool {
        // Parts without groups are worth no slice of their own: after FLUSHALL of a server that caches nothing, all are.
        while self.shards.pop().is_some_and(|shard| shard.groups.is_empty()) {}
        !self.shards.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(groups: &mut Groups, name: &[u8]) -> Arc<Group> {
        groups.named(name, || Group::of_category(name, Category::OTHER, &Arc::default()))
    }

    #[test]
    fn an_entry_is_counted_out_once_by_its_end_or_by_the_mark() {
        let mut groups = Groups::default();
        let old = group(&mut groups, b"g");
        old.entry_made([10, 20]);
        old.entry_made([1, 2]);
        old.entry_gone([1, 2]);
        assert_eq!((old.held(), groups.find(b"g").map(Group::held)), ([1, 10, 20], Some([1, 10, 20])));
        assert_eq!(groups.clear(b"g"), 1);
        let new = group(&mut groups, b"g");
        new.entry_made([5, 5]);
        // Dropping a cleared entry no longer changes anything.
        old.entry_gone([10, 20]);
        assert!(old.is_cleared() && !new.is_cleared());
        assert_eq!((old.held(), new.held()), ([0; 3], [1, 5, 5]));
        assert_eq!((groups.clear(b"g"), groups.clear(b"g")), (1, 0));
    }

    #[test]
    fn an_era_ends_for_all_groups() {
        let era = Arc::<Era>::default();
        let one = Group::of_category(b"one", Category::OTHER, &era);
        let other = Group::of_category(b"other", Category::OTHER, &era);
        one.entry_made([1, 1]);
        other.entry_made([1, 1]);
        assert_eq!(one.clear(), 1);
        assert_eq!((era.clear(), era.clear()), (1, 0));
        assert!(one.is_cleared() && other.is_cleared());
        assert_eq!((other.held(), other.clear()), ([0; 3], 0));
        one.entry_gone([1, 1]);
        other.entry_gone([1, 1]);
        assert_eq!((one.clear(), era.clear()), (0, 0));
    }

    #[test]
    fn parts_without_groups_take_no_slices() {
        assert!(!Groups::default().free_some());
        let mut groups = Groups::default();
        let kept: Vec<_> = (0..3).map(|number: u32| group(&mut groups, &number.to_le_bytes())).collect();
        let slices = 1 + std::iter::repeat_with(|| groups.free_some()).take_while(|&more| more).count();
        assert!(slices <= kept.len() + 1, "{slices} slices");
        assert!(kept.iter().all(|group| Arc::strong_count(group) == 1));
    }

    #[test]
    fn groups_without_entries_are_swept() {
        let mut groups = Groups::default();
        let kept = group(&mut groups, b"kept");
        for name in 0..1_000_000_u32 {
            group(&mut groups, &name.to_be_bytes());
        }
        let left: usize = groups.shards.iter().map(|shard| shard.groups.len()).sum();
        assert!(left <= SHARDS * (SWEEP_MIN + 1), "{left}");
        assert!(groups.find(b"kept").is_some_and(|found| std::ptr::eq(found, &*kept)));
    }
}
