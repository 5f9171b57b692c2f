use super::*;
use proptest::prelude::*;

const HOUR_MS: i64 = 3_600_000;

fn ms(instant: &str) -> i64 {
    instant.parse::<Timestamp>().expect("an RFC 3339 instant").as_millisecond()
}

fn day(text: &str) -> Day {
    match CivilDate::parse(text.as_bytes()) {
        Ok(CivilDate::Day(day)) => day,
        other => panic!("{text}: {other:?}"),
    }
}

fn calendar(name: &str) -> Calendar {
    Calendar::new(name).expect("a time zone")
}

/// The boundaries of `period` around the instant `at`, as instants.
fn bounds(name: &str, period: Period, at: &str) -> (String, String) {
    let (start_ms, end_ms) = calendar(name).bounds(period, ms(at));
    let instant = |at_ms| Timestamp::from_millisecond(at_ms).expect("an instant").to_string();
    (instant(start_ms), instant(end_ms))
}

fn assert_bounds(name: &str, period: Period, at: &str, start: &str, end: &str) {
    assert_eq!(bounds(name, period, at), (start.to_owned(), end.to_owned()), "{name} {period:?} {at}");
}

#[test]
fn days_have_23_and_25_hours_when_clocks_change() {
    use Period::Day;
    let berlin = "Europe/Berlin";
    assert_bounds(berlin, Day, "2024-03-31T12:00:00Z", "2024-03-30T23:00:00Z", "2024-03-31T22:00:00Z");
    assert_bounds(berlin, Day, "2024-10-27T12:00:00Z", "2024-10-26T22:00:00Z", "2024-10-27T23:00:00Z");
    let new_york = "America/New_York";
    assert_bounds(new_york, Day, "2024-03-10T12:00:00Z", "2024-03-10T05:00:00Z", "2024-03-11T04:00:00Z");
    assert_bounds(new_york, Day, "2024-11-03T12:00:00Z", "2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z");
}

#[test]
fn a_day_whose_midnight_is_skipped_begins_at_the_skip() {
    use Period::Day;
    // The clocks went from midnight to 01:00.
    let sao_paulo = "America/Sao_Paulo";
    assert_bounds(sao_paulo, Day, "2018-11-04T03:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z");
    assert_bounds(sao_paulo, Day, "2018-11-04T02:59:59.999Z", "2018-11-03T03:00:00Z", "2018-11-04T03:00:00Z");
    let beirut = "Asia/Beirut";
    assert_bounds(beirut, Day, "2022-03-27T12:00:00Z", "2022-03-26T22:00:00Z", "2022-03-27T21:00:00Z");
    assert_bounds(beirut, Period::Week, "2022-03-27T12:00:00Z", "2022-03-20T22:00:00Z", "2022-03-27T21:00:00Z");
}

#[test]
fn an_hour_set_back_over_midnight_belongs_to_the_new_day() {
    // The clocks went back from 00:01 on 2006-10-29 to 23:01: the new day had begun a minute earlier.
    let st_johns = "America/St_Johns";
    let mut calendar = calendar(st_johns);
    assert_eq!(calendar.day_of(ms("2006-10-29T02:29:59.999Z")), day("2006-10-28"));
    assert_eq!(calendar.day_of(ms("2006-10-29T02:30:30Z")), day("2006-10-29"));
    assert_eq!(calendar.day_of(ms("2006-10-29T03:00:00Z")), day("2006-10-29"));
    assert_bounds(st_johns, Period::Day, "2006-10-29T03:00:00Z", "2006-10-29T02:30:00Z", "2006-10-30T03:30:00Z");
    assert_bounds(st_johns, Period::Day, "2006-10-29T02:00:00Z", "2006-10-28T02:30:00Z", "2006-10-29T02:30:00Z");
}

#[test]
fn a_day_skipped_by_a_country_is_empty() {
    // Samoa went from 2011-12-29 24:00 (UTC-10) to 2011-12-31 00:00 (UTC+14).
    let apia = "Pacific/Apia";
    assert_bounds(apia, Period::Day, "2011-12-30T09:59:59.999Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z");
    assert_bounds(apia, Period::Day, "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z");
    assert_bounds(apia, Period::Week, "2011-12-30T10:00:00Z", "2011-12-26T10:00:00Z", "2012-01-01T10:00:00Z");
    let mut calendar = calendar(apia);
    assert_eq!(calendar.day_of(ms("2011-12-30T09:59:59.999Z")), day("2011-12-29"));
    assert_eq!(calendar.day_of(ms("2011-12-30T10:00:00Z")), day("2011-12-31"));
}

#[test]
fn weeks_begin_on_monday_and_months_on_the_first() {
    assert_bounds("UTC", Period::Week, "2024-12-31T12:00:00Z", "2024-12-30T00:00:00Z", "2025-01-06T00:00:00Z");
    assert_bounds("UTC", Period::Week, "2024-12-29T23:59:59.999Z", "2024-12-23T00:00:00Z", "2024-12-30T00:00:00Z");
    assert_bounds("UTC", Period::Month, "2024-02-29T12:00:00Z", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z");
    assert_bounds("UTC", Period::Month, "2024-12-31T12:00:00Z", "2024-12-01T00:00:00Z", "2025-01-01T00:00:00Z");
    let tokyo = "Asia/Tokyo";
    assert_bounds(tokyo, Period::Month, "2024-01-31T15:00:00Z", "2024-01-31T15:00:00Z", "2024-02-29T15:00:00Z");
    let berlin = "Europe/Berlin";
    assert_bounds(berlin, Period::Month, "2024-03-15T00:00:00Z", "2024-02-29T23:00:00Z", "2024-03-31T22:00:00Z");
}

#[test]
fn the_calendar_has_a_first_and_a_last_day() {
    let mut utc = Calendar::utc();
    assert_eq!(utc.day_of(i64::MIN), Day(0));
    assert_eq!(utc.bounds(Period::Day, 0), (0, 24 * HOUR_MS));
    assert_eq!(utc.bounds(Period::Week, -1), (-3 * 24 * HOUR_MS, 4 * 24 * HOUR_MS));
    assert_eq!(utc.bounds(Period::Total, 5), (0, TIME_END_MS));
    assert_eq!(calendar("America/New_York").day_of(0), day("1969-12-31"));
    assert_eq!(calendar("America/New_York").bounds(Period::Month, 0).0, ms("1969-12-01T05:00:00Z"));
    assert_eq!(calendar("Pacific/Kiritimati").day_of(TIME_MAX_MS), day("9999-12-31"));
    assert_eq!(utc.day_of(i64::MAX), day("9999-12-30"));
    assert_eq!(utc.bounds(Period::Day, TIME_MAX_MS), (ms("9999-12-30T00:00:00Z"), TIME_END_MS));
    assert_eq!(utc.bounds(Period::Week, TIME_MAX_MS), (ms("9999-12-27T00:00:00Z"), TIME_END_MS));
    assert_eq!(utc.bounds(Period::Month, TIME_MAX_MS), (ms("9999-12-01T00:00:00Z"), TIME_END_MS));
}

#[test]
fn zones_are_known_by_their_iana_names() {
    assert_eq!(calendar("europe/berlin").name(), "Europe/Berlin");
    assert_eq!(calendar("UTC").name(), "UTC");
    assert_eq!(Calendar::utc().name(), "UTC");
    for name in ["", "Mars/Olympus", "Etc/Unknown", "CET-1CEST", "+02:00", "../etc/passwd", "UTC\0", "Z\u{fc}rich"] {
        assert_eq!(Calendar::new(name).err(), Some(UnknownTimeZone), "{name:?}");
    }
}

#[test]
fn keywords_name_periods() {
    for period in Period::ALL {
        assert_eq!(Period::parse(period.name().as_bytes()), Some(period));
        assert_eq!(Period::parse(period.name().to_lowercase().as_bytes()), Some(period));
    }
    for text in ["", "DAYS", "YEAR", " DAY", "DAY\0"] {
        assert_eq!(Period::parse(text.as_bytes()), None, "{text:?}");
    }
}

#[test]
fn dates_are_days_or_months() {
    assert_eq!(day("1970-01-01"), Day(0));
    assert_eq!(day("1969-12-31"), Day(-1));
    assert_eq!(day("2024-02-29"), Day(19_782));
    assert_eq!(day("0001-01-01"), Day::MIN);
    assert_eq!(day("9999-12-31"), Day::MAX);
    assert_eq!(CivilDate::parse(b"1970-01"), Ok(CivilDate::Month(Month(1_970 * 12))));
    assert_eq!(CivilDate::parse(b"0001-01"), Ok(CivilDate::Month(Month::MIN)));
    assert_eq!(CivilDate::parse(b"9999-12"), Ok(CivilDate::Month(Month::MAX)));
    for text in [
        "",
        "2024",
        "2024-1",
        "2024-13",
        "2024-00",
        "0000-01",
        "2024-1-1",
        "2024-02-30",
        "2023-02-29",
        "2024-01-00",
        "2024-01-1",
        "2024/01/01",
        "20240101",
        "2024-01-01T00",
        "-024-01",
        "+024-01-01",
        "2024-0a",
        " 2024-01",
        "2024-01 ",
    ] {
        assert_eq!(CivilDate::parse(text.as_bytes()), Err(NotADate), "{text:?}");
    }
}

#[test]
fn every_day_knows_its_week_and_month() {
    let mut date = Date::constant(1, 1, 1);
    let mut monday = Day::MIN;
    for number in Day::MIN.0..=Day::MAX.0 {
        let day = Day::from_number(number).expect("a day of the calendar");
        if date.weekday() == jiff::civil::Weekday::Monday {
            monday = day;
        }
        assert_eq!(day.week(), (monday, Day((monday.0 + 6).min(Day::MAX.0))), "{date}");
        let month = day.month();
        assert_eq!(month.year_and_month(), (date.year(), date.month()), "{date}");
        if date.day() == 1 {
            assert_eq!(month.first_day(), day, "{date}");
            assert_eq!(Month::from_number(month.number()), Some(month), "{date}");
        }
        date = date.tomorrow().unwrap_or(date);
    }
    assert_eq!(Day::from_number(Day::MIN.0 - 1), None);
    assert_eq!(Day::from_number(Day::MAX.0 + 1), None);
    assert_eq!(Month::from_number(Month::MIN.0 - 1), None);
    assert_eq!(Month::from_number(Month::MAX.0 + 1), None);
}

/// Checks a calendar's answers for `at_ms` against the time zone library's civil times, and against a new calendar,
/// which remembers nothing.
fn check(calendar: &mut Calendar, at_ms: i64) {
    let context = (calendar.name().to_owned(), at_ms);
    let zone = calendar.zone.clone();
    let zoned = |at_ms| Timestamp::from_millisecond(at_ms).expect("an instant").to_zoned(zone.clone());
    let civil_day = |at_ms| Day::of(zoned(at_ms).date());

    let day = calendar.day_of(at_ms);
    if civil_day(at_ms) != day {
        // Only if the clocks were set back and show the end of the previous day again.
        assert_eq!(civil_day(at_ms).next(), Some(day), "{context:?}");
        assert!(zone.to_ambiguous_timestamp(zoned(at_ms).datetime()).is_ambiguous(), "{context:?}");
    }
    for period in Period::ALL {
        let (start_ms, end_ms) = calendar.bounds(period, at_ms);
        assert!(start_ms <= at_ms && at_ms < end_ms, "{context:?} {period:?}");
        assert_eq!(Calendar::of(zone.clone()).bounds(period, at_ms), (start_ms, end_ms), "{context:?} {period:?}");
        let (first, last) = match period {
            Period::Day => (day, day),
            Period::Week => day.week(),
            Period::Month => (day.month().first_day(), Day(day.month().next().expect("a month").first_day().0 - 1)),
            Period::Total => continue,
        };
        for (boundary_ms, before, behind) in [(start_ms, Day(first.0 - 1), first), (end_ms, last, Day(last.0 + 1))] {
            // The time zone library's own start of the day, and no earlier instant shows its date. Days may be skipped.
            let start_of_day = zoned(boundary_ms).start_of_day().expect("a day").timestamp().as_millisecond();
            assert_eq!(start_of_day, boundary_ms, "{context:?} {period:?}");
            assert!(civil_day(boundary_ms - 1) <= before, "{context:?} {period:?}");
            assert!(civil_day(boundary_ms) >= behind, "{context:?} {period:?}");
        }
    }
}

#[test]
fn every_change_of_every_zone_is_as_the_zone_data_says() {
    let end = Timestamp::constant(2_000_000_000, 0);
    let mut changes = 0;
    for name in TimeZoneDatabase::bundled().available() {
        let mut calendar = calendar(name.as_str());
        let zone = calendar.zone.clone();
        for change in zone.following(Timestamp::UNIX_EPOCH).take_while(|change| change.timestamp() < end) {
            let change_ms = change.timestamp().as_millisecond();
            for minutes in [-1_440, -60, 0, 1, 29, 30, 60, 90, 1_440] {
                check(&mut calendar, change_ms + minutes * 60_000);
                check(&mut calendar, change_ms + minutes * 60_000 - 1);
            }
            changes += 1;
        }
    }
    assert!(changes > 10_000, "{changes} changes");
}

proptest! {
    #[test]
    fn any_times_are_as_the_zone_data_says(
        zone in prop::sample::select(&ZONES[..]),
        base_ms in 24 * HOUR_MS..TIME_MAX_MS - 40 * 24 * HOUR_MS,
        offsets in prop::collection::vec(-40 * 24 * HOUR_MS..40 * 24 * HOUR_MS, 1..50),
    ) {
        let mut calendar = calendar(zone);
        for offset in offsets {
            check(&mut calendar, (base_ms + offset).clamp(0, TIME_MAX_MS - 40 * 24 * HOUR_MS));
        }
    }

    #[test]
    fn every_time_is_in_the_calendar(
        zone in prop::sample::select(&ZONES[..]),
        at_ms: i64,
        near in -99 * HOUR_MS..99 * HOUR_MS,
    ) {
        let mut calendar = calendar(zone);
        for at_ms in [at_ms, near, TIME_MAX_MS + near] {
            let clamped = at_ms.clamp(0, TIME_MAX_MS);
            let day = calendar.day_of(at_ms);
            prop_assert!(day >= Day(-1) && day <= Day::MAX);
            for period in Period::ALL {
                let (start_ms, end_ms) = calendar.bounds(period, at_ms);
                prop_assert!(start_ms <= clamped && clamped < end_ms);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(text: Vec<u8>, date in "[0-9]{4}-[0-9]{2}(-[0-9]{2})?") {
        let _ = (CivilDate::parse(&text), Period::parse(&text));
        // The library reads four-digit years in the same form.
        let library = if date.len() == 7 { format!("{date}-01") } else { date.clone() }.parse::<Date>();
        let ours = CivilDate::parse(date.as_bytes());
        prop_assert_eq!(ours.is_ok(), library.as_ref().is_ok_and(|date| date.year() > 0), "{}", date);
        match ours {
            Ok(CivilDate::Day(day)) => prop_assert_eq!(day.to_string(), date),
            Ok(CivilDate::Month(month)) => prop_assert_eq!(month.to_string(), date),
            Err(NotADate) => (),
        }
    }
}

const ZONES: [&str; 9] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Pacific/Kiritimati",
];
