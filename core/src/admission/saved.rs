//! The account as it is stored.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use super::account::Account;
use super::bounds::{EXPIRED_KEPT_MS, POLICIES_MAX, SETTLED_KEPT_MS};
use super::idle::Idle;
use super::ledgers::Ledgers;
use super::policy::{AccountPolicy, Kind};
use super::taken::Admission;
use super::target::Target;
use crate::PERIOD_MAX_MS;
use crate::codec::{Corrupt, Reader, Writer};
use crate::memory::{allocated_bytes, spilled_bytes};
use crate::stored::{Stored, load_nested, save_nested};

impl Stored for Account {
    const ENCODING: u32 = 4;
    const ENCODING_MIN: u32 = 4;

    fn save(&self, out: &mut dyn Writer) {
        [self.ahead_ms, self.at_ms].into_iter().for_each(|time_ms| out.int(time_ms));
        out.uint(self.last_serial);
        Idle::save(self.idle.as_deref(), out);
        out.uint(self.target.is_some().into());
        self.target.iter().for_each(|target| save_nested(&**target, out));
        out.uint(self.policies.len() as u64);
        self.policies.iter().for_each(|own| own.save(out));
        self.ledgers.save(out);
        save_nested(&self.live, out);
        save_nested(&self.expired, out);
        save_nested(&self.settled, out);
    }

    fn load(from: &mut dyn Reader, _encoding: u32) -> Result<Self, Corrupt> {
        let (ahead_ms, at_ms) = (from.time_ms("a clock ahead")?, from.time_ms("time")?);
        let last_serial = from.uint_max(u64::MAX >> 1, "serial")?;
        let mut account =
            Self { ahead_ms, at_ms, last_serial, idle: Idle::load(from)?.map(Box::new), ..Self::default() };
        if from.uint_max(1, "neither a target nor none")? == 1 {
            account.target = Some(Box::new(load_nested(from)?));
        }
        for _ in 0..from.uint_max(POLICIES_MAX as u64, "more policies than an account has")? {
            let own = AccountPolicy::load(from)?;
            let twice = |other: &AccountPolicy| other.name == own.name || other.serial == own.serial;
            if own.serial > last_serial || account.policies.iter().any(twice) {
                return Err(Corrupt("a policy twice, or of the future"));
            }
            account.policies.push(own);
        }
        account.ledgers = Ledgers::load(from)?;
        account.live = load_nested(from)?;
        account.expired = load_nested(from)?;
        account.settled = load_nested(from)?;
        account.check()?;
        Ok(account)
    }

    fn memory_bytes(&self) -> usize {
        let list = spilled_bytes(&self.policies);
        let policies: usize = self.policies.iter().map(AccountPolicy::memory_bytes).sum();
        let target = self.target.as_ref().map_or(0, |_| allocated_bytes(size_of::<Target>()));
        let idle = self.idle.as_ref().map_or(0, |_| allocated_bytes(size_of::<Idle>()));
        list + policies
            + target
            + idle
            + self.ledgers.memory_bytes()
            + self.live.memory_bytes()
            + self.expired.memory_bytes()
            + self.settled.memory_bytes()
    }

    fn allocations(&self) -> usize {
        let leases = self.live.allocations() + self.expired.allocations() + 2;
        1 + 3 * self.policies.len() + self.ledgers.allocations() + leases
    }
}

impl Account {
    /// Checks that the account's parts agree. Each of these contradictions would admit requests that should be refused.
    fn check(&self) -> Result<(), Corrupt> {
        let is_undecidable = |own: &AccountPolicy| {
            matches!(own.policy.kind, Kind::Budget { .. }) && self.ledgers.meter(&own.policy.meter).is_none()
        };
        if self.policies.iter().any(is_undecidable) {
            return Err(Corrupt("a budget without a ledger for its meter"));
        }
        // Leases count down from the time of their last change; a time in the future would end all of them.
        if self.live.changed_at_ms() > self.at_ms {
            return Err(Corrupt("leases that changed after their account"));
        }
        let forgotten_by_ms = |kept_ms| self.at_ms.saturating_add_unsigned(kept_ms);
        if self.expired.until_ms() > forgotten_by_ms(EXPIRED_KEPT_MS)
            || self.settled.until_ms() > forgotten_by_ms(SETTLED_KEPT_MS)
        {
            return Err(Corrupt("an ended lease that is remembered for too long"));
        }
        let opens = self.policies.iter().filter_map(AccountPolicy::open_until_ms);
        let mut refusals = opens.chain(self.target.iter().map(|target| target.cooldown_until_ms));
        if refusals.any(|until_ms| until_ms > self.at_ms.saturating_add_unsigned(PERIOD_MAX_MS)) {
            return Err(Corrupt("a breaker or a cooldown that refuses for too long"));
        }
        self.live.iter().try_for_each(|lease| self.check_admission(&lease.payload))?;
        self.expired.iter().try_for_each(|admission| self.check_admission(&admission))
    }

    fn check_admission(&self, admission: &Admission) -> Result<(), Corrupt> {
        if admission.estimates.len() > self.ledgers.len() {
            return Err(Corrupt("an estimate without a ledger for its meter"));
        }
        if admission.taken.iter().any(|taken| taken.serial > self.last_serial) {
            return Err(Corrupt("units taken from a policy of the future"));
        }
        Ok(())
    }
}
