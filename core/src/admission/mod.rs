//! Admission: all that an account is allowed, decided and charged in one step.
//!
//! An account has policies (windows, buckets, leases in flight, budgets) and one state for all of them. A request is
//! admitted by all policies of all its accounts or by none: [`Account::decide`] asks, [`Account::charge`] takes the
//! estimates, [`Account::settle`] replaces them by what was used. What lies between is an admission, named by its lease
//! id, which makes all three harmless to repeat.
//!
//! # The life of an admission
//!
//! - It is live until it is settled or its lease ends by time. While it is live it is one request in flight, and its
//!   estimates of money are held in the ledgers.
//! - Settled, it is remembered for [`SETTLED_KEPT_MS`]: to settle or admit it again changes nothing.
//! - A lease that ends by time frees its slot and its money. Windows and buckets keep what it took, since the model was
//!   probably called; policies that say so give it back. It can be settled late for [`EXPIRED_KEPT_MS`]: what was used is
//!   then charged, once.
//! - Of those that were settled, and of those that were not, the last [`FINISHED_MAX`] are remembered.
//! - A change ends a few hundred leases at most, so that no call has to wait for a hundred thousand. Those that are left
//!   for the next are neither in flight nor is their money held; only what gives units back does so later.
//!
//! # Time
//!
//! An account has a clock of its own that follows the server's and never goes back: where the server's steps back, the
//! account's goes on from where it was. So what was taken last counts as taken now, which can admit too few for as long
//! as the step, and never too many. Calendar days and the holds of a ledger go by the server's clock.
//!
//! Everything depends on the state and the arguments alone, so that a replica that makes the same changes ends with the
//! same value.
//!
//! # Cost
//!
//! O(1) for each policy, O(log n) in the leases, O(n) in the holds of a ledger that an account with money has in flight.

mod decide;
mod lease;
mod policy;
mod purse;
mod request;
mod saved;

use std::sync::Arc;

use smallvec::SmallVec;

use crate::TIME_MAX_MS;
use crate::calendar::{Day, Period};
use crate::lease::LeasesWith;
use crate::ledger::{self, Ledger, Overflow};
use crate::money::Amount;

pub use decide::{Decision, Places, Request, Rows, admit};
pub use lease::{Admission, Standing};
pub use policy::{Held, NAME_BYTES_MAX, Name, Policy, REQUESTS, Terms, USD};
pub use purse::LEDGERS_MAX;
pub use request::{Amounts, Answer, Figures, Row, Soft};

use lease::{Settled, Taken};
use policy::State;
use purse::{Purse, Purses};

/// The most policies of an account.
pub const POLICIES_MAX: usize = 32;

/// How long a settled admission is remembered: five minutes.
pub const SETTLED_KEPT_MS: u64 = 300_000;

/// How long after its lease's end an admission can be settled: an hour.
pub const EXPIRED_KEPT_MS: u64 = 3_600_000;

/// The most settled admissions that an account remembers, and the most that ended by time.
pub const FINISHED_MAX: usize = 65_536;

/// A request that is refused leaves the leases that have ended where they are, up to so many.
const ENDED_MAX: usize = 32;

/// A change ends no more leases than this, and forgets no more of either kind of ended ones.
const ENDED_PER_CHANGE: usize = 256;

/// When a change is made, and what goes with it. The same on replicas.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The day of the budgets.
    pub day: Day,
    pub terms: ledger::Terms,
}

/// Something that an account has too many of already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    Policies,
    Meters,
    Holds,
}

/// What became of a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    Done,
    NoSuchPolicy,
    /// Spend is not forgotten.
    Budget,
}

/// An account: see the [module](self).
#[derive(Debug, Clone)]
pub struct Account {
    /// In the order in which they were first set. As many as most have lie in here, so that a decision follows no pointer
    /// to them.
    policies: SmallVec<[Held; 4]>,
    live: LeasesWith<Admission>,
    /// Those that ended by time and can still be settled.
    expired: LeasesWith<Admission>,
    settled: Settled,
    purses: Purses,
    /// How far the account's clock is ahead of the server's.
    ahead_ms: i64,
    /// The account's time of the last change.
    at_ms: i64,
    last_serial: u64,
}

impl Default for Account {
    fn default() -> Self {
        Self::with_ledger(Ledger::default())
    }
}

impl Account {
    /// An account that has spent before.
    pub fn with_ledger(ledger: Ledger) -> Self {
        Self {
            policies: SmallVec::new(),
            live: LeasesWith::default(),
            expired: LeasesWith::default(),
            settled: Settled::default(),
            purses: Purses::new(ledger),
            ahead_ms: 0,
            at_ms: 0,
            last_serial: 0,
        }
    }

    pub fn policies(&self) -> &[Held] {
        &self.policies
    }

    /// Sets a policy; whether it is new. One of the same kind and meter keeps what it has counted.
    pub fn set(&mut self, name: &[u8], policy: Policy) -> Result<bool, Full> {
        let known = self.policies.iter().position(|held| *held.name == *name);
        if known.is_none() && self.policies.len() >= POLICIES_MAX {
            return Err(Full::Policies);
        }
        if matches!(policy.terms, Terms::Budget { .. }) {
            self.purses.open(&policy.meter)?;
        }
        match known.and_then(|at| self.policies.get_mut(at)) {
            Some(held) if held.counts_as(&policy) => held.policy = policy,
            Some(held) => {
                self.last_serial += 1;
                (held.state, held.serial, held.policy) = (State::new(&policy.terms), self.last_serial, policy);
            }
            None => {
                self.last_serial += 1;
                let (name, state) = (Name::from_slice(name), State::new(&policy.terms));
                self.policies.push(Held { name, policy, state, serial: self.last_serial });
            }
        }
        Ok(known.is_none())
    }

    /// Removes a policy and what it has counted; whether there was one.
    pub fn delete(&mut self, name: &[u8]) -> bool {
        let before = self.policies.len();
        self.policies.retain(|held| *held.name != *name);
        self.policies.len() < before
    }

    /// Whether a policy can be reset.
    pub fn can_reset(&self, name: &[u8]) -> Reset {
        match self.policies.iter().find(|held| *held.name == *name) {
            None => Reset::NoSuchPolicy,
            Some(held) if matches!(held.policy.terms, Terms::Budget { .. }) => Reset::Budget,
            Some(_) => Reset::Done,
        }
    }

    /// Forgets what a window or bucket has counted; of leases in flight, ends all, as if their time had come.
    pub fn reset(&mut self, now: &Moment, name: &[u8]) -> Reset {
        let reset = self.can_reset(name);
        let Some(held) = self.policies.iter_mut().find(|held| *held.name == *name && reset == Reset::Done) else {
            return reset;
        };
        self.last_serial += 1;
        (held.state, held.serial) = (State::new(&held.policy.terms), self.last_serial);
        if matches!(held.policy.terms, Terms::InFlight { .. }) {
            let at_ms = self.advance(now);
            while let Some(lease) = self.live.take_ended(i64::MAX) {
                self.end(at_ms, lease.holder, at_ms, lease.load);
            }
        }
        reset
    }

    /// The account's own ledger, of money.
    pub fn ledger(&self) -> &Ledger {
        &self.purses.money().ledger
    }

    pub fn ledger_mut(&mut self) -> &mut Ledger {
        &mut self.purses.money_mut().ledger
    }

    /// All ledgers by their meters, money first.
    pub fn ledgers(&self) -> impl Iterator<Item = (&[u8], &Ledger)> {
        self.purses.iter().map(|purse| (&*purse.meter, &purse.ledger))
    }

    /// The units in windows, and the tokens in buckets, below zero in debt; by the policies' names.
    pub fn counts(&mut self, now_ms: i64) -> Vec<(&[u8], i64)> {
        let at_ms = self.time_ms(now_ms);
        self.policies.iter_mut().filter_map(|held| held.count(at_ms)).collect()
    }

    /// Leases in flight.
    pub fn in_flight(&self, now_ms: i64) -> u64 {
        self.live.in_use(self.time_ms(now_ms))
    }

    /// Each lease in flight with the milliseconds left; the first to end first.
    pub fn leases(&self, now_ms: i64) -> impl Iterator<Item = (&[u8], i64)> {
        self.live.holders(self.time_ms(now_ms)).map(|(id, left_ms, _)| (id, left_ms))
    }

    /// Ended admissions that are remembered.
    pub fn remembered(&self) -> usize {
        self.expired.len() + self.settled.len()
    }

    /// The account's time.
    pub fn time_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_add(self.ahead_ms).min(TIME_MAX_MS).max(self.at_ms)
    }

    /// What an id stands for.
    pub fn standing(&self, now_ms: i64, id: &[u8]) -> Standing {
        let at_ms = self.time_ms(now_ms);
        if let Some(lease) = self.live.get(id) {
            return match lease.expires_at_ms {
                end_ms if end_ms > at_ms => Standing::Live,
                end_ms if end_ms.saturating_add_unsigned(EXPIRED_KEPT_MS) > at_ms => Standing::Expired,
                _ => Standing::Unknown,
            };
        }
        if self.expired.token_of(at_ms, id).is_some() {
            Standing::Expired
        } else if self.settled.contains(at_ms, id) {
            Standing::Settled
        } else {
            Standing::Unknown
        }
    }

    /// Does what is due by time before a decision, where it cannot wait for the next change: the clock has stepped
    /// back, or leases have ended that give units back, or too many of them. Whether it changed anything.
    pub fn tidy(&mut self, now: &Moment) -> bool {
        let at_ms = self.time_ms(now.terms.at_ms);
        let ended = self.live.len().saturating_sub(self.live.in_use(at_ms) as usize);
        let behind = now.terms.at_ms.saturating_add(self.ahead_ms) < self.at_ms;
        // What they gave back or set free would be missing: a ledger's clock knows nothing of how far this one is ahead.
        let missed = || self.ahead_ms > 0 || self.policies.iter().any(|held| held.policy.give_back);
        let due = behind || ended > ENDED_MAX || (ended > 0 && missed());
        if due {
            self.advance(now);
        }
        due
    }

    /// Reads a word of each place that an admission will read. None of them waits for another, so that the processor gets
    /// them side by side: of ten thousand accounts, most of one lie in no cache.
    pub(super) fn fetch(&self) {
        let policies = self.policies.iter().fold(0, |words, held| words ^ held.fetch());
        let ledgers = self.purses.iter().fold(0, |words, purse| words ^ purse.ledger.fetch());
        std::hint::black_box(policies ^ self.live.fetch() ^ ledgers.unsigned_abs());
    }

    /// Appends every policy's answer, in the policies' order. Changes nothing but hints. `ends_after_ms` tells how long a
    /// budget's current period lasts.
    ///
    /// `known` is a request that was admitted before: every policy allows it, and shows what is left.
    ///
    /// A window or bucket whose meter the request does not name asks whether any unit is left, as a budget does.
    pub fn decide(
        &mut self,
        now: &Moment,
        known: bool,
        amounts: &Amounts,
        ends_after_ms: &dyn Fn(Period) -> i64,
        rows: &mut Rows,
    ) {
        let at_ms = self.time_ms(now.terms.at_ms);
        for held in &mut self.policies {
            let mut row = match held.policy.terms {
                Terms::InFlight { max } => in_flight_row(&self.live, at_ms, max),
                Terms::Budget { amount, period, soft_percent } => {
                    let purse = self.purses.iter().find(|purse| purse.meter == held.policy.meter);
                    let asked = request::Asked {
                        budget: amount,
                        cost: if known { Some(Amount::ZERO) } else { amounts.asked(&held.policy.meter) },
                        soft_percent,
                        ends_after_ms: ends_after_ms(period),
                    };
                    purse.map_or_else(Row::default, |purse| asked.row(&purse.ledger, now, period))
                }
                Terms::Window(_) | Terms::Bucket(_) => {
                    let units = if known { Some(0) } else { amounts.estimate(&held.policy.meter) };
                    held.decide(at_ms, units).map_or_else(Row::default, Row::from)
                }
            };
            if known {
                (row.allowed, row.retry_after_ms) = (true, 0);
            }
            row.shadow = held.policy.shadow;
            rows.push(row);
        }
    }

    /// Budgets of which the soft limit is reached.
    pub fn above_soft(&self, now: &Moment) -> usize {
        let is_above = |held: &&Held| match held.policy.terms {
            Terms::Budget { amount, period, soft_percent } if soft_percent > 0 => {
                let asked = request::Asked { budget: amount, cost: Some(Amount::ZERO), soft_percent, ends_after_ms: 0 };
                let mut purses = self.purses.iter().filter(|purse| purse.meter == held.policy.meter);
                purses.any(|purse| asked.row(&purse.ledger, now, period).soft == Soft::Above)
            }
            _ => false,
        };
        self.policies.iter().filter(is_above).count()
    }

    /// Whether there is room for one more hold in every ledger that the amounts need one in.
    pub fn can_hold(&self, now_ms: i64, amounts: &Amounts) -> Result<(), Full> {
        let holds = |purse: &Purse| amounts.asked(&purse.meter).is_some_and(|amount| amount > Amount::ZERO);
        let full = |purse: &Purse| holds(purse) && !purse.ledger.can_hold(now_ms);
        if self.purses.iter().any(full) {
            return Err(Full::Holds);
        }
        Ok(())
    }

    /// Admits: takes the estimates for `ttl_ms`, whatever the policies say, and brings `rows`, the answers to the same
    /// request, up to date. An account without policies takes note all the same.
    pub fn charge(&mut self, now: &Moment, id: &[u8], ttl_ms: u64, amounts: &Amounts, rows: &mut [Row]) {
        let at_ms = self.advance(now);
        let mut taken = SmallVec::new();
        for (index, held) in self.policies.iter_mut().enumerate() {
            let units = amounts.estimate(&held.policy.meter);
            // What a shadow policy would have refused, it does not count either: its answers stay what they would be.
            let counts = !held.policy.shadow || held.decide(at_ms, units).is_some_and(|verdict| verdict.allowed);
            let units = units.unwrap_or(0);
            let Some((taken_ms, reset_after_ms)) = counts.then(|| held.take(at_ms, units)).flatten() else { continue };
            taken.push(Taken { serial: held.serial, units, at_ms: taken_ms });
            if let Some(row) = rows.get_mut(index) {
                row.take_units(units, reset_after_ms);
            }
        }
        let expires_at_ms = now.terms.at_ms.saturating_add_unsigned(ttl_ms).min(TIME_MAX_MS);
        let mut estimates = SmallVec::new();
        for (index, purse) in self.purses.iter_mut().enumerate() {
            let Some(estimate) = amounts.asked(&purse.meter).filter(|&estimate| estimate > Amount::ZERO) else {
                continue;
            };
            purse.ledger.set_aside(id, now.day, estimate, expires_at_ms, &now.terms);
            estimates.resize(index, Amount::ZERO);
            estimates.push(estimate);
        }
        let load = Admission { day: now.day, taken, estimates };
        self.live.hold(at_ms, id.into(), ttl_ms, load);
        self.take_rows(at_ms, amounts, rows);
    }

    /// What leases and budgets have after an admission.
    fn take_rows(&self, at_ms: i64, amounts: &Amounts, rows: &mut [Row]) {
        for (held, row) in self.policies.iter().zip(rows) {
            match held.policy.terms {
                Terms::InFlight { .. } => row.take_units(1, self.live.ends_after_ms(at_ms)),
                Terms::Budget { .. } => row.take_money(amounts.asked(&held.policy.meter).unwrap_or(Amount::ZERO)),
                Terms::Window(_) | Terms::Bucket(_) => {}
            }
        }
    }

    /// The admission that can be settled under an id.
    fn unsettled(&self, standing: Standing, id: &[u8]) -> Option<&Admission> {
        match standing {
            Standing::Unknown | Standing::Settled => None,
            Standing::Live | Standing::Expired => match self.live.get(id) {
                Some(lease) => Some(&lease.load),
                None => self.expired.get(id).map(|lease| &lease.load),
            },
        }
    }

    /// What an admission used, meter by meter in the ledgers' order, with its day.
    fn used(&self, standing: Standing, id: &[u8], actuals: &Amounts) -> Option<(Day, SmallVec<[Amount; 2]>)> {
        let admission = self.unsettled(standing, id)?;
        let estimates = admission.estimates.iter().copied().chain(std::iter::repeat(Amount::ZERO));
        let used = self.purses.iter().zip(estimates);
        let used = used.map(|(purse, estimate)| actuals.of(&purse.meter).unwrap_or(estimate));
        Some((admission.day, used.collect()))
    }

    /// Whether [`Self::settle`] has an effect.
    ///
    /// # Errors
    /// Where a sum of money would be out of range.
    pub fn can_settle(&self, now_ms: i64, id: &[u8], actuals: &Amounts) -> Result<bool, Overflow> {
        let Some((day, used)) = self.used(self.standing(now_ms, id), id, actuals) else { return Ok(false) };
        self.can_spend(day, &used).map(|()| true)
    }

    fn can_spend(&self, day: Day, used: &[Amount]) -> Result<(), Overflow> {
        self.purses.iter().zip(used).try_for_each(|(purse, &used)| purse.ledger.totals_with(day, used).map(drop))
    }

    /// Ends an admission: what was used takes the place of what was estimated, in the tick and on the day where it was
    /// estimated; what is not named stays as estimated. Replies how the admission stood before.
    ///
    /// # Errors
    /// Where [`Self::can_settle`] has one. Nothing was changed.
    pub fn settle(&mut self, now: &Moment, id: &[u8], actuals: &Amounts) -> Result<Standing, Overflow> {
        let standing = self.standing(now.terms.at_ms, id);
        let Some((day, used)) = self.used(standing, id, actuals) else { return Ok(standing) };
        self.can_spend(day, &used)?;
        let at_ms = self.advance(now);
        for (purse, used) in self.purses.iter_mut().zip(used) {
            purse.ledger.release(id);
            if used != Amount::ZERO {
                purse.ledger.charge(day, used, now.terms.keep_days, now.terms.version)?;
            }
        }
        // One that has ended by time may still be among the live.
        if let Some(lease) = self.live.take(id).or_else(|| self.expired.take(id)) {
            for taken in &lease.load.taken {
                let Some(held) = self.policies.iter_mut().find(|held| held.serial == taken.serial) else { continue };
                if let Some(units) = actuals.units(&held.policy.meter) {
                    held.correct(at_ms, taken.at_ms, units as i64 - taken.units as i64);
                }
            }
            self.settled.put(id, at_ms.saturating_add_unsigned(SETTLED_KEPT_MS).min(TIME_MAX_MS));
        }
        Ok(standing)
    }

    /// Lets a live admission's lease end `ttl_ms` from now. Whether there is one.
    pub fn keep_alive(&mut self, now: &Moment, id: &[u8], ttl_ms: u64) -> bool {
        let at_ms = self.advance(now);
        if self.live.token_of(at_ms, id).is_none() {
            return false;
        }
        let Some(lease) = self.live.take(id) else { return false };
        let expires_at_ms = now.terms.at_ms.saturating_add_unsigned(ttl_ms).min(TIME_MAX_MS);
        for (purse, &estimate) in self.purses.iter_mut().zip(&lease.load.estimates) {
            if estimate > Amount::ZERO {
                purse.ledger.set_aside(id, lease.load.day, estimate, expires_at_ms, &now.terms);
            }
        }
        self.live.hold(at_ms, lease.holder, ttl_ms, lease.load);
        true
    }

    /// What every change begins with: the clock, the leases that have ended and what is to be forgotten. Returns the
    /// account's time.
    pub fn advance(&mut self, now: &Moment) -> i64 {
        let at_ms = self.time_ms(now.terms.at_ms);
        self.ahead_ms = self.ahead_ms.max(at_ms.saturating_sub(now.terms.at_ms).min(TIME_MAX_MS));
        self.at_ms = at_ms;
        for _ in 0..ENDED_PER_CHANGE {
            let Some(lease) = self.live.take_ended(at_ms) else { break };
            self.end(at_ms, lease.holder, lease.expires_at_ms, lease.load);
        }
        (0..ENDED_PER_CHANGE).map_while(|_| self.expired.take_ended(at_ms)).for_each(drop);
        self.settled.forget(at_ms, ENDED_PER_CHANGE);
        at_ms
    }

    /// A lease's end by time: see the [module](self).
    fn end(&mut self, at_ms: i64, id: Arc<[u8]>, ended_ms: i64, mut admission: Admission) {
        for purse in self.purses.iter_mut().take(admission.estimates.len()) {
            purse.ledger.release(&id);
        }
        for taken in &mut admission.taken {
            let held = self.policies.iter_mut().find(|held| held.serial == taken.serial);
            if let Some(held) = held.filter(|held| held.policy.give_back) {
                held.correct(at_ms, taken.at_ms, -(taken.units as i64));
                taken.units = 0;
            }
        }
        let left_ms = ended_ms.saturating_add_unsigned(EXPIRED_KEPT_MS).saturating_sub(at_ms);
        if left_ms > 0 {
            self.expired.hold(at_ms, id, left_ms.unsigned_abs(), admission);
            if self.expired.len() > FINISHED_MAX {
                self.expired.take_ended(i64::MAX);
            }
        }
    }
}

fn in_flight_row(live: &LeasesWith<Admission>, at_ms: i64, max: u64) -> Row {
    let in_use = live.in_use(at_ms);
    let grant = live.decide_new(at_ms, max, in_use);
    Row {
        allowed: grant.acquired,
        figures: Figures::Units { limit: max, remaining: max.saturating_sub(in_use) },
        retry_after_ms: grant.retry_after_ms,
        reset_after_ms: live.ends_after_ms(at_ms),
        ..Row::default()
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
