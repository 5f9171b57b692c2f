//! Ledgers as the database has them.

use anyhow::{Context, Result};
use jiff::civil::Date;
use redis_gateway_client::Amount;
use redis_gateway_client::commands::Period;

/// A ledger, or its changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Ledger {
    /// The account's name: [`name_of`](super::name_of) its key.
    pub account: String,
    /// The version of the last change.
    pub version: i64,
    /// Rows that the database has under older versions are those of another ledger.
    pub since: i64,
    pub spend: Vec<Row>,
    pub credits: Vec<Row>,
}

/// The whole sum of a period, not a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub period: Period,
    pub first_day: Date,
    pub amount: Amount,
}

/// An account, and the version of its ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub account: String,
    pub version: i64,
}

impl Ledger {
    /// The Mondays of the weeks whose days are listed.
    pub fn weeks(&self) -> Vec<Date> {
        let days = self.spend.iter().filter(|row| row.period == Period::Day);
        let mut weeks: Vec<Date> = days.map(|row| monday_of(row.first_day)).collect();
        weeks.sort_unstable();
        weeks.dedup();
        weeks
    }
}

impl Row {
    /// # Errors
    /// If it is not what a database or a server has of a period.
    pub fn parse(period: &str, first_day: &str, amount: &str) -> Result<Self> {
        let period = match period {
            "DAY" => Period::Day,
            "WEEK" => Period::Week,
            "MONTH" => Period::Month,
            "TOTAL" => Period::Total,
            _ => anyhow::bail!("not a period: {period}"),
        };
        let first_day = first_day.parse().with_context(|| format!("not a day: {first_day}"))?;
        let amount = amount.parse().with_context(|| format!("not an amount: {amount}"))?;
        Ok(Self { period, first_day, amount })
    }
}

/// The word for a period in the database, which is the server's.
pub fn word_of(period: Period) -> &'static str {
    match period {
        Period::Day => "DAY",
        Period::Week => "WEEK",
        Period::Month => "MONTH",
        _ => "TOTAL",
    }
}

/// What stands for the first day where the period is all of time.
pub fn first_of_all() -> Date {
    Date::constant(1, 1, 1)
}

fn monday_of(day: Date) -> Date {
    let after_monday = day.weekday().to_monday_zero_offset();
    // The first Monday of the calendar is its first day, so there is one.
    day.checked_sub(jiff::Span::new().days(i64::from(after_monday))).unwrap_or(day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weeks_begin_on_mondays() {
        let row = |period: &str, day: &str| Row::parse(period, day, "1.5").unwrap();
        let spend = vec![
            row("TOTAL", "0001-01-01"),
            row("MONTH", "2026-11-01"),
            row("DAY", "2026-11-30"),
            row("DAY", "2026-11-29"),
            row("DAY", "2026-11-23"),
        ];
        let ledger = Ledger { account: "a".into(), version: 1, since: 1, spend, credits: vec![] };
        assert_eq!(ledger.weeks(), [Date::constant(2026, 11, 23), Date::constant(2026, 11, 30)]);
        assert!(Row::parse("YEAR", "2026-01-01", "1").is_err());
        assert!(Row::parse("DAY", "2026-02-30", "1").is_err());
        assert!(Row::parse("DAY", "2026-02-03", "one").is_err());
    }
}
