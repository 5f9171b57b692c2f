//! The amounts that a request names.

use super::policy::REQUESTS;
use crate::UNITS_MAX;
use crate::money::Amount;

/// The amounts of a request by their meters, each at most once.
#[derive(Debug, Clone, Copy)]
pub struct Amounts<'a>(pub &'a [(&'a [u8], Amount)]);

impl Amounts<'_> {
    /// The amount of a meter, if the request names it.
    pub fn of(&self, meter: &[u8]) -> Option<Amount> {
        self.0.iter().find(|(name, _)| *name == meter).map(|&(_, amount)| amount)
    }

    /// As [`Self::of`], for an admission: it counts as one request unless it says how many.
    pub(super) fn estimate(&self, meter: &[u8]) -> Option<Amount> {
        self.of(meter).or((meter == REQUESTS).then_some(Amount::ONE))
    }

    /// The amount of a meter in whole units, rounded up.
    pub(super) fn units(&self, meter: &[u8]) -> Option<u64> {
        self.of(meter).map(whole_units)
    }

    /// [`Self::estimate`] in whole units, rounded up.
    pub(super) fn estimated_units(&self, meter: &[u8]) -> Option<u64> {
        self.estimate(meter).map(whole_units)
    }
}

/// Rounded up, 0 if negative, and at most one more than any limit allows.
fn whole_units(amount: Amount) -> u64 {
    const PICOS_PER_UNIT: u64 = Amount::ONE.picos() as u64;
    match u64::try_from(amount.picos()) {
        // A 128-bit division costs many times a 64-bit one.
        Ok(picos) => picos.div_ceil(PICOS_PER_UNIT),
        Err(_) if amount < Amount::ZERO => 0,
        Err(_) => {
            let units = amount.picos().unsigned_abs().div_ceil(PICOS_PER_UNIT.into());
            u64::try_from(units).unwrap_or(u64::MAX).min(UNITS_MAX + 1)
        }
    }
}
