//! Calendar periods in UTC, in unix milliseconds.

use crate::commands::Period;

const DAY: i64 = 86_400_000;

pub(super) const PERIODS: [Period; 4] = [Period::Day, Period::Week, Period::Month, Period::Total];

pub(super) fn period_of(word: &str) -> Option<Period> {
    PERIODS.into_iter().find(|period| word_of(*period) == word)
}

pub(super) fn word_of(period: Period) -> &'static str {
    match period {
        Period::Day => "DAY",
        Period::Week => "WEEK",
        Period::Month => "MONTH",
        Period::Total => "TOTAL",
    }
}

/// The begin of the period that a time is in; 0 for the total.
pub(super) fn first_of(period: Period, at: i64) -> i64 {
    let day = at.div_euclid(DAY);
    match period {
        Period::Day => day * DAY,
        // 1970 began on a Thursday.
        Period::Week => (day - (day + 3).rem_euclid(7)) * DAY,
        Period::Month => {
            let (year, month, _) = civil_of(day);
            days_of(year, month, 1) * DAY
        }
        Period::Total => 0,
    }
}

fn next_of(period: Period, at: i64) -> i64 {
    let first = first_of(period, at);
    match period {
        Period::Week => first + 7 * DAY,
        // The 40th day from the first of a month is in the next one.
        Period::Month => first_of(period, first + 40 * DAY),
        _ => first + DAY,
    }
}

/// In how many milliseconds the period ends; -1 for the total.
pub(super) fn end_of(period: Period, now: i64) -> i64 {
    if period == Period::Total { -1 } else { next_of(period, now) - now }
}

pub(super) fn length_of(period: Period, now: i64) -> i64 {
    if period == Period::Total { -1 } else { next_of(period, now) - first_of(period, now) }
}

/// The time of `yyyy-mm` or `yyyy-mm-dd`.
pub(super) fn date_of(text: &str) -> Option<i64> {
    let number = |part: &str, digits: usize| {
        Some(part)
            .filter(|part| part.len() == digits && part.bytes().all(|letter| letter.is_ascii_digit()))?
            .parse()
            .ok()
    };
    let parts: Vec<&str> = text.split('-').collect();
    let (year, month, day) = match parts[..] {
        [year, month] => (number(year, 4)?, number(month, 2)?, 1),
        [year, month, day] => (number(year, 4)?, number(month, 2)?, number(day, 2)?),
        _ => return None,
    };
    let days = days_of(year, month, day);
    // A day that there is comes back as it was.
    (civil_of(days) == (year, month, day)).then_some(days * DAY)
}

// Both count years from March, so that the leap day is a year's last one.

/// The days since 1970 of a date.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9).rem_euclid(12)) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
}

/// The year, month and day of so many days since 1970.
fn civil_of(days: i64) -> (i64, i64, i64) {
    let from_era = days + 719_468;
    let (era, of_era) = (from_era.div_euclid(146_097), from_era.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, of_year - (153 * from_march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_begin_and_end_in_utc() {
        let at = |text| date_of(text).unwrap();
        // A leap day, which is a Thursday.
        let noon = at("2024-02-29") + DAY / 2;
        assert_eq!(first_of(Period::Day, noon), at("2024-02-29"));
        assert_eq!(first_of(Period::Week, noon), at("2024-02-26"));
        assert_eq!(first_of(Period::Month, noon), at("2024-02"));
        assert_eq!(first_of(Period::Total, noon), 0);
        assert_eq!(noon + end_of(Period::Week, noon), at("2024-03-04"));
        assert_eq!(noon + end_of(Period::Month, noon), at("2024-03-01"));
        assert_eq!((end_of(Period::Day, noon), end_of(Period::Total, noon)), (DAY / 2, -1));
        assert_eq!((length_of(Period::Month, noon), length_of(Period::Month, at("2023-02-01"))), (29 * DAY, 28 * DAY));
        assert_eq!((at("1970-01-01"), at("2026-01"), at("2024-12-31") + DAY), (0, 1_767_225_600_000, at("2025-01")));
        for text in ["2023-02-29", "2024-13", "2024-00-01", "24-01", "2024-1-1", "2024", "", "2024-01-01-01", "+024-01"]
        {
            assert_eq!(date_of(text), None, "{text}");
        }
    }
}
