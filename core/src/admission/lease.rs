//! Admissions under way, and what is remembered of those that have ended.

use crate::calendar::Day;
use crate::codec::{Corrupt, Reader, Writer};
use crate::lease::Load;
use crate::memory::allocated_bytes;
use crate::money::Amount;
use crate::{TIME_MAX_MS, UNITS_MAX};

use super::{LEDGERS_MAX, POLICIES_MAX};

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

/// What an admission took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The day that its money is charged to.
    pub(super) day: Day,
    pub(super) taken: Box<[Taken]>,
    /// What is held in each ledger, in their order, up to the last in which there is something.
    pub(super) estimates: Box<[Amount]>,
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
        let mut taken = Vec::new();
        for _ in 0..from.uint_max(POLICIES_MAX as u64, "an admission by more policies than there are")? {
            let (serial, units) = (from.uint()?, from.uint_max(UNITS_MAX + 1, "units")?);
            let at_ms = from.int()?;
            if !(-TIME_MAX_MS..=TIME_MAX_MS).contains(&at_ms) {
                return Err(Corrupt("units taken out of time"));
            }
            taken.push(Taken { serial, units, at_ms });
        }
        let mut estimates = Vec::new();
        for _ in 0..from.uint_max(1 + LEDGERS_MAX as u64, "estimates of more meters than there are")? {
            let estimate = Amount::from_picos(from.int128()?).filter(|&estimate| estimate >= Amount::ZERO);
            estimates.push(estimate.ok_or(Corrupt("an estimate out of range"))?);
        }
        let day = day.ok_or(Corrupt("a day outside the calendar"))?;
        Ok(Self { day, taken: taken.into(), estimates: estimates.into() })
    }

    fn memory_bytes(&self) -> usize {
        allocated_bytes(size_of_val(&*self.taken)) + allocated_bytes(size_of_val(&*self.estimates))
    }
}
