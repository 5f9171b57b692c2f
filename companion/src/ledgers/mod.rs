//! The database of ledgers: what every account has spent in each period, and the credits that it was given. PostgreSQL or
//! SQLite, behind one interface.

mod address;
mod database;
mod ledger;
mod name;
mod plan;
mod postgresql;
mod sqlite;

use anyhow::Result;

pub use address::Address;
pub use database::{Database, Spent};
pub use ledger::{Ledger, Row, Version, word_of};
pub use name::{key_of, name_of};

/// Opens a database, and makes the tables or brings them up to date.
///
/// # Errors
/// If it cannot be reached, or was made by a newer program.
pub fn open(address: &Address) -> Result<Box<dyn Database>> {
    Ok(match address {
        Address::Postgresql(address) => Box::new(postgresql::Postgresql::open(address)?),
        Address::Sqlite(path) => Box::new(sqlite::Sqlite::open(path)?),
    })
}
