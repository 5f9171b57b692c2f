//! What a ledger at the server lacks of what the database has.

use std::collections::BTreeMap;

use jiff::civil::Date;
use redis_gateway_client::Amount;
use redis_gateway_client::commands::{LedgerState, Period};

use crate::ledgers::{Ledger, Row};

/// What a ledger has, by the first days of periods. What is not there is 0.
#[derive(Debug, Default, PartialEq)]
pub struct Sums {
    total: Amount,
    months: BTreeMap<Date, Amount>,
    days: BTreeMap<Date, Amount>,
    credits: BTreeMap<(Period, Date), Amount>,
}

/// One change that makes the ledger more like the database.
#[derive(Debug, PartialEq)]
pub enum Step {
    Charge { day: Date, amount: Amount },
    Credit { period: Period, first_day: Date, amount: Amount },
}

/// What is to be done.
#[derive(Debug, Default, PartialEq)]
pub struct Difference {
    /// The oldest charges first: a server that keeps fewer days than the database drops the oldest.
    pub steps: Vec<Step>,
    /// Months and totals that are more than the sum of what the database has of their days and months. The rest of a month is
    /// charged to its first day, that of the total to 1970-01-01.
    pub rests: usize,
}

const EPOCH: Date = Date::constant(1970, 1, 1);

impl Sums {
    /// Those of the database.
    pub fn of_database(ledger: &Ledger) -> Self {
        let mut sums = Self::default();
        for &Row { period, first_day, amount } in &ledger.spend {
            match period {
                Period::Day => drop(sums.days.insert(first_day, amount)),
                Period::Month => drop(sums.months.insert(first_day, amount)),
                Period::Total => sums.total = amount,
                _ => {}
            }
        }
        let credits = ledger.credits.iter().map(|row| ((row.period, row.first_day), row.amount));
        sums.credits = credits.collect();
        sums
    }

    /// Those of the server; `None` if it tells them in another form than this program knows.
    pub fn of_server(ledger: &LedgerState) -> Option<Self> {
        let date = |text: &[u8], rest: &str| format!("{}{rest}", std::str::from_utf8(text).ok()?).parse::<Date>().ok();
        let dated = |sums: &BTreeMap<_, Amount>, rest: &str| -> Option<BTreeMap<Date, Amount>> {
            let dated = |(day, &amount): (&redis_gateway_client::Text, _)| Some((date(day, rest)?, amount));
            sums.iter().map(dated).collect()
        };
        let credits = ledger.credits.iter().map(|row| Some(((row.period, date(&row.first_day, "")?), row.amount)));
        Some(Self {
            total: ledger.total,
            months: dated(&ledger.months, "-01")?,
            days: dated(&ledger.days, "")?,
            credits: credits.collect::<Option<_>>()?,
        })
    }

    /// Whether the server's ledger has the same, as far as it keeps days, months and credits.
    pub fn has_kept(&self, there: &Sums) -> bool {
        fn keeps<K: Ord>(here: &BTreeMap<K, Amount>, there: &BTreeMap<K, Amount>) -> bool {
            there.iter().all(|(key, amount)| of(here, key) == *amount)
        }
        self.total == there.total
            && keeps(&self.months, &there.months)
            && keeps(&self.days, &there.days)
            && keeps(&self.credits, &there.credits)
    }

    /// What has to be added to `there`, an older state of the same ledger or nothing, so that it has what this has.
    pub fn beyond(&self, there: &Sums) -> Difference {
        let mut charges = BTreeMap::<Date, Amount>::new();
        let mut rests = 0;
        // A month in which a day is known but not the month itself is one that the ledger no longer kept.
        let mut lacking: BTreeMap<Date, Amount> = BTreeMap::new();
        for (month, amount) in &self.months {
            lacking.insert(*month, *amount - of(&there.months, month));
        }
        let mut total = self.total - there.total;
        for (day, amount) in &self.days {
            let amount = *amount - of(&there.days, day);
            *charges.entry(*day).or_default() += amount;
            *lacking.entry(day.first_of_month()).or_default() -= amount;
            total -= amount;
        }
        let rest_of_months =
            lacking.into_iter().filter(|(month, rest)| !rest.is_zero() && self.months.contains_key(month));
        for (month, rest) in rest_of_months {
            *charges.entry(month).or_default() += rest;
            total -= rest;
            rests += 1;
        }
        if !total.is_zero() {
            *charges.entry(EPOCH).or_default() += total;
            rests += 1;
        }
        let charges = charges.into_iter().map(|(day, amount)| Step::Charge { day, amount });
        let credits = self.credits.iter().map(|(&(period, first_day), amount)| {
            let amount = *amount - of(&there.credits, &(period, first_day));
            Step::Credit { period, first_day, amount }
        });
        let is_something = |step: &Step| match step {
            Step::Charge { amount, .. } | Step::Credit { amount, .. } => !amount.is_zero(),
        };
        Difference { steps: charges.chain(credits).filter(is_something).collect(), rests }
    }
}

fn of<K: Ord>(sums: &BTreeMap<K, Amount>, key: &K) -> Amount {
    sums.get(key).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(spend: &[(&str, &str, &str)], credits: &[(&str, &str, &str)]) -> Sums {
        let rows = |rows: &[(&str, &str, &str)]| {
            rows.iter().map(|(period, day, amount)| Row::parse(period, day, amount).unwrap()).collect()
        };
        let (spend, credits) = (rows(spend), rows(credits));
        Sums::of_database(&Ledger { account: "a".into(), version: 1, since: 0, spend, credits })
    }

    fn charge(day: &str, amount: &str) -> Step {
        Step::Charge { day: day.parse().unwrap(), amount: amount.parse().unwrap() }
    }

    #[test]
    fn a_ledger_that_is_gone_is_made_of_its_days() {
        let all = sums(
            &[
                ("TOTAL", "0001-01-01", "6.5"),
                ("MONTH", "2026-10-01", "4"),
                ("MONTH", "2026-11-01", "2.5"),
                ("DAY", "2026-11-02", "3"),
                ("DAY", "2026-11-03", "-0.5"),
                ("DAY", "2026-10-31", "4"),
            ],
            &[("WEEK", "2026-11-02", "7"), ("DAY", "2026-11-02", "0")],
        );
        let found = all.beyond(&Sums::default());
        let credit = Step::Credit { period: Period::Week, first_day: Date::constant(2026, 11, 2), amount: 7.into() };
        let steps = [charge("2026-10-31", "4"), charge("2026-11-02", "3"), charge("2026-11-03", "-0.5"), credit];
        assert_eq!((&found.steps[..], found.rests), (&steps[..], 0));
        assert!(all.has_kept(&all) && !all.has_kept(&Sums::default()));
    }

    #[test]
    fn an_older_state_gets_what_it_lacks() {
        let old = sums(
            &[("TOTAL", "0001-01-01", "3"), ("MONTH", "2026-11-01", "3"), ("DAY", "2026-11-02", "3")],
            &[("TOTAL", "0001-01-01", "50")],
        );
        let new = sums(
            &[
                ("TOTAL", "0001-01-01", "4"),
                ("MONTH", "2026-11-01", "4"),
                ("DAY", "2026-11-02", "2"),
                ("DAY", "2026-11-03", "2"),
            ],
            &[("TOTAL", "0001-01-01", "40")],
        );
        let taken =
            Step::Credit { period: Period::Total, first_day: Date::constant(1, 1, 1), amount: "-10".parse().unwrap() };
        let steps = vec![charge("2026-11-02", "-1"), charge("2026-11-03", "2"), taken];
        assert_eq!(new.beyond(&old), Difference { steps, rests: 0 });
    }

    #[test]
    fn what_no_day_has_goes_where_it_disturbs_least() {
        let all = sums(
            &[
                ("TOTAL", "0001-01-01", "100"),
                ("MONTH", "2026-11-01", "10"),
                ("DAY", "2026-11-02", "3"),
                ("DAY", "2010-01-05", "1"),
            ],
            &[],
        );
        let steps = vec![
            charge("1970-01-01", "89"),
            charge("2010-01-05", "1"),
            charge("2026-11-01", "7"),
            charge("2026-11-02", "3"),
        ];
        assert_eq!(all.beyond(&Sums::default()), Difference { steps, rests: 2 });
    }
}
