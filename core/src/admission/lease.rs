//! Admissions under way, and what is remembered of those that have ended.

use smallvec::SmallVec;

use crate::calendar::Day;
use crate::codec::{Corrupt, Reader, Writer};
use crate::lease::Load;
use crate::memory::spilled_bytes;
use crate::money::Amount;
use crate::recent::{self, Recent, fingerprint};
use crate::{TIME_MAX_MS, UNITS_MAX};

use super::{FINISHED_MAX, LEDGERS_MAX, POLICIES_MAX};

/// What a lease id stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Never admitted, or forgotten.
    Unknown,
    Live,
    /// Ended by time, and not settled.
    Expired,
    Settled,
}

/// Units taken of a window or bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// Of the policy; one that has forgotten its count has another.
    pub serial: u64,
    pub units: u64,
    /// When, by the window's ticks.
    pub at_ms: i64,
}

/// What an admission took. As much as most take lies in here, and needs no places of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The day that its money is charged to.
    pub(super) day: Day,
    pub(super) taken: SmallVec<[Taken; 2]>,
    /// What is held in each ledger, in their order, up to the last in which there is something.
    pub(super) estimates: SmallVec<[Amount; 1]>,
}

impl Load for Admission {
    fn save(&self, out: &mut dyn Writer) {
        out.int(self.day.number().into());
        out.uint(self.taken.len() as u64);
        for taken in &self.taken {
            out.uint(taken.serial);
            out.uint(taken.units);
            out.int(taken.at_ms);
        }
        out.uint(self.estimates.len() as u64);
        self.estimates.iter().for_each(|estimate| out.int128(estimate.picos()));
    }

    fn load(from: &mut dyn Reader) -> Result<Self, Corrupt> {
        let day = i32::try_from(from.int()?).ok().and_then(Day::from_number);
        let mut taken = SmallVec::new();
        for _ in 0..from.uint_max(POLICIES_MAX as u64, "an admission by more policies than there are")? {
            let (serial, units) = (from.uint()?, from.uint_max(UNITS_MAX + 1, "units")?);
            let at_ms = from.int()?;
            if !(-TIME_MAX_MS..=TIME_MAX_MS).contains(&at_ms) {
                return Err(Corrupt("units taken out of time"));
            }
            taken.push(Taken { serial, units, at_ms });
        }
        let mut estimates = SmallVec::new();
        for _ in 0..from.uint_max(1 + LEDGERS_MAX as u64, "estimates of more meters than there are")? {
            let estimate = Amount::from_picos(from.int128()?).filter(|&estimate| estimate >= Amount::ZERO);
            estimates.push(estimate.ok_or(Corrupt("an estimate out of range"))?);
        }
        let day = day.ok_or(Corrupt("a day outside the calendar"))?;
        Ok(Self { day, taken, estimates })
    }

    fn memory_bytes(&self) -> usize {
        spilled_bytes(&self.taken) + spilled_bytes(&self.estimates)
    }
}

/// An admission that was settled.
#[derive(Debug, Clone, Copy)]
struct Record {
    fingerprint: u64,
    until_ms: i64,
}

impl recent::Record for Record {
    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    fn until_ms(&self) -> i64 {
        self.until_ms
    }
}

/// Admissions that were settled: 16 bytes each, and about 8 to find them by.
#[derive(Debug, Clone, Default)]
pub(super) struct Settled(Recent<Record>);

impl Settled {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn contains(&self, at_ms: i64, id: &[u8]) -> bool {
        !self.0.is_empty() && self.0.get(fingerprint(id)).is_some_and(|record| record.until_ms > at_ms)
    }

    pub fn put(&mut self, id: &[u8], until_ms: i64) {
        self.0.put(Record { fingerprint: fingerprint(id), until_ms }, FINISHED_MAX);
    }

    /// Forgets those whose time has come, `count` at most.
    pub fn forget(&mut self, at_ms: i64, count: usize) {
        self.0.forget(at_ms, count);
    }

    pub fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }

    pub fn save(&self, out: &mut dyn Writer) {
        out.uint(self.0.len() as u64);
        for record in self.0.iter() {
            out.uint(record.fingerprint);
            out.int(record.until_ms);
        }
    }

    pub fn load(from: &mut dyn Reader) -> Result<Self, Corrupt> {
        let mut settled = Recent::default();
        for _ in 0..from.uint_max(FINISHED_MAX as u64, "more ended leases than an account remembers")? {
            let record = Record { fingerprint: from.uint()?, until_ms: from.time_ms("a settled lease's time")? };
            if settled.get(record.fingerprint).is_some() {
                return Err(Corrupt("a settled lease twice"));
            }
            settled.put(record, FINISHED_MAX);
        }
        Ok(Self(settled))
    }
}
