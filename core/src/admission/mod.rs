//! Admission: all that an account is allowed, decided and charged in one step.
//!
//! An account has policies (windows, buckets, leases in flight, budgets) and one state for all of them. A request is
//! admitted by all policies of all its accounts or by none: [`Account::decide`] asks, [`Account::charge`] takes the
//! estimates, [`Account::settle`] replaces them by what was used. From the charge to the settlement there is an admission,
//! named by its lease id, so that all three are harmless to repeat.
//!
//! A lease id names one attempt: once it has ended in one of a request's accounts, none of them is asked, see
//! [`Undecided::LeaseEnded`].
//!
//! # The life of an admission
//!
//! - An admission is live until it is settled or its lease ends by time. While it is live it counts as one request in
//!   flight, and its estimates of money are held in the ledgers.
//! - A settled admission is remembered for [`SETTLED_KEPT_MS`]: to settle it again changes nothing, and its id is not
//!   admitted again.
//! - A lease that ends by time frees its slot and its money. Windows and buckets keep what it took, since the model was
//!   probably called; policies that say so give it back. It can be settled late for [`EXPIRED_KEPT_MS`]: what was used is
//!   then charged, once.
//! - The last [`FINISHED_MAX`] settled admissions are remembered, and the last [`FINISHED_MAX`] that ended by time.
//! - A change ends a few hundred leases at most, so that no call has to wait for a hundred thousand. Leases that are left
//!   for the next change are not in flight and hold no money; units that they give back are given back then.
//!
//! # Time
//!
//! An account has a clock of its own that follows the server's and never goes back: if the server's steps back, the
//! account's goes on from its last time. So the units taken last count as taken now, which for as long as the step can admit
//! too few, never too many. Calendar days and the holds of a ledger go by the server's clock.
//!
//! Everything depends on the state and the arguments alone, so that a replica that makes the same changes ends with the
//! same value.
//!
//! # Cost
//!
//! O(1) for each policy, O(log n) in the leases, O(n) in the holds of a ledger that an account with money has in flight.

mod account;
mod amounts;
mod bounds;
mod budget;
mod decide;
mod ledgers;
mod life;
mod moment;
mod policy;
mod row;
mod saved;
mod settled;
mod taken;
mod tally;

pub use account::Account;
pub use amounts::Amounts;
pub use bounds::{EXPIRED_KEPT_MS, Exceeded, FINISHED_MAX, LEDGERS_MAX, NAME_BYTES_MAX, POLICIES_MAX, SETTLED_KEPT_MS};
pub use decide::{Decision, Indexes, Question, Request, Rows, Undecided, admit};
pub use life::Reset;
pub use moment::Moment;
pub use policy::{AccountPolicy, Kind, Policy, REQUESTS, ShortName, USD};
pub use row::{Answer, Figures, Row, Soft, Used};
pub use taken::{Admission, Standing};
pub use tally::Tally;

#[cfg(test)]
mod corrupt;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
