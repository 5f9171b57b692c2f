//! Entries and what clears them, against a model that keeps a list.

use super::*;
use crate::cache::category::Category;
use gateway_core::codec::{Decoder, Encoded};

const CATEGORIES: [&[u8]; 3] = [b"chat", b"embed", b"(other)"];
const TAGS: [&[u8]; 3] = [b"x", b"y", b"z"];

/// An entry as a list has it.
#[derive(Clone)]
struct Listed {
    category: usize,
    tags: Vec<usize>,
    bytes: u64,
    /// Readers see it.
    visible: bool,
    /// It counts in its category: only a tag was cleared, if anything.
    counted: bool,
    /// Those of its tags that were not cleared since it has them.
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

fn new_entry(listed: &Listed) -> Entry {
    let tags: Vec<&[u8]> = listed.tags.iter().map(|&tag| TAGS[tag]).collect();
    Entry::new(
        New {
            value: &vec![b'v'; listed.bytes as usize],
            created_at_ms: 0,
            life: Life::new(0, 1, 1),
            saved: Amount::ZERO,
            category: CATEGORIES[listed.category],
            // A tag given twice is one.
            tags: [tags.clone(), tags].concat(),
        },
        0,
    )
}

fn reloaded(entry: &Entry) -> Entry {
    let mut out = Encoded::default();
    entry.save(&mut out);
    let mut from = Decoder::new(&out.0);
    let loaded = Entry::load(&mut from, 0).unwrap();
    from.finish().unwrap();
    loaded
}

/// A million steps of sets, copies, deletions, reloads and clears by category, by tag, of all and by FLUSHALL: what readers
/// see, what is counted, and what each clear replies.
#[test]
fn entries_are_cleared_as_a_list_would_be() {
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
                entries[slot] = Some((new_entry(&listed), listed));
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
                    // What was cleared is loaded as cleared in every respect.
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
                // The server frees them later, in whatever order.
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
