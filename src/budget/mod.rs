//! Budgets: charges, holds and queries on a ledger with calendar periods, the feed of changed ledgers, and the restoration of lost ones.

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
pub mod restoration;
pub mod restore;
pub mod settings;
pub mod value;
pub mod words;
