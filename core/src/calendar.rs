//! Civil days, weeks and months in one IANA time zone: which of them a time belongs to, and when they begin and end.
//!
//! The zone data is compiled in, so that every node draws the same boundaries.

use std::fmt;

use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

use crate::TIME_MAX_MS;

const EPOCH: Date = Date::constant(1970, 1, 1);
const HOURS_PER_DAY: i64 = 24;
const DAYS_PER_WEEK: i32 = 7;
const MONTHS_PER_YEAR: i32 = 12;

/// Where the last period ends: just behind the latest time there is.
const TIME_END_MS: i64 = TIME_MAX_MS + 1;

/// A civil day of the years 1 to 9999, whatever the time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i32);

impl Day {
    /// 0001-01-01, a Monday: no week begins outside the range.
    pub const MIN: Day = Day(-719_162);
    /// 9999-12-31.
    pub const MAX: Day = Day(2_932_896);

    /// The day so many days after 1970-01-01. `None` outside the years 1 to 9999.
    pub fn from_number(number: i32) -> Option<Day> {
        (Self::MIN.0..=Self::MAX.0).contains(&number).then_some(Day(number))
    }

    /// Days since 1970-01-01.
    pub fn number(self) -> i32 {
        self.0
    }

    pub fn month(self) -> Month {
        Month::of(self.date())
    }

    /// The Monday and the Sunday of the week that this day is in.
    pub fn week(self) -> (Day, Day) {
        // 1970-01-01 was a Thursday.
        let monday = self.0 - (self.0 + 3).rem_euclid(DAYS_PER_WEEK);
        (Day(monday), Day((monday + DAYS_PER_WEEK - 1).min(Self::MAX.0)))
    }

    fn of(date: Date) -> Day {
        // Some millions at most.
        Day((date.duration_since(EPOCH).as_hours() / HOURS_PER_DAY) as i32)
    }

    fn date(self) -> Date {
        EPOCH.saturating_add(SignedDuration::from_hours(i64::from(self.0) * HOURS_PER_DAY))
    }

    fn next(self) -> Option<Day> {
        Self::from_number(self.0 + 1)
    }
}

/// `yyyy-mm-dd`
impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:02}", self.month(), self.date().day())
    }
}

/// A civil month of the years 1 to 9999, whatever the time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(i32);

impl Month {
    /// 0001-01.
    pub const MIN: Month = Month(MONTHS_PER_YEAR);
    /// 9999-12.
    pub const MAX: Month = Month(9_999 * MONTHS_PER_YEAR + 11);

    /// The month of the number year * 12 + month, January being 0. `None` outside the years 1 to 9999.
    pub fn from_number(number: i32) -> Option<Month> {
        (Self::MIN.0..=Self::MAX.0).contains(&number).then_some(Month(number))
    }

    /// Year * 12 + month, January being 0.
    pub fn number(self) -> i32 {
        self.0
    }

    pub fn first_day(self) -> Day {
        let (year, month) = self.year_and_month();
        // Every month in the range has a first day.
        Date::new(year, month, 1).map_or(Day::MAX, Day::of)
    }

    pub fn last_day(self) -> Day {
        self.next().map_or(Day::MAX, |next| Day(next.first_day().0 - 1))
    }

    fn of(date: Date) -> Month {
        Month(i32::from(date.year()) * MONTHS_PER_YEAR + i32::from(date.month()) - 1)
    }

    fn year_and_month(self) -> (i16, i8) {
        ((self.0 / MONTHS_PER_YEAR) as i16, (self.0 % MONTHS_PER_YEAR) as i8 + 1)
    }

    fn next(self) -> Option<Month> {
        Self::from_number(self.0 + 1)
    }
}

/// `yyyy-mm`
impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month) = self.year_and_month();
        write!(f, "{year:04}-{month:02}")
    }
}

/// A month or a day as a command names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CivilDate {
    Month(Month),
    Day(Day),
}

/// A text that is neither `yyyy-mm` nor `yyyy-mm-dd`, or names no date of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotADate;

impl fmt::Display for NotADate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a date")
    }
}

impl std::error::Error for NotADate {}

impl CivilDate {
    /// Reads `yyyy-mm` or `yyyy-mm-dd`, every digit present, of the years 0001 to 9999.
    pub fn parse(text: &[u8]) -> Result<CivilDate, NotADate> {
        let (year, month, day) = match *text {
            [y1, y2, y3, y4, b'-', m1, m2] => ([y1, y2, y3, y4], [m1, m2], None),
            [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] => ([y1, y2, y3, y4], [m1, m2], Some([d1, d2])),
            _ => return Err(NotADate),
        };
        let (year, month) = (number(&year)?, number(&month)?);
        if year == 0 {
            return Err(NotADate);
        }
        let date = Date::new(year, month as i8, day.map_or(Ok(1), |day| number(&day))? as i8).map_err(|_| NotADate)?;
        Ok(match day {
            Some(_) => CivilDate::Day(Day::of(date)),
            None => CivilDate::Month(Month::of(date)),
        })
    }
}

/// At most four digits.
fn number(digits: &[u8]) -> Result<i16, NotADate> {
    digits.iter().try_fold(0, |value, byte| match byte {
        b'0'..=b'9' => Ok(value * 10 + i16::from(byte - b'0')),
        _ => Err(NotADate),
    })
}

/// What a budget is for: a calendar period, or all time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    Day,
    /// From Monday on.
    Week,
    Month,
    Total,
}

impl Period {
    pub const ALL: [Period; 4] = [Period::Day, Period::Week, Period::Month, Period::Total];

    /// The first day of the period that `day` is in; the calendar's first of `Total`.
    pub fn first_day(self, day: Day) -> Day {
        match self {
            Period::Day => day,
            Period::Week => day.week().0,
            Period::Month => day.month().first_day(),
            Period::Total => Day::MIN,
        }
    }

    /// Reads a keyword, in upper or lower case.
    pub fn parse(text: &[u8]) -> Option<Period> {
        Self::ALL.into_iter().find(|period| period.name().as_bytes().eq_ignore_ascii_case(text))
    }

    /// The keyword.
    pub fn name(self) -> &'static str {
        match self {
            Period::Day => "DAY",
            Period::Week => "WEEK",
            Period::Month => "MONTH",
            Period::Total => "TOTAL",
        }
    }
}

/// A name that the IANA time zone database does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownTimeZone;

impl fmt::Display for UnknownTimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an IANA time zone")
    }
}

impl std::error::Error for UnknownTimeZone {}

/// From `start_ms` up to, not including, `end_ms`.
#[derive(Debug, Clone, Copy)]
struct Interval {
    start_ms: i64,
    end_ms: i64,
}

impl Interval {
    const EMPTY: Interval = Interval { start_ms: 0, end_ms: 0 };

    fn contains(self, at_ms: i64) -> bool {
        self.start_ms <= at_ms && at_ms < self.end_ms
    }
}

/// The calendar of a time zone.
///
/// Days are intervals that follow each other without gap or overlap: each runs from its first midnight, or where the
/// clocks skip midnight from the moment that stands for it, to the next day's. Where clocks are set back over midnight,
/// the hour that comes twice belongs to the new day; a day that a country skips is empty. Weeks and months are made of
/// whole days.
///
/// The day, week and month last asked for are remembered: asking again within them costs two comparisons.
#[derive(Debug, Clone)]
pub struct Calendar {
    zone: TimeZone,
    day: Day,
    day_interval: Interval,
    week_interval: Interval,
    month_interval: Interval,
}

impl Calendar {
    /// The calendar of an IANA time zone such as `Europe/Berlin`; case does not matter.
    pub fn new(name: &str) -> Result<Calendar, UnknownTimeZone> {
        match TimeZoneDatabase::bundled().get(name) {
            Ok(zone) if !zone.is_unknown() => Ok(Self::of(zone)),
            _ => Err(UnknownTimeZone),
        }
    }

    pub fn utc() -> Calendar {
        Self::of(TimeZone::UTC)
    }

    fn of(zone: TimeZone) -> Calendar {
        let empty = Interval::EMPTY;
        Calendar { zone, day: Day::MIN, day_interval: empty, week_interval: empty, month_interval: empty }
    }

    /// The zone's name, written as the database does.
    pub fn name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// The day that a unix time belongs to. Times outside `0..=TIME_MAX_MS` count as the nearest within. The last day
    /// (9999-12-30 or 9999-12-31, by zone) lasts to the end of time.
    pub fn day_of(&mut self, at_ms: i64) -> Day {
        let at_ms = at_ms.clamp(0, TIME_MAX_MS);
        if !self.day_interval.contains(at_ms) {
            (self.day, self.day_interval) = self.find_day(at_ms);
        }
        self.day
    }

    /// The first millisecond of the period that a unix time belongs to, which may be negative, and the first behind it.
    /// Times are taken as [`day_of`](Calendar::day_of) takes them; `Total` is all of them.
    pub fn bounds(&mut self, period: Period, at_ms: i64) -> (i64, i64) {
        let at_ms = at_ms.clamp(0, TIME_MAX_MS);
        let interval = match period {
            Period::Day => {
                self.day_of(at_ms);
                self.day_interval
            }
            Period::Week => {
                if !self.week_interval.contains(at_ms) {
                    let (monday, sunday) = self.day_of(at_ms).week();
                    self.week_interval = self.interval(monday, sunday.next());
                }
                self.week_interval
            }
            Period::Month => {
                if !self.month_interval.contains(at_ms) {
                    let month = self.day_of(at_ms).month();
                    self.month_interval = self.interval(month.first_day(), month.next().map(Month::first_day));
                }
                self.month_interval
            }
            Period::Total => Interval { start_ms: 0, end_ms: TIME_END_MS },
        };
        (interval.start_ms, interval.end_ms)
    }

    fn find_day(&self, at_ms: i64) -> (Day, Interval) {
        // The time zone library ends a day before the year 9999 does.
        let at = Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::MAX);
        let mut day = Day::of(self.zone.to_datetime(at).date());
        loop {
            let interval = self.interval(day, day.next());
            // A clock set back over midnight shows the old day's date again.
            match day.next() {
                Some(next) if at_ms >= interval.end_ms => day = next,
                _ => return (day, interval),
            }
        }
    }

    fn interval(&self, first: Day, next: Option<Day>) -> Interval {
        Interval { start_ms: self.start_ms(first), end_ms: next.map_or(TIME_END_MS, |day| self.start_ms(day)) }
    }

    fn start_ms(&self, day: Day) -> i64 {
        let midnight = day.date().to_datetime(jiff::civil::Time::midnight());
        self.zone.to_timestamp(midnight).map_or(TIME_END_MS, Timestamp::as_millisecond)
    }
}

#[cfg(test)]
#[path = "calendar_tests.rs"]
mod tests;
