use super::types::Period;
use crate::amount::Amount;

/// The most that may be spent in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The most. Range: 0 to 10^18.
    pub amount: Amount,
    /// The calendar period, or the total.
    pub period: Period,
}
