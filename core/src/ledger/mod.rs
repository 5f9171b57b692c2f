//! The ledger: what an account spent, by civil day, by month and in total, exact to the last digit.
//!
//! The ledger knows days, not time zones: which day a charge belongs to is decided once, where it is first charged, and
//! travels with it. So a ledger is the same wherever it is replayed.
//!
//! # What is kept
//!
//! A number of days and of months that were charged, however far apart they are; the total counts for ever. A charged
//! day is always in the ledger afterwards, and so is its month. If that makes one too many, the oldest is dropped that
//! is more than a quarter of the number kept from the one just charged: of 62 days, more than 15 days from it. Hence:
//!
//! - Charges to the past take the places of the oldest days: about half of them at most. The others, the newest, are
//!   only dropped for days newer still.
//! - Days far in the future, charged while a clock was wrong, take a place each, and keep it. Even where they have
//!   taken all places, a day stays while charges come for days within a quarter of the number kept from it. So the
//!   current day, week and month have all that was charged to them, and what is lost is the older days.
//!
//! What this cannot save is the days that a clock pushed out while it was wrong, by charging half as many wrong days as
//! are kept, or more. Their months have what they lost, and in the total nothing is ever missing. A day or month that
//! was dropped and is charged again begins at zero.
//!
//! # Cost
//!
//! Charging the newest day, or asking about it, its week or its month, is O(1) and allocates nothing. Other days and
//! months are found by binary search. A new day copies the days kept: at most [`KEEP_DAYS_MAX`], once a day.

mod series;

use crate::calendar::{Day, Month, Period};
use crate::codec::{Corrupt, Reader, Writer};
use crate::money::Amount;
use series::{load_amount, Series};

/// Charged months kept: ten years of an account in steady use. The total has what was in the others.
pub const KEEP_MONTHS: u32 = 120;

/// The fewest charged days kept. A quarter of them, which stay to either side of a charged day, are the six that come
/// before a Sunday in its week, and two more for charges dated up to 24 hours ahead. So the current week is complete.
pub const KEEP_DAYS_MIN: u32 = 4 * (6 + 2);

/// The most charged days kept: 72 kB, and ten years of an account in daily use.
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

/// What was spent on the day and in the month of a charge, and in total, the charge included. A day or month that had
/// been dropped has this charge alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    pub day: Amount,
    pub month: Amount,
    pub total: Amount,
}

/// Whether an account is within its budgets, and what is left of the tightest: the one with the least remaining, which
/// of overspent ones is the most overspent; of several such the one named first.
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
    /// Afterwards the ledger keeps at most `keep_days` days (brought into [`KEEP_DAYS_MIN`]`..=`[`KEEP_DAYS_MAX`]) and
    /// [`KEEP_MONTHS`] months, as the [module](self) says: among them always the day just charged and its month. All of
    /// it follows from the ledger and the arguments, so that replicas that make the same calls have the same ledger.
    pub fn charge(&mut self, day: Day, amount: Amount, keep_days: u32) -> Result<Totals, Overflow> {
        let keep_days = keep_days.clamp(KEEP_DAYS_MIN, KEEP_DAYS_MAX);
        let (day, month) = (day.number(), day.month().number());
        let add = |sum: Amount| sum.checked_add(amount).ok_or(Overflow);
        let totals =
            Totals { day: add(self.days.get(day))?, month: add(self.months.get(month))?, total: add(self.total)? };

        self.days.set(day, totals.day, keep_days);
        self.months.set(month, totals.month, KEEP_MONTHS);
        self.total = totals.total;
        Ok(totals)
    }

    /// Spend in the period that `day` is in: zero where nothing was spent, or in days and months that were dropped.
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

    /// Spend in a month: zero where nothing was spent, or where it was dropped.
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
        let mut tightest: Option<(Amount, Verdict)> = None;
        let mut all_within = true;
        for (place, &(budget, period)) in budgets.iter().enumerate() {
            let spent = self.spent(period, today);
            let held = Amount::ZERO;
            let remaining = budget.saturating_sub(spent).saturating_sub(held);
            let within = cost.map_or(remaining > Amount::ZERO, |cost| cost <= remaining);
            all_within &= within;
            if tightest.is_none_or(|(least, _)| remaining < least) {
                let verdict =
                    Verdict { within, tightest: place, budget, spent, held, remaining: remaining.max(Amount::ZERO) };
                tightest = Some((remaining, verdict));
            }
        }
        tightest.map(|(_, verdict)| Verdict { within: all_within, ..verdict })
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
            months: Series::load(from, KEEP_MONTHS, |number| Month::from_number(number).is_some())?,
            days: Series::load(from, KEEP_DAYS_MAX, |number| Day::from_number(number).is_some())?,
        };
        // A charge enters a day, a month and the total, and the newest day and month stay. The sums cannot be compared:
        // refunds and dropped periods let them differ.
        let months_dropped = ledger.months.len() >= KEEP_MONTHS as usize;
        if !months_dropped && ledger.days().any(|(day, _)| !ledger.months.contains(day.month().number())) {
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

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
