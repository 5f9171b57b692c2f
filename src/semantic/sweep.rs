//! Removes what was cleared from indexes, and indexes whose keys match a pattern.

use super::member::SemanticIndex;
use super::removal;
use crate::server::{Call, Key, Str};
use crate::stats::STATS;

/// How many rows are looked at in one slice: some tens of microseconds.
const ROWS: usize = 1_000;

/// Removes the entries of some rows before `end` that were cleared. Returns the row to go on before, `None` at the end.
pub fn remove_cleared(call: &mut Call, key: Key, end: usize) -> Option<usize> {
    let now_ms = call.now_ms();
    let mut opened = call.open::<SemanticIndex>(key).ok()?;
    let index = opened.get()?;
    let (ids, next) = index.cleared(end, ROWS);
    for id in &ids {
        removal::remove(index, id, now_ms);
    }
    if !ids.is_empty() {
        let was_deleted = removal::settle(&mut opened);
        drop(opened);
        let ids = removal::owned(&ids);
        let ids: Vec<Str> = ids.iter().map(|id| id.key()).collect();
        removal::replicate(call, key, &ids, was_deleted);
    }
    (next > 0).then_some(next)
}

/// Deletes the index under `key`, if there still is one. Returns how many entries readers saw.
pub fn delete(call: &mut Call, key: Key) -> u64 {
    let now_ms = call.now_ms();
    let Ok(mut opened) = call.open::<SemanticIndex>(key) else { return 0 };
    let Some(index) = opened.get() else { return 0 };
    let mut seen = 0;
    for (entry, expires_at_ms) in index.entries() {
        if expires_at_ms > now_ms && !entry.is_cleared() {
            entry.category().counters().clears.add(1);
            seen += 1;
        }
    }
    STATS.cache_cleared.add(seen);
    opened.delete();
    drop(opened);
    call.replicate_deletion(&[key]);
    seen
}
