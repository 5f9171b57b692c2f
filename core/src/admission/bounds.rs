//! The most that an account has, and how long it remembers what has ended.

/// The longest name of a policy or a meter in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// The most policies of an account.
pub const POLICIES_MAX: usize = 32;

/// The most ledgers of an account: its own, of money, and one for each other meter that its budgets count.
pub const LEDGERS_MAX: usize = 9;

/// How long a settled admission is remembered, in milliseconds: an hour, as long as one that was not settled. A gateway
/// that sends a settlement again within that time learns that the first one arrived, and books nothing twice.
pub const SETTLED_KEPT_MS: u64 = 3_600_000;

/// How long after its lease's end an admission can be settled, in milliseconds: an hour.
pub const EXPIRED_KEPT_MS: u64 = 3_600_000;

/// The most settled admissions that an account remembers, and the most that ended by time.
pub const FINISHED_MAX: usize = 65_536;

/// A bound of an account that a change would exceed. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// [`POLICIES_MAX`].
    Policies,
    /// [`LEDGERS_MAX`].
    Ledgers,
    /// [`HOLDS_MAX`](crate::ledger::HOLDS_MAX), in one of the ledgers.
    Holds,
}
