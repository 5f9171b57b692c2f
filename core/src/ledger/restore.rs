//! A ledger made again of the rows that a reader of the feed has stored.

use super::credits::Credits;
use super::feed::Feed;
use super::series::{KEEP_DAYS_MAX, KEEP_DAYS_MIN, KEEP_MONTHS, Series};
use super::value::Ledger;
use crate::calendar::{Day, Period};
use crate::money::Amount;

/// What a row is a sum of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// What was spent in the period.
    Spend,
    /// The period's credit.
    Credit,
}

/// The sum of a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// What it is a sum of.
    pub kind: RowKind,
    /// The period. Weeks of spend are sums of days, and have no rows.
    pub period: Period,
    /// The period's first day.
    pub first_day: Day,
    /// The whole sum.
    pub amount: Amount,
}

/// Why rows do not make a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsError {
    /// A week of spend.
    Week,
    /// A day on which no such period begins.
    FirstDay,
    /// A credit below zero.
    BelowZero,
    /// Two rows of one period.
    Repeated,
    /// No row has the total spend.
    NoTotal,
    /// No charges can have led to these rows.
    Contradiction(&'static str),
}

/// All sums of a ledger, checked: a ledger with nothing else.
#[derive(Debug)]
pub struct Sums(Ledger);

impl Sums {
    /// Takes the rows in any order. Of more days or months than a ledger keeps, the newest are taken; `keep_days` is brought
    /// into [`KEEP_DAYS_MIN`]`..=`[`KEEP_DAYS_MAX`].
    ///
    /// # Errors
    /// If the rows are not those of a ledger.
    pub fn new(rows: &[Row], keep_days: u32) -> Result<Sums, RowsError> {
        for &Row { kind, period, first_day, amount } in rows {
            match kind {
                RowKind::Spend if period == Period::Week => return Err(RowsError::Week),
                RowKind::Credit if amount < Amount::ZERO => return Err(RowsError::BelowZero),
                _ if period.first_day(first_day) != first_day => return Err(RowsError::FirstDay),
                _ => {}
            }
        }
        let of = |kind: RowKind, period: Period| {
            rows.iter()
                .filter(move |row| row.kind == kind && row.period == period)
                .map(|row| (row.first_day, row.amount))
        };
        let spend = |period| of(RowKind::Spend, period);
        let mut totals = spend(Period::Total).map(|(_, amount)| amount);
        let total = totals.next().ok_or(RowsError::NoTotal)?;
        let months = spend(Period::Month).map(|(day, amount)| (day.month().number(), amount));
        let days = spend(Period::Day).map(|(day, amount)| (day.number(), amount));
        let credits = Credits::of(|period| of(RowKind::Credit, period)).ok_or(RowsError::Repeated)?;
        if totals.next().is_some() {
            return Err(RowsError::Repeated);
        }
        let mut ledger = Ledger {
            total,
            months: Series::of(months, KEEP_MONTHS).ok_or(RowsError::Repeated)?,
            days: Series::of(days, keep_days.clamp(KEEP_DAYS_MIN, KEEP_DAYS_MAX)).ok_or(RowsError::Repeated)?,
            ..Ledger::new()
        };
        ledger.set_credits(credits.map(Box::new));
        ledger.contradiction().map_or(Ok(Sums(ledger)), |contradiction| Err(RowsError::Contradiction(contradiction)))
    }
}

impl Ledger {
    /// Replaces all sums and credits, and goes on from `version`. Holds and remembered ids stay. The ledger counts as new
    /// at its place: rows that a reader has under older versions are not its own, and all that it has is listed.
    pub fn restore(&mut self, sums: Sums, version: u64) {
        let Ledger { total, months, days, holds, .. } = sums.0;
        (self.total, self.months, self.days) = (total, months, days);
        self.feed = Feed::default();
        self.feed.change(version);
        self.set_credits(holds.and_then(|holds| holds.credits));
    }
}
