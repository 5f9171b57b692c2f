//! The semantic cache: entries that are found by the similarity of their vectors.
//!
//! An index holds entries by id. Each has a vector, in eight bits for each dimension, and a value. A search compares a
//! question's vector with those of all entries: there is no graph, so that it needs no tuning, and an entry that is set,
//! expired or cleared is found or not found from then on.

mod bounds;
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

pub use bounds::{COUNT_MAX, DIMENSIONS_MAX, ENTRIES_MAX, ID_BYTES_MAX, REMOVED_MAX, TEXT_BYTES_MAX};
pub use entry::{Entry, Group, New};
pub use guard::Guards;
pub use index::Index;
pub use room::Limits;
pub use search::{Answer, Match, Question, Scratch};
pub use similarity::Similarity;
pub use vector::{NotAVector, Query, Vector};
