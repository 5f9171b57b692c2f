//! Which groups an entry joins: those of its names, or, if it has been cleared, groups that are cleared.

use gateway_core::cache::without_repeats;

use super::groups::{self, Joined};
use super::marks;

/// The groups of an entry that was set at `created_at_ms`, each tag once. If it comes from elsewhere, it may have been
/// cleared here since.
pub fn of_new(category: &[u8], mut tags: Vec<&[u8]>, created_at_ms: i64) -> Joined {
    without_repeats(&mut tags);
    match marks::covers(created_at_ms, category, tags.iter().copied()) {
        true => groups::of_cleared(category, &tags),
        false => groups::of_new(category, &tags),
    }
}

/// The groups of an entry that is loaded, and was perhaps saved as cleared.
pub fn of_loaded(category: &[u8], mut tags: Vec<&[u8]>, created_at_ms: i64, was_cleared: bool) -> Joined {
    without_repeats(&mut tags);
    match was_cleared || marks::covers(created_at_ms, category, tags.iter().copied()) {
        true => groups::of_cleared(category, &tags),
        false => groups::of_loaded(category, &tags),
    }
}
