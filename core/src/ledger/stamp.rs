//! What accompanies a change of a ledger, and why a change can fail.

/// A sum would be further from zero than [`Amount::MAX`]. Nothing was charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow;

impl std::fmt::Display for Overflow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("sum out of range")
    }
}

impl std::error::Error for Overflow {}

/// The time of a change, and what else the change needs. The node that first makes the change decides it; replicas get
/// the same stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The time of the change, in unix milliseconds.
    pub at_ms: i64,
    /// How many charged days the ledger keeps: see [`Ledger::charge`](super::Ledger::charge).
    pub keep_days: u32,
    /// How long the outcome of an id is remembered from now on, in milliseconds: at most
    /// [`PERIOD_MAX_MS`](crate::PERIOD_MAX_MS). Ids that are remembered already are forgotten by then, too.
    pub remember_ms: u64,
    /// The version of the ledger after the change: see [`feed`](super::feed). Unused if the spend does not change.
    pub version: u64,
}
