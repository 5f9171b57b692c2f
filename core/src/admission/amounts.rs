//! The amounts named by a request.

use crate::UNITS_MAX;
use crate::money::Amount;

/// The default meter of windows and buckets. Each admission is one request.
pub const REQUESTS: &[u8] = b"requests";

/// The default meter of budgets, and the meter of the account's own ledger.
pub const USD: &[u8] = b"usd";

/// The amounts of a request by meter, each meter at most once.
#[derive(Debug, Clone, Copy)]
pub struct Amounts<'a>(pub &'a [(&'a [u8], Amount)]);

impl Amounts<'_> {
    /// The amount of a meter, if the request names it.
    pub fn of(&self, meter: &[u8]) -> Option<Amount> {
        self.0.iter().find(|(name, _)| *name == meter).map(|&(_, amount)| amount)
    }

    /// Like [`Self::of`], for an admission: it counts as one request unless it names a number of requests.
    pub(super) fn estimate(&self, meter: &[u8]) -> Option<Amount> {
        self.of(meter).or((meter == REQUESTS).then_some(Amount::ONE))
    }
}

const PICOS_PER_UNIT: u64 = Amount::ONE.picos() as u64;
const PICOS_PER_BILLIONTH: u64 = PICOS_PER_UNIT / 1_000_000_000;

/// An amount in whole units, rounded up: 0 if it is negative, and at most one more than any limit allows.
pub(super) fn whole_units(amount: Amount) -> u64 {
    counted::<PICOS_PER_UNIT>(amount)
}

/// An amount in billionths, limited like [`whole_units`].
pub(super) fn billionths(amount: Amount) -> u64 {
    counted::<PICOS_PER_BILLIONTH>(amount)
}

/// The billionths that a negative amount gives back. Amounts are always rounded up, so a fraction of one is not given
/// back.
pub(super) fn billionths_given_back(amount: Amount) -> u64 {
    match amount.picos() {
        0.. => 0,
        picos => {
            let billionths = picos.unsigned_abs() / u128::from(PICOS_PER_BILLIONTH);
            u64::try_from(billionths).unwrap_or(u64::MAX).min(UNITS_MAX + 1)
        }
    }
}

fn counted<const PICOS: u64>(amount: Amount) -> u64 {
    let counted = match u64::try_from(amount.picos()) {
        // A 128-bit division costs many times as much as a 64-bit one.
        Ok(picos) => picos.div_ceil(PICOS),
        Err(_) if amount < Amount::ZERO => 0,
        Err(_) => u64::try_from(amount.picos().unsigned_abs().div_ceil(PICOS.into())).unwrap_or(u64::MAX),
    };
    counted.min(UNITS_MAX + 1)
}
