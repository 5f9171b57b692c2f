//! The ledger itself.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use super::credits::{CreditError, Credits};
use super::feed::{Feed, NEW};
use super::hold::Owner;
use super::holds::{HOLDS_MAX, Holds};
use super::series::{KEEP_DAYS_MAX, KEEP_DAYS_MIN, KEEP_MONTHS, Series, load_amount};
use super::stamp::{Overflow, Stamp};
use super::state::IdState;
use crate::calendar::{Day, Month, Period};
use crate::codec::{Corrupt, Reader, Writer};
use crate::memory::allocated_bytes;
use crate::money::Amount;
use crate::stored::Stored;

/// What was spent on the day and in the month of a charge, and in total, including the charge. A day or month that had
/// been dropped has only this charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// On the charge's day.
    pub day: Amount,
    /// In the charge's month.
    pub month: Amount,
    /// In total.
    pub total: Amount,
}

/// Whether a key is within its budgets, and what is left of the tightest budget: the one with the least remaining or,
/// if some are overspent, the most overspent. Of equal ones, it is the one named first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetCheck {
    /// Whether all budgets have room, not only the tightest.
    pub within: bool,
    /// The tightest budget's index among those named.
    pub tightest: usize,
    /// The tightest budget, with its period's credit.
    pub budget: Amount,
    /// What was spent in its period.
    pub spent: Amount,
    /// What is set aside for requests under way.
    pub held: Amount,
    /// `budget - spent - held`, or zero if that is negative.
    pub remaining: Amount,
}

impl BudgetCheck {
    /// The result if `estimate` is held in addition.
    #[must_use]
    pub fn holding(self, estimate: Amount) -> BudgetCheck {
        let held = self.held.saturating_add(estimate);
        let remaining = self.budget.saturating_sub(self.spent).saturating_sub(held).max(Amount::ZERO);
        BudgetCheck { held, remaining, ..self }
    }
}

/// Spend per civil day, per month and in total; holds; and the position of the feed's reader.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    pub(super) total: Amount,
    pub(super) months: Series,
    pub(super) days: Series,
    pub(super) feed: Feed,
    /// Most ledgers have no holds. Credits lie behind the same pointer, so that a ledger stays small: see
    /// [`Ledger::some_credits`].
    pub(super) holds: Option<Box<Holds>>,
}

impl Ledger {
    /// A ledger without spend.
    pub fn new() -> Ledger {
        Ledger::default()
    }

    /// The sums if `amount` were added.
    ///
    /// # Errors
    /// If a sum would be out of range.
    pub fn totals_with(&self, day: Day, amount: Amount) -> Result<Totals, Overflow> {
        let add = |sum: Amount| sum.checked_add(amount).ok_or(Overflow);
        let (day, month) = (self.days.get(day.number()), self.spent_month(day.month()));
        Ok(Totals { day: add(day)?, month: add(month)?, total: add(self.total)? })
    }

    /// Adds `amount`, which may be negative, to a day, its month and the total.
    ///
    /// Afterwards the ledger keeps at most `keep_days` days (brought into [`KEEP_DAYS_MIN`]`..=`[`KEEP_DAYS_MAX`]) and
    /// [`KEEP_MONTHS`] months, as the [module](self) says. The day just charged and its month are always kept. The
    /// result depends only on the ledger and the arguments, so that replicas that make the same calls have the same
    /// ledger.
    ///
    /// `version` is the change's version: [`Ledger::next_version`] or larger.
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

    /// Like [`Ledger::charge`], but also remembers the charge's id. The caller has checked with [`Ledger::state`] that
    /// the id was not used before.
    ///
    /// # Errors
    /// Like [`Ledger::charge`].
    pub fn charge_once(&mut self, id: &[u8], day: Day, amount: Amount, stamp: &Stamp) -> Result<Totals, Overflow> {
        let totals = self.charge(day, amount, stamp.keep_days, stamp.version)?;
        self.end(id, IdState::Charged { day, amount }, stamp);
        Ok(totals)
    }

    /// The credit of the period that contains `day`; zero if none was given, or if it was dropped.
    pub fn credit(&self, period: Period, day: Day) -> Amount {
        self.some_credits().map_or(Amount::ZERO, |credits| credits.get(period, day))
    }

    /// The credits, if any were ever given.
    pub(super) fn some_credits(&self) -> Option<&Credits> {
        self.holds.as_ref()?.credits.as_deref()
    }

    /// What [`Self::credit`] would return after `amount` is given or, if it is negative, taken back.
    ///
    /// # Errors
    /// If it would be below zero or out of range.
    pub fn credit_with(&self, period: Period, day: Day, amount: Amount) -> Result<Amount, CreditError> {
        let none = Credits::default();
        self.some_credits().unwrap_or(&none).with(period, day, amount)
    }

    /// Gives a credit of `amount` to the period that contains `day`, or takes it back if it is negative, and remembers
    /// the id if there is one. The caller has checked that the id was not used before. Returns the period's credit.
    ///
    /// # Errors
    /// Like [`Self::credit_with`]; nothing was changed.
    pub fn give_credit(
        &mut self,
        id: Option<&[u8]>,
        period: Period,
        day: Day,
        amount: Amount,
        stamp: &Stamp,
    ) -> Result<Amount, CreditError> {
        let credit = self.credit_with(period, day, amount)?;
        self.holds.get_or_insert_default().credits.get_or_insert_default().set(period, day, credit);
        self.feed.change(stamp.version);
        if let Some(id) = id {
            self.end(id, IdState::Credited { day, credit }, stamp);
        }
        Ok(credit)
    }

    /// What no charges can have led to. A charge enters a day, a month and the total, and the newest day and month are
    /// kept. Sums are not compared: they may differ because of refunds and dropped periods.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let months_dropped = self.months.len() >= KEEP_MONTHS as usize;
        if !months_dropped && self.days().any(|(day, _)| !self.months.contains(day.month().number())) {
            return Some("a day whose month is missing");
        }
        if self.days().next_back().map(|(day, _)| day.month().number()) != self.months.newest() {
            return Some("a newest month that is not the newest day's");
        }
        (self.months.newest().is_none() && self.total != Amount::ZERO).then_some("a total that was never charged")
    }

    pub(super) fn set_credits(&mut self, credits: Option<Box<Credits>>) {
        match &mut self.holds {
            Some(holds) => holds.credits = credits,
            None => self.holds = credits.map(|credits| Box::new(Holds::with_credits(credits))),
        }
        if self.holds.as_ref().is_some_and(|holds| holds.is_empty()) {
            self.drop_holds();
        }
    }

    /// All credits kept, each with its period's first day: the one for `TOTAL`, then months, weeks and days.
    pub fn credits(&self) -> impl Iterator<Item = (Period, Day, Amount)> + '_ {
        self.some_credits().into_iter().flat_map(Credits::iter)
    }

    /// What an id stands for; `None` if it was never used, or was forgotten.
    pub fn state(&self, now_ms: i64, id: &[u8]) -> Option<IdState> {
        self.holds.as_ref()?.state(now_ms, id)
    }

    /// Whether there is room for one more hold, of `max` at most ([`HOLDS_MAX`] whatever it is).
    pub fn can_hold(&self, now_ms: i64, max: usize) -> bool {
        self.open_holds(now_ms) < max.min(HOLDS_MAX)
    }

    /// Sets `estimate` aside until `expires_at_ms`, in the periods of `day`. The caller has checked that the budgets allow
    /// it ([`Ledger::within`]), that the id is free ([`Ledger::state`]) and that there is room ([`Ledger::can_hold`]).
    pub fn hold(&mut self, id: &[u8], day: Day, estimate: Amount, expires_at_ms: i64, stamp: &Stamp) {
        let holds = self.holds.get_or_insert_default();
        holds.begin_change(stamp.at_ms, stamp.remember_ms);
        holds.insert(Owner::Client, id, day, estimate, expires_at_ms);
    }

    /// Like [`Ledger::hold`], for an admission. Admissions have ids of their own: [`Ledger::state`] does not find them,
    /// and clients cannot commit or cancel them.
    pub fn set_aside(&mut self, id: &[u8], day: Day, estimate: Amount, expires_at_ms: i64, stamp: &Stamp) {
        let holds = self.holds.get_or_insert_default();
        holds.begin_change(stamp.at_ms, stamp.remember_ms);
        holds.insert(Owner::Admission, id, day, estimate, expires_at_ms);
    }

    /// Charges a hold, open or expired, with `actual`, to the day on which it was made, whatever the estimate was. An
    /// amount of zero ends the hold and leaves the spend as it was. Returns `None`, and changes nothing, if the id does
    /// not stand for such a hold.
    ///
    /// # Errors
    /// Like [`Ledger::charge`].
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

    /// Cancels a hold, open or expired. Returns false, and changes nothing, if the id does not stand for such a hold.
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
                self.drop_holds();
            }
        }
    }

    fn end(&mut self, id: &[u8], state: IdState, stamp: &Stamp) {
        let holds = self.holds.get_or_insert_default();
        holds.begin_change(stamp.at_ms, stamp.remember_ms);
        holds.end(stamp.at_ms, id, state);
        if holds.is_empty() {
            self.drop_holds();
        }
    }

    /// Whether anything other than an admission has ever used the ledger, or an admission has charged it.
    pub fn is_used(&self) -> bool {
        let client = |holds: &Holds| holds.has_ids_of_clients();
        self.version() > 0 || self.holds.as_deref().is_some_and(client)
    }

    /// Drops what is kept for holds and ids after the last of them is gone.
    fn drop_holds(&mut self) {
        let credits = self.holds.take().and_then(|holds| holds.credits);
        self.holds = credits.map(|credits| Box::new(Holds::with_credits(credits)));
    }

    /// The sum of the holds that were made in the period that contains `day` and have not expired.
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

    /// The number of holds that have not expired.
    pub fn open_holds(&self, now_ms: i64) -> usize {
        self.holds.as_ref().map_or(0, |holds| holds.count(now_ms))
    }

    /// The number of ids remembered, of ended holds and of charges. O(N) in their number.
    pub fn remembered(&self, now_ms: i64) -> usize {
        self.holds.as_ref().map_or(0, |holds| holds.remembered(now_ms))
    }

    /// Whether the clock has stepped back since the last change of holds and ids. Until [`Ledger::forget`] follows the
    /// clock, no time passes for them, and they would last longer than they were made for.
    pub fn is_ahead_of(&self, now_ms: i64) -> bool {
        self.holds.as_ref().is_some_and(|holds| holds.is_ahead_of(now_ms))
    }

    /// Whether ids or holds are due, so that [`Ledger::forget`] frees memory, or the clock has stepped back.
    pub fn has_due(&self, now_ms: i64) -> bool {
        self.holds.as_ref().is_some_and(|holds| holds.is_due(now_ms))
    }

    /// Forgets ids and holds that are due, a limited number of ids at a time, and follows the clock if it has stepped
    /// back. Every change of holds and ids does so, too.
    pub fn forget(&mut self, at_ms: i64) {
        if let Some(holds) = &mut self.holds {
            holds.forget(at_ms);
            if holds.is_empty() {
                self.drop_holds();
            }
        }
    }

    /// Spend in the period that contains `day`. Days and months that were dropped count as zero.
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

    /// Compares each budget, with its period's credit, with what is spent and held in its current period. With a cost,
    /// the budget must have room for it, to the last digit; without one, something must be left. `None` if no budget is
    /// named.
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
            let budget = budget.saturating_add(self.credit(period, today));
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
    const ENCODING: u32 = 2;
    const ENCODING_MIN: u32 = 2;

    fn memory_bytes(&self) -> usize {
        let holds = self.holds.as_ref().map_or(0, |holds| allocated_bytes(size_of::<Holds>()) + holds.memory_bytes());
        let credits = |credits: &Credits| allocated_bytes(size_of::<Credits>()) + credits.memory_bytes();
        let credits = self.some_credits().map_or(0, credits);
        self.months.memory_bytes() + self.days.memory_bytes() + holds + credits
    }

    fn allocations(&self) -> usize {
        let credits = if self.some_credits().is_some() { 4 } else { 0 };
        3 + self.holds.as_ref().map_or(0, |holds| holds.allocations()) + credits
    }

    fn save(&self, out: &mut dyn Writer) {
        out.int128(self.total.picos());
        self.months.save(out);
        self.days.save(out);
        self.feed.save(out);
        let holds = self.holds.as_ref().filter(|holds| !holds.is_empty());
        out.uint(holds.is_some().into());
        if let Some(holds) = holds {
            holds.save(out);
        }
        out.uint(self.some_credits().is_some().into());
        if let Some(credits) = self.some_credits() {
            credits.save(out);
        }
    }

    fn load(from: &mut dyn Reader, _encoding: u32) -> Result<Ledger, Corrupt> {
        let mut ledger = Ledger {
            total: load_amount(from)?,
            months: Series::load(from, KEEP_MONTHS, |number| Month::from_number(number).is_some())?,
            days: Series::load(from, KEEP_DAYS_MAX, |number| Day::from_number(number).is_some())?,
            feed: Feed::load(from)?,
            holds: match from.uint_max(1, "neither holds nor none")? {
                0 => None,
                _ => Some(Box::new(Holds::load(from)?)),
            },
        };
        if from.uint_max(1, "neither credits nor none")? > 0 {
            ledger.holds.get_or_insert_default().credits = Some(Box::new(Credits::load(from)?));
        }
        ledger.contradiction().map_or(Ok(ledger), |contradiction| Err(Corrupt(contradiction)))
    }
}
