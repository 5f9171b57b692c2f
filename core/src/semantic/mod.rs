//! The semantic cache: entries that are found by the similarity of their vectors.
//!
//! An index holds entries by id. Each has a vector, in eight bits for each dimension, and a value. A search compares a
//! question's vector with those of all entries: there is no graph, so that it needs no tuning, and an entry that is set,
//! expired or cleared is found or not found from then on.

mod entry;
mod guard;
mod index;
mod kernel;
mod pieces;
mod room;
mod rows;
mod saved;
mod search;
mod similarity;
mod vector;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use entry::{Entry, Group, New};
pub use guard::Guards;
pub use index::Index;
pub use room::Limits;
pub use search::{Answer, Match, Question, Scratch};
pub use similarity::Similarity;
pub use vector::{NotAVector, Query, Vector};

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
