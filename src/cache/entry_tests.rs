//! Entries and what clears them, against a model that keeps a list.

use std::sync::Mutex;

use super::*;
use crate::cache::category::Category;
use crate::cache::groups;
use gateway_core::codec::{Decoder, Encoded};

/// All tests share the module's groups, so they run one at a time.
static GROUPS: Mutex<()> = Mutex::new(());

const CATEGORIES: [&[u8]; 3] = [b"chat", b"embed", b"(other)"];
const TAGS: [&[u8]; 3] = [b"x", b"y", b"z"];

/// An entry of the model.
#[derive(Clone)]
struct Listed {
    category: usize,
    tags: Vec<usize>,
    bytes: u64,
    /// Whether readers see it.
    visible: bool,
    /// Whether it counts in its category: only a tag of it was cleared, if anything.
    counted: bool,
    /// Its tags that were not cleared since it was set.
    tags_left: Vec<usize>,
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }
}

/// Sets an entry, which may overwrite another one.
fn put(place: &mut Option<(Entry, Listed)>, listed: Listed) {
    let tags: Vec<&[u8]> = listed.tags.iter().map(|&tag| TAGS[tag]).collect();
    let new = New {
        value: &vec![b'v'; listed.bytes as usize],
        created_at_ms: 0,
        life: Life::new(0, 1, 1),
        saved: Amount::ZERO,
        category: CATEGORIES[listed.category],
        // A tag given twice is one.
        tags: [tags.clone(), tags].concat(),
    };
    match place {
        Some((entry, before)) => {
            entry.overwrite(new, 0);
            *before = listed;
        }
        None => *place = Some((Entry::new(new, 0), listed)),
    }
}

fn reloaded(entry: &Entry) -> Entry {
    let mut out = Encoded::default();
    entry.save(&mut out);
    let mut from = Decoder::new(&out.0);
    let loaded = Entry::load(&mut from, 0).unwrap();
    from.finish().unwrap();
    loaded
}

fn plain(value: &[u8]) -> New<'_> {
    let life = Life::new(1_000, 60_000, 0);
    New { value, created_at_ms: 1_000, life, saved: Amount::ZERO, category: b"overwritten", tags: Vec::new() }
}

/// An overwritten entry is like a new one, however it was stored before.
#[test]
fn an_overwritten_entry_is_a_new_one() {
    const PACK_FROM_BYTES: usize = 100;
    let _alone = GROUPS.lock();
    let values = [vec![b'a'; 90], vec![b'b'; 90], vec![b'c'; 80], vec![b'd'; 1_000], vec![b'e'; 1_000], Vec::new()];
    let mut entry = Entry::new(plain(b"first"), PACK_FROM_BYTES);
    let category = Category::named(b"overwritten");
    // Each value after each other one, with and without the parts that few entries have.
    for (before, after) in values.iter().flat_map(|before| values.iter().map(move |after| (before, after))) {
        for saved in [Amount::ZERO, Amount::from_picos(5).unwrap()] {
            let extra = New { saved, life: Life::new(2_000, 5_000, 70), created_at_ms: 2_000, ..plain(before) };
            entry.overwrite(extra, PACK_FROM_BYTES);
            assert_eq!((entry.saved(), entry.life(), entry.age_ms(2_500)), (saved, Life::new(2_000, 5_000, 70), 500));
            assert_eq!(entry.value().get(&mut Vec::new()), Ok(&before[..]));
            entry.overwrite(plain(after), PACK_FROM_BYTES);
            assert_eq!((entry.saved(), entry.life(), entry.age_ms(2_500)), (Amount::ZERO, plain(after).life, 1_500));
            assert_eq!(entry.value().get(&mut Vec::new()), Ok(&after[..]));
            assert_eq!(entry.value().plain().is_some(), after.len() < PACK_FROM_BYTES);
            let alone = Entry::new(New { category: b"alone", ..plain(after) }, PACK_FROM_BYTES);
            assert_eq!(groups::held(category), groups::held(Category::named(b"alone")));
            assert_eq!(entry.memory_bytes(), alone.memory_bytes());
        }
    }
    // One that has lived to its end has expired, one that was overwritten before has not.
    let expired = || category.counters().expired();
    assert_eq!(expired(), 0);
    entry.overwrite(New { created_at_ms: 60_999, ..plain(b"in time") }, 0);
    assert_eq!(expired(), 0);
    entry.overwrite(New { created_at_ms: 61_000, ..plain(b"too late") }, 0);
    assert_eq!(expired(), 1);
}

/// A million steps of sets, copies, deletions, reloads and clears by category, by tag, of all and by FLUSHALL: what readers
/// see, what is counted, and what each clear replies.
#[test]
fn entries_are_cleared_as_a_list_would_be() {
    let _alone = GROUPS.lock();
    let mut random = Random(0x5eed);
    let mut entries: Vec<Option<(Entry, Listed)>> = std::iter::repeat_with(|| None).take(12).collect();
    let mut seen = [0_u32; 8];
    for step in 0..1_000_000 {
        let slot = random.below(entries.len());
        let mut cleared = 0;
        match random.below(40) {
            0..=15 => {
                let tags: Vec<usize> = (0..TAGS.len()).filter(|_| random.below(3) == 0).collect();
                let (category, bytes) = (random.below(3), random.below(50) as u64);
                let tags_left = tags.clone();
                let listed = Listed { category, tags, bytes, visible: true, counted: true, tags_left };
                put(&mut entries[slot], listed);
                seen[0] += 1;
            }
            16..=22 => {
                entries[slot] = entries[random.below(entries.len())].clone();
                seen[1] += 1;
            }
            23..=28 => {
                entries[slot] = None;
                seen[2] += 1;
            }
            29..=33 => {
                if let Some((entry, listed)) = &mut entries[slot] {
                    *entry = reloaded(entry);
                    // An entry that was cleared is loaded as cleared in every respect.
                    if !listed.visible {
                        listed.counted = false;
                        listed.tags_left.clear();
                    }
                    seen[3] += 1;
                }
            }
            34..=35 => {
                let category = random.below(CATEGORIES.len());
                for (_, listed) in entries.iter_mut().flatten().filter(|(_, listed)| listed.category == category) {
                    cleared += u64::from(listed.counted);
                    (listed.visible, listed.counted) = (false, false);
                }
                assert_eq!(groups::clear_category(CATEGORIES[category]), cleared, "step {step}");
                seen[4] += 1;
            }
            36..=37 => {
                let tag = random.below(TAGS.len());
                for (_, listed) in entries.iter_mut().flatten() {
                    if let Some(at) = listed.tags_left.iter().position(|&left| left == tag) {
                        listed.tags_left.remove(at);
                        listed.visible = false;
                        cleared += 1;
                    }
                }
                assert_eq!(groups::clear_tag(TAGS[tag]), cleared, "step {step}");
                seen[5] += 1;
            }
            38 => {
                for (_, listed) in entries.iter_mut().flatten() {
                    cleared += u64::from(listed.counted);
                    (listed.visible, listed.counted) = (false, false);
                    listed.tags_left.clear();
                }
                let (count, mut old) = groups::clear_all();
                while old.free_some() {}
                assert_eq!(count, cleared, "step {step}");
                seen[6] += 1;
            }
            _ => {
                // The server frees them later, in any order.
                let freed_later = std::mem::take(&mut entries);
                groups::forget_all();
                assert_eq!(groups::held(Category::named(CATEGORIES[0])), [0; 3]);
                drop(freed_later);
                entries.resize_with(12, || None);
                seen[7] += 1;
            }
        }
        for (entry, listed) in entries.iter().flatten() {
            assert_eq!(entry.is_cleared(), !listed.visible, "step {step}");
        }
        for (number, name) in CATEGORIES.into_iter().enumerate() {
            let mut held = [0; 3];
            for (_, listed) in entries.iter().flatten().filter(|(_, listed)| listed.category == number) {
                if listed.counted {
                    held = [held[0] + 1, held[1] + listed.bytes, held[2] + listed.bytes];
                }
            }
            assert_eq!(groups::held(Category::named(name)), held, "step {step}");
        }
    }
    assert!(seen.iter().all(|&count| count > 10_000), "{seen:?}");
}
