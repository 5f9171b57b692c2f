//! The ledger: what a key spent, by civil day, by month and in total, exact to the last digit.
//!
//! The ledger knows days, not time zones: the node that first charges an amount decides its day, and the day travels
//! with the charge. So replaying a charge gives the same ledger on every node.
//!
//! # What is kept
//!
//! A ledger keeps a number of charged days and charged months, however far apart they are; the total is kept for ever.
//! After a charge, its day and its month are always kept. If there is then one too many, a day is dropped: the oldest
//! of those that are further from the day just charged than a quarter of the number kept (with 62 days, more than 15
//! days). Months are dropped in the same way. Hence:
//!
//! - Charges to the past replace the oldest days, at most about half of all days. The newer half is dropped only for
//!   even newer days.
//! - Days far in the future, charged while a clock was wrong, occupy a place each, and keep it. Even if they occupy all
//!   places, a day stays as long as there are charges near it, within a quarter of the number kept. So the current day,
//!   week and month have everything that was charged to them; only older days are lost.
//!
//! Days are lost if a wrong clock charges at least half as many wrong days as are kept. Their months still have those
//! amounts, and the total always has everything. A day or month that was dropped and is charged again begins at zero.
//!
//! # Holds and ids
//!
//! A hold sets a part of the budget aside until it is committed (charged), cancelled, or expires. It counts in the
//! periods of the day on which it was made, and is charged to that day, however late. The outcomes of holds, and the
//! ids of charges, are remembered for some time, so that each is charged once: the last [`IDS_MAX`] ids. Everything
//! follows from the times passed in; nothing happens between calls. If the clock steps back, no time passes for holds
//! and ids until a change moves their ends back with the clock. A caller that finds a ledger [ahead of the
//! clock](Ledger::is_ahead_of) makes such a change with [`Ledger::forget`]: a hold then has the time left that it had
//! at the ledger's last change.
//!
//! # The feed
//!
//! Each change of the spend has a version, larger than all before it, and marks the day and month that it changes. A
//! reader that has stored what was marked acknowledges the version that it read; see [`feed`].
//!
//! # Credits
//!
//! A credit is a one-off allowance for one calendar period: every budget over that period is the budget plus the
//! period's credit. It belongs to the ledger, not to a budget. Credited days and months are kept like charged ones,
//! weeks like days.
//!
//! # Restoration
//!
//! A ledger that was lost is made again of the rows that a reader has stored, by [`Ledger::restore`].
//!
//! # Cost
//!
//! Charging the newest day, or reading it, its week or its month, is O(1) and allocates nothing. Other days and months
//! are found by binary search. A new day copies the days kept: at most [`KEEP_DAYS_MAX`], once a day. Holds are summed
//! up by day, and found, added and ended in O(log n) of their number.

mod credits;
mod done;
pub mod feed;
mod hold;
mod holds;
mod listing;
mod open;
mod restore;
mod series;
mod stamp;
mod state;
mod value;

pub use credits::{CreditError, KEEP_WEEKS};
pub use done::IDS_MAX;
pub use hold::ID_BYTES_MAX;
pub use holds::HOLDS_MAX;
pub use restore::{Row, RowKind, RowsError, Sums};
pub use series::{KEEP_DAYS_MAX, KEEP_DAYS_MIN, KEEP_MONTHS};
pub use stamp::{Overflow, Stamp};
pub use state::IdState;
pub use value::{BudgetCheck, Ledger, Totals};

#[cfg(test)]
mod clock_tests;
#[cfg(test)]
mod credit_tests;
#[cfg(test)]
mod model;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod restore_tests;
#[cfg(test)]
mod tests;
