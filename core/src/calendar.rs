//! Civil days, weeks and months in one IANA time zone: which of them a time is in, and when they begin and end.
//!
//! The zone data is compiled in, so that periods begin at the same times on every node.

use std::fmt;

use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

use crate::TIME_MAX_MS;

const EPOCH: Date = Date::constant(1970, 1, 1);
const HOURS_PER_DAY: i64 = 24;
const DAYS_PER_WEEK: i32 = 7;
const MONTHS_PER_YEAR: i32 = 12;

/// The end of the last period: just after the latest time.
const TIME_END_MS: i64 = TIME_MAX_MS + 1;

/// A civil day of the years 1 to 9999, whatever the time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i32);

impl Day {
    /// 0001-01-01, a Monday: no week begins outside the range.
    pub const MIN: Day = Day(-719_162);
    /// 9999-12-31.
    pub const MAX: Day = Day(2_932_896);

    /// The day that is `number` days after 1970-01-01. `None` outside the years 1 to 9999.
    pub fn from_number(number: i32) -> Option<Day> {
        (Self::MIN.0..=Self::MAX.0).contains(&number).then_some(Day(number))
    }

    /// Days since 1970-01-01.
    pub fn number(self) -> i32 {
        self.0
    }

    /// The month that this day is in.
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

    /// Its first day.
    pub fn first_day(self) -> Day {
        let (year, month) = self.year_and_month();
        // Every month in the range has a first day.
        Date::new(year, month, 1).map_or(Day::MAX, Day::of)
    }

    /// Its last day.
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
    /// `yyyy-mm`.
    Month(Month),
    /// `yyyy-mm-dd`.
    Day(Day),
}

/// The error of a text that is neither `yyyy-mm` nor `yyyy-mm-dd`, or names a date that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotADate;

impl fmt::Display for NotADate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a date")
    }
}

impl std::error::Error for NotADate {}

impl CivilDate {
    /// Parses `yyyy-mm` or `yyyy-mm-dd`, with all digits, of the years 0001 to 9999.
    ///
    /// # Errors
    /// If the text is not such a date.
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

/// The time that a budget is for: a calendar period, or all time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    /// A civil day.
    Day,
    /// A week from Monday to Sunday.
    Week,
    /// A civil month.
    Month,
    /// All time.
    Total,
}

impl Period {
    /// All periods, the shortest first.
    pub const ALL: [Period; 4] = [Period::Day, Period::Week, Period::Month, Period::Total];

    /// The first day of the period that `day` is in; for `Total` the calendar's first day.
    pub fn first_day(self, day: Day) -> Day {
        match self {
            Period::Day => day,
            Period::Week => day.week().0,
            Period::Month => day.month().first_day(),
            Period::Total => Day::MIN,
        }
    }

    /// The period of a keyword, in upper or lower case.
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

/// The error of a name that is not in the IANA time zone database.
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
/// Days follow each other without gap or overlap: each runs from its first midnight to that of the next day. If clocks skip
/// midnight, the day begins at the moment of the skip. If clocks are set back over midnight, the hour that comes twice
/// belongs to the new day. A day that a country skips is empty. Weeks and months are made of whole days.
///
/// The calendar remembers the last day, week and month that it was asked for: asking again within them costs two
/// comparisons.
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

    /// The calendar of UTC.
    pub fn utc() -> Calendar {
        Self::of(TimeZone::UTC)
    }

    fn of(zone: TimeZone) -> Calendar {
        let empty = Interval::EMPTY;
        Calendar { zone, day: Day::MIN, day_interval: empty, week_interval: empty, month_interval: empty }
    }

    /// The zone's name, spelled as in the database.
    pub fn name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// The day that a unix time in milliseconds is in. Times outside `0..=TIME_MAX_MS` count as the nearest within. The last day
    /// (9999-12-30 or 9999-12-31, by zone) lasts to the end of time.
    pub fn day_of(&mut self, at_ms: i64) -> Day {
        let at_ms = at_ms.clamp(0, TIME_MAX_MS);
        if !self.day_interval.contains(at_ms) {
            (self.day, self.day_interval) = self.find_day(at_ms);
        }
        self.day
    }

    /// The bounds of the period that a unix time is in, in unix milliseconds: its first millisecond, which may be negative,
    /// and the first after it. Times outside the range count as in [`day_of`](Calendar::day_of); `Total` is all time.
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
