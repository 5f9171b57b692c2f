use super::*;
use crate::calendar::{CivilDate, Day, Month, Period};
use crate::codec::{Corrupt, Decoder, Encoded, Writer as _};
use crate::memory::allocated_bytes;
use crate::money::Amount;
use crate::stored::{Stored as _, load_versioned};

pub(super) const KEEP: u32 = 62;

/// 2025-01-31 12:00 UTC, for tests that need any time.
pub(super) const NOW_MS: i64 = 1_738_324_800_000;

fn day(text: &str) -> Day {
    match CivilDate::parse(text.as_bytes()) {
        Ok(CivilDate::Day(day)) => day,
        other => panic!("{text}: {other:?}"),
    }
}

pub(super) fn money(text: &str) -> Amount {
    Amount::parse(text.as_bytes()).expect("an amount")
}

pub(super) fn picos(picos: i128) -> Amount {
    Amount::from_picos(picos).expect("within range")
}

fn date(text: &str) -> i32 {
    day(text).number()
}

/// A ledger with 1 charged to each of these days.
fn charged(days: impl IntoIterator<Item = i32>) -> Ledger {
    days.into_iter().fold(Ledger::new(), |mut ledger, number| {
        ledger.charge(Day::from_number(number).expect("a day"), money("1"), KEEP, 0).expect("within range");
        ledger
    })
}

fn ledger(charges: &[(&str, &str)]) -> Ledger {
    let mut ledger = Ledger::new();
    for (date, amount) in charges {
        ledger.charge(day(date), money(amount), KEEP, 0).expect("within range");
    }
    ledger
}

pub(super) fn saved(ledger: &Ledger) -> Vec<u8> {
    let mut out = Encoded::default();
    ledger.save(&mut out);
    out.0
}

/// The end of a payload of a ledger without feed, holds and credits: what follows its days.
pub(super) fn no_feed_and_no_holds(out: &mut Encoded) {
    (0..7).for_each(|_| out.uint(0));
}

pub(super) fn loaded(bytes: &[u8]) -> Result<Ledger, Corrupt> {
    let mut from = Decoder::new(bytes);
    let ledger = Ledger::load(&mut from, Ledger::ENCODING)?;
    from.finish()?;
    Ok(ledger)
}

#[test]
fn spend_is_kept_by_day_week_month_and_in_total() {
    // A Sunday and a Monday, and a week in which a month and a year end.
    let ledger = ledger(&[
        ("2024-12-29", "1"),
        ("2024-12-30", "0.2"),
        ("2024-12-31", "0.03"),
        ("2025-01-01", "0.004"),
        ("2025-01-05", "0.0005"),
        ("2025-01-06", "0.00006"),
        ("2024-12-31", "0.000007"),
    ]);
    for (period, date, spent) in [
        (Period::Day, "2024-12-31", "0.030007"),
        (Period::Day, "2025-01-02", "0"),
        (Period::Week, "2024-12-29", "1"),
        (Period::Week, "2024-12-30", "0.234507"),
        (Period::Week, "2025-01-05", "0.234507"),
        (Period::Week, "2025-01-06", "0.00006"),
        (Period::Month, "2024-12-01", "1.230007"),
        (Period::Month, "2025-01-31", "0.00456"),
        (Period::Month, "2025-02-01", "0"),
        (Period::Total, "1999-01-01", "1.234567"),
    ] {
        assert_eq!(ledger.spent(period, day(date)), money(spent), "{period:?} {date}");
    }
    assert_eq!(ledger.spent_month(day("2024-12-01").month()), money("1.230007"));
    let days: Vec<String> = ledger.days().map(|(day, amount)| format!("{day} {amount}")).collect();
    assert_eq!(days.len(), 6);
    assert_eq!(days.first().map(String::as_str), Some("2024-12-29 1"));
    let months: Vec<String> = ledger.months().map(|(month, amount)| format!("{month} {amount}")).collect();
    assert_eq!(months, ["2024-12 1.230007", "2025-01 0.00456"]);
}

#[test]
fn a_charge_answers_with_the_sums_it_changed() {
    let mut ledger = ledger(&[("2025-01-01", "1"), ("2025-01-02", "2")]);
    let totals = ledger.charge(day("2025-01-02"), money("-0.5"), KEEP, 0);
    assert_eq!(totals, Ok(Totals { day: money("1.5"), month: money("2.5"), total: money("2.5") }));
}

#[test]
fn one_day_too_many_drops_the_oldest_into_its_month() {
    let january = date("2025-01-01");
    // 62 days, every third from 2025-01-01 to 2025-07-03.
    let mut ledger = charged((0..62).map(|number| january + 3 * number));
    assert_eq!(ledger.days().count(), 62);
    assert_eq!(ledger.spent(Period::Day, day("2025-01-01")), money("1"));
    // After a pause of any length, the same number of days is kept.
    ledger.charge(day("2029-07-04"), money("2"), KEEP, 0).expect("within range");
    assert_eq!(ledger.days().count(), 62);
    assert_eq!(ledger.spent(Period::Day, day("2025-01-01")), Amount::ZERO);
    assert_eq!(ledger.spent(Period::Day, day("2025-01-04")), money("1"));
    assert_eq!(ledger.spent(Period::Month, day("2025-01-01")), money("11"));
    // A day that was dropped begins at zero, and takes the place of the oldest day more than 15 days from it.
    let totals = ledger.charge(day("2025-01-01"), money("4"), KEEP, 0);
    assert_eq!(totals, Ok(Totals { day: money("4"), month: money("15"), total: money("68") }));
    let oldest: Vec<_> = ledger.days().take(7).map(|(day, _)| day.number() - january).collect();
    assert_eq!(oldest, [0, 3, 6, 9, 12, 15, 21]);
    // Another late day: now the first late day is the oldest.
    ledger.charge(day("2024-01-01"), money("8"), KEEP, 0).expect("within range");
    let oldest: Vec<_> = ledger.days().take(3).map(|(day, _)| day.number() - january).collect();
    assert_eq!(oldest, [-366, 3, 6]);
    // Fewer days are kept: the next charge drops the others, even if its day is kept already.
    ledger.charge(day("2029-07-04"), money("0"), 0, 0).expect("within range");
    assert_eq!(ledger.days().count(), KEEP_DAYS_MIN as usize);
    assert_eq!(ledger.days().next().map(|(day, _)| day.number() - january), Some(3 * 31));
    assert_eq!(ledger.spent(Period::Total, day("2029-07-04")), money("76"));
}

#[test]
fn one_month_too_many_drops_the_oldest_into_the_total() {
    let first = day("2025-01-01").month().number();
    let first_day = |month: i32| Month::from_number(month).expect("a month").first_day();
    let mut ledger = charged((0..120).map(|number| first_day(first + number).number()));
    assert_eq!((ledger.months().count(), ledger.days().count()), (120, 62));
    assert_eq!(ledger.spent(Period::Month, day("2025-01-15")), money("1"));
    ledger.charge(day("2039-01-01"), money("2"), KEEP, 0).expect("within range");
    assert_eq!(ledger.months().count(), 120);
    assert_eq!(ledger.spent(Period::Month, day("2025-01-15")), Amount::ZERO);
    assert_eq!(ledger.spent(Period::Month, day("2025-02-15")), money("1"));
    let totals = ledger.charge(day("2025-01-31"), money("4"), KEEP, 0);
    assert_eq!(totals, Ok(Totals { day: money("4"), month: money("4"), total: money("126") }));
    // 2025-01 to 2027-07 are within 30 months of it.
    let months: Vec<_> = ledger.months().map(|(month, _)| month.number() - first).collect();
    assert_eq!(months, (0..31).chain(32..120).chain([168]).collect::<Vec<_>>());
    // More days than months can be kept: days stay even if their month was dropped.
    let sparse = (0..400).fold(Ledger::new(), |mut ledger, number| {
        ledger.charge(first_day(first + number), money("1"), 400, 0).expect("within range");
        ledger
    });
    assert_eq!((sparse.months().count(), sparse.days().count()), (120, 400));
    assert_eq!(loaded(&saved(&sparse)), Ok(sparse));
}

#[test]
fn the_current_week_is_complete_however_few_days_are_kept() {
    // All places are taken by future days. Then a week is charged on its Sunday, and up to two days ahead.
    let monday = date("2025-01-06");
    let mut ledger = charged(monday + 1_000..monday + 2_000);
    for number in (0..9).rev().chain([6]) {
        let date = Day::from_number(monday + number).expect("a day");
        ledger.charge(date, money("1"), 0, 0).expect("within range");
    }
    assert_eq!(ledger.days().count(), KEEP_DAYS_MIN as usize);
    assert_eq!(ledger.spent(Period::Week, day("2025-01-12")), money("8"));
}

/// Charges each of a thousand days from 2025-01-01 on, with late charges up to a week old and some for the next day, to
/// a ledger that already has charges to wrong days. On every day, each period must have what was really charged to it.
fn budgets_hold(mut ledger: Ledger, keep_days: u32) {
    let first = date("2025-01-01");
    let already = ledger.spent(Period::Total, day("2025-01-01"));
    let mut charges: Vec<(Day, Amount)> = Vec::new();
    for today in first..first + 1_000 {
        let late = [0, -1, -3, 1, -6, 0];
        for (place, ahead) in late.into_iter().enumerate().filter(|(place, _)| (today + *place as i32) % 4 != 0) {
            let day = Day::from_number((today + ahead).max(first)).expect("a day");
            let amount = picos(i128::from(today) << place);
            ledger.charge(day, amount, keep_days, 0).expect("within range");
            charges.push((day, amount));
        }
        let today = Day::from_number(today).expect("a day");
        let sum = |counts: &dyn Fn(Day) -> bool| {
            let counted = charges.iter().filter(|(day, _)| counts(*day));
            counted.fold(Amount::ZERO, |sum, &(_, amount)| sum.saturating_add(amount))
        };
        for (period, real) in [
            (Period::Day, sum(&|day| day == today)),
            (Period::Week, sum(&|day| day.week() == today.week())),
            (Period::Month, sum(&|day| day.month() == today.month())),
            (Period::Total, sum(&|_| true).saturating_add(already)),
        ] {
            assert_eq!(ledger.spent(period, today), real, "{period:?} {today}");
            let verdict = ledger.within(NOW_MS, today, &[(real, period)], Some(picos(1))).expect("a budget");
            assert!(!verdict.within, "{period:?} {today}");
        }
    }
}

#[test]
fn a_charge_years_ahead_blinds_no_budget() {
    for keep_days in [KEEP_DAYS_MIN, KEEP, KEEP_DAYS_MAX] {
        budgets_hold(ledger(&[("2031-05-17", "1000000")]), keep_days);
        budgets_hold(ledger(&[("2031-05-17", "1"), ("1970-01-01", "2"), ("9999-12-31", "3")]), keep_days);
    }
}

#[test]
fn even_a_ledger_full_of_days_ahead_blinds_no_budget() {
    let first = date("2031-05-17");
    // All places are taken, of days and, with every 30th day, of months.
    for keep_days in [KEEP_DAYS_MIN, KEEP] {
        budgets_hold(charged(first..first + 62), keep_days);
        budgets_hold(charged((0..200).map(|number| first + 30 * number)), keep_days);
    }
}

#[test]
fn late_charges_leave_the_newer_half_of_the_days() {
    let today = date("2025-06-30");
    for (keep_days, newest) in [(KEEP_DAYS_MIN, 15), (KEEP, 31), (KEEP_DAYS_MAX, 1_799)] {
        let mut ledger = Ledger::new();
        for number in today - 3_599..=today {
            ledger.charge(Day::from_number(number).expect("a day"), money("1"), keep_days, 0).expect("within range");
        }
        // The whole year 2014, forwards, then every third day of it, backwards.
        let year = date("2014-01-01");
        for late in (year..year + 365).chain((year..year + 365).rev().step_by(3)) {
            ledger.charge(Day::from_number(late).expect("a day"), money("1"), keep_days, 0).expect("within range");
        }
        let newest_days: Vec<_> = (0..newest).map(|ago| today - ago).collect();
        let kept: Vec<_> = ledger.days().rev().take(newest_days.len()).map(|(day, _)| day.number()).collect();
        assert_eq!(kept, newest_days, "{keep_days}");
    }
}

#[test]
fn an_overflow_changes_nothing() {
    let mut day_full = ledger(&[("2025-01-01", "1e18"), ("2025-01-02", "-1e18")]);
    let mut month_full = ledger(&[("2025-01-01", "1e18"), ("2025-02-01", "-1e18")]);
    let mut total_full = ledger(&[("2025-01-01", "1e18")]);
    for (ledger, date) in
        [(&mut day_full, "2025-01-01"), (&mut month_full, "2025-01-05"), (&mut total_full, "2025-03-31")]
    {
        let before = ledger.clone();
        assert_eq!(ledger.charge(day(date), picos(1), KEEP, 0), Err(Overflow), "{date}");
        assert_eq!(*ledger, before);
        assert_eq!(ledger.charge(day(date), picos(-1), KEEP, 0).map(|_| ()), Ok(()), "{date}");
    }
}

#[test]
fn a_budget_holds_to_the_last_digit() {
    let ledger = ledger(&[("2025-01-01", "9.999999999999")]);
    let within = |budget: &str, cost: Option<&str>| {
        let budgets = [(money(budget), Period::Month)];
        ledger.within(NOW_MS, day("2025-01-31"), &budgets, cost.map(money)).expect("a budget").within
    };
    // With a cost, the cost must fit exactly. Without one, something must be left.
    assert!(within("10", Some("0.000000000001")));
    assert!(!within("10", Some("0.000000000002")));
    assert!(within("9.999999999999", Some("0")));
    assert!(!within("9.999999999999", None));
    assert!(within("10", None));
    assert!(!within("9", Some("0")));
    assert!(!within("0", None));
    assert_eq!(ledger.within(NOW_MS, day("2025-01-31"), &[], None), None);
}

#[test]
fn the_tightest_budget_is_the_one_with_the_least_remaining() {
    let ledger = ledger(&[("2025-01-01", "5"), ("2025-01-06", "3"), ("2025-01-07", "1")]);
    let today = day("2025-01-07");
    let ask = |budgets: &[(&str, Period)], cost: Option<&str>| {
        let budgets: Vec<_> = budgets.iter().map(|&(budget, period)| (money(budget), period)).collect();
        ledger.within(NOW_MS, today, &budgets, cost.map(money)).expect("a budget")
    };
    let verdict = ask(&[("20", Period::Month), ("6", Period::Week), ("4", Period::Day), ("11", Period::Total)], None);
    let week = BudgetCheck {
        within: true,
        tightest: 1,
        budget: money("6"),
        spent: money("4"),
        held: Amount::ZERO,
        remaining: money("2"),
    };
    assert_eq!(verdict, week, "the week and the total have 2 left; the week is named first");
    // A cost that does not fit the tightest budget.
    assert_eq!(ask(&[("20", Period::Month), ("6", Period::Week)], Some("2.5")), BudgetCheck { within: false, ..week });
    // Both are used up: one alone is enough to refuse, nothing remains of either, and the most overspent one is named.
    let verdict = ask(&[("9", Period::Month), ("3", Period::Week), ("2", Period::Week)], Some("0"));
    assert_eq!((verdict.within, verdict.tightest, verdict.remaining), (false, 2, Amount::ZERO));
    assert_eq!((verdict.budget, verdict.spent), (money("2"), money("4")));
    // Equally overspent: the first is named.
    let verdict = ask(&[("10", Period::Total), ("8", Period::Month), ("3", Period::Week)], None);
    assert_eq!((verdict.within, verdict.tightest, verdict.remaining), (false, 1, Amount::ZERO));
}

#[test]
fn a_ledger_is_small() {
    // What the server adds for the key, its name of 16 bytes and the value's header, in bytes.
    let server = 80;
    let struct_bytes = allocated_bytes(size_of::<Ledger>());
    assert_eq!(Ledger::new().memory_bytes(), 0);
    let month = ledger(&[("2025-01-01", "123.456")]);
    assert!(server + struct_bytes + month.memory_bytes() <= 220, "{} B", struct_bytes + month.memory_bytes());

    let first = date("2025-01-01");
    let two_months = charged(first..first + 62);
    assert_eq!((two_months.days().count(), two_months.months().count()), (62, 3));
    let bytes = struct_bytes + two_months.memory_bytes();
    assert!(server + bytes <= 1_600, "{bytes} B");
    // After years there are more months, but not more days, and no spare memory behind them.
    let years = charged(first..first + 1_000);
    assert_eq!((years.days().count(), years.months().count()), (62, 33));
    assert_eq!(years.memory_bytes(), allocated_bytes(62 * 16) + allocated_bytes(33 * 16));
}

#[test]
fn a_hostile_payload_is_refused() {
    type Entries<'a> = &'a [(i64, i128)];
    let load = |total: i128, months: Entries, days: Entries| {
        let mut out = Encoded::default();
        out.int128(total);
        for entries in [months, days] {
            out.uint(entries.len() as u64);
            for &(number, amount) in entries {
                out.int(number);
                out.uint(0);
                out.int128(amount);
            }
        }
        no_feed_and_no_holds(&mut out);
        loaded(&out.0)
    };
    // 2025-01-31 and 2025-02-01.
    let (january, day_31) = (24_300, 20_119);
    let max = Amount::MAX.picos();
    assert_eq!(load(0, &[], &[]), Ok(Ledger::new()));
    assert!(load(max, &[(january, -max)], &[(day_31, max)]).is_ok(), "refunds let sums differ");
    assert!(load(3, &[(january, 1), (january + 1, 2)], &[(day_31, 1), (day_31 + 1, 2)]).is_ok());
    let far = |from: i64, count: i64| (from..from + count).map(|number| (number, 0)).collect::<Vec<_>>();
    let all_days: Vec<_> = far(day_31 - 3_599, 3_600);
    assert!(load(0, &far(january - 119, 120), &all_days).is_ok());
    assert!(load(3, &[(12, 1), (january, 2)], &[(-719_162, 1), (day_31, 2)]).is_ok(), "however far apart");
    let ends = &[(-719_162, 1), (day_31, 2)];
    assert!(load(3, &far(january - 119, 120), ends).is_ok(), "a month may have been dropped of more than are kept");

    let months = "days or months out of order";
    for (what, months, days) in [
        (months, &[(january, 1), (january, 1)][..], &[(day_31, 1)][..]),
        (months, &[(january, 1), (january - 1, 1)], &[(day_31, 1)]),
        (months, &[(january, 1)], &[(day_31, 1), (day_31, 1)]),
        (months, &[(january, 1)], &[(day_31, 1), (day_31 - 1, 1)]),
        ("a day or month outside the calendar", &[(i64::MAX, 1)], &[(day_31, 1)]),
        ("a day or month outside the calendar", &[(11, 1)], &[(day_31, 1)]),
        ("a day or month outside the calendar", &[(120_000, 1)], &[(day_31, 1)]),
        ("a day or month outside the calendar", &[(january, 1)], &[(i64::MIN, 1)]),
        ("a day or month outside the calendar", &[(january, 1)], &[(2_932_897, 1)]),
        ("an amount out of range", &[(january, max + 1)], &[(day_31, 1)]),
        ("an amount out of range", &[(january, 1)], &[(day_31, -max - 1)]),
        ("a day whose month is missing", &[(january, 1)], &[(day_31, 1), (day_31 + 1, 1)]),
        ("a day whose month is missing", &[], &[(day_31, 1)]),
        ("a day whose month is missing", &far(january - 118, 119), ends),
        ("a newest month that is not the newest day's", &[(january, 1)], &[]),
        ("a newest month that is not the newest day's", &[(january, 1), (january + 1, 1)], &[(day_31, 1)]),
        ("a total that was never charged", &[], &[]),
        ("more days or months than a ledger keeps", &far(january - 120, 121), &[]),
        ("more days or months than a ledger keeps", &[(january, 1)], &far(day_31 - 3_600, 3_601)),
    ] {
        assert_eq!(load(1, months, days), Err(Corrupt(what)), "{months:?} {days:?}");
    }
    assert_eq!(load(max + 1, &[], &[]), Err(Corrupt("an amount out of range")));
    assert_eq!(load(i128::MIN, &[], &[]), Err(Corrupt("an amount out of range")));
    let bytes = saved(&Ledger::new());
    for unknown in [0, Ledger::ENCODING + 1] {
        assert!(load_versioned::<Ledger>(&mut Decoder::new(&bytes), unknown).is_err());
    }
}
