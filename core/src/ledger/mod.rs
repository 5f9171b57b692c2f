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
//! # Holds and ids
//!
//! A hold sets a part of the budget aside until it is committed (charged), cancelled, or expires. It counts in the
//! periods of the day it was made on, and is charged to that day, however late. What became of a hold, and which charges
//! were made under an id, is remembered for some time, so that each is charged once: for the [`IDS_MAX`] last of them.
//! All of it follows from the times handed in: nothing happens in between. Where the clock steps back, what is held and
//! remembered moves back with it, at the next change.
//!
//! # The feed
//!
//! Each change of the spend has a version, larger than all before it, and each day and month kept is marked when it
//! changes. A reader that has stored what was marked acknowledges the version it read; see [`feed`].
//!
//! # Cost
//!
//! Charging the newest day, or asking about it, its week or its month, is O(1) and allocates nothing. Other days and
//! months are found by binary search. A new day copies the days kept: at most [`KEEP_DAYS_MAX`], once a day. What is held
//! is summed up by day; to find one hold, all are searched through, [`HOLDS_MAX`] of them in some tens of microseconds.

mod done;
pub mod feed;
mod holds;
mod series;

use crate::calendar::{Day, Month, Period};
use crate::codec::{Corrupt, Reader, Writer};
use crate::memory::allocated_bytes;
use crate::money::Amount;
use crate::stored::Stored;
pub use done::IDS_MAX;
use feed::Feed;
pub use holds::{HOLDS_MAX, ID_BYTES_MAX};
use holds::{Holds, Owner};
use series::{Series, load_amount};

/// Charged months kept: ten years of an account in steady use. The total has what was in the others.
pub const KEEP_MONTHS: u32 = 120;

/// The fewest charged days kept. A quarter of them, which stay to either side of a charged day, are the six that come
/// before a Sunday in its week, and two more for charges dated up to 24 hours ahead. So the current week is complete.
pub const KEEP_DAYS_MIN: u32 = 4 * (6 + 2);

/// The most charged days kept: 58 kB, and ten years of an account in daily use.
pub const KEEP_DAYS_MAX: u32 = 3_600;

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

impl Verdict {
    /// The same with `estimate` held in addition.
    #[must_use]
    pub fn holding(self, estimate: Amount) -> Verdict {
        let held = self.held.saturating_add(estimate);
        let remaining = self.budget.saturating_sub(self.spent).saturating_sub(held).max(Amount::ZERO);
        Verdict { held, remaining, ..self }
    }
}

/// What an id stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A hold, for `left_ms` more milliseconds.
    Open { day: Day, estimate: Amount, left_ms: i64 },
    /// A hold that expired, and can still be committed.
    Expired { day: Day, estimate: Amount },
    /// A hold that was cancelled.
    Cancelled { day: Day },
    /// A hold that was charged, with what was charged, and whether that was over the estimate.
    Committed { day: Day, charged: Amount, over: bool },
    /// A charge without a hold.
    Charged { day: Day, amount: Amount },
}

/// What goes with a change, beside what it changes. Decided where the change is first made, and the same on replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The time of the change.
    pub at_ms: i64,
    /// See [`Ledger::charge`].
    pub keep_days: u32,
    /// For how long the outcome of an id is remembered from now on: at most [`PERIOD_MAX_MS`](crate::PERIOD_MAX_MS). Those
    /// that are remembered already are so for no longer than this.
    pub remember_ms: u64,
    /// See [`feed`]. Unused where the spend does not change.
    pub version: u64,
}

/// Spend per civil day, per month and in total; holds; and how far a reader has followed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    total: Amount,
    months: Series,
    days: Series,
    feed: Feed,
    /// Most ledgers have none.
    holds: Option<Box<Holds>>,
}

impl Ledger {
    pub fn new() -> Ledger {
        Ledger::default()
    }

    /// What the sums would be with `amount` added.
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
    /// `version` is the change's, which is [`Ledger::next_version`] or larger.
    pub fn charge(&mut self, day: Day, amount: Amount, keep_days: u32, version: u64) -> Result<Totals, Overflow> {
        let totals = self.totals_with(day, amount)?;
        let keep_days = keep_days.clamp(KEEP_DAYS_MIN, KEEP_DAYS_MAX);
        self.days.set(day.number(), totals.day, feed::NEW, keep_days);
        self.months.set(day.month().number(), totals.month, feed::NEW, KEEP_MONTHS);
        self.total = totals.total;
        self.feed.change(version);
        Ok(totals)
    }

    /// Charges as [`Ledger::charge`] does, and remembers the charge's id. Whether it was seen before,
    /// [`Ledger::state`] tells: an id that was is here charged again.
    pub fn charge_once(&mut self, id: &[u8], day: Day, amount: Amount, terms: &Terms) -> Result<Totals, Overflow> {
        let totals = self.charge(day, amount, terms.keep_days, terms.version)?;
        self.end(id, State::Charged { day, amount }, terms);
        Ok(totals)
    }

    /// What an id stands for; `None` where it was never used, or is forgotten.
    pub fn state(&self, now_ms: i64, id: &[u8]) -> Option<State> {
        self.holds.as_ref()?.state(now_ms, id)
    }

    /// Whether there is room for one more hold.
    pub fn can_hold(&self, now_ms: i64) -> bool {
        self.holds.as_ref().is_none_or(|holds| holds.count(now_ms) < HOLDS_MAX)
    }

    /// Sets `estimate` aside until `expires_at_ms`, in the periods of `day`. Whether a budget allows it,
    /// [`Ledger::within`] tells; whether the id is free, [`Ledger::state`]; whether there is room, [`Ledger::can_hold`].
    pub fn hold(&mut self, id: &[u8], day: Day, estimate: Amount, expires_at_ms: i64, terms: &Terms) {
        let holds = self.holds.get_or_insert_default();
        holds.settle(terms.at_ms, terms.remember_ms);
        holds.insert(Owner::Client, id, day, estimate, expires_at_ms);
    }

    /// As [`Ledger::hold`] for an admission, under an id of its own kind: [`Ledger::state`] does not know it, and no
    /// client can commit or cancel it.
    pub fn set_aside(&mut self, id: &[u8], day: Day, estimate: Amount, expires_at_ms: i64, terms: &Terms) {
        let holds = self.holds.get_or_insert_default();
        holds.settle(terms.at_ms, terms.remember_ms);
        holds.insert(Owner::Admission, id, day, estimate, expires_at_ms);
    }

    /// Charges a hold, open or expired, with `actual`: to the day it was made on, whatever the estimate. `None` where the
    /// id stands for neither, and nothing changes. Without an amount nothing is charged, and the spend is as it was.
    pub fn commit(&mut self, id: &[u8], actual: Amount, terms: &Terms) -> Result<Option<Totals>, Overflow> {
        let (day, estimate) = match self.state(terms.at_ms, id) {
            Some(State::Open { day, estimate, .. } | State::Expired { day, estimate }) => (day, estimate),
            _ => return Ok(None),
        };
        let totals = match actual {
            Amount::ZERO => self.totals_with(day, actual)?,
            _ => self.charge(day, actual, terms.keep_days, terms.version)?,
        };
        self.end(id, State::Committed { day, charged: actual, over: actual > estimate }, terms);
        Ok(Some(totals))
    }

    /// Gives a hold back, open or expired. False where the id stands for neither, and nothing changes.
    pub fn cancel(&mut self, id: &[u8], terms: &Terms) -> bool {
        let Some(State::Open { day, .. } | State::Expired { day, .. }) = self.state(terms.at_ms, id) else {
            return false;
        };
        self.end(id, State::Cancelled { day }, terms);
        true
    }

    /// Ends what was set aside for an admission, where it is there.
    pub fn release(&mut self, id: &[u8]) {
        if let Some(holds) = &mut self.holds {
            holds.remove(Owner::Admission, id);
            if holds.is_empty() {
                self.holds = None;
            }
        }
    }

    fn end(&mut self, id: &[u8], state: State, terms: &Terms) {
        let holds = self.holds.get_or_insert_default();
        holds.settle(terms.at_ms, terms.remember_ms);
        holds.end(terms.at_ms, id, state);
        if holds.is_empty() {
            self.holds = None;
        }
    }

    /// What is held in the period that `day` is in: holds made in it that have not expired.
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

    /// Reads what the next decision will, for those who want it fetched in good time.
    pub fn fetch(&self) -> i64 {
        self.holds.as_ref().map_or(0, |holds| holds.fetch())
    }

    /// The holds that have not expired: id, day, estimate and the milliseconds left, the first to expire first.
    pub fn holds(&self, now_ms: i64) -> impl Iterator<Item = (&[u8], Day, Amount, i64)> {
        self.holds.iter().flat_map(move |holds| holds.iter(now_ms))
    }

    /// How many ids are remembered whose holds have ended or that were charged. O(N) in them.
    pub fn remembered(&self, now_ms: i64) -> usize {
        self.holds.as_ref().map_or(0, |holds| holds.remembered(now_ms))
    }

    /// Whether the time of some ids or holds has come, so that [`Ledger::forget`] frees memory.
    pub fn has_due(&self, now_ms: i64) -> bool {
        self.holds.as_ref().is_some_and(|holds| holds.is_due(now_ms))
    }

    /// Forgets ids and holds whose time has come, a bounded number of ids at a time. Every change of holds and ids does so
    /// as well.
    pub fn forget(&mut self, at_ms: i64) {
        if let Some(holds) = &mut self.holds {
            holds.forget(at_ms);
            if holds.is_empty() {
                self.holds = None;
            }
        }
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

    /// Compares the spend of each budget's current period, and what is held in it, with the budget. With a cost: whether
    /// it still fits, to the last digit. Without: whether anything is left. `None` where no budget is named.
    pub fn within(
        &self,
        now_ms: i64,
        today: Day,
        budgets: &[(Amount, Period)],
        cost: Option<Amount>,
    ) -> Option<Verdict> {
        let mut tightest: Option<(Amount, Verdict)> = None;
        let mut all_within = true;
        for (place, &(budget, period)) in budgets.iter().enumerate() {
            let spent = self.spent(period, today);
            let held = self.held(now_ms, period, today);
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

fn load_day(from: &mut dyn Reader) -> Result<Day, Corrupt> {
    let number = i32::try_from(from.int()?).ok();
    number.and_then(Day::from_number).ok_or(Corrupt("a day outside the calendar"))
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
