//! The ledger: what an account spent, by civil day, by month and in total, exact to the last digit.
//!
//! The ledger knows days, not time zones: which day a charge belongs to is decided once, where it is first charged, and
//! travels with it. So a ledger is the same wherever it is replayed.
//!
//! Cost: charging the newest day, or asking about it, its week or its month, is O(1) and allocates nothing. Older days
//! and months are found by binary search. A new day copies the days kept: at most [`KEEP_DAYS_MAX`], once a day.

mod series;

use crate::calendar::{Day, Month, Period};
use crate::codec::{Corrupt, Reader, Writer};
use crate::money::Amount;
use series::{load_amount, Series};

/// Months kept, the newest included. What is older remains in the total.
pub const KEEP_MONTHS: u32 = 120;

/// The fewest days kept: a week, and two more for charges dated up to 24 hours ahead. So the current week is complete.
pub const KEEP_DAYS_MIN: u32 = 9;

/// The most days kept: short of [`KEEP_MONTHS`], so that each day's month is kept as well.
pub const KEEP_DAYS_MAX: u32 = 3_600;

/// The version of what [`Ledger::save`] writes.
pub const ENCODING_VERSION: u32 = 1;

/// A sum would be further from zero than [`Amount::MAX`]. Nothing was charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow;

impl std::fmt::Display for Overflow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("sum out of range")
    }
}

impl std::error::Error for Overflow {}

/// What was spent on the day and in the month of a charge, and in total, the charge included. Zero for a day or month
/// too old to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    pub day: Amount,
    pub month: Amount,
    pub total: Amount,
}

/// Whether an account is within its budgets, and what is left of the tightest: the one with the least remaining, of
/// several such the one named first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Of all budgets, not only of the tightest.
    pub within: bool,
    /// The tightest budget's place among those asked about.
    pub tightest: usize,
    pub budget: Amount,
    pub spent: Amount,
    /// Set aside for requests under way.
    pub held: Amount,
    /// `budget - spent - held`, or zero where that is negative.
    pub remaining: Amount,
}

/// Spend per civil day, per month and in total.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    total: Amount,
    months: Series,
    days: Series,
}

impl Ledger {
    pub fn new() -> Ledger {
        Ledger::default()
    }

    /// Adds `amount`, which may be negative, to a day, its month and the total.
    ///
    /// Afterwards the ledger keeps the last `keep_days` days (brought into [`KEEP_DAYS_MIN`]`..=`[`KEEP_DAYS_MAX`]) up
    /// to the newest day ever charged, and the last [`KEEP_MONTHS`] months in the same way. A charge dated before them
    /// goes to its month and the total, or to the total alone. All of it follows from the ledger and the arguments, so
    /// that replicas that make the same calls have the same ledger.
    pub fn charge(&mut self, day: Day, amount: Amount, keep_days: u32) -> Result<Totals, Overflow> {
        let keep_days = keep_days.clamp(KEEP_DAYS_MIN, KEEP_DAYS_MAX);
        let (day, month) = (day.number(), day.month().number());
        let oldest_day = oldest_kept(&self.days, day, keep_days);
        let oldest_month = oldest_kept(&self.months, month, KEEP_MONTHS);
        let add = |sum: Amount| sum.checked_add(amount).ok_or(Overflow);

        let day_sum = if day >= oldest_day { Some(add(self.days.get(day))?) } else { None };
        let month_sum = if month >= oldest_month { Some(add(self.months.get(month))?) } else { None };
        let total = add(self.total)?;

        self.days.drop_before(oldest_day);
        self.months.drop_before(oldest_month);
        if let Some(sum) = day_sum {
            self.days.set(day, sum);
        }
        if let Some(sum) = month_sum {
            self.months.set(month, sum);
        }
        self.total = total;
        Ok(Totals { day: day_sum.unwrap_or_default(), month: month_sum.unwrap_or_default(), total })
    }

    /// Spend in the period that `day` is in: zero where nothing was spent, or where it is too long ago to be kept.
    pub fn spent(&self, period: Period, day: Day) -> Amount {
        match period {
            Period::Day => self.days.get(day.number()),
            Period::Week => {
                let (monday, sunday) = day.week();
                self.days.sum(monday.number(), sunday.number())
            }
            Period::Month => self.spent_month(day.month()),
            Period::Total => self.total,
        }
    }

    /// Spend in a month: zero where nothing was spent, or where it is too long ago to be kept.
    pub fn spent_month(&self, month: Month) -> Amount {
        self.months.get(month.number())
    }

    /// The days kept and their spend, oldest first.
    pub fn days(&self) -> impl DoubleEndedIterator<Item = (Day, Amount)> + '_ {
        self.days.iter().filter_map(|(number, amount)| Some((Day::from_number(number)?, amount)))
    }

    /// The months kept and their spend, oldest first.
    pub fn months(&self) -> impl DoubleEndedIterator<Item = (Month, Amount)> + '_ {
        self.months.iter().filter_map(|(number, amount)| Some((Month::from_number(number)?, amount)))
    }

    /// Compares the spend of each budget's current period with the budget. With a cost: whether it still fits, to the
    /// last digit. Without: whether anything is left. `None` where no budget is named.
    pub fn within(&self, today: Day, budgets: &[(Amount, Period)], cost: Option<Amount>) -> Option<Verdict> {
        let mut verdict: Option<Verdict> = None;
        let mut all_within = true;
        for (place, &(budget, period)) in budgets.iter().enumerate() {
            let spent = self.spent(period, today);
            let held = Amount::ZERO;
            let remaining = budget.saturating_sub(spent).saturating_sub(held);
            let within = cost.map_or(remaining > Amount::ZERO, |cost| cost <= remaining);
            all_within &= within;
            let remaining = remaining.max(Amount::ZERO);
            if verdict.is_none_or(|tightest| remaining < tightest.remaining) {
                verdict = Some(Verdict { within, tightest: place, budget, spent, held, remaining });
            }
        }
        verdict.map(|tightest| Verdict { within: all_within, ..tightest })
    }

    /// Bytes allocated behind the struct.
    pub fn memory_bytes(&self) -> usize {
        self.months.memory_bytes() + self.days.memory_bytes()
    }

    /// Writes encoding [`ENCODING_VERSION`].
    pub fn save(&self, out: &mut dyn Writer) {
        out.int128(self.total.picos());
        self.months.save(out);
        self.days.save(out);
    }

    /// Reads a ledger in the given encoding version.
    pub fn load(from: &mut dyn Reader, version: u32) -> Result<Ledger, Corrupt> {
        if version != ENCODING_VERSION {
            return Err(Corrupt("a ledger of an unknown encoding version"));
        }
        let ledger = Ledger {
            total: load_amount(from)?,
            months: Series::load(from, KEEP_MONTHS as i32, |number| Month::from_number(number).is_some())?,
            days: Series::load(from, KEEP_DAYS_MAX as i32, |number| Day::from_number(number).is_some())?,
        };
        // Every charge is in a day, a month and the total until the older ones are dropped. The sums cannot be
        // compared: refunds and dropped periods let them differ.
        if ledger.days().any(|(day, _)| !ledger.months.contains(day.month().number())) {
            return Err(Corrupt("a day whose month is missing"));
        }
        if ledger.days().next_back().map(|(day, _)| day.month().number()) != ledger.months.newest() {
            return Err(Corrupt("a newest month that is not the newest day's"));
        }
        if ledger.months.newest().is_none() && ledger.total != Amount::ZERO {
            return Err(Corrupt("a total that was never charged"));
        }
        Ok(ledger)
    }
}

/// The oldest number that is kept once `number` has been charged.
fn oldest_kept(series: &Series, number: i32, keep: u32) -> i32 {
    series.newest().map_or(number, |newest| newest.max(number)) - (keep as i32 - 1)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
