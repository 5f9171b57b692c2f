//! The ledger: what an account spent, by civil day, by month and in total, exact to the last digit.
//!
//! The ledger knows days, not time zones: the node that first charges an amount decides its day, and the day travels with
//! the charge. So a ledger is the same wherever it is replayed.
//!
//! # What is kept
//!
//! A ledger keeps a number of charged days and charged months, however far apart they are; the total counts for ever. A
//! charged day is always in the ledger afterwards, and so is its month. If that makes one too many, the oldest one goes
//! that is further from the day just charged than a quarter of the number kept: with 62 days kept, more than 15 days. Hence:
//!
//! - Charges to the past replace the oldest days, about half of all days at most. The newer half is only dropped for days
//!   that are newer still.
//! - Days far in the future, charged while a clock was wrong, take a place each, and keep it. Even if they have taken all
//!   places, a day stays as long as charges come for days near it, within a quarter of the number kept. So the current
//!   day, week and month have all that was charged to them; only older days are lost.
//!
//! Days are lost if a wrong clock charges half as many wrong days as are kept, or more. Their months still have those
//! amounts, and nothing is ever missing in the total. A day or month that was dropped and is charged again begins at zero.
//!
//! # Holds and ids
//!
//! A hold sets a part of the budget aside until it is committed (charged), cancelled, or expires. It counts in the
//! periods of the day it was made on, and is charged to that day, however late. What became of a hold, and which charges
//! were made under an id, is remembered for some time, so that each is charged once: for the last [`IDS_MAX`] ids. All of
//! it follows from the times passed in; nothing happens between calls. If the clock steps back, time
//! stands still for holds and ids until a change moves their ends back with the clock. Whoever sees that a ledger
//! [is ahead of the clock](Ledger::is_ahead_of) makes such a change with [`Ledger::forget`]: the time that a
//! hold has left is then what it had at the ledger's last change.
//!
//! # The feed
//!
//! Each change of the spend has a version, larger than all before it, and each day and month kept is marked when it
//! changes. A reader that has stored what was marked acknowledges the version it read; see [`feed`].
//!
//! # Credits
//!
//! A credit is a one-off allowance for one calendar period: every budget over that period is the budget plus the period's
//! credit. It belongs to the ledger, not to a budget. Credited days and months are kept as charged ones are, weeks as days.
//!
//! # Cost
//!
//! Charging the newest day, or asking about it, its week or its month, is O(1) and allocates nothing. Other days and
//! months are found by binary search. A new day copies the days kept: at most [`KEEP_DAYS_MAX`], once a day. Holds are
//! summed up by day; finding one hold searches all of them, [`HOLDS_MAX`] in some tens of microseconds.

mod credits;
mod done;
pub mod feed;
mod holds;
mod listing;
mod series;
mod stamp;
mod state;
mod value;

pub use credits::CreditError;
pub use done::IDS_MAX;
pub use holds::{HOLDS_MAX, ID_BYTES_MAX};
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
mod tests;
