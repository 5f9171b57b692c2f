//! What the companion asks of a database of ledgers.

use anyhow::Result;
use jiff::civil::Date;
use redis_gateway_client::Amount;

use super::ledger::{Ledger, Version};

pub trait Database: Send {
    /// Whether this process is the one that writes: only one does at a time, and keeps it until it ends or loses its
    /// connection. Others ask again.
    fn lead(&mut self) -> Result<bool>;

    /// Up to `count` accounts in the order of their names, after the one named, with the versions of their ledgers.
    fn versions(&mut self, after: Option<&str>, count: usize) -> Result<Vec<Version>>;

    /// Stores all ledgers or none. It can be repeated at any time: amounts are whole sums, and ledgers older than what the
    /// database has are left out. Returns those accounts, with the version that the database has.
    fn store(&mut self, ledgers: &[Ledger]) -> Result<Vec<Version>>;

    /// Everything that the database has of these accounts, apart from weeks of spend, which are sums of days.
    fn read(&mut self, accounts: &[Version]) -> Result<Vec<Ledger>>;

    /// Up to `count` days from `from` to the day before `to`, in the order of days and accounts, after the one named.
    fn days(&mut self, from: Date, to: Date, after: Option<&Spent>, count: usize) -> Result<Vec<Spent>>;
}

/// What an account has spent on a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    pub account: String,
    pub day: Date,
    pub amount: Amount,
}
