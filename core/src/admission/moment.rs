//! When a change is made.

use crate::calendar::Day;
use crate::ledger::{KEEP_DAYS_MIN, Stamp};

/// When a change is made, and what goes with it. The same on replicas.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The day that budgets count it on.
    pub day: Day,
    /// The time, and what the ledgers need for the change.
    pub stamp: Stamp,
}

impl Moment {
    /// A moment for changes that depend on the time alone.
    pub fn time_only(at_ms: i64) -> Self {
        let stamp = Stamp { at_ms, keep_days: KEEP_DAYS_MIN, remember_ms: 0, version: 0 };
        Self { day: Day::MIN, stamp }
    }
}
