//! Bounds that several parts of an index share.

/// The most dimensions of a vector.
pub const DIMENSIONS_MAX: usize = 4_096;

/// The longest id of an entry in bytes.
pub const ID_BYTES_MAX: usize = 256;

/// The longest question in bytes that is kept with an entry.
pub const TEXT_BYTES_MAX: usize = 8_192;

/// The most entries of an index.
pub const ENTRIES_MAX: usize = 1_000_000;

/// The most entries that one search returns.
pub const COUNT_MAX: usize = 100;

/// The most entries that one set removes to make room.
pub const REMOVED_MAX: usize = 64;
