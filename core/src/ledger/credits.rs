//! Credits: one-off allowances, each for one calendar period, that are added to every budget over that period.

use super::feed::NEW;
use super::series::{KEEP_DAYS_MAX, KEEP_MONTHS, Series, load_amount};
use crate::calendar::{Day, Month, Period};
use crate::codec::{Corrupt, Reader, Writer};
use crate::money::Amount;

/// The most weeks with a credit that are kept: ten years.
pub const KEEP_WEEKS: u32 = 520;

/// Why a credit was refused; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreditError {
    /// More would be taken back than was given.
    BelowZero,
    /// The period's credit would be out of range.
    Overflow,
}

/// The credit of each period that has one. If a credit is taken back completely, its period stays, with zero, so that
/// readers of the feed learn of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Credits {
    days: Series,
    /// By the number of the week: see [`week_number`].
    weeks: Series,
    months: Series,
    /// `None` if none was ever given for `TOTAL`.
    total: Option<Amount>,
}

/// 1970-01-01 was a Thursday, in week 0.
fn week_number(day: Day) -> i32 {
    (day.number() + 3).div_euclid(7)
}

fn monday_of(week: i32) -> Option<Day> {
    Day::from_number(week.checked_mul(7)?.checked_sub(3)?)
}

impl Credits {
    /// Those of the rows, by period: first days and credits, of which the newest are kept. `Some(None)` if there are no rows,
    /// `None` if two are of one period.
    pub(super) fn of<T: Iterator<Item = (Day, Amount)>>(rows: impl Fn(Period) -> T) -> Option<Option<Credits>> {
        let series = |period, number: fn(Day) -> i32, keep| {
            Series::of(rows(period).map(|(day, credit)| (number(day), credit)), keep)
        };
        let mut totals = rows(Period::Total).map(|(_, credit)| credit);
        let credits = Credits {
            days: series(Period::Day, Day::number, KEEP_DAYS_MAX)?,
            weeks: series(Period::Week, week_number, KEEP_WEEKS)?,
            months: series(Period::Month, |day| day.month().number(), KEEP_MONTHS)?,
            total: totals.next(),
        };
        let are_some = credits.iter().next().is_some();
        totals.next().is_none().then_some(are_some.then_some(credits))
    }

    pub(super) fn get(&self, period: Period, day: Day) -> Amount {
        match period {
            Period::Day => self.days.get(day.number()),
            Period::Week => self.weeks.get(week_number(day)),
            Period::Month => self.months.get(day.month().number()),
            Period::Total => self.total.unwrap_or_default(),
        }
    }

    /// The period's credit if `amount` is added.
    pub(super) fn with(&self, period: Period, day: Day, amount: Amount) -> Result<Amount, CreditError> {
        let credit = self.get(period, day).checked_add(amount).ok_or(CreditError::Overflow)?;
        if credit < Amount::ZERO { Err(CreditError::BelowZero) } else { Ok(credit) }
    }

    /// Sets a period's credit. Ten years of periods are kept; the oldest are dropped.
    pub(super) fn set(&mut self, period: Period, day: Day, credit: Amount) {
        match period {
            Period::Day => self.days.set(day.number(), credit, NEW, KEEP_DAYS_MAX),
            Period::Week => self.weeks.set(week_number(day), credit, NEW, KEEP_WEEKS),
            Period::Month => self.months.set(day.month().number(), credit, NEW, KEEP_MONTHS),
            Period::Total => self.total = Some(credit),
        }
    }

    pub(super) fn mark(&mut self, marks: fn(u8) -> u8) {
        [&mut self.days, &mut self.weeks, &mut self.months].into_iter().for_each(|series| series.mark(marks));
    }

    /// All credits: the one for `TOTAL`, then months, weeks and days, each with its first day; oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Period, Day, Amount)> + '_ {
        self.rows(self.months.iter(), self.weeks.iter(), self.days.iter())
    }

    /// Like [`Self::iter`], but only the marked credits and the one for `TOTAL`.
    pub(super) fn marked(&self) -> impl Iterator<Item = (Period, Day, Amount)> + '_ {
        self.rows(self.months.marked(), self.weeks.marked(), self.days.marked())
    }

    fn rows(
        &self,
        months: impl Iterator<Item = (i32, Amount)>,
        weeks: impl Iterator<Item = (i32, Amount)>,
        days: impl Iterator<Item = (i32, Amount)>,
    ) -> impl Iterator<Item = (Period, Day, Amount)> {
        let month = |(number, credit)| Some((Period::Month, Month::from_number(number)?.first_day(), credit));
        let week = |(number, credit)| Some((Period::Week, monday_of(number)?, credit));
        let day = |(number, credit)| Some((Period::Day, Day::from_number(number)?, credit));
        let total = self.total.map(|credit| (Period::Total, Day::MIN, credit));
        total.into_iter().chain(months.filter_map(month)).chain(weeks.filter_map(week)).chain(days.filter_map(day))
    }

    /// Bytes allocated behind the struct.
    pub(super) fn memory_bytes(&self) -> usize {
        [&self.days, &self.weeks, &self.months].into_iter().map(Series::memory_bytes).sum()
    }

    pub(super) fn save(&self, out: &mut dyn Writer) {
        [&self.days, &self.weeks, &self.months].into_iter().for_each(|series| series.save(out));
        out.uint(self.total.is_some().into());
        if let Some(total) = self.total {
            out.int128(total.picos());
        }
    }

    pub(super) fn load(from: &mut dyn Reader) -> Result<Credits, Corrupt> {
        let credits = Credits {
            days: Series::load(from, KEEP_DAYS_MAX, |number| Day::from_number(number).is_some())?,
            weeks: Series::load(from, KEEP_WEEKS, |number| monday_of(number).is_some())?,
            months: Series::load(from, KEEP_MONTHS, |number| Month::from_number(number).is_some())?,
            total: match from.uint_max(1, "neither a credit for good nor none")? {
                0 => None,
                _ => Some(load_amount(from)?),
            },
        };
        if credits.iter().any(|(.., credit)| credit < Amount::ZERO) {
            return Err(Corrupt("a credit below zero"));
        }
        if credits.iter().next().is_none() {
            return Err(Corrupt("a list of credits without any"));
        }
        Ok(credits)
    }
}
