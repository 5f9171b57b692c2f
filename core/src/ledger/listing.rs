//! What a reader of a ledger's changes gets, and what it acknowledges.

use super::credits::Credits;
use super::feed::{Feed, KeyPlace, NEW, OLD, VERSION_MAX};
use super::series::Series;
use super::value::Ledger;
use crate::calendar::{Day, Month, Period};
use crate::money::Amount;

impl Ledger {
    /// The version of the last change of spend and credits; 0 if there was none.
    pub fn version(&self) -> u64 {
        self.feed.version
    }

    /// The version for a change at `now_us`, in unix microseconds, by a node that has seen versions up to `last`.
    pub fn next_version(&self, now_us: u64, last: u64) -> u64 {
        now_us.max(last + 1).max(self.feed.version + 1).min(VERSION_MAX)
    }

    /// The version that a reader last acknowledged at this place; 0 if there is none.
    pub fn acknowledged(&self, place: KeyPlace) -> u64 {
        if self.feed.place == place { self.feed.acknowledged } else { 0 }
    }

    /// The version that a reader last acknowledged, at any place.
    pub fn last_acknowledged(&self) -> u64 {
        self.feed.acknowledged
    }

    /// Whether the ledger has something for a reader.
    pub fn is_listed(&self, place: KeyPlace) -> bool {
        self.acknowledged(place) < self.feed.version
    }

    /// Whether the ledger was acknowledged at another place, so that it must be listed anew here.
    pub fn is_moved(&self, place: KeyPlace) -> bool {
        self.feed.place != KeyPlace::NONE && self.feed.place != place
    }

    /// The first version of this ledger. What a reader has stored from this place under an older version is of another
    /// ledger.
    pub fn since(&self) -> u64 {
        self.feed.since
    }

    /// What a reader has to store: the total, then the months and days that changed, each with its first day. The total has
    /// the calendar's first day.
    pub fn listed(&self) -> impl Iterator<Item = (Period, Day, Amount)> + '_ {
        let month = |(number, amount)| Some((Period::Month, Month::from_number(number)?.first_day(), amount));
        let day = |(number, amount)| Some((Period::Day, Day::from_number(number)?, amount));
        let months = self.months.marked().filter_map(month);
        std::iter::once((Period::Total, Day::MIN, self.total)).chain(months).chain(self.days.marked().filter_map(day))
    }

    /// The credits that a reader has to store: the one for `TOTAL`, then the months, weeks and days that changed, each
    /// with its first day.
    pub fn listed_credits(&self) -> impl Iterator<Item = (Period, Day, Amount)> + '_ {
        self.some_credits().into_iter().flat_map(Credits::marked)
    }

    /// Whether a reader at `place` that has stored `version`, and nothing since, is in step: all that it lacks is
    /// listed, and all that it has is of this ledger. This is certain only for the present version and the acknowledged
    /// one; with any other, the ledger must be listed anew.
    pub fn is_in_step(&self, version: u64, place: KeyPlace) -> bool {
        !self.is_moved(place) && (version == self.feed.version || version == self.acknowledged(place))
    }

    /// Whether [`Ledger::acknowledge`] would change anything: `version` is newer than the one acknowledged and is a
    /// version of this ledger, not of another one that was at this place, and the ledger need not be listed anew first.
    pub fn can_acknowledge(&self, version: u64, place: KeyPlace) -> bool {
        let Feed { version: last, since, .. } = self.feed;
        !self.is_moved(place) && self.acknowledged(place) < version && (since..=last).contains(&version)
    }

    /// Notes that a reader at `place` has stored what was listed under `version`. Changes nothing unless
    /// [`Ledger::can_acknowledge`] allows it.
    pub fn acknowledge(&mut self, version: u64, place: KeyPlace) {
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
    pub fn list_anew(&mut self, version: u64, place: KeyPlace) {
        self.feed.change(version);
        let version = self.feed.version;
        self.feed = Feed { version, acknowledged: 0, cut: 0, since: version, place };
        self.mark(|_| NEW);
    }

    fn mark(&mut self, marks: fn(u8) -> u8) {
        let each = |series: &mut Series| series.mark(marks);
        each(&mut self.months);
        each(&mut self.days);
        if let Some(credits) = self.holds.as_mut().and_then(|holds| holds.credits.as_mut()) {
            credits.mark(marks);
        }
    }
}
