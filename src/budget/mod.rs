//! Budgets: charges, holds and queries on a ledger with calendar periods, and the feed of changed ledgers.

pub mod account;
pub mod args;
pub mod charge;
pub mod clock;
pub mod credit;
pub mod effect;
pub mod eviction;
pub mod feed;
pub mod hold;
pub mod listing;
pub mod query;
pub mod settings;
pub mod value;
