//! The time of a change.

use crate::calendar::Day;
use crate::ledger::{KEEP_DAYS_MIN, Stamp};

/// The time of a change, and what else the change needs. Replicas get the same moment.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The day on which budgets count the change.
    pub day: Day,
    /// The time, and what ledgers need for the change.
    pub stamp: Stamp,
}

impl Moment {
    /// A moment for changes that depend on the time alone.
    pub fn time_only(at_ms: i64) -> Self {
        let stamp = Stamp { at_ms, keep_days: KEEP_DAYS_MIN, remember_ms: 0, version: 0 };
        Self { day: Day::MIN, stamp }
    }
}
