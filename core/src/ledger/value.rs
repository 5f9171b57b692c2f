//! The ledger itself.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use super::feed::{Feed, NEW};
use super::holds::{HOLDS_MAX, Holds, Owner};
use super::series::{Series, load_amount};
use super::stamp::{Overflow, Stamp};
use super::state::IdState;
use crate::calendar::{Day, Month, Period};
use crate::codec::{Corrupt, Reader, Writer};
use crate::memory::allocated_bytes;
use crate::money::Amount;
use crate::stored::Stored;

/// The most charged months kept: ten years of an account in steady use. The total includes those that were dropped.
pub const KEEP_MONTHS: u32 = 120;

/// The fewest charged days kept. A quarter of them stays to either side of a charged day: the six days before a Sunday in
/// its week, and two more for charges dated up to 24 hours ahead. So the current week is complete.
pub const KEEP_DAYS_MIN: u32 = 4 * (6 + 2);

/// The most charged days kept: 58 kB, and ten years of an account in daily use.
pub const KEEP_DAYS_MAX: u32 = 3_600;

/// What was spent on the day and in the month of a charge, and in total, the charge included. A day or month that had
/// been dropped has this charge alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Of the charge's day.
    pub day: Amount,
    /// Of its month.
    pub month: Amount,
    /// Of all time.
    pub total: Amount,
}

/// Whether an account is within its budgets, and what is left of the tightest budget: the one with the least remaining,
/// which among overspent ones is the most overspent; if several are equal, the one named first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetCheck {
    /// Whether all budgets hold, not only the tightest.
    pub within: bool,
    /// The tightest budget's index among those asked about.
    pub tightest: usize,
    /// The tightest budget.
    pub budget: Amount,
    /// What was spent in its period.
    pub spent: Amount,
    /// Set aside for requests under way.
    pub held: Amount,
    /// `budget - spent - held`, or zero if that is negative.
    pub remaining: Amount,
}

impl BudgetCheck {
    /// The same with `estimate` held in addition.
    #[must_use]
    pub fn holding(self, estimate: Amount) -> BudgetCheck {
        let held = self.held.saturating_add(estimate);
        let remaining = self.budget.saturating_sub(self.spent).saturating_sub(held).max(Amount::ZERO);
        BudgetCheck { held, remaining, ..self }
    }
}

/// Spend per civil day, per month and in total; holds; and how far a reader has followed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    pub(super) total: Amount,
    pub(super) months: Series,
    pub(super) days: Series,
    pub(super) feed: Feed,
    /// Most ledgers have none.
    pub(super) holds: Option<Box<Holds>>,
}

impl Ledger {
    /// A ledger in which nothing was spent.
    pub fn new() -> Ledger {
        Ledger::default()
    }

    /// What the sums would be with `amount` added.
    ///
    /// # Errors
    /// If one would be out of range.
    pub fn totals_with(&self, day: Day, amount: Amount) -> Result<Totals, Overflow> {
        let add = |sum: Amount| sum.checked_add(amount).ok_or(Overflow);
        let (day, month) = (self.days.get(day.number()), self.spent_month(day.month()));
        Ok(Totals { day: add(day)?, month: add(month)?, total: add(self.total)? })
    }

    /// Adds `amount`, which may be negative, to a day, its month and the total.
    ///
    /// Afterwards the ledger keeps at most `keep_days` days (brought into [`KEEP_DAYS_MIN`]`..=`[`KEEP_DAYS_MAX`]) and
    /// [`KEEP_MONTHS`] months, as the [module](self) says: among them always the day just charged and its month. All of
    /// it follows from the ledger and the arguments, so that replicas that make the same calls have the same ledger.
    ///
    /// `version` is the change's: [`Ledger::next_version`] or larger.
    ///
    /// # Errors
    /// If a sum would be out of range; nothing was charged.
    pub fn charge(&mut self, day: Day, amount: Amount, keep_days: u32, version: u64) -> Result<Totals, Overflow> {
        let totals = self.totals_with(day, amount)?;
        let keep_days = keep_days.clamp(KEEP_DAYS_MIN, KEEP_DAYS_MAX);
        self.days.set(day.number(), totals.day, NEW, keep_days);
        self.months.set(day.month().number(), totals.month, NEW, KEEP_MONTHS);
        self.total = totals.total;
        self.feed.change(version);
        Ok(totals)
    }

    /// As [`Ledger::charge`], and remembers the charge's id. It does not look whether the id was used before: the caller
    /// does, with [`Ledger::state`].
    ///
    /// # Errors
    /// As [`Ledger::charge`].
    pub fn charge_once(&mut self, id: &[u8], day: Day, amount: Amount, stamp: &Stamp) -> Result<Totals, Overflow> {
        let totals = self.charge(day, amount, stamp.keep_days, stamp.version)?;
        self.end(id, IdState::Charged { day, amount }, stamp);
        Ok(totals)
    }

    /// What an id stands for; `None` if it was never used, or is forgotten.
    pub fn state(&self, now_ms: i64, id: &[u8]) -> Option<IdState> {
        self.holds.as_ref()?.state(now_ms, id)
    }

    /// Whether there is room for one more hold.
    pub fn can_hold(&self, now_ms: i64) -> bool {
        self.holds.as_ref().is_none_or(|holds| holds.count(now_ms) < HOLDS_MAX)
    }

    /// Sets `estimate` aside until `expires_at_ms`, in the periods of `day`. The caller has checked that the budgets allow
    /// it ([`Ledger::within`]), that the id is free ([`Ledger::state`]) and that there is room ([`Ledger::can_hold`]).
    pub fn hold(&mut self, id: &[u8], day: Day, estimate: Amount, expires_at_ms: i64, stamp: &Stamp) {
        let holds = self.holds.get_or_insert_default();
        holds.begin_change(stamp.at_ms, stamp.remember_ms);
        holds.insert(Owner::Client, id, day, estimate, expires_at_ms);
    }

    /// As [`Ledger::hold`], for an admission. Admissions have ids of their own: [`Ledger::state`] does not find them, and no
    /// client can commit or cancel them.
    pub fn set_aside(&mut self, id: &[u8], day: Day, estimate: Amount, expires_at_ms: i64, stamp: &Stamp) {
        let holds = self.holds.get_or_insert_default();
        holds.begin_change(stamp.at_ms, stamp.remember_ms);
        holds.insert(Owner::Admission, id, day, estimate, expires_at_ms);
    }

    /// Charges a hold, open or expired, with `actual`: to the day it was made on, whatever the estimate. An amount of zero
    /// ends the hold and leaves the spend as it was. `None` if the id stands for no such hold; then nothing changes.
    ///
    /// # Errors
    /// As [`Ledger::charge`].
    pub fn commit(&mut self, id: &[u8], actual: Amount, stamp: &Stamp) -> Result<Option<Totals>, Overflow> {
        let (day, estimate) = match self.state(stamp.at_ms, id) {
            Some(IdState::Open { day, estimate, .. } | IdState::Expired { day, estimate }) => (day, estimate),
            _ => return Ok(None),
        };
        let totals = match actual {
            Amount::ZERO => self.totals_with(day, actual)?,
            _ => self.charge(day, actual, stamp.keep_days, stamp.version)?,
        };
        self.end(id, IdState::Committed { day, charged: actual, over: actual > estimate }, stamp);
        Ok(Some(totals))
    }

    /// Cancels a hold, open or expired. Returns false if the id stands for no such hold; then nothing changes.
    pub fn cancel(&mut self, id: &[u8], stamp: &Stamp) -> bool {
        let Some(IdState::Open { day, .. } | IdState::Expired { day, .. }) = self.state(stamp.at_ms, id) else {
            return false;
        };
        self.end(id, IdState::Cancelled { day }, stamp);
        true
    }

    /// Ends an admission's hold, if there is one.
    pub fn release(&mut self, id: &[u8]) {
        if let Some(holds) = &mut self.holds {
            holds.remove(Owner::Admission, id);
            if holds.is_empty() {
                self.holds = None;
            }
        }
    }

    fn end(&mut self, id: &[u8], state: IdState, stamp: &Stamp) {
        let holds = self.holds.get_or_insert_default();
        holds.begin_change(stamp.at_ms, stamp.remember_ms);
        holds.end(stamp.at_ms, id, state);
        if holds.is_empty() {
            self.holds = None;
        }
    }

    /// The sum of the holds that were made in the period of `day` and have not expired.
    pub fn held(&self, now_ms: i64, period: Period, day: Day) -> Amount {
        let Some(holds) = &self.holds else { return Amount::ZERO };
        let (first, last) = match period {
            Period::Day => (day, day),
            Period::Week => day.week(),
            Period::Month => (day.month().first_day(), day.month().last_day()),
            Period::Total => (Day::MIN, Day::MAX),
        };
        holds.held(now_ms, first.number(), last.number())
    }

    /// Prefetches what the next decision reads; returns a word that depends on it.
    pub fn fetch(&self) -> i64 {
        self.holds.as_ref().map_or(0, |holds| holds.fetch())
    }

    /// The holds that have not expired: id, day, estimate and the milliseconds left, the first to expire first.
    pub fn holds(&self, now_ms: i64) -> impl Iterator<Item = (&[u8], Day, Amount, i64)> {
        self.holds.iter().flat_map(move |holds| holds.iter(now_ms))
    }

    /// The number of ids remembered, of ended holds and of charges. O(N) in them.
    pub fn remembered(&self, now_ms: i64) -> usize {
        self.holds.as_ref().map_or(0, |holds| holds.remembered(now_ms))
    }

    /// Whether some ids or holds are due, so that [`Ledger::forget`] frees memory.
    pub fn has_due(&self, now_ms: i64) -> bool {
        self.holds.as_ref().is_some_and(|holds| holds.is_due(now_ms))
    }

    /// Forgets ids and holds that are due, a bounded number of ids at a time. Every change of holds and ids does so, too.
    pub fn forget(&mut self, at_ms: i64) {
        if let Some(holds) = &mut self.holds {
            holds.forget(at_ms);
            if holds.is_empty() {
                self.holds = None;
            }
        }
    }

    /// Spend in the period that `day` is in. Days and months that were dropped count as zero.
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

    /// Spend in a month; zero if it was dropped.
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

    /// Compares each budget with what is spent and held in its current period. With a cost: whether that still fits, to the
    /// last digit. Without: whether anything is left. `None` if no budget is named.
    pub fn within(
        &self,
        now_ms: i64,
        today: Day,
        budgets: &[(Amount, Period)],
        cost: Option<Amount>,
    ) -> Option<BudgetCheck> {
        let mut tightest: Option<(Amount, BudgetCheck)> = None;
        let mut all_within = true;
        for (index, &(budget, period)) in budgets.iter().enumerate() {
            let spent = self.spent(period, today);
            let held = self.held(now_ms, period, today);
            let remaining = budget.saturating_sub(spent).saturating_sub(held);
            let within = cost.map_or(remaining > Amount::ZERO, |cost| cost <= remaining);
            all_within &= within;
            if tightest.is_none_or(|(least, _)| remaining < least) {
                let check = BudgetCheck {
                    within,
                    tightest: index,
                    budget,
                    spent,
                    held,
                    remaining: remaining.max(Amount::ZERO),
                };
                tightest = Some((remaining, check));
            }
        }
        tightest.map(|(_, check)| BudgetCheck { within: all_within, ..check })
    }
}

impl Stored for Ledger {
    const ENCODING: u32 = 1;
    const ENCODING_MIN: u32 = 1;

    fn memory_bytes(&self) -> usize {
        let holds = self.holds.as_ref().map_or(0, |holds| allocated_bytes(size_of::<Holds>()) + holds.memory_bytes());
        self.months.memory_bytes() + self.days.memory_bytes() + holds
    }

    fn allocations(&self) -> usize {
        3 + self.holds.as_ref().map_or(0, |holds| holds.allocations())
    }

    fn save(&self, out: &mut dyn Writer) {
        out.int128(self.total.picos());
        self.months.save(out);
        self.days.save(out);
        self.feed.save(out);
        out.uint(self.holds.is_some().into());
        if let Some(holds) = &self.holds {
            holds.save(out);
        }
    }

    fn load(from: &mut dyn Reader, _encoding: u32) -> Result<Ledger, Corrupt> {
        let ledger = Ledger {
            total: load_amount(from)?,
            months: Series::load(from, KEEP_MONTHS, |number| Month::from_number(number).is_some())?,
            days: Series::load(from, KEEP_DAYS_MAX, |number| Day::from_number(number).is_some())?,
            feed: Feed::load(from)?,
            holds: match from.uint_max(1, "neither holds nor none")? {
                0 => None,
                _ => Some(Box::new(Holds::load(from)?)),
            },
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
