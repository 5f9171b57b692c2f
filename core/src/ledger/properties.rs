//! The ledger compared with a list of every charge ever made, and with payloads that no ledger wrote.

use std::collections::{BTreeMap, BTreeSet};

use super::tests::{KEEP, NOW_MS, loaded, no_feed_and_no_holds, picos, saved};
use super::*;
use crate::calendar::{Day, Month, Period};
use crate::codec::{Encoded, Writer as _};
use crate::money::Amount;
use proptest::prelude::*;

/// Every charge ever made, and whether its day and its month still count it.
#[derive(Debug, Default)]
struct Model(Vec<ModelCharge>);

#[derive(Debug)]
struct ModelCharge {
    day: Day,
    month: Month,
    picos: i128,
    in_day: bool,
    in_month: bool,
}

impl Model {
    fn sum(&self, counts: impl Fn(&ModelCharge) -> bool) -> i128 {
        self.0.iter().filter(|charge| counts(charge)).map(|charge| charge.picos).sum()
    }

    fn day(&self, day: Day) -> i128 {
        self.sum(|charge| charge.in_day && charge.day == day)
    }

    fn month(&self, month: Month) -> i128 {
        self.sum(|charge| charge.in_month && charge.month == month)
    }

    fn spent(&self, period: Period, day: Day) -> i128 {
        let (monday, sunday) = day.week();
        match period {
            Period::Day => self.day(day),
            Period::Week => self.sum(|charge| charge.in_day && monday <= charge.day && charge.day <= sunday),
            Period::Month => self.month(day.month()),
            Period::Total => self.sum(|_| true),
        }
    }

    /// Makes a charge that drops nothing.
    fn book(&mut self, day: Day, amount: Amount) {
        self.0.push(ModelCharge { day, month: day.month(), picos: amount.picos(), in_day: true, in_month: true });
    }

    fn charge(&mut self, day: Day, amount: Amount, keep_days: u32) -> Result<(i128, i128, i128), Overflow> {
        let sums = (
            self.day(day) + amount.picos(),
            self.month(day.month()) + amount.picos(),
            self.spent(Period::Total, day) + amount.picos(),
        );
        if [sums.0, sums.1, sums.2].iter().any(|sum| sum.abs() > Amount::MAX.picos()) {
            return Err(Overflow);
        }
        self.book(day, amount);
        let days = self.0.iter().filter(|charge| charge.in_day).map(|charge| charge.day.number());
        let days_kept = kept(days.collect(), day.number(), keep_days.clamp(32, 3_600));
        let months = self.0.iter().filter(|charge| charge.in_month).map(|charge| charge.month.number());
        let months_kept = kept(months.collect(), day.month().number(), 120);
        for charge in &mut self.0 {
            charge.in_day &= days_kept.contains(&charge.day.number());
            charge.in_month &= months_kept.contains(&charge.month.number());
        }
        Ok(sums)
    }
}

/// Drops, one by one, the oldest number that is more than a quarter of `keep` from the number charged.
fn kept(mut numbers: BTreeSet<i32>, charged: i32, keep: u32) -> BTreeSet<i32> {
    while numbers.len() > keep as usize {
        let oldest = numbers.iter().find(|&&number| (number - charged).abs() > keep as i32 / 4).copied();
        numbers.remove(&oldest.expect("fewer are near than are kept"));
    }
    numbers
}

/// A charge some days after the previous one, or late, or early, and a day to query.
#[derive(Debug, Clone)]
struct Step {
    advance: i32,
    ahead: i32,
    amount: Amount,
    keep_days: u32,
    period: Period,
    asked_ahead: i32,
}

fn amounts() -> impl Strategy<Value = Amount> {
    let max = Amount::MAX.picos();
    prop_oneof![9 => -1_000_000i128..1_000_000_000_000_000, 1 => -max..=max].prop_map(picos)
}

fn periods() -> impl Strategy<Value = Period> {
    prop::sample::select(&Period::ALL[..])
}

fn days_ahead() -> impl Strategy<Value = i32> {
    prop_oneof![12 => Just(0), 2 => 1..3, 4 => -10..0, 2 => -100..-10, 1 => -5_000..-100, 1 => 3..5_000]
}

fn steps(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Step>> {
    let advance = prop_oneof![40 => Just(0), 20 => 1..3, 2 => 3..70, 1 => 70..4_000];
    let keep_days = prop_oneof![6 => Just(KEEP), 1 => prop::sample::select(&[0, 31, 32, 33, 400, 3_600, u32::MAX][..])];
    let step = (advance, days_ahead(), amounts(), keep_days, periods(), days_ahead());
    let step = step.prop_map(|(advance, ahead, amount, keep_days, period, asked_ahead)| Step {
        advance,
        ahead,
        amount,
        keep_days,
        period,
        asked_ahead,
    });
    prop::collection::vec(step, count)
}

/// The first days of the calendar, the last days, and today.
fn first_days() -> impl Strategy<Value = i32> {
    prop_oneof![8 => Just(20_000), 1 => Just(Day::MIN.number()), 1 => Just(Day::MAX.number() - 100), 1 => Just(-100)]
}

fn clamped_day(number: i32) -> Day {
    Day::from_number(number.clamp(Day::MIN.number(), Day::MAX.number())).expect("a day")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn sums_are_those_of_every_charge_ever_made(mut today in first_days(), steps in steps(1..500)) {
        let mut ledger = Ledger::new();
        let mut model = Model::default();
        for step in steps {
            today += step.advance;
            let day = clamped_day(today + step.ahead);
            let before = ledger.clone();
            let totals = ledger.charge(day, step.amount, step.keep_days, 0);
            let expected = model.charge(day, step.amount, step.keep_days);
            prop_assert_eq!(totals.map(|it| (it.day.picos(), it.month.picos(), it.total.picos())), expected);
            if totals.is_err() {
                prop_assert_eq!(&ledger, &before);
            }
            let asked = clamped_day(today + step.asked_ahead);
            prop_assert_eq!(ledger.spent(step.period, asked).picos(), model.spent(step.period, asked));
        }
        // No charge is missing, and there are no other entries.
        let mut days = BTreeMap::new();
        let mut months = BTreeMap::new();
        for charge in &model.0 {
            if charge.in_day {
                *days.entry(charge.day).or_insert(0) += charge.picos;
            }
            if charge.in_month {
                *months.entry(charge.month).or_insert(0) += charge.picos;
            }
        }
        let days: Vec<_> = days.into_iter().map(|(day, sum)| (day, picos(sum))).collect();
        let months: Vec<_> = months.into_iter().map(|(month, sum)| (month, picos(sum))).collect();
        prop_assert_eq!(ledger.days().collect::<Vec<_>>(), days);
        prop_assert_eq!(ledger.months().collect::<Vec<_>>(), months);
        prop_assert_eq!(loaded(&saved(&ledger)), Ok(ledger));
    }
}

/// Makes every change that a ledger allows: the sums of a loaded ledger may be anything within their bounds.
fn use_up(mut ledger: Ledger) -> Result<(), TestCaseError> {
    prop_assert_eq!(loaded(&saved(&ledger)), Ok(ledger.clone()));
    let newest = ledger.days().next_back().map_or(0, |(day, _)| day.number());
    for number in
        [Day::MIN.number(), newest - 4_000, newest - 100, newest - 1, newest, newest + 1, newest + 99, i32::MAX]
    {
        let day = clamped_day(number);
        for period in Period::ALL {
            let budgets = [(Amount::MAX, period), (Amount::ZERO, Period::Week), (picos(-Amount::MAX.picos()), period)];
            for cost in [None, Some(Amount::MAX), Some(picos(-Amount::MAX.picos()))] {
                let verdict = ledger.within(NOW_MS, day, &budgets, cost).expect("budgets");
                // Exact even if a sum of 128 bits would overflow.
                let left = verdict.budget.picos() - verdict.spent.picos();
                prop_assert_eq!(verdict.remaining.picos(), left.max(0));
            }
        }
        for amount in [Amount::MAX, picos(-Amount::MAX.picos()), picos(1), picos(-1)] {
            let before = ledger.clone();
            match ledger.charge(day, amount, KEEP, 0) {
                Ok(totals) => prop_assert_eq!(totals.total, ledger.spent(Period::Total, day)),
                Err(Overflow) => prop_assert_eq!(&ledger, &before),
            }
            prop_assert_eq!(loaded(&saved(&ledger)), Ok(ledger.clone()));
        }
    }
    Ok(())
}

/// For each charge: how far today advances before it, how far its day is ahead of today, and its amount.
fn charges(ahead: impl Strategy<Value = i32>) -> impl Strategy<Value = Vec<(i32, i32, Amount)>> {
    let advance = prop_oneof![4 => Just(0), 8 => 1..3, 1 => 3..10];
    prop::collection::vec((advance, ahead, (1..1_000_000_000_000i128).prop_map(picos)), 1..150)
}

/// Days far from today's charges.
fn wrong_days() -> impl Strategy<Value = i32> {
    prop_oneof![3 => 22_000..22_400, 1 => 30_000..1_000_000, 1 => 0..10_000]
}

/// Makes the charges. After each, today's periods must have everything that was ever charged to them.
fn todays_periods_are_complete(
    mut ledger: Ledger,
    mut model: Model,
    keep_days: u32,
    charges: &[(i32, i32, Amount)],
) -> Result<(), TestCaseError> {
    let mut today = 20_000;
    for &(advance, ahead, amount) in charges {
        today += advance;
        let day = clamped_day(today + ahead);
        ledger.charge(day, amount, keep_days, 0).expect("within range");
        model.book(day, amount);
        for period in Period::ALL {
            let today = clamped_day(today);
            prop_assert_eq!(ledger.spent(period, today).picos(), model.spent(period, today), "{:?} {}", period, today);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_number_of_wrong_days_blinds_the_budgets_of_those_that_follow(
        wrong in prop::collection::vec(wrong_days(), 0..400),
        keep_days in prop::sample::select(&[0, KEEP, u32::MAX][..]),
        charges in charges(-6..2),
    ) {
        let (mut ledger, mut model) = (Ledger::new(), Model::default());
        for day in wrong.into_iter().map(clamped_day) {
            ledger.charge(day, picos(1), keep_days, 0).expect("within range");
            model.book(day, picos(1));
        }
        todays_periods_are_complete(ledger, model, keep_days, &charges)?;
    }

    #[test]
    fn no_number_of_late_charges_and_a_few_wrong_days_blind_a_budget(
        keep_days in prop::sample::select(&[0, KEEP, u32::MAX][..]),
        mut charges in charges(prop_oneof![1 => -6..2, 1 => -20_000..-6, 1 => -100..-6]),
        wrong in prop::collection::vec((any::<prop::sample::Index>(), 2..1_000_000), 0..6),
    ) {
        for (place, ahead) in wrong {
            let place = place.index(charges.len());
            charges[place].1 = ahead;
        }
        todays_periods_are_complete(Ledger::new(), Model::default(), keep_days, &charges)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn verdicts_are_those_of_plain_sums(
        steps in steps(0..20),
        budgets in prop::collection::vec((amounts(), periods()), 0..6),
        cost in prop::option::of(amounts()),
    ) {
        let mut ledger = Ledger::new();
        let mut today = 20_000;
        for step in steps {
            today += step.advance;
            // A ledger is tested after an overflow, too.
            let _ = ledger.charge(clamped_day(today + step.ahead), step.amount, KEEP, 0);
        }
        let today = clamped_day(today);
        let left = |&(budget, period): &(Amount, Period)| budget.picos() - ledger.spent(period, today).picos();
        let left: Vec<i128> = budgets.iter().map(left).collect();
        let verdict = ledger.within(NOW_MS, today, &budgets, cost);
        prop_assert_eq!(verdict.is_none(), budgets.is_empty());
        if let Some(verdict) = verdict {
            let within = left.iter().all(|&left| cost.map_or(left > 0, |cost| cost.picos() <= left));
            let least = left.iter().copied().min().expect("a budget");
            let tightest = left.iter().position(|&left| left == least).expect("the least");
            let (budget, period) = budgets[tightest];
            prop_assert_eq!((verdict.within, verdict.tightest, verdict.budget), (within, tightest, budget));
            prop_assert_eq!((verdict.spent, verdict.held), (ledger.spent(period, today), Amount::ZERO));
            prop_assert_eq!(verdict.remaining.picos(), least.max(0));
        }
    }

    #[test]
    fn a_replica_loaded_at_any_point_stays_equal(
        mut today in first_days(),
        before in steps(0..50),
        after in steps(0..50),
    ) {
        let mut primary = Ledger::new();
        let mut replica = None;
        let loads_at = before.len();
        for (at, step) in before.into_iter().chain(after).enumerate() {
            today += step.advance;
            if at == loads_at {
                replica = Some(loaded(&saved(&primary)).expect("what was saved"));
            }
            let day = clamped_day(today + step.ahead);
            let totals = primary.charge(day, step.amount, step.keep_days, 0);
            if let Some(replica) = &mut replica {
                prop_assert_eq!(replica.charge(day, step.amount, step.keep_days, 0), totals);
                prop_assert_eq!(saved(replica), saved(&primary));
            }
        }
    }

    #[test]
    fn any_bytes_are_loaded_without_panic(bytes: Vec<u8>) {
        if let Ok(ledger) = loaded(&bytes) {
            use_up(ledger)?;
        }
    }

    #[test]
    fn what_is_loaded_of_a_changed_ledger_can_be_used(
        steps in steps(1..30),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut ledger = Ledger::new();
        let mut today = 20_000;
        for step in steps {
            today += step.advance;
            let _ = ledger.charge(clamped_day(today + step.ahead), step.amount, KEEP, 0);
        }
        let mut bytes = saved(&ledger);
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(ledger) = loaded(&bytes) {
            use_up(ledger)?;
        }
    }

    #[test]
    fn what_is_loaded_of_a_made_up_ledger_can_be_used(
        total in amounts(),
        newest in first_days(),
        gaps in prop::collection::vec((1..60i32, amounts()), 1..30),
        months_left_out in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let mut day = newest;
        let mut days = Vec::new();
        let mut months = BTreeMap::new();
        for (gap, amount) in gaps {
            let date = clamped_day(day);
            days.push((date.number(), amount));
            // Sums that no charges can have produced.
            months.insert(date.month().number(), amount);
            day -= gap;
        }
        days.reverse();
        if let Some(left_out) = months_left_out {
            let number = *months.keys().nth(left_out.index(months.len())).expect("a month");
            months.remove(&number);
        }
        let mut out = Encoded::default();
        out.int128(total.picos());
        for entries in [months.into_iter().collect(), days.clone()] {
            out.uint(entries.len() as u64);
            for (number, amount) in entries {
                out.int(i64::from(number));
                out.uint(0);
                out.int128(amount.picos());
            }
        }
        no_feed_and_no_holds(&mut out);
        let ledger = loaded(&out.0);
        let sorted = days.is_sorted_by(|a, b| a.0 < b.0);
        prop_assert_eq!(ledger.is_ok(), sorted && months_left_out.is_none(), "{:?}", ledger);
        if let Ok(ledger) = ledger {
            use_up(ledger)?;
        }
    }
}
