//! The exact sliding window: at most `limit` units in any `(now - window, now]`.
//!
//! Admitted units are kept as (time since the previous pair, units) pairs in chunks of a few hundred bytes, one or two
//! bytes a pair at usual rates. Only admissions are stored; a denied request leaves no trace.
//!
//! Cost: an admission appends a pair and drops chunks that have left the window, amortised O(1). A decision moves a
//! cursor over the pairs that left the window since the last decision, each pair once, and finds the unit that must leave
//! before the request fits by binary search over chunks and a walk of one chunk at most; the walk's result is kept, so
//! that each of many denied requests is O(1). Cursor and kept result are hints and not part of the value: they change on a
//! read, and are neither saved nor digested.

mod chunk;
mod edit;
mod pair;
mod rule;
mod saved;
mod value;

pub use rule::Rule;
pub use value::{SlidingWindow, WindowState};

#[cfg(test)]
mod tests;
