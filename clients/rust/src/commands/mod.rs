//! A typed function for each call of the module, over any connection of redis-rs: the low level.
//!
//! Each function makes a [`Request`]: the words to send, how their reply is read, and whether sending them again changes anything.
//! A request is sent over a connection of redis-rs, sync or async, or goes into a pipeline. Nothing here waits, repeats or decides
//! anything by itself.
//!
//! ```no_run
//! use redis_gateway_client::Amount;
//! use redis_gateway_client::commands::{AdmitOptions, Rows, admit};
//!
//! let client = redis::Client::open("redis://127.0.0.1/")?;
//! let mut connection = client.get_connection()?;
//! let admission = admit(
//!     &["user:42", "team:ml"],
//!     "lease-1",
//!     30_000,
//!     &AdmitOptions {
//!         amounts: [("usd".into(), Amount::try_from(0.02)?)].into(),
//!         rows: Some(Rows::Refused),
//!         ..Default::default()
//!     },
//! )
//! .query(&mut connection)?;
//! if !admission.admitted {
//!     println!("wait {} ms: {:?}", admission.retry_after_ms, admission.rows);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Keys, names and ids may be any bytes: they are given as `&str`, `&[u8]` or the like, and come back as [`Text`]. What a call must
//! have goes by position; what it may have is in a struct of options, of which `&Default::default()` leaves everything out.
//! Durations are in milliseconds and times in unix milliseconds, by the server's clock, as their names say.

mod options;
mod replies;
mod request;
mod requests;
mod table;
mod types;
mod wire;

use std::collections::BTreeMap;

pub use options::*;
pub use request::Request;
pub use requests::*;
pub use types::*;

pub use crate::amount::Amount;
pub use crate::text::Text;

/// Amounts by meter. They are sent in the order of their names, so that equal calls have equal words.
pub type Amounts = BTreeMap<Text, Amount>;

/// A count of whole units, or an exact decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Whole units.
    Whole(i64),
    /// A decimal: of budgets and `DECIMAL` policies.
    Decimal(Amount),
}

/// The most that may be spent in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The most. Range: 0 to 10^18.
    pub amount: Amount,
    /// The calendar period, or the total.
    pub period: Period,
}

/// A ledger with the version up to which it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyVersion {
    /// The ledger's key.
    pub key: Text,
    /// The version of the change.
    pub version: i64,
}

/// What is known of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandInfo {
    /// Its name, such as `GW.ADMIT`.
    pub name: &'static str,
    /// limits, slots, budgets, log, cache, admission or node.
    pub family: &'static str,
    /// Whether its first argument is a key, by which a cluster's node is found.
    pub has_key: bool,
    /// Whether it changes nothing, so that replicas answer it.
    pub only_reads: bool,
    /// Whether it may wait in the server, with BLOCK or WAIT.
    pub may_wait: bool,
    /// Whether it is refused while the memory is full.
    pub grows_memory: bool,
}

/// All commands of the module, by name.
pub fn all_commands() -> &'static [CommandInfo] {
    table::TABLE
}
