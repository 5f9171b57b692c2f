use super::*;
use crate::calendar::CivilDate;
use crate::codec::{Decoder, Encoded};
use crate::memory::allocated_bytes;

pub(super) const KEEP: u32 = 62;

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

fn ledger(charges: &[(&str, &str)]) -> Ledger {
    let mut ledger = Ledger::new();
    for (date, amount) in charges {
        ledger.charge(day(date), money(amount), KEEP).expect("within range");
    }
    ledger
}

pub(super) fn saved(ledger: &Ledger) -> Vec<u8> {
    let mut out = Encoded::default();
    ledger.save(&mut out);
    out.0
}

pub(super) fn loaded(bytes: &[u8]) -> Result<Ledger, Corrupt> {
    let mut from = Decoder::new(bytes);
    let ledger = Ledger::load(&mut from, ENCODING_VERSION)?;
    from.finish()?;
    Ok(ledger)
}

#[test]
fn spend_is_kept_by_day_week_month_and_in_total() {
    // A Sunday and a Monday, and the turn of a month and a year within a week.
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
    let totals = ledger.charge(day("2025-01-02"), money("-0.5"), KEEP);
    assert_eq!(totals, Ok(Totals { day: money("1.5"), month: money("2.5"), total: money("2.5") }));
}

#[test]
fn old_days_and_months_are_dropped_into_the_total() {
    let mut ledger = ledger(&[("2025-01-01", "1"), ("2025-01-02", "2"), ("2025-03-03", "4")]);
    // 2025-01-01 is the 62nd day up to 2025-03-03.
    assert_eq!(ledger.spent(Period::Day, day("2025-01-01")), money("1"));
    ledger.charge(day("2025-03-04"), money("8"), KEEP).expect("within range");
    assert_eq!(ledger.spent(Period::Day, day("2025-01-01")), Amount::ZERO);
    assert_eq!(ledger.spent(Period::Day, day("2025-01-02")), money("2"));
    // A late charge to a day that is not kept is in its month.
    let totals = ledger.charge(day("2025-01-01"), money("16"), KEEP);
    assert_eq!(totals, Ok(Totals { day: Amount::ZERO, month: money("19"), total: money("31") }));
    assert_eq!(ledger.spent(Period::Day, day("2025-01-01")), Amount::ZERO);
    // Fewer days to keep: the next charge drops the others.
    ledger.charge(day("2025-03-04"), money("0"), 1).expect("within range");
    assert_eq!(ledger.days().map(|(day, _)| day).collect::<Vec<_>>(), [day("2025-03-03"), day("2025-03-04")]);

    // 2025-01 is the 120th month up to 2034-12.
    ledger.charge(day("2034-12-31"), money("32"), KEEP).expect("within range");
    assert_eq!(ledger.spent(Period::Month, day("2025-01-15")), money("19"));
    ledger.charge(day("2035-01-01"), money("64"), KEEP).expect("within range");
    assert_eq!(ledger.spent(Period::Month, day("2025-01-15")), Amount::ZERO);
    assert_eq!(ledger.spent(Period::Month, day("2025-03-15")), money("12"));
    let totals = ledger.charge(day("2025-01-31"), money("128"), KEEP);
    assert_eq!(totals, Ok(Totals { day: Amount::ZERO, month: Amount::ZERO, total: money("255") }));
    assert_eq!(ledger.months().count(), 3);
}

#[test]
fn the_current_week_is_complete_however_few_days_are_kept() {
    // Charged on a Sunday for up to two days ahead.
    let mut ledger = Ledger::new();
    for number in 0..9 {
        let date = Day::from_number(day("2025-01-06").number() + number).expect("a day");
        ledger.charge(date, money("1"), 0).expect("within range");
    }
    assert_eq!(ledger.spent(Period::Week, day("2025-01-12")), money("7"));
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
        assert_eq!(ledger.charge(day(date), picos(1), KEEP), Err(Overflow), "{date}");
        assert_eq!(*ledger, before);
        assert_eq!(ledger.charge(day(date), picos(-1), KEEP).map(|_| ()), Ok(()), "{date}");
    }
}

#[test]
fn a_budget_holds_to_the_last_digit() {
    let ledger = ledger(&[("2025-01-01", "9.999999999999")]);
    let within = |budget: &str, cost: Option<&str>| {
        let budgets = [(money(budget), Period::Month)];
        ledger.within(day("2025-01-31"), &budgets, cost.map(money)).expect("a budget").within
    };
    // With a cost: it fits exactly, or not. Without: something is left, or not.
    assert!(within("10", Some("0.000000000001")));
    assert!(!within("10", Some("0.000000000002")));
    assert!(within("9.999999999999", Some("0")));
    assert!(!within("9.999999999999", None));
    assert!(within("10", None));
    assert!(!within("9", Some("0")));
    assert!(!within("0", None));
    assert_eq!(ledger.within(day("2025-01-31"), &[], None), None);
}

#[test]
fn the_tightest_budget_is_the_one_with_the_least_remaining() {
    let ledger = ledger(&[("2025-01-01", "5"), ("2025-01-06", "3"), ("2025-01-07", "1")]);
    let today = day("2025-01-07");
    let ask = |budgets: &[(&str, Period)], cost: Option<&str>| {
        let budgets: Vec<_> = budgets.iter().map(|&(budget, period)| (money(budget), period)).collect();
        ledger.within(today, &budgets, cost.map(money)).expect("a budget")
    };
    let verdict = ask(&[("20", Period::Month), ("6", Period::Week), ("4", Period::Day), ("11", Period::Total)], None);
    let week = Verdict {
        within: true,
        tightest: 1,
        budget: money("6"),
        spent: money("4"),
        held: Amount::ZERO,
        remaining: money("2"),
    };
    assert_eq!(verdict, week, "the week and the total have 2 left; the week is named first");
    // A cost that the tightest does not bear.
    assert_eq!(ask(&[("20", Period::Month), ("6", Period::Week)], Some("2.5")), Verdict { within: false, ..week });
    // Both used up: nothing remains of either, and any of them is enough to refuse.
    let verdict = ask(&[("9", Period::Month), ("2", Period::Week)], Some("0"));
    assert_eq!((verdict.within, verdict.tightest, verdict.remaining), (false, 0, Amount::ZERO));
}

#[test]
fn a_ledger_is_small() {
    // What the server adds for the key, its name of 16 bytes and the value's header.
    let server = 80;
    let struct_bytes = allocated_bytes(size_of::<Ledger>());
    assert_eq!(Ledger::new().memory_bytes(), 0);
    let month = ledger(&[("2025-01-01", "123.456")]);
    assert!(server + struct_bytes + month.memory_bytes() <= 200, "{} B", struct_bytes + month.memory_bytes());

    let first = day("2025-01-01").number();
    let charge_daily = |days: std::ops::Range<i32>| {
        days.fold(Ledger::new(), |mut ledger, number| {
            ledger.charge(Day::from_number(number).expect("a day"), money("1"), KEEP).expect("within range");
            ledger
        })
    };
    let two_months = charge_daily(first..first + 62);
    assert_eq!((two_months.days().count(), two_months.months().count()), (62, 3));
    assert!(
        server + struct_bytes + two_months.memory_bytes() <= 1_500,
        "{} B",
        struct_bytes + two_months.memory_bytes()
    );
    // After years there are more months, but no more days, and no slack behind them.
    let years = charge_daily(first..first + 1_000);
    assert_eq!((years.days().count(), years.months().count()), (62, 33));
    assert_eq!(years.memory_bytes(), allocated_bytes(62 * 20) + allocated_bytes(33 * 20));
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
                out.int128(amount);
            }
        }
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

    let months = "days or months out of order";
    for (what, months, days) in [
        (months, &[(january, 1), (january, 1)][..], &[(day_31, 1)][..]),
        (months, &[(january, 1), (january - 1, 1)], &[(day_31, 1)]),
        (months, &[(january, 1)], &[(day_31, 1), (day_31, 1)]),
        (months, &[(january, 1)], &[(day_31, 1), (day_31 - 1, 1)]),
        ("days or months too far apart", &[(january - 120, 1), (january, 1)], &[(day_31, 1)]),
        ("days or months too far apart", &[(january, 1)], &[(day_31 - 3_600, 1), (day_31, 1)]),
        ("a day or month outside the calendar", &[(i64::MAX, 1)], &[(day_31, 1)]),
        ("a day or month outside the calendar", &[(11, 1)], &[(day_31, 1)]),
        ("a day or month outside the calendar", &[(120_000, 1)], &[(day_31, 1)]),
        ("a day or month outside the calendar", &[(january, 1)], &[(i64::MIN, 1)]),
        ("a day or month outside the calendar", &[(january, 1)], &[(2_932_897, 1)]),
        ("an amount out of range", &[(january, max + 1)], &[(day_31, 1)]),
        ("an amount out of range", &[(january, 1)], &[(day_31, -max - 1)]),
        ("a day whose month is missing", &[(january, 1)], &[(day_31, 1), (day_31 + 1, 1)]),
        ("a day whose month is missing", &[], &[(day_31, 1)]),
        ("a newest month that is not the newest day's", &[(january, 1)], &[]),
        ("a newest month that is not the newest day's", &[(january, 1), (january + 1, 1)], &[(day_31, 1)]),
        ("a total that was never charged", &[], &[]),
        ("more days or months than a ledger keeps", &far(january - 120, 121), &[]),
    ] {
        assert_eq!(load(1, months, days), Err(Corrupt(what)), "{months:?} {days:?}");
    }
    assert_eq!(load(max + 1, &[], &[]), Err(Corrupt("an amount out of range")));
    assert_eq!(load(i128::MIN, &[], &[]), Err(Corrupt("an amount out of range")));
    let bytes = saved(&Ledger::new());
    assert!(Ledger::load(&mut Decoder::new(&bytes), ENCODING_VERSION + 1).is_err());
    assert!(Ledger::load(&mut Decoder::new(&bytes), 0).is_err());
}
