//! The account: its policies, and the state that they share.

use std::collections::BTreeSet;

use smallvec::SmallVec;

use super::amounts::Amounts;
use super::bounds::{Exceeded, LEDGERS_MAX, POLICIES_MAX};
use super::expired::Expired;
use super::idle::Idle;
use super::ledgers::Ledgers;
use super::moment::Moment;
use super::name::ShortName;
use super::policy::{AccountPolicy, Kind, Policy, State};
use super::row::{Count, Used};
use super::settled::Settled;
use super::taken::Admission;
use super::target::Target;
use crate::TIME_MAX_MS;
use crate::breaker;
use crate::lease::LeasesWith;
use crate::ledger::Ledger;
use crate::money::Amount;

/// An account: see the [family's documentation](super).
#[derive(Debug, Clone)]
pub struct Account {
    /// In the order in which they were first set, or in that of the last [`Self::put`]. Up to four lie in the struct,
    /// so that for most accounts a decision follows no pointer to them (docs/src/internals/decisions.md, "Read side by
    /// side, allocate nothing").
    pub(super) policies: SmallVec<[AccountPolicy; 4]>,
    pub(super) live: LeasesWith<Admission>,
    pub(super) expired: Expired,
    pub(super) settled: Settled,
    pub(super) ledgers: Ledgers,
    /// How far the account's clock is ahead of the server's, in milliseconds.
    pub(super) ahead_ms: i64,
    /// The account's time at the last change.
    pub(super) at_ms: i64,
    /// The largest serial that a policy has had.
    pub(super) last_serial: u64,
    /// Only in an account without money: one that has no budget and [was never charged](Self::was_charged).
    /// Boxed because few accounts have it.
    pub(super) idle: Option<Box<Idle>>,
    /// `None` before the first cooldown or latency.
    pub(super) target: Option<Box<Target>>,
}

impl Default for Account {
    fn default() -> Self {
        Self::with_ledger(Ledger::default())
    }
}

impl Account {
    /// Makes an account of a key that held a ledger before its first policy.
    pub fn with_ledger(ledger: Ledger) -> Self {
        Self {
            policies: SmallVec::new(),
            live: LeasesWith::default(),
            expired: Expired::default(),
            settled: Settled::default(),
            ledgers: Ledgers::new(ledger),
            ahead_ms: 0,
            at_ms: 0,
            last_serial: 0,
            idle: None,
            target: None,
        }
    }

    /// The policies, in the order in which they were first set, or in that of the last [`Self::put`].
    pub fn policies(&self) -> &[AccountPolicy] {
        &self.policies
    }

    /// Sets a policy, and returns whether it is new. A policy keeps what it has counted if its kind, meter, unit and
    /// window's shape stay the same. An account that gets a budget no longer expires.
    ///
    /// # Errors
    /// If the account has too many policies or ledgers; nothing was changed.
    pub fn set(&mut self, name: &[u8], policy: Policy) -> Result<bool, Exceeded> {
        let known = self.policies.iter().position(|own| *own.name == *name);
        if known.is_none() && self.policies.len() >= POLICIES_MAX {
            return Err(Exceeded::Policies);
        }
        if matches!(policy.kind, Kind::Budget { .. }) {
            self.ledgers.open(&policy.meter)?;
            self.idle = None;
        }
        match known.and_then(|at| self.policies.get_mut(at)) {
            Some(own) if own.counts_as(&policy) => own.replace(policy),
            known => {
                self.last_serial += 1;
                let own = AccountPolicy::new(name, policy, self.last_serial);
                match known {
                    Some(place) => *place = own,
                    None => self.policies.push(own),
                }
            }
        }
        Ok(known.is_none())
    }

    /// Sets these policies, which have different names, in this order, and removes all others. Each is set as by
    /// [`Self::set`].
    ///
    /// # Errors
    /// Like [`Self::set`]; nothing was changed.
    pub fn put(&mut self, policies: &[(ShortName, Policy)]) -> Result<(), Exceeded> {
        if policies.len() > POLICIES_MAX {
            return Err(Exceeded::Policies);
        }
        let budgets = policies.iter().filter(|(_, policy)| matches!(policy.kind, Kind::Budget { .. }));
        let meters = budgets.map(|(_, policy)| &*policy.meter).filter(|meter| self.ledgers.meter(meter).is_none());
        if self.ledgers.len() + meters.collect::<BTreeSet<_>>().len() > LEDGERS_MAX {
            return Err(Exceeded::Ledgers);
        }
        // Policies are removed first, to make room for new ones.
        self.policies.retain(|own| policies.iter().any(|(name, _)| own.name == *name));
        for (name, policy) in policies {
            self.set(name, policy.clone())?;
        }
        let place = |own: &AccountPolicy| policies.iter().position(|(name, _)| own.name == *name);
        self.policies.sort_by_key(place);
        Ok(())
    }

    /// Whether these are the account's policies, in this order.
    pub fn has_exactly(&self, policies: &[(ShortName, Policy)]) -> bool {
        let own = self.policies.iter().map(|own| (&own.name, &own.policy));
        own.eq(policies.iter().map(|(name, policy)| (name, policy)))
    }

    /// How long the account outlives its last admission, in milliseconds; `None` if it does not expire.
    pub fn idle_ms(&self) -> Option<u64> {
        self.idle.as_ref().map(|idle| idle.idle_ms.get())
    }

    /// When the account expires, by the server's clock; `None` if it does not. Never before a live lease ends.
    pub fn expires_at_ms(&self) -> Option<i64> {
        self.idle.as_ref().map(|idle| idle.expires_at_ms)
    }

    /// Sets how long the account outlives its last admission; with `None` it does not expire. The caller has checked
    /// that it has no budget and [was never charged](Self::was_charged).
    pub fn set_idle(&mut self, now: &Moment, idle_ms: Option<u64>) {
        // Leases end by the account's clock, the key by the server's, so both are brought together first.
        self.advance(now);
        let (now_ms, busy_ms) = (now.stamp.at_ms, self.busy_ms(now.stamp.at_ms));
        self.idle = idle_ms.map(|idle_ms| Box::new(Idle::new(idle_ms, now_ms, busy_ms)));
    }

    /// Makes an account that got money stay. Returns whether it would have expired.
    pub fn stay(&mut self) -> bool {
        self.idle.take().is_some()
    }

    /// Moves the expiry on at an admission, if that is due.
    pub(super) fn renew(&mut self, now_ms: i64) {
        if self.idle.is_some() {
            let busy_ms = self.busy_ms(now_ms);
            self.idle.iter_mut().for_each(|idle| idle.renew(now_ms, busy_ms));
        }
    }

    /// Milliseconds until the last lease, the cooldown and the last open breaker end.
    fn busy_ms(&self, now_ms: i64) -> i64 {
        let at_ms = self.time_ms(now_ms);
        let opens = self.policies.iter().filter_map(AccountPolicy::open_until_ms);
        let refuses_until_ms = opens.chain(self.target.iter().map(|target| target.cooldown_until_ms)).max();
        let refuses_ms = refuses_until_ms.map_or(0, |until_ms| until_ms.saturating_sub(at_ms));
        self.live.ends_after_ms(at_ms).max(refuses_ms)
    }

    /// Whether a ledger of the account was ever charged, credited, or held money other than for admissions under way.
    /// Such a ledger must not be forgotten.
    pub fn was_charged(&self) -> bool {
        self.ledgers.iter().any(|(_, ledger)| ledger.is_used())
    }

    /// Whether money that is charged to the account's ledger without an admission counts in a policy.
    pub fn counts_money(&self) -> bool {
        self.policies.iter().any(|own| own.policy.counts_money())
    }

    /// Counts money in the policies that [count it](Self::counts_money). It was spent, or given back if it is negative,
    /// at `spent_ms` by the server's clock.
    pub fn count_money(&mut self, now: &Moment, spent_ms: i64, amount: Amount) {
        let at_ms = self.advance(now);
        let spent_ms = spent_ms.saturating_add(self.ahead_ms).min(at_ms);
        for own in self.policies.iter_mut().filter(|own| own.policy.counts_money()) {
            own.count_money(at_ms, spent_ms, amount);
        }
    }

    /// Removes a policy and what it has counted. Returns whether there was one.
    pub fn delete(&mut self, name: &[u8]) -> bool {
        let before = self.policies.len();
        self.policies.retain(|own| *own.name != *name);
        self.policies.len() < before
    }

    /// The account's own ledger, which counts money.
    pub fn ledger(&self) -> &Ledger {
        self.ledgers.money()
    }

    /// Like [`Self::ledger`], to change it.
    pub fn ledger_mut(&mut self) -> &mut Ledger {
        self.ledgers.money_mut()
    }

    /// The ledger of a meter; creates it if there is none. It stays, with its credits, even if all policies that use it
    /// are removed.
    ///
    /// # Errors
    /// If the account has too many ledgers; nothing was changed.
    pub fn open_ledger(&mut self, meter: &[u8]) -> Result<&mut Ledger, Exceeded> {
        self.ledgers.open(meter)?;
        let own = self.ledgers.iter_mut().find(|&(own, _)| own == meter);
        own.map(|(_, ledger)| ledger).ok_or(Exceeded::Ledgers)
    }

    /// All ledgers with their meters, money first.
    pub fn ledgers(&self) -> impl Iterator<Item = (&[u8], &Ledger)> {
        self.ledgers.iter()
    }

    /// What each window and bucket has counted, by the policy's name.
    pub fn counts<'a>(&'a mut self, now_ms: i64) -> Vec<(&'a [u8], Count)> {
        let at_ms = self.time_ms(now_ms);
        let count = |own: &'a mut AccountPolicy| {
            let units = own.count(at_ms)?;
            Some((&*own.name, own.policy.count(units)))
        };
        self.policies.iter_mut().filter_map(count).collect()
    }

    /// Notes in the policies' tallies which meters were named by a settlement, or by an admission that another node
    /// decided.
    pub fn note_named(&mut self, now_ms: i64, amounts: &Amounts) {
        for own in &mut self.policies {
            if amounts.of(&own.policy.meter).is_some() {
                own.tally.named_ms = now_ms;
            }
        }
    }

    /// What counts towards the limit of the policy at `index`: the units in a window, those missing in a bucket, the
    /// leases in flight, or the money spent and held. It exceeds the limit if more was used than estimated.
    pub fn used_of(&mut self, index: usize, now: &Moment) -> Option<Used> {
        let at_ms = self.time_ms(now.stamp.at_ms);
        let own = self.policies.get_mut(index)?;
        match own.policy.kind {
            Kind::Window(_) => own.count(at_ms).map(|units| own.policy.used(units)),
            Kind::Bucket(flow) => {
                let missing = |tokens: i64| flow.burst.cast_signed().saturating_sub(tokens);
                own.count(at_ms).map(|tokens| own.policy.used(missing(tokens)))
            }
            Kind::Block { .. } => Some(Used::Units(0)),
            Kind::Breaker(threshold) => {
                let (probes, live) = (!own.policy.shadow, &self.live);
                let (breaker, _) = own.breaker_mut()?;
                let verdict = breaker.decide(at_ms, threshold, probes, |id| live_for_ms(live, at_ms, id));
                Some(Used::Units(threshold.failures.saturating_sub(verdict.remaining)))
            }
            Kind::InFlight { .. } => Some(Used::Units(self.live.in_use(at_ms))),
            Kind::Budget { period, .. } => {
                let ledger = self.ledgers.meter(&own.policy.meter)?;
                let held = ledger.held(now.stamp.at_ms, period, now.day);
                Some(Used::Money(ledger.spent(period, now.day).saturating_add(held)))
            }
        }
    }

    /// The number of leases in flight.
    pub fn in_flight(&self, now_ms: i64) -> u64 {
        self.live.in_use(self.time_ms(now_ms))
    }

    /// The state of each breaker, by the policy's name.
    pub fn breakers(&mut self, now_ms: i64) -> Vec<(&[u8], breaker::State<'_>)> {
        let (at_ms, live) = (self.time_ms(now_ms), &self.live);
        let state = |own| breaker_state(own, live, at_ms);
        self.policies.iter_mut().filter_map(state).collect()
    }

    /// Milliseconds until the cooldown ends; 0 if there is none.
    pub fn cooldown_ms(&self, now_ms: i64) -> i64 {
        let until_ms = self.target.as_ref().map_or(0, |target| target.cooldown_until_ms);
        until_ms.saturating_sub(self.time_ms(now_ms)).max(0)
    }

    /// The average time of its calls in milliseconds; `None` if no settlement has said one.
    pub fn latency_ms(&self) -> Option<u64> {
        self.target.as_ref().and_then(|target| target.latency.average_ms())
    }

    /// What one more request would meet: see [`Latency::load`](crate::latency::Latency::load).
    pub(super) fn routing_load(&self, now_ms: i64) -> u128 {
        let latency = self.target.as_ref().map(|target| target.latency).unwrap_or_default();
        latency.load(self.time_ms(now_ms), self.in_flight(now_ms))
    }

    /// Each lease in flight with the milliseconds left; the first to end first.
    pub fn leases(&self, now_ms: i64) -> impl Iterator<Item = (&[u8], i64)> {
        self.live.holders(self.time_ms(now_ms)).map(|(id, left_ms, _)| (id, left_ms))
    }

    /// The number of ended admissions that are remembered.
    pub fn remembered(&self) -> usize {
        self.expired.len() + self.settled.len()
    }

    /// The account's time, in unix milliseconds: see the [family's documentation](super).
    pub fn time_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_add(self.ahead_ms).min(TIME_MAX_MS).max(self.at_ms)
    }

    /// Prefetches one word from each place that an admission reads; the loads are independent and overlap. With ten
    /// thousand accounts, most of those places are in no cache.
    pub(super) fn fetch(&self) {
        let policies = self.policies.iter().fold(0, |words, own| words ^ own.fetch());
        let ledgers = self.ledgers.iter().fold(0, |words, (_, ledger)| words ^ ledger.fetch());
        let ended = (self.expired.len() ^ self.settled.len()) as u64;
        let times = self.at_ms ^ self.live.changed_at_ms();
        std::hint::black_box(policies ^ self.live.fetch() ^ ended ^ (ledgers ^ times).unsigned_abs());
    }
}

/// In how many milliseconds a lease ends, if it is live.
pub(super) fn live_for_ms(live: &LeasesWith<Admission>, at_ms: i64, id: &[u8]) -> Option<i64> {
    live.get(id).map(|lease| lease.expires_at_ms.saturating_sub(at_ms)).filter(|&left_ms| left_ms > 0)
}

fn breaker_state<'a>(
    own: &'a mut AccountPolicy,
    live: &LeasesWith<Admission>,
    at_ms: i64,
) -> Option<(&'a [u8], breaker::State<'a>)> {
    let probes = !own.policy.shadow;
    let AccountPolicy { name, policy, state, .. } = own;
    match (state, policy.kind) {
        (State::Breaker(breaker), Kind::Breaker(threshold)) => {
            Some((name, breaker.state(at_ms, threshold, probes, |id| live_for_ms(live, at_ms, id))))
        }
        _ => None,
    }
}
