//! Credits: how long they are kept, and payloads with credits that no ledger can have.

use super::tests::{NOW_MS, loaded, picos, saved};
use super::*;
use crate::calendar::{Day, Period};
use crate::codec::{Corrupt, Encoded, Writer as _};
use crate::money::Amount;

const TODAY: i32 = 20_119;

fn day(number: i32) -> Day {
    Day::from_number(number).expect("a day")
}

fn give(ledger: &mut Ledger, period: Period, number: i32, amount: i128) -> Result<Amount, CreditError> {
    let stamp = Stamp { at_ms: NOW_MS, keep_days: KEEP_DAYS_MIN, remember_ms: 0, version: ledger.version() + 1 };
    ledger.give_credit(None, period, day(number), picos(amount), &stamp)
}

#[test]
fn credits_of_the_coming_year_and_of_the_past_leave_todays() {
    let mut ledger = Ledger::new();
    for period in Period::ALL {
        assert_eq!(give(&mut ledger, period, TODAY, 7), Ok(picos(7)));
        // First as far ahead as the command allows, then years back.
        for number in (TODAY + 1..=TODAY + 366).chain((TODAY - 9_000..TODAY).rev()) {
            give(&mut ledger, period, number, 1).expect("within range");
        }
        let first = period.first_day(day(TODAY));
        let others =
            (TODAY - 9_000..=TODAY + 366).filter(|&number| number != TODAY && period.first_day(day(number)) == first);
        let expected = picos(7 + others.count() as i128);
        assert_eq!(ledger.credit(period, day(TODAY)), expected, "{period:?}");
    }
    // Ten years of each period.
    let kept = |period| ledger.credits().filter(|(own, ..)| *own == period).count();
    assert_eq!(Period::ALL.map(kept).iter().sum::<usize>(), 3_600 + 520 + 120 + 1);
    assert_eq!(loaded(&saved(&ledger)).as_ref(), Ok(&ledger));
}

#[test]
fn no_more_is_taken_back_than_was_given() {
    let mut ledger = Ledger::new();
    assert_eq!(give(&mut ledger, Period::Day, TODAY, -1), Err(CreditError::BelowZero));
    assert_eq!(ledger, Ledger::new());
    assert_eq!(give(&mut ledger, Period::Day, TODAY, 5), Ok(picos(5)));
    assert_eq!(give(&mut ledger, Period::Week, TODAY, -5), Err(CreditError::BelowZero), "another period");
    assert_eq!(give(&mut ledger, Period::Day, TODAY + 1, -5), Err(CreditError::BelowZero), "another day");
    assert_eq!(give(&mut ledger, Period::Day, TODAY, Amount::MAX.picos()), Err(CreditError::Overflow));
    assert_eq!(give(&mut ledger, Period::Day, TODAY, -5), Ok(picos(0)));
    // A credit of zero is listed, so that a reader of the feed learns of it.
    assert_eq!(ledger.listed_credits().collect::<Vec<_>>(), [(Period::Day, day(TODAY), picos(0))]);
}

#[test]
fn hostile_credits_are_refused() {
    type Entries<'a> = &'a [(i64, i128)];
    let load = |series: [Entries; 3], total: Option<i128>| {
        let mut out = Encoded::default();
        out.int128(0);
        // No months, no days, no feed and no holds, but credits.
        (0..8).for_each(|_| out.uint(0));
        out.uint(1);
        for entries in series {
            out.uint(entries.len() as u64);
            for &(number, amount) in entries {
                out.int(number);
                out.uint(0);
                out.int128(amount);
            }
        }
        out.uint(total.is_some().into());
        total.iter().for_each(|&total| out.int128(total));
        loaded(&out.0).map(|ledger| ledger.credits().count())
    };
    let (max, today) = (Amount::MAX.picos(), i64::from(TODAY));
    assert_eq!(load([&[(today, max)], &[(2_875, 0)], &[(24_300, 1)]], Some(0)), Ok(4));
    assert_eq!(load([&[], &[], &[]], Some(1)), Ok(1));
    let below = Err(Corrupt("a credit below zero"));
    for (series, total) in [
        ([&[(today, -1)][..], &[], &[]], None),
        ([&[], &[(2_875, -1)], &[]], None),
        ([&[], &[], &[(24_300, -1)]], None),
        ([&[], &[], &[]], Some(-1)),
    ] {
        assert_eq!(load(series, total), below, "{series:?}");
    }
    assert_eq!(load([&[], &[], &[]], None), Err(Corrupt("a list of credits without any")));
    let outside = Err(Corrupt("a day or month outside the calendar"));
    assert_eq!(load([&[(i64::MAX, 1)], &[], &[]], None), outside);
    assert_eq!(load([&[], &[(i64::from(i32::MAX), 1)], &[]], None), outside);
    assert_eq!(load([&[], &[(i64::from(i32::MIN), 1)], &[]], None), outside);
    assert_eq!(load([&[], &[], &[(11, 1)]], None), outside);
    let many = (0..521).map(|week| (week, 1)).collect::<Vec<_>>();
    assert_eq!(load([&[], &many, &[]], None), Err(Corrupt("more days or months than a ledger keeps")));
    assert_eq!(load([&[(today, max + 1)], &[], &[]], None), Err(Corrupt("an amount out of range")));
}
