//! Clears that are remembered for entries that come from other nodes of a cluster.
//!
//! All nodes are told of a clear one after the other. An entry that moves meanwhile, from a node that has not been told yet
//! to one that has been told already, would escape. So a node keeps a mark of each clear with its time, and compares it
//! with the time at which an arriving entry was set.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::clears::Kind;

/// The most names whose last clear is remembered. Beyond it, entries that are not newer than the clear that was forgotten
/// last count as cleared: a cached value that is lost is computed again.
const NAMES_MAX: usize = 1 << 16;

/// How long a clear is remembered at least, by the times of the clears after it, in milliseconds: ten minutes. It has to
/// last for as long as all nodes are being told, and an entry is on its way.
const KEPT_MS: i64 = 600_000;

/// Before any time at which an entry can be set.
pub const NEVER_MS: i64 = -1;

type Name = (Kind, Arc<[u8]>);

/// The time of a clear, and its place among those of the same millisecond.
type Place = (i64, u64);

/// The last clear of each name, and of all entries.
#[derive(Debug)]
pub struct Marks {
    by_name: HashMap<Name, Place>,
    by_place: BTreeMap<Place, Name>,
    names_max: usize,
    count: u64,
    last_ms: i64,
    all_ms: i64,
    /// The time of the last clear that was forgotten to make room: it may have been of any name.
    forgotten_ms: i64,
}

impl Default for Marks {
    fn default() -> Self {
        Self::new(NAMES_MAX)
    }
}

impl Marks {
    fn new(names_max: usize) -> Self {
        Self {
            by_name: HashMap::new(),
            by_place: BTreeMap::new(),
            names_max,
            count: 0,
            last_ms: NEVER_MS,
            all_ms: NEVER_MS,
            forgotten_ms: NEVER_MS,
        }
    }

    /// The time of the last clear; [`NEVER_MS`] if there was none.
    pub fn last_ms(&self) -> i64 {
        self.last_ms
    }

    /// Remembers that all entries of a name, or with `None` all entries, were cleared at `at_ms`.
    pub fn add(&mut self, of: Option<(Kind, &[u8])>, at_ms: i64) {
        self.last_ms = self.last_ms.max(at_ms);
        let Some((kind, name)) = of else {
            *self = Self { last_ms: self.last_ms, all_ms: self.last_ms, ..Self::new(self.names_max) };
            return;
        };
        self.count += 1;
        let (place, name) = ((self.last_ms, self.count), (kind, Arc::from(name)));
        if let Some(before) = self.by_name.insert(name.clone(), place) {
            self.by_place.remove(&before);
        }
        self.by_place.insert(place, name);
        let kept_from_ms = self.last_ms.saturating_sub(KEPT_MS);
        if self.forgotten_ms < kept_from_ms {
            self.forgotten_ms = NEVER_MS;
        }
        while let Some(first) = self.by_place.first_entry() {
            let (at_ms, _) = *first.key();
            if at_ms >= kept_from_ms && self.by_name.len() <= self.names_max {
                break;
            }
            self.by_name.remove(&first.remove());
            if at_ms >= kept_from_ms {
                self.forgotten_ms = at_ms;
            }
        }
    }

    /// Whether an entry that was set at `set_at_ms` was cleared by its category, by one of its tags or with all others.
    pub fn covers<'a>(&self, set_at_ms: i64, category: &'a [u8], tags: impl Iterator<Item = &'a [u8]>) -> bool {
        if set_at_ms > self.last_ms {
            return false;
        }
        let mut names = tags.map(|tag| (Kind::Tag, Arc::from(tag))).chain([(Kind::Category, Arc::from(category))]);
        set_at_ms <= self.all_ms.max(self.forgotten_ms)
            || names.any(|name: Name| self.by_name.get(&name).is_some_and(|(at_ms, _)| set_at_ms <= *at_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&[u8]; 6] = [b"a", b"b", b"c", b"d", b"e", b"f"];
    const SMALL: usize = 8;

    /// Against a list of all clears, with clears so far apart that some are forgotten, and so close that there is no room.
    #[test]
    fn an_arriving_entry_is_cleared_by_what_came_after_it_was_set() {
        let mut state = 11_u64;
        let mut below = move |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        let (mut marks, mut all): (Marks, Vec<(i64, Option<Name>)>) = (Marks::new(SMALL), Vec::new());
        let (mut now_ms, mut seen) = (10 * KEPT_MS, [0_u32; 4]);
        for _ in 0..1_000_000_u32 {
            let name = NAMES[below(6) as usize];
            let kind = if below(2) == 0 { Kind::Category } else { Kind::Tag };
            match below(8) {
                0 => {
                    now_ms += match below(50) {
                        0 => KEPT_MS / 2 + below(KEPT_MS as u64) as i64,
                        1..=9 => below(3) as i64,
                        _ => below(KEPT_MS as u64 / 20) as i64,
                    };
                    let of = (below(100) > 0).then_some((kind, name));
                    marks.add(of, now_ms);
                    all.push((now_ms, of.map(|(kind, name)| (kind, Arc::from(name)))));
                    // No entry is older than this.
                    all.retain(|(at_ms, _)| now_ms - at_ms <= 2 * KEPT_MS);
                }
                _ => {
                    let set_at_ms = now_ms - below(KEPT_MS as u64 * 2) as i64 + below(2) as i64;
                    let tag = NAMES[below(6) as usize];
                    let own = [(Kind::Category, Arc::from(name)), (Kind::Tag, Arc::from(tag))];
                    let is_own = |of: &Option<Name>| of.as_ref().is_none_or(|of| own.contains(of));
                    let cleared = all.iter().any(|(at_ms, of)| set_at_ms <= *at_ms && is_own(of));
                    let recently = |at_ms: i64| at_ms >= marks.last_ms - KEPT_MS;
                    let recent = all
                        .iter()
                        .any(|(at_ms, of)| set_at_ms <= *at_ms && is_own(of) && (of.is_none() || recently(*at_ms)));
                    let covered = marks.covers(set_at_ms, name, [tag].into_iter());
                    // All clears of the last ten minutes count.
                    assert!(covered || !recent);
                    // While there is room, only clears that happened do.
                    let names = all.iter().filter(|(at_ms, _)| recently(*at_ms)).count();
                    assert!(!covered || cleared || names > SMALL);
                    seen[usize::from(covered)] += 1;
                    seen[2] += u32::from(covered && !cleared);
                    seen[3] += u32::from(!covered && cleared);
                }
            }
            assert!(marks.by_name.len() <= SMALL && marks.by_name.len() == marks.by_place.len());
        }
        assert!(seen.iter().all(|&count| count > 1_000), "{seen:?}");
    }

    #[test]
    fn an_entry_set_after_the_last_clear_is_never_covered() {
        let mut marks = Marks::default();
        assert!(!marks.covers(0, b"c", [].into_iter()));
        marks.add(Some((Kind::Tag, b"t")), 1_000);
        marks.add(Some((Kind::Category, b"c")), 999);
        // The second clear counts as of the first one's time: times never go back.
        assert_eq!(marks.last_ms(), 1_000);
        let covers = |set_at_ms, category: &'static [u8], tag: &'static [u8]| {
            marks.covers(set_at_ms, category, [tag].into_iter())
        };
        assert!(covers(1_000, b"c", b"u") && covers(1_000, b"d", b"t") && covers(5, b"c", b"t"));
        assert!(!covers(1_000, b"d", b"u") && !covers(1_000, b"t", b"c") && !covers(1_001, b"c", b"t"));
    }
}
