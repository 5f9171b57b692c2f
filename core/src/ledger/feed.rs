//! How an external reader follows a ledger: the versions of its changes, and what the reader has acknowledged.
//!
//! # Versions
//!
//! A version is a hybrid logical clock: the time of the change in microseconds, or one more than the previous version,
//! whichever is larger. It grows with each change of the spend, over restarts and failovers, and even if a key is
//! deleted and created again. (Kulkarni et al., "Logical Physical Clocks", 2014.) If a failover leaves two primaries,
//! they give different versions to different changes, unless the clock of the second is behind what was lost with the
//! first.
//!
//! # What is listed
//!
//! The days and months that changed after the version last acknowledged, and the total. An acknowledgement names the
//! version that was read, so later changes stay listed. To tell them apart, each day and month has two marks: `NEW` for
//! a change after the last acknowledgement came in, `OLD` for a change before it. A day or month that no longer changes
//! is therefore listed until the second acknowledgement at most, however busy the ledger is.
//!
//! The amounts listed are the ledger's own sums, not differences: a reader replaces its amounts with the listed ones,
//! any number of times.
//!
//! # Ledgers that are listed anew
//!
//! A reader identifies a ledger by its place: its key and database. If a ledger moves to another place (RENAME, COPY,
//! MOVE, RESTORE, SWAPDB), or returns to an earlier state (RESTORE, a failover, a backup), the reader has other amounts
//! for that place, or none. The ledger is then listed anew: with everything it keeps, under a version larger than all
//! before, and [`Ledger::since`](super::Ledger::since) says that older versions are not of this ledger.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use crate::codec::{Corrupt, Reader, Writer};

/// The largest version: 2^53, the largest integer that every client language can represent. In microseconds, the year
/// 2255.
pub const VERSION_MAX: u64 = 1 << 53;

/// Changed since the last acknowledgement came in.
pub(super) const NEW: u8 = 1;
/// Changed before the last acknowledgement came in, and not acknowledged by it.
pub(super) const OLD: u8 = 2;

/// A ledger's place, its database and key, as 64 bits of XXH3. Two places have the same hash with a probability of
/// 2^-64; a ledger that moves from one to the other is then not listed anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPlace(u64);

impl KeyPlace {
    pub(super) const NONE: KeyPlace = KeyPlace(0);

    /// The place of a key in a database.
    pub fn new(database: i32, key: &[u8]) -> KeyPlace {
        KeyPlace(xxhash_rust::xxh3::xxh3_64_with_seed(key, u64::from(database.unsigned_abs())).max(1))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Feed {
    /// The version of the last change; 0 if there was none.
    pub(super) version: u64,
    /// The last version that was acknowledged.
    pub(super) acknowledged: u64,
    /// The version at the time of the last acknowledgement, which separates `OLD` and `NEW`.
    pub(super) cut: u64,
    /// The first version of this ledger at its place.
    pub(super) since: u64,
    /// The place at which it was acknowledged.
    pub(super) place: KeyPlace,
}

impl Default for Feed {
    fn default() -> Self {
        Feed { version: 0, acknowledged: 0, cut: 0, since: 0, place: KeyPlace::NONE }
    }
}

impl Feed {
    pub(super) fn change(&mut self, version: u64) {
        self.version = version.max(self.version + 1).min(VERSION_MAX);
        if self.since == 0 {
            self.since = self.version;
        }
    }

    pub(super) fn save(&self, out: &mut dyn Writer) {
        for field in [self.version, self.acknowledged, self.cut, self.since, self.place.0] {
            out.uint(field);
        }
    }

    pub(super) fn load(from: &mut dyn Reader) -> Result<Feed, Corrupt> {
        let version = from.uint_max(VERSION_MAX, "a version out of bounds")?;
        let mut before = || from.uint_max(version, "a version above the last");
        let (acknowledged, cut, since) = (before()?, before()?, before()?);
        Ok(Feed { version, acknowledged, cut, since, place: KeyPlace(from.uint()?) })
    }
}
