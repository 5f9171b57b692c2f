//! Bounds that several parts of the queue share.

use crate::TIME_MAX_MS;

/// The largest value of a counter: centuries of pushes, and small enough that sums of counters never overflow.
pub const COUNT_MAX: u64 = 1 << 62;

/// The largest maximum of deliveries.
pub const DELIVERIES_MAX: u64 = 1_000_000;

/// The most records that a batch may have so that some of them can become dead letters alone.
pub const BATCH_RECORDS_MAX: u32 = 10_000;

/// The largest time in a batch's id, in microseconds.
pub(super) const TIME_MAX_US: u64 = TIME_MAX_MS.unsigned_abs() * 1_000;

/// The most bytes of a block with several records, in both its buffers. Large enough that allocations and bookkeeping
/// cost little compared with the records, small enough to be moved, written or expanded in one go.
pub(super) const BLOCK_BYTES: usize = 64 * 1024;

/// The end of `ms` milliseconds that begin at `now_ms`, such as the end of a lease that begins then.
pub fn until_ms(now_ms: i64, ms: u64) -> i64 {
    now_ms.saturating_add_unsigned(ms).min(TIME_MAX_MS)
}
