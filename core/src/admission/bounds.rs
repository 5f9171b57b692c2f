//! Bounds of an account, and how long it remembers what has ended.

/// The longest name of a policy or a meter in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// The largest limit of a policy that counts billionths: 9,000,000, which is below 2^53 billionths.
pub const BILLIONTHS_MAX: u64 = 9_000_000 * 1_000_000_000;

/// The most policies in an account.
pub const POLICIES_MAX: usize = 32;

/// The most ledgers in an account: its own, which counts money, and one for each other meter of its budgets.
pub const LEDGERS_MAX: usize = 9;

/// How long a settled admission is remembered, in milliseconds: an hour, as long as one that was not settled. A gateway
/// that repeats a settlement within that time learns that the first one arrived, and nothing is charged twice.
pub const SETTLED_KEPT_MS: u64 = 3_600_000;

/// How long after the end of its lease an admission can be settled, in milliseconds: an hour.
pub const EXPIRED_KEPT_MS: u64 = 3_600_000;

/// The most settled admissions that an account remembers, and the most whose leases ended by time.
pub const FINISHED_MAX: usize = 65_536;

/// A bound of an account that a change would have exceeded. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// [`POLICIES_MAX`].
    Policies,
    /// [`LEDGERS_MAX`].
    Ledgers,
    /// [`Request::holds_max`](super::Request::holds_max), in one of the ledgers.
    Holds,
}
