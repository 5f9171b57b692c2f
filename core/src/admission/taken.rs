//! Admissions under way, and those whose leases ended by time.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use smallvec::SmallVec;

use crate::calendar::Day;
use crate::codec::{Corrupt, Reader, Writer};
use crate::memory::spilled_bytes;
use crate::money::Amount;
use crate::stored::Stored;
use crate::{TIME_MAX_MS, UNITS_MAX};

use super::bounds::{LEDGERS_MAX, POLICIES_MAX};

/// What a lease id stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The id was never admitted, or was forgotten.
    Unknown,
    /// It is admitted, and its lease has not ended.
    Live,
    /// Its lease ended by time, and it was not settled.
    Expired,
    /// It was settled, and that is still remembered.
    Settled,
}

/// Units taken from a window or bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// The policy's serial when they were taken. A policy that has forgotten its count has a new one.
    pub serial: u64,
    pub units: u64,
    /// The time under which the window keeps them, see [`Window::tick_at_ms`](crate::window::Window::tick_at_ms).
    pub at_ms: i64,
}

/// What an admission took. For most admissions all of it lies in the struct, without allocations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The day to which its money is charged.
    pub(super) day: Day,
    pub(super) taken: SmallVec<[Taken; 2]>,
    /// The estimate held in each ledger, in the ledgers' order, up to the last that holds one.
    pub(super) estimates: SmallVec<[Amount; 1]>,
}

impl Stored for Admission {
    const ENCODING: u32 = 0;

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

    fn load(from: &mut dyn Reader, _encoding: u32) -> Result<Self, Corrupt> {
        let day = i32::try_from(from.int()?).ok().and_then(Day::from_number);
        let mut taken: SmallVec<[Taken; 2]> = SmallVec::new();
        for _ in 0..from.uint_max(POLICIES_MAX as u64, "an admission by more policies than there are")? {
            let (serial, units) = (from.uint()?, from.uint_max(UNITS_MAX + 1, "units")?);
            let at_ms = from.int()?;
            if !(-TIME_MAX_MS..=TIME_MAX_MS).contains(&at_ms) {
                return Err(Corrupt("units taken out of time"));
            }
            if taken.iter().any(|other: &Taken| other.serial == serial) {
                return Err(Corrupt("units taken from a policy twice"));
            }
            taken.push(Taken { serial, units, at_ms });
        }
        let mut estimates = SmallVec::new();
        for _ in 0..from.uint_max(LEDGERS_MAX as u64, "estimates of more meters than there are")? {
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
