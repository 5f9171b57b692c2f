//! When a change is made.

use crate::calendar::Day;
use crate::ledger::Stamp;

/// When a change is made, and what goes with it. The same on replicas.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The day that budgets count it on.
    pub day: Day,
    /// The time, and what the ledgers need for the change.
    pub stamp: Stamp,
}
