//! Ledgers that are made again of a reader's rows.

use super::feed::KeyPlace;
use super::tests::{NOW_MS, loaded, picos, saved};
use super::*;
use crate::calendar::{Day, Period};
use crate::money::Amount;

const TODAY: i32 = 20_119;

fn day(number: i32) -> Day {
    Day::from_number(number).expect("a day")
}

fn row(kind: RowKind, period: Period, number: i32, amount: i128) -> Row {
    Row { kind, period, first_day: period.first_day(day(number)), amount: picos(amount) }
}

/// What a reader that has stored everything that was ever listed has of a ledger.
fn rows(ledger: &Ledger) -> Vec<Row> {
    let of = |kind| move |(period, first_day, amount)| Row { kind, period, first_day, amount };
    let total = Row { first_day: Day::MIN, ..row(RowKind::Spend, Period::Total, 0, 0) };
    let months = ledger.months().map(|(month, amount)| (Period::Month, month.first_day(), amount));
    let days = ledger.days().map(|(day, amount)| (Period::Day, day, amount));
    std::iter::once(Row { amount: ledger.spent(Period::Total, day(0)), ..total })
        .chain(months.chain(days).map(of(RowKind::Spend)))
        .chain(ledger.credits().map(of(RowKind::Credit)))
        .collect()
}

fn used() -> Ledger {
    let mut ledger = Ledger::new();
    for number in TODAY - 50..=TODAY {
        ledger.charge(day(number), picos(7), 62, 100).expect("in range");
    }
    let stamp = Stamp { at_ms: NOW_MS, keep_days: 62, remember_ms: 1_000, version: 200 };
    for period in Period::ALL {
        ledger.give_credit(None, period, day(TODAY), picos(5), &stamp).expect("in range");
    }
    ledger
}

#[test]
fn a_ledger_is_made_again_of_its_rows() {
    let lost = used();
    let mut rows = rows(&lost);
    rows.reverse();
    let mut restored = Ledger::new();
    restored.restore(Sums::new(&rows, 62).expect("a ledger's rows"), lost.version());
    assert_eq!(restored.version(), lost.version());
    assert_eq!(restored.since(), lost.version());
    assert!(restored.days().eq(lost.days()) && restored.months().eq(lost.months()));
    assert!(restored.credits().eq(lost.credits()));
    assert_eq!(restored.spent(Period::Total, day(0)), picos(51 * 7));
    assert_eq!(loaded(&saved(&restored)).as_ref(), Ok(&restored));

    // A reader with the same version is in step; any other one has everything listed.
    let place = KeyPlace::new(0, b"k");
    assert!(restored.is_in_step(lost.version(), place) && !restored.is_in_step(lost.version() - 1, place));
    assert!(restored.listed().eq(lost.listed()) && restored.is_listed(place));
    restored.acknowledge(lost.version(), place);
    assert!(!restored.is_listed(place));
}

#[test]
fn a_restoration_replaces_sums_and_leaves_holds() {
    let stamp = Stamp { at_ms: NOW_MS, keep_days: 62, remember_ms: 1_000, version: 300 };
    let mut ledger = used();
    ledger.hold(b"h", day(TODAY), picos(3), NOW_MS + 500, &stamp);
    let total = [row(RowKind::Spend, Period::Total, 0, 0)];
    ledger.restore(Sums::new(&total, 62).expect("a ledger's rows"), 400);
    assert_eq!((ledger.days().count(), ledger.months().count(), ledger.credits().count()), (0, 0, 0));
    assert_eq!(ledger.held(NOW_MS, Period::Day, day(TODAY)), picos(3));
    assert!(ledger.cancel(b"h", &stamp));

    // Without holds and credits nothing is kept for them: the ledger is the same as one that never had any.
    let (mut once, mut again) = (Ledger::new(), used());
    for ledger in [&mut once, &mut again] {
        ledger.restore(Sums::new(&total, 62).expect("a ledger's rows"), 400);
    }
    assert_eq!(once, again);
}

#[test]
fn the_newest_days_are_kept() {
    let total = row(RowKind::Spend, Period::Total, 0, 9);
    let days = (0..100).map(|number| row(RowKind::Spend, Period::Day, TODAY - number, 1));
    let months = (0..5).map(|number| row(RowKind::Spend, Period::Month, TODAY - number * 28, 1));
    let months = months.filter({
        let mut known = Vec::new();
        move |row| {
            !known.contains(&row.first_day) && {
                known.push(row.first_day);
                true
            }
        }
    });
    let rows: Vec<Row> = days.chain(months).chain([total]).collect();
    let mut ledger = Ledger::new();
    // Brought into the range of what a ledger can keep.
    ledger.restore(Sums::new(&rows, 1).expect("a ledger's rows"), 1);
    assert!(ledger.days().map(|(day, _)| day).eq((1..=32).map(|number| day(TODAY - 32 + number))));
}

#[test]
fn what_is_not_a_ledger_is_refused() {
    let total = row(RowKind::Spend, Period::Total, 0, 0);
    let with = |kind, period, number, amount| [total, row(kind, period, number, amount)];
    let refused = |rows: &[Row]| Sums::new(rows, 62).map(|_| ()).expect_err("refused");
    assert_eq!(refused(&[]), RowsError::NoTotal);
    assert_eq!(refused(&[row(RowKind::Credit, Period::Total, 0, 1)]), RowsError::NoTotal);
    assert_eq!(refused(&with(RowKind::Spend, Period::Week, TODAY, 1)), RowsError::Week);
    assert_eq!(refused(&with(RowKind::Credit, Period::Day, TODAY, -1)), RowsError::BelowZero);
    assert_eq!(refused(&[Row { first_day: day(TODAY), ..total }]), RowsError::FirstDay);
    assert_eq!(refused(&[total, total]), RowsError::Repeated);
    for kind in [RowKind::Spend, RowKind::Credit] {
        for period in [Period::Day, Period::Month, Period::Total, Period::Week] {
            let row = row(kind, period, TODAY, 1);
            let expected =
                if kind == RowKind::Spend && period == Period::Week { RowsError::Week } else { RowsError::Repeated };
            assert_eq!(refused(&[total, row, row]), expected, "{kind:?} {period:?}");
        }
    }
    // What could not be loaded either.
    let [month, day] = [Period::Month, Period::Day].map(|period| row(RowKind::Spend, period, TODAY, 1));
    assert_eq!(refused(&[total, day]), RowsError::Contradiction("a day whose month is missing"));
    assert_eq!(refused(&[total, month]), RowsError::Contradiction("a newest month that is not the newest day's"));
    assert_eq!(
        refused(&[Row { amount: picos(9), ..total }]),
        RowsError::Contradiction("a total that was never charged")
    );
    // Any amount of spend: refunds may be more than charges.
    for amount in [Amount::MAX, picos(-1)] {
        assert!(Sums::new(&[total, month, Row { amount, ..day }], 62).is_ok());
    }
}
