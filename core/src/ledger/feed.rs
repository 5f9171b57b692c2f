//! How a reader outside follows a ledger: the versions of its changes, and what was acknowledged.
//!
//! # Versions
//!
//! A version is a hybrid logical clock: the time of the change in microseconds, or one more than the version before it
//! where that is larger. It grows with each change of the spend, over restarts and failovers, and where a key is deleted
//! and made again. (Kulkarni et al., "Logical Physical Clocks", 2014.) Two primaries that part ways in a failover give
//! different versions to different changes, unless the clock of the second is behind what was lost with the first.
//!
//! # What is listed
//!
//! The days and months that changed after the version last acknowledged, and the total. An acknowledgement names the
//! version that was read: what has changed since then stays listed. To tell the two apart, each entry has two marks: `NEW`
//! for a change after the last acknowledgement came in, `OLD` for one before it. So an entry that changes no more is
//! listed until the second acknowledgement at the latest, however busy the ledger is.
//!
//! What is listed is what the ledger has, not what was added: a reader that replaces its own amounts by those listed may
//! do so any number of times.
//!
//! # Ledgers that are listed anew
//!
//! A reader knows a ledger by its place: its key and database. Where a ledger comes to another place (RENAME, COPY, MOVE,
//! RESTORE, SWAPDB), or comes back from the past (RESTORE, a failover, a backup), the reader has other amounts under
//! that place, or none. It is then listed anew: with all it keeps, under a version larger than all before, and
//! [`Ledger::since`] tells that what is older is not of this ledger.

use super::{Ledger, Month, Series};
use crate::calendar::{Day, Period};
use crate::codec::{Corrupt, Reader, Writer};
use crate::money::Amount;

/// The largest version: 2^53, the largest integer that every client language holds. As microseconds, the year 2255.
pub const VERSION_MAX: u64 = 1 << 53;

/// Changed since the last acknowledgement came in.
pub(super) const NEW: u8 = 1;
/// Changed before the last acknowledgement came in, and not acknowledged by it.
const OLD: u8 = 2;

/// A ledger's place: its database and key, as 64 bits of XXH3. A place that another is taken for, by a chance of 2^-64,
/// is not listed anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(u64);

impl Place {
    const NONE: Place = Place(0);

    pub fn new(database: i32, key: &[u8]) -> Place {
        Place(xxhash_rust::xxh3::xxh3_64_with_seed(key, u64::from(database.unsigned_abs())).max(1))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Feed {
    /// Of the last change; 0 where there was none.
    version: u64,
    /// The last that was acknowledged.
    acknowledged: u64,
    /// The version when an acknowledgement last came in: between `OLD` and `NEW`.
    cut: u64,
    /// The first version of this ledger at its place.
    since: u64,
    /// Where it was acknowledged.
    place: Place,
}

impl Default for Feed {
    fn default() -> Self {
        Feed { version: 0, acknowledged: 0, cut: 0, since: 0, place: Place::NONE }
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
        Ok(Feed { version, acknowledged, cut, since, place: Place(from.uint()?) })
    }
}

impl Ledger {
    /// The version of the last change of the spend; 0 where nothing was ever spent.
    pub fn version(&self) -> u64 {
        self.feed.version
    }

    /// The version for a change at `now_us`, in unix microseconds, by a node that has seen versions up to `last`.
    pub fn next_version(&self, now_us: u64, last: u64) -> u64 {
        now_us.max(last + 1).max(self.feed.version + 1).min(VERSION_MAX)
    }

    /// The version that a reader last acknowledged at this place.
    pub fn acknowledged(&self, place: Place) -> u64 {
        if self.feed.place == place { self.feed.acknowledged } else { 0 }
    }

    /// The version that a reader last acknowledged, at this place or at another.
    pub fn last_acknowledged(&self) -> u64 {
        self.feed.acknowledged
    }

    /// Whether a reader has something to read.
    pub fn is_listed(&self, place: Place) -> bool {
        self.acknowledged(place) < self.feed.version
    }

    /// Whether the ledger was acknowledged elsewhere, so that it must be listed anew here.
    pub fn is_moved(&self, place: Place) -> bool {
        self.feed.place != Place::NONE && self.feed.place != place
    }

    /// The first version that belongs to this ledger: what a reader has of its place from before is of another.
    pub fn since(&self) -> u64 {
        self.feed.since
    }

    /// What a reader has to store: the total, then the months and days that changed, each by its first day. The total's is
    /// the calendar's.
    pub fn listed(&self) -> impl Iterator<Item = (Period, Day, Amount)> + '_ {
        let month = |(number, amount)| Some((Period::Month, Month::from_number(number)?.first_day(), amount));
        let day = |(number, amount)| Some((Period::Day, Day::from_number(number)?, amount));
        let months = self.months.marked().filter_map(month);
        std::iter::once((Period::Total, Day::MIN, self.total)).chain(months).chain(self.days.marked().filter_map(day))
    }

    /// Whether a reader at `place` that has stored `version`, and nothing else since, is in step: what it lacks is listed,
    /// and nothing it has is of a past that this ledger did not have. Certain are only the present version and the one
    /// acknowledged; after any other, the ledger must be listed anew.
    pub fn is_in_step(&self, version: u64, place: Place) -> bool {
        !self.is_moved(place) && (version == self.feed.version || version == self.acknowledged(place))
    }

    /// Whether [`Ledger::acknowledge`] would change anything.
    pub fn can_acknowledge(&self, version: u64, place: Place) -> bool {
        let Feed { version: last, since, .. } = self.feed;
        !self.is_moved(place) && self.acknowledged(place) < version && (since..=last).contains(&version)
    }

    /// A reader at `place` has stored what was listed under `version`. Nothing changes where that is no news, where it is of
    /// another ledger that was at this place, and where the ledger must be listed anew first.
    pub fn acknowledge(&mut self, version: u64, place: Place) {
        if !self.can_acknowledge(version, place) {
            return;
        }
        let feed = &mut self.feed;
        let marks: fn(u8) -> u8 = match version {
            _ if version == feed.version => |_| 0,
            _ if version >= feed.cut => |marks| if marks & NEW != 0 { OLD } else { 0 },
            _ => |marks| marks,
        };
        if version >= feed.cut {
            feed.cut = feed.version;
        }
        (feed.acknowledged, feed.place) = (version, place);
        self.mark(marks);
    }

    /// Lists everything anew at `place`, under `version`, which is [`Ledger::next_version`] or larger.
    pub fn list_anew(&mut self, version: u64, place: Place) {
        self.feed.change(version);
        let version = self.feed.version;
        self.feed = Feed { version, acknowledged: 0, cut: 0, since: version, place };
        self.mark(|_| NEW);
    }

    fn mark(&mut self, marks: fn(u8) -> u8) {
        let each = |series: &mut Series| series.mark(marks);
        each(&mut self.months);
        each(&mut self.days);
    }
}
