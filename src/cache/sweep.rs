//! Deletes entries that a scan has found.

use super::entry::Entry;
use super::flights;
use crate::server::{Call, Key};
use crate::stats::STATS;

/// Deletes the entry under `key`, if there still is one that `is_meant`. Returns whether readers still saw it.
pub fn delete_if(call: &mut Call, key: Key, is_meant: impl Fn(&Entry) -> bool) -> bool {
    // A key that holds another type by now keeps it.
    let Ok(mut opened) = call.open::<Entry>(key) else { return false };
    let Some(entry) = opened.get().filter(|entry| is_meant(entry)) else { return false };
    let visible = !entry.is_cleared();
    if visible {
        STATS.cache_cleared.add(1);
        entry.category().counters().clears.add(1);
    }
    opened.delete();
    drop(opened);
    // One by one: in a cluster, keys may be in different slots.
    let replicate = || call.replicate_deletion(&[key]);
    if visible {
        replicate();
    } else {
        flights::while_reclaiming(replicate);
    }
    visible
}
