//! What the ids of holds and charges stand for.

use crate::calendar::Day;
use crate::money::Amount;

/// What an id stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdState {
    /// A hold that has not ended.
    Open {
        /// The day on which it was made.
        day: Day,
        /// The amount set aside.
        estimate: Amount,
        /// Milliseconds until it expires.
        left_ms: i64,
    },
    /// A hold that expired and can still be committed.
    Expired {
        /// The day on which it was made.
        day: Day,
        /// The amount that was set aside.
        estimate: Amount,
    },
    /// A hold that was cancelled.
    Cancelled {
        /// The day on which it was made.
        day: Day,
    },
    /// A hold that was charged.
    Committed {
        /// The day on which it was made, and to which it was charged.
        day: Day,
        /// The amount charged.
        charged: Amount,
        /// Whether that was more than the estimate.
        over: bool,
    },
    /// A charge without a hold.
    Charged {
        /// The day it was charged to.
        day: Day,
        /// The amount.
        amount: Amount,
    },
    /// A credit.
    Credited {
        /// A day of the period that it was given for.
        day: Day,
        /// The period's credit right after it.
        credit: Amount,
    },
}
