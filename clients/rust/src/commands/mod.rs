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

mod budget;
mod info;
mod options;
mod replies;
mod request;
mod requests;
mod table;
mod types;
mod values;
mod wire;

pub use budget::Budget;
pub use info::CommandInfo;
pub use options::*;
pub use request::Request;
pub use requests::*;
pub use types::*;
pub use values::{Amounts, KeyVersion, Quantity};

pub use crate::amount::Amount;
pub use crate::text::Text;

/// All commands of the module, by name.
pub fn all_commands() -> &'static [CommandInfo] {
    table::TABLE
}
