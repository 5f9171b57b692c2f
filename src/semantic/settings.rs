//! The family's settings.

use gateway_core::semantic::{ENTRIES_MAX, Limits};

use crate::server::config::Number;

/// The most entries of an index. At both defaults a search takes less than a millisecond with AVX2, and a MIGRATE, which holds
/// both nodes, less than a second.
pub static MAX_ENTRIES: Number = Number::new("sem-max-entries", 50_000, 1, ENTRIES_MAX as i64);

/// The most bytes of an index: vectors, values and everything else that an entry takes.
pub static MAX_BYTES: Number = Number::new("sem-max-bytes", 64 << 20, 1, 1 << 40).in_bytes();

pub fn limits() -> Limits {
    // Both are positive.
    Limits { max_entries: MAX_ENTRIES.get() as usize, max_bytes: MAX_BYTES.get() as usize }
}
