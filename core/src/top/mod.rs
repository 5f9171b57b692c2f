//! Heavy hitters: the keys that were refused most, or used most of a meter, in the last minute and in the last hour.
//!
//! Nobody can count every key of a node in bounded memory. What is kept here finds the heavy ones, and says for each how
//! far its count may be off: the true count is at most `count` and at least `count - error`.
//!
//! **One span of time** is counted by a [`table`] of at most `2 * keys` names, after Misra and Gries, "Finding repeated
//! elements" (1982), in the weighted form with amortised constant cost of Anderson, Bevin, Lang, Liberty, Rhodes and
//! Thaler, "A High-Performance Algorithm for Identifying Frequent Items in Data Streams" (IMC 2017,
//! <https://arxiv.org/abs/1705.07001>): a full table gives up its lighter half at once, and the heaviest count that it
//! gives up becomes the floor, which is the most that a name outside the table can have counted. Written with floor plus
//! excess, such a count is that of Space-Saving (Metwally, Agrawal and El Abbadi, 2005).
//!
//! In front of the table stand cells, as in Homem and Carvalho, "Finding top-k elements in data streams" (Information
//! Sciences 180, 2010): a name outside the table counts in the cell of its fingerprint, and enters the table once the cell
//! exceeds the floor. So most of the rare names, of which there are many, cost an addition and displace nothing. When the
//! table is full, the floor rises by a part of what has ended in cells, too: else names that are all about as rare would
//! pass it all the time.
//!
//! **The floor is at most `weight / (keys + 1)`**, whatever the order of the names, so that a name with a larger share is
//! in the table. Proof: let the potential be the sum of the excesses. A weight `w` that does not end in a cell raises it by
//! at most `w`: an entry in the table by `w`, and one that enters by `cell + w - floor`, where no cell exceeds the floor. When
//! the floor rises to an excess, by `d`, at least `keys + 1` entries have an excess of `d` or more, and each of them loses
//! `d`; what enters and leaves between is never negative. So `(keys + 1)` times these rises is at most the weight that
//! did not end in cells. The other rises lower excesses, too, and `(keys + 1)` times their sum is at most the weight that did.
//!
//! **The last minute and the last hour** are spans in a row ([`horizons`]): twelve of 5 seconds, twelve of 5 minutes, and
//! the current ones. A span of 5 minutes is the union of sixty of 5 seconds, merged as Agarwal, Cormode, Huang, Phillips,
//! Wei and Yi, "Mergeable summaries" (PODS 2012), prove that it can be: the floors add up, and the sum of all floors of an
//! hour is still at most the hour's weight by `keys + 1`, since merging moves excesses and never adds to them. So each count
//! is of the last 60 to 65 seconds, or minutes.

mod filtered;
mod horizons;
mod lists;
#[cfg(test)]
mod model;
mod name;
mod table;
#[cfg(test)]
mod tests;

pub use horizons::{By, Horizons, Row, SPAN_MS};
pub use lists::{Charged, Meter, OTHERS_MAX, Top};
pub use name::{KEY_SHOWN_MAX, LABEL_MAX, Label, Name};

/// The most keys of which a list can be sure: with more, a reply would take more than a millisecond.
pub const KEYS_MAX: usize = 512;
