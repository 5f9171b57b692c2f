//! The life of an admission: it is charged, kept alive, settled, or ended by time.

use std::borrow::Cow;
use std::sync::Arc;

use smallvec::SmallVec;

use super::account::{Account, live_for_ms};
use super::amounts::{Amounts, REQUESTS};
use super::bounds::{EXPIRED_KEPT_MS, Exceeded, SETTLED_KEPT_MS};
use super::moment::Moment;
use super::policy::{Kind, State};
use super::row::Row;
use super::taken::{Admission, Standing, Taken};
use super::target::Report;
use crate::TIME_MAX_MS;
use crate::breaker::{Outcome, Turn};
use crate::calendar::Day;
use crate::ledger::{Ledger, Overflow};
use crate::money::Amount;

/// A refused request leaves up to this many ended leases in place.
pub(super) const ENDED_MAX: usize = 32;

/// A change ends at most this many leases, and forgets at most this many settled admissions and as many expired ones.
pub(super) const ENDED_PER_CHANGE: usize = 256;

/// The outcome of a policy's reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// The policy's count is forgotten.
    Done,
    /// There is no policy with that name.
    NoSuchPolicy,
    /// The policy is a budget, whose spend is not forgotten.
    Budget,
}

/// What a settlement has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    /// The standing of the admission before.
    pub standing: Standing,
    /// Whether the account's own ledger has changed.
    pub spent: bool,
    /// The breakers that it has opened.
    pub opened: u8,
    /// The breakers that it has closed.
    pub closed: u8,
}

impl Account {
    /// What a lease id stands for.
    pub fn standing(&self, now_ms: i64, id: &[u8]) -> Standing {
        let at_ms = self.time_ms(now_ms);
        if let Some(lease) = self.live.get(id) {
            return match lease.expires_at_ms {
                end_ms if end_ms > at_ms => Standing::Live,
                end_ms if end_ms.saturating_add_unsigned(EXPIRED_KEPT_MS) > at_ms => Standing::Expired,
                _ => Standing::Unknown,
            };
        }
        if self.expired.contains(at_ms, id) {
            Standing::Expired
        } else if self.settled.contains(at_ms, id) {
            Standing::Settled
        } else {
            Standing::Unknown
        }
    }

    /// Before a decision, does what is due by time and cannot wait for the next change: if the clock has stepped back,
    /// if leases have ended that give units back, or if too many leases have ended. Returns whether anything was
    /// changed.
    pub fn tidy(&mut self, now: &Moment) -> bool {
        let at_ms = self.time_ms(now.stamp.at_ms);
        let ended = self.live.len().saturating_sub(self.live.in_use(at_ms) as usize);
        let behind = now.stamp.at_ms.saturating_add(self.ahead_ms) < self.at_ms
            || self.ledgers.iter().any(|(_, ledger)| ledger.is_ahead_of(now.stamp.at_ms));
        // The decision would miss what they give back. It would also miss money if this clock is ahead of the ledgers'.
        let missed = || self.ahead_ms > 0 || self.policies.iter().any(|own| own.policy.give_back);
        let due = behind || ended > ENDED_MAX || (ended > 0 && missed());
        if due {
            self.advance(now);
        }
        due
    }

    /// Checks that every ledger that would hold some of the amounts has room for one more hold, of `max` at most.
    ///
    /// # Errors
    /// If a ledger does not have room.
    pub fn can_hold(&self, now_ms: i64, amounts: &Amounts, max: usize) -> Result<(), Exceeded> {
        let holds = |meter: &[u8]| amounts.estimate(meter).is_some_and(|amount| amount > Amount::ZERO);
        if self.ledgers.iter().any(|(meter, ledger)| holds(meter) && !ledger.can_hold(now_ms, max)) {
            return Err(Exceeded::Holds);
        }
        Ok(())
    }

    /// Milliseconds until the next hold ends.
    pub(super) fn hold_ends_after_ms(&self, now_ms: i64) -> i64 {
        let next_ms = |ledger: &Ledger| ledger.holds(now_ms).next().map(|(.., left_ms)| left_ms);
        self.ledgers.iter().filter_map(|(_, ledger)| next_ms(ledger)).min().unwrap_or(1).max(1)
    }

    /// Admits a request: takes the estimates for `ttl_ms`, whatever the policies say. `rows` are this account's answers
    /// to the same request, in the policies' order, or empty; they are updated. An account without policies remembers
    /// the admission, too. Returns whether the request is the probe of a half-open breaker.
    pub fn charge(&mut self, now: &Moment, id: &[u8], ttl_ms: u64, amounts: &Amounts, rows: &mut [Row]) -> bool {
        let at_ms = self.advance(now);
        let mut taken = SmallVec::new();
        for (index, own) in self.policies.iter_mut().enumerate().filter(|(_, own)| own.counts_units()) {
            let units = own.policy.estimated_units(amounts);
            // A shadow policy does not count requests that it would have refused, so that its answers are those of a
            // real policy.
            let counts = !own.policy.shadow || own.decide(at_ms, units).is_some_and(|verdict| verdict.allowed);
            let units = units.unwrap_or(0);
            let Some((taken_ms, reset_after_ms)) = counts.then(|| own.take(at_ms, units)).flatten() else { continue };
            taken.push(Taken { serial: own.serial, units, at_ms: taken_ms });
            if let Some(row) = rows.get_mut(index).filter(|row| usize::from(row.policy) == index) {
                row.take_units(units, reset_after_ms);
            }
        }
        let expires_at_ms = now.stamp.at_ms.saturating_add_unsigned(ttl_ms).min(TIME_MAX_MS);
        let mut estimates = SmallVec::new();
        for (index, (meter, ledger)) in self.ledgers.iter_mut().enumerate() {
            let Some(estimate) = amounts.estimate(meter).filter(|&estimate| estimate > Amount::ZERO) else {
                continue;
            };
            ledger.set_aside(id, now.day, estimate, expires_at_ms, &now.stamp);
            estimates.resize(index, Amount::ZERO);
            estimates.push(estimate);
        }
        let admission = Admission { day: now.day, taken, estimates };
        self.live.hold(at_ms, id.into(), ttl_ms, admission);
        self.renew(now.stamp.at_ms);
        self.take_rows(at_ms, amounts, rows);
        let has_breaker = self.policies.iter().any(|own| matches!(own.policy.kind, Kind::Breaker(_)));
        has_breaker && self.take_probes(at_ms, id, rows)
    }

    /// Makes the request the probe of each half-open breaker that has none. Returns whether there is one.
    #[cold]
    fn take_probes(&mut self, at_ms: i64, id: &[u8], rows: &mut [Row]) -> bool {
        let Self { policies, live, .. } = self;
        let ends_after_ms = |id: &[u8]| live_for_ms(live, at_ms, id);
        let mut is_probe = false;
        for (index, own) in policies.iter_mut().enumerate() {
            let probes = !own.policy.shadow;
            let Some((breaker, _)) = own.breaker_mut() else { continue };
            if breaker.admit(at_ms, probes, id, ends_after_ms) {
                is_probe = true;
                if let Some(row) = rows.get_mut(index).filter(|row| usize::from(row.policy) == index) {
                    row.take_units(1, ends_after_ms(id).unwrap_or(0));
                }
            }
        }
        is_probe
    }

    /// Updates the rows of leases and budgets after an admission.
    fn take_rows(&self, at_ms: i64, amounts: &Amounts, rows: &mut [Row]) {
        for row in rows {
            let Some(own) = self.policies.get(usize::from(row.policy)) else { continue };
            match own.policy.kind {
                Kind::InFlight { .. } => row.take_units(1, self.live.ends_after_ms(at_ms)),
                Kind::Budget { .. } => row.take_money(amounts.estimate(&own.policy.meter).unwrap_or(Amount::ZERO)),
                Kind::Window(_) | Kind::Bucket(_) | Kind::Block { .. } | Kind::Breaker(_) => {}
            }
        }
    }

    /// The admission that can be settled under this id.
    fn unsettled(&self, standing: Standing, id: &[u8]) -> Option<Cow<'_, Admission>> {
        match standing {
            Standing::Unknown | Standing::Settled => None,
            Standing::Live | Standing::Expired => match self.live.get(id) {
                Some(lease) => Some(Cow::Borrowed(&lease.payload)),
                None => self.expired.get(id).map(Cow::Owned),
            },
        }
    }

    /// The day of an admission, and the amount used of each ledger's meter, in the ledgers' order.
    fn used(&self, standing: Standing, id: &[u8], actuals: &Amounts) -> Option<(Day, SmallVec<[Amount; 2]>)> {
        let admission = self.unsettled(standing, id)?;
        let estimates = admission.estimates.iter().copied().chain(std::iter::repeat(Amount::ZERO));
        let used = self.ledgers.iter().zip(estimates);
        let used = used.map(|((meter, _), estimate)| actuals.of(meter).unwrap_or(estimate));
        Some((admission.day, used.collect()))
    }

    /// Whether [`Self::settle`] would change anything.
    ///
    /// # Errors
    /// If a sum of money would be out of range.
    pub fn can_settle(&self, now_ms: i64, id: &[u8], actuals: &Amounts) -> Result<bool, Overflow> {
        let Some((day, used)) = self.used(self.standing(now_ms, id), id, actuals) else { return Ok(false) };
        self.can_spend(day, &used).map(|()| true)
    }

    fn can_spend(&self, day: Day, used: &[Amount]) -> Result<(), Overflow> {
        self.ledgers.iter().zip(used).try_for_each(|((_, ledger), &used)| ledger.totals_with(day, used).map(drop))
    }

    /// Ends an admission: the estimates are replaced by what was used, in the window's tick and on the day of the
    /// estimate. Meters that are not named stay as estimated. An account that is charged no longer expires. `report` says
    /// how the call went; a call of no requests that has not failed was not made.
    ///
    /// # Errors
    /// Like [`Self::can_settle`]. Nothing was changed.
    pub fn settle(
        &mut self,
        now: &Moment,
        id: &[u8],
        actuals: &Amounts,
        report: &Report,
    ) -> Result<Settlement, Overflow> {
        let standing = self.standing(now.stamp.at_ms, id);
        let mut settlement = Settlement { standing, spent: false, opened: 0, closed: 0 };
        let Some((day, used)) = self.used(standing, id, actuals) else { return Ok(settlement) };
        self.can_spend(day, &used)?;
        let version = self.ledger().version();
        let at_ms = self.advance(now);
        for ((_, ledger), used) in self.ledgers.iter_mut().zip(used) {
            ledger.release(id);
            if used != Amount::ZERO {
                ledger.charge(day, used, now.stamp.keep_days, now.stamp.version)?;
                self.idle = None;
            }
        }
        // An admission whose lease has ended by time may still be among the live ones.
        let live = self.live.take(id).map(|lease| lease.payload);
        if let Some(admission) = live.or_else(|| self.expired.take(id)) {
            for taken in &admission.taken {
                let Some(own) = self.policies.iter_mut().find(|own| own.serial == taken.serial) else { continue };
                if let Some(units) = actuals.of(&own.policy.meter).map(|amount| own.policy.units(amount)) {
                    own.correct(at_ms, taken.at_ms, units.cast_signed() - taken.units.cast_signed());
                }
            }
            self.settled.put(id, at_ms.saturating_add_unsigned(SETTLED_KEPT_MS).min(TIME_MAX_MS));
        }
        settlement.spent = self.ledger().version() != version;
        if self.policies.iter().any(|own| matches!(own.policy.kind, Kind::Breaker(_))) {
            let outcome = match actuals.of(REQUESTS) {
                _ if report.failed => Outcome::Failed,
                Some(requests) if requests <= Amount::ZERO => Outcome::Undone,
                _ => Outcome::Succeeded,
            };
            self.report(at_ms, id, outcome, &mut settlement);
        }
        if report.cooldown_ms > 0 || report.took_ms.is_some() {
            let target = self.target.get_or_insert_default();
            let until_ms = at_ms.saturating_add_unsigned(report.cooldown_ms).min(TIME_MAX_MS);
            if report.cooldown_ms > 0 {
                target.cooldown_until_ms = target.cooldown_until_ms.max(until_ms);
            }
            report.took_ms.into_iter().for_each(|took_ms| target.latency.feed(at_ms, took_ms));
        }
        if report.failed {
            // An account that expired earlier would forget that it refuses.
            self.renew(now.stamp.at_ms);
        }
        Ok(settlement)
    }

    /// Tells the breakers how a call went.
    #[cold]
    fn report(&mut self, at_ms: i64, id: &[u8], outcome: Outcome, settlement: &mut Settlement) {
        let is_live = settlement.standing == Standing::Live;
        for own in &mut self.policies {
            let probes = !own.policy.shadow;
            let Some((breaker, threshold)) = own.breaker_mut() else { continue };
            match breaker.report(at_ms, threshold, probes, id, is_live, outcome) {
                Some(Turn::Opened) => settlement.opened += 1,
                Some(Turn::Closed) => settlement.closed += 1,
                None => {}
            }
        }
    }

    /// Moves the end of a live lease to `ttl_ms` from now. Returns whether the lease is live.
    pub fn keep_alive(&mut self, now: &Moment, id: &[u8], ttl_ms: u64) -> bool {
        let at_ms = self.advance(now);
        if self.live.token_of(at_ms, id).is_none() {
            return false;
        }
        let Some(lease) = self.live.take(id) else { return false };
        let expires_at_ms = now.stamp.at_ms.saturating_add_unsigned(ttl_ms).min(TIME_MAX_MS);
        for ((_, ledger), &estimate) in self.ledgers.iter_mut().zip(&lease.payload.estimates) {
            if estimate > Amount::ZERO {
                ledger.set_aside(id, lease.payload.day, estimate, expires_at_ms, &now.stamp);
            }
        }
        self.live.hold(at_ms, lease.holder, ttl_ms, lease.payload);
        self.renew(now.stamp.at_ms);
        true
    }

    /// Begins every change: moves the clock on, ends leases whose time has passed, and forgets ended admissions that
    /// are due. Returns the account's time.
    pub fn advance(&mut self, now: &Moment) -> i64 {
        let at_ms = self.time_ms(now.stamp.at_ms);
        self.ahead_ms = self.ahead_ms.max(at_ms.saturating_sub(now.stamp.at_ms).min(TIME_MAX_MS));
        self.at_ms = at_ms;
        let ledgers = self.ledgers.iter_mut().map(|(_, ledger)| ledger);
        for ledger in ledgers.filter(|ledger| ledger.is_ahead_of(now.stamp.at_ms)) {
            ledger.forget(now.stamp.at_ms);
        }
        for _ in 0..ENDED_PER_CHANGE {
            let Some(lease) = self.live.take_ended(at_ms) else { break };
            self.end(at_ms, lease.holder, lease.expires_at_ms, lease.payload);
        }
        self.expired.forget(at_ms, ENDED_PER_CHANGE);
        self.settled.forget(at_ms, ENDED_PER_CHANGE);
        at_ms
    }

    /// Ends a lease by time: see the [family's documentation](super).
    fn end(&mut self, at_ms: i64, id: Arc<[u8]>, ended_ms: i64, mut admission: Admission) {
        for (_, ledger) in self.ledgers.iter_mut().take(admission.estimates.len()) {
            ledger.release(&id);
        }
        for taken in &mut admission.taken {
            let own = self.policies.iter_mut().find(|own| own.serial == taken.serial);
            if let Some(own) = own.filter(|own| own.policy.give_back) {
                own.correct(at_ms, taken.at_ms, -taken.units.cast_signed());
                taken.units = 0;
            }
        }
        for own in &mut self.policies {
            if let Some((breaker, _)) = own.breaker_mut() {
                breaker.forget(&id);
            }
        }
        if ended_ms.saturating_add_unsigned(EXPIRED_KEPT_MS) > at_ms {
            self.expired.put(&id, ended_ms, &admission);
        }
    }

    /// Whether a policy can be reset.
    pub fn can_reset(&self, name: &[u8]) -> Reset {
        match self.policies.iter().find(|own| *own.name == *name) {
            None => Reset::NoSuchPolicy,
            Some(own) if matches!(own.policy.kind, Kind::Budget { .. }) => Reset::Budget,
            Some(_) => Reset::Done,
        }
    }

    /// Forgets what a window or bucket has counted, and closes a breaker. Resetting a limit of leases in flight ends all
    /// leases as if their time had passed.
    pub fn reset(&mut self, now: &Moment, name: &[u8]) -> Reset {
        let reset = self.can_reset(name);
        let Some(own) = self.policies.iter_mut().find(|own| *own.name == *name && reset == Reset::Done) else {
            return reset;
        };
        self.last_serial += 1;
        (own.state, own.serial) = (State::new(&own.policy.kind), self.last_serial);
        if matches!(own.policy.kind, Kind::InFlight { .. }) {
            let at_ms = self.advance(now);
            while let Some(lease) = self.live.take_ended(i64::MAX) {
                self.end(at_ms, lease.holder, at_ms, lease.payload);
            }
        }
        reset
    }
}
