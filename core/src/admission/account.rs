//! The account: its policies, and what all of them share.

use smallvec::SmallVec;

use super::amounts::Amounts;
use super::bounds::{Exceeded, POLICIES_MAX};
use super::ledgers::Ledgers;
use super::moment::Moment;
use super::policy::{AccountPolicy, Kind, Policy, ShortName, State};
use super::row::Used;
use super::settled::Settled;
use super::taken::Admission;
use super::tally::Tally;
use crate::TIME_MAX_MS;
use crate::lease::LeasesWith;
use crate::ledger::Ledger;

/// An account: see the [family's documentation](super).
#[derive(Debug, Clone)]
pub struct Account {
    /// In the order in which they were first set. Up to four lie in the struct, so that the decision of most accounts
    /// follows no pointer to them.
    pub(super) policies: SmallVec<[AccountPolicy; 4]>,
    pub(super) live: LeasesWith<Admission>,
    /// Admissions that ended by time and can still be settled.
    pub(super) expired: LeasesWith<Admission>,
    pub(super) settled: Settled,
    pub(super) ledgers: Ledgers,
    /// Milliseconds that the account's clock is ahead of the server's.
    pub(super) ahead_ms: i64,
    /// The account's time of the last change.
    pub(super) at_ms: i64,
    /// The largest serial of a policy so far.
    pub(super) last_serial: u64,
}

impl Default for Account {
    fn default() -> Self {
        Self::with_ledger(Ledger::default())
    }
}

impl Account {
    /// An account whose key held a ledger before its first policy.
    pub fn with_ledger(ledger: Ledger) -> Self {
        Self {
            policies: SmallVec::new(),
            live: LeasesWith::default(),
            expired: LeasesWith::default(),
            settled: Settled::default(),
            ledgers: Ledgers::new(ledger),
            ahead_ms: 0,
            at_ms: 0,
            last_serial: 0,
        }
    }

    /// The policies, in the order in which they were first set.
    pub fn policies(&self) -> &[AccountPolicy] {
        &self.policies
    }

    /// Sets a policy, and returns whether it is new. A policy that had the same kind and meter keeps what it has counted.
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
        }
        match known.and_then(|at| self.policies.get_mut(at)) {
            Some(own) if own.counts_as(&policy) => own.policy = policy,
            Some(own) => {
                self.last_serial += 1;
                (own.state, own.serial, own.policy) = (State::new(&policy.kind), self.last_serial, policy);
                own.tally = Tally::default();
            }
            None => {
                self.last_serial += 1;
                let (name, state) = (ShortName::from_slice(name), State::new(&policy.kind));
                let (serial, tally) = (self.last_serial, Tally::default());
                self.policies.push(AccountPolicy { name, policy, state, serial, tally });
            }
        }
        Ok(known.is_none())
    }

    /// Removes a policy and what it has counted. Returns whether there was one.
    pub fn delete(&mut self, name: &[u8]) -> bool {
        let before = self.policies.len();
        self.policies.retain(|own| *own.name != *name);
        self.policies.len() < before
    }

    /// The account's own ledger, of money.
    pub fn ledger(&self) -> &Ledger {
        &self.ledgers.money().ledger
    }

    /// As [`Self::ledger`].
    pub fn ledger_mut(&mut self) -> &mut Ledger {
        &mut self.ledgers.money_mut().ledger
    }

    /// All ledgers by their meters, money first.
    pub fn ledgers(&self) -> impl Iterator<Item = (&[u8], &Ledger)> {
        self.ledgers.iter().map(|entry| (&*entry.meter, &entry.ledger))
    }

    /// The units in each window and the tokens in each bucket, negative in debt, with the policy's name.
    pub fn counts(&mut self, now_ms: i64) -> Vec<(&[u8], i64)> {
        let at_ms = self.time_ms(now_ms);
        self.policies.iter_mut().filter_map(|own| own.count(at_ms)).collect()
    }

    /// Notes in the tallies of the policies which meters a settlement, or an admission that another node has decided, names.
    pub fn note_named(&mut self, now_ms: i64, amounts: &Amounts) {
        for own in &mut self.policies {
            if amounts.of(&own.policy.meter).is_some() {
                own.tally.named_ms = now_ms;
            }
        }
    }

    /// What counts towards the limit of the policy at `index`: the units in a window, those missing in a bucket, the
    /// leases in flight, or the money spent and held. It is above the limit if more was used than estimated.
    pub fn used_of(&mut self, index: usize, now: &Moment) -> Option<Used> {
        let at_ms = self.time_ms(now.stamp.at_ms);
        let own = self.policies.get_mut(index)?;
        match own.policy.kind {
            Kind::Window(_) => own.count(at_ms).map(|(_, units)| Used::Units(units.max(0).unsigned_abs())),
            Kind::Bucket(flow) => {
                let missing = |(_, tokens): (_, i64)| flow.burst.cast_signed().saturating_sub(tokens).max(0);
                own.count(at_ms).map(|count| Used::Units(missing(count).unsigned_abs()))
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

    /// Prefetches one word from each place an admission reads; the loads are independent and overlap. With ten thousand
    /// accounts, most of those places are in no cache.
    pub(super) fn fetch(&self) {
        let policies = self.policies.iter().fold(0, |words, own| words ^ own.fetch());
        let ledgers = self.ledgers.iter().fold(0, |words, entry| words ^ entry.ledger.fetch());
        std::hint::black_box(policies ^ self.live.fetch() ^ ledgers.unsigned_abs());
    }
}
