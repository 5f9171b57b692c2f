//! Admission: all policies of an account, decided and charged in one step.
//!
//! An account has policies (windows, buckets, leases in flight, budgets, blocks, breakers) and one state for all of them. A
//! request is admitted by all policies of all its accounts or by none: [`Account::decide`] asks, [`Account::charge`]
//! takes the estimates, [`Account::settle`] replaces them by what was used. Between charge and settlement there is an
//! admission, named by its lease id, so that all three can be repeated without harm.
//!
//! A lease id names one attempt: once it has ended in one of a request's accounts, the request is not decided, see
//! [`Undecided::LeaseEnded`].
//!
//! [`route`] is for accounts that can serve a request in place of each other: it picks one of them, and charges that one
//! alone.
//!
//! # The life of an admission
//!
//! - An admission is live until it is settled or its lease ends by time. While it is live, it counts as one request in
//!   flight, and its estimates of money are held in the ledgers.
//! - A settled admission is remembered for [`SETTLED_KEPT_MS`]: settling it again changes nothing, and its id is not
//!   admitted again.
//! - A lease that ends by time frees its slot and its money. Windows and buckets keep what it took, since the model was
//!   probably called; policies with `GIVEBACK` give it back. It can be settled late for [`EXPIRED_KEPT_MS`]: what was
//!   used is then charged, once.
//! - The last [`FINISHED_MAX`] settled admissions are remembered, and the last [`FINISHED_MAX`] that ended by time.
//! - A change ends a few hundred leases at most, so that no call has to wait for a hundred thousand. Leases that are
//!   left for the next change are not in flight and hold no money; their units are given back only by that change.
//!
//! # Time
//!
//! An account has a clock of its own that follows the server's and never goes back: if the server's steps back, the
//! account's goes on from its last time. The units taken last then count as taken now. For a time as long as
//! the step, this can admit too few requests, never too many. Calendar days and the holds of a ledger use the server's
//! clock.
//!
//! Everything depends only on the state and the arguments, so that a replica that makes the same changes has the same
//! value.
//!
//! # Cost
//!
//! O(1) for each policy, O(log n) in the leases. For an account with money, also O(n) in the holds of a ledger.

mod account;
mod amounts;
mod bounds;
mod budget;
mod decide;
pub mod document;
mod expired;
pub mod form;
mod idle;
mod ledgers;
mod life;
mod mistake_texts;
mod moment;
mod name;
mod packed;
mod policy;
mod route;
mod row;
mod saved;
mod settled;
mod taken;
mod tally;
mod target;

pub use account::Account;
pub use amounts::{Amounts, REQUESTS, USD};
pub use bounds::{
    BILLIONTHS_MAX, EXPIRED_KEPT_MS, Exceeded, FINISHED_MAX, LEDGERS_MAX, NAME_BYTES_MAX, POLICIES_MAX, SETTLED_KEPT_MS,
};
pub use decide::{Decision, Indexes, Question, Request, Rows, Told, Undecided, admit};
pub use life::{Reset, Settlement};
pub use moment::Moment;
pub use name::ShortName;
pub use policy::{AccountPolicy, Kind, Policy};
pub use route::{Noted, Pick, Route, TARGETS_MAX, route};
pub use row::{Answer, Count, Figures, OBSTACLES, Row, Soft, Used};
pub use taken::{Admission, Standing};
pub use tally::Tally;
pub use target::Report;

#[cfg(test)]
mod corrupt;
#[cfg(test)]
mod document_tests;
#[cfg(test)]
mod model;
#[cfg(test)]
mod soft_tests;
#[cfg(test)]
mod tests;
