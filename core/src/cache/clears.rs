//! The names that were cleared while leases were out: a value that was computed under an older lease must not come back.
//!
//! A lease on a missing key does not know the tags that its value will have: those come with the value. So the clears are
//! remembered, and compared with the value's names when it comes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The kinds of names that entries are cleared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The category of an entry.
    Category,
    /// One of its tags.
    Tag,
}

type ClearedName = (Kind, Arc<[u8]>);

/// The last clear of each name, numbered in one sequence with the grants of leases.
#[derive(Debug)]
pub(super) struct Clears {
    by_name: HashMap<ClearedName, u64>,
    by_number: BTreeMap<u64, ClearedName>,
    names_max: usize,
    /// The last clear that was forgotten to make room: it may have been of any name.
    forgotten: u64,
}

impl Clears {
    pub fn new(names_max: usize) -> Self {
        Self { by_name: HashMap::new(), by_number: BTreeMap::new(), names_max, forgotten: 0 }
    }

    /// Remembers a clear. `number` is greater than any before.
    pub fn add(&mut self, kind: Kind, name: &[u8], number: u64) {
        let name = (kind, Arc::from(name));
        self.by_number.insert(number, name.clone());
        if let Some(before) = self.by_name.insert(name, number) {
            self.by_number.remove(&before);
        }
        if self.by_name.len() > self.names_max
            && let Some((number, name)) = self.by_number.pop_first()
        {
            self.by_name.remove(&name);
            self.forgotten = number;
        }
    }

    /// Whether the name was cleared since `number`; also if that is too long ago to tell.
    pub fn since(&self, number: u64, kind: Kind, name: &[u8]) -> bool {
        number < self.forgotten
            || self.by_name.get(&(kind, Arc::from(name))).is_some_and(|&cleared_at| number < cleared_at)
    }

    /// Forgets all clears: there is no lease that is older.
    pub fn forget(&mut self) {
        self.by_name.clear();
        self.by_number.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against all clears there were, in their order.
    #[test]
    fn a_clear_is_known_until_as_many_names_were_cleared_after_it() {
        const NAMES_MAX: usize = 8;
        let (mut clears, mut all) = (Clears::new(NAMES_MAX), Vec::new());
        let (mut seen, mut forgot_at) = ([0_u32; 4], 0);
        let mut state = 7_u64;
        let mut below = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        for number in 1..=1_000_000_u64 {
            let name = [below(16) as u8];
            let kind = if below(2) == 0 { Kind::Category } else { Kind::Tag };
            match below(4) {
                0 => {
                    clears.add(kind, &name, number);
                    all.push((number, kind, name));
                }
                1 if below(100) == 0 => {
                    clears.forget();
                    assert!(!clears.since(number, kind, &name));
                    all.clear();
                    forgot_at = number;
                    seen[3] += 1;
                }
                _ => {
                    let since = number.saturating_sub(below(80)).max(forgot_at);
                    let mut names = Vec::new();
                    for &(_, kind, name) in all.iter().rev().take_while(|clear| clear.0 > since) {
                        if !names.contains(&(kind, name)) {
                            names.push((kind, name));
                        }
                    }
                    let known = clears.since(since, kind, &name);
                    match names.contains(&(kind, name)) {
                        true => assert!(known),
                        // Nothing is made up while there is room.
                        false => assert!(!known || names.len() > NAMES_MAX),
                    }
                    seen[usize::from(known)] += 1;
                    seen[2] += u32::from(known && !names.contains(&(kind, name)));
                }
            }
            assert!(clears.by_name.len() <= NAMES_MAX && clears.by_name.len() == clears.by_number.len());
        }
        assert!(seen.iter().all(|&count| count > 1_000), "{seen:?}");
    }
}
