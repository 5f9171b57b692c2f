//! The account in memory and as it is saved.

use super::lease::{Admission, Settled};
use super::policy::Held;
use super::purse::Purses;
use super::{Account, FINISHED_MAX, POLICIES_MAX};
use crate::codec::{Corrupt, Reader, Writer};
use crate::lease::LeasesWith;
use crate::memory::spilled_bytes;
use crate::stored::Stored;

impl Stored for Account {
    const ENCODING: u32 = 0;

    fn memory_bytes(&self) -> usize {
        let list = spilled_bytes(&self.policies);
        let policies: usize = self.policies.iter().map(Held::memory_bytes).sum();
        list + policies
            + self.purses.memory_bytes()
            + self.live.memory_bytes()
            + self.expired.memory_bytes()
            + self.settled.memory_bytes()
    }

    fn allocations(&self) -> usize {
        let leases = self.live.allocations() + self.expired.allocations() + 2;
        1 + 3 * self.policies.len() + self.purses.allocations() + leases
    }

    fn save(&self, out: &mut dyn Writer) {
        [self.ahead_ms, self.at_ms].into_iter().for_each(|time_ms| out.int(time_ms));
        out.uint(self.last_serial);
        out.uint(self.policies.len() as u64);
        self.policies.iter().for_each(|held| held.save(out));
        self.purses.save(out);
        self.live.save(out);
        self.expired.save(out);
        self.settled.save(out);
    }

    fn load(from: &mut dyn Reader, _encoding: u32) -> Result<Self, Corrupt> {
        let (ahead_ms, at_ms) = (from.time_ms("a clock ahead")?, from.time_ms("time")?);
        let last_serial = from.uint_max(u64::MAX >> 1, "serial")?;
        let mut account = Self { ahead_ms, at_ms, last_serial, ..Self::default() };
        for _ in 0..from.uint_max(POLICIES_MAX as u64, "more policies than an account has")? {
            let held = Held::load(from)?;
            let twice = |other: &Held| other.name == held.name || other.serial == held.serial;
            if held.serial > last_serial || account.policies.iter().any(twice) {
                return Err(Corrupt("a policy twice, or of the future"));
            }
            account.policies.push(held);
        }
        account.purses = Purses::load(from)?;
        account.live = LeasesWith::load(from, LeasesWith::<Admission>::ENCODING)?;
        account.expired = LeasesWith::load(from, LeasesWith::<Admission>::ENCODING)?;
        account.settled = Settled::load(from)?;
        if account.expired.len() > FINISHED_MAX {
            return Err(Corrupt("more ended leases than an account remembers"));
        }
        Ok(account)
    }
}
