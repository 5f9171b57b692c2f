//! What the limiters have in common: their verdict, and how long their state is worth keeping.

use crate::{TIME_MAX_MS, UNITS_MAX};

/// A limiter's answer, field for field what the client gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the request is admitted.
    pub allowed: bool,
    /// The limit or burst, as asked.
    pub limit: u64,
    /// Units that could still be taken now, after this call took its own.
    pub remaining: u64,
    /// Milliseconds until the same request would be admitted if nobody else takes units meanwhile: 0 when it was
    /// admitted, -1 when it never can be (its cost is above the limit).
    pub retry_after_ms: i64,
    /// Milliseconds until the full limit is available again if nobody takes units meanwhile.
    pub reset_after_ms: i64,
}

/// `retry_after_ms` of a request that can never be admitted.
pub const NEVER: i64 = -1;

/// A wait as replied: at least 0 and at most 2^53, which every client language holds exactly.
pub(crate) fn wait_ms(ms: i128) -> i64 {
    ms.clamp(0, i128::from(UNITS_MAX)) as i64
}

/// The key's expiry after a change: `current` while it covers `needed_until_ms`, else a new one about twice as far away,
/// so that a busy key's expiry is set once a window instead of once a call. The key outlives its state by at least
/// [`IDLE_MS`]: a fast bucket is full again within a millisecond, and deleting its key, telling the replicas, and making it
/// anew costs more than keeping it between two requests.
///
/// Expiry is garbage collection: no key expires while its state still matters, so decisions are the same with the key and
/// without it.
pub(crate) fn extended_expiry_ms(current: i64, now_ms: i64, needed_until_ms: i64) -> i64 {
    if needed_until_ms <= current {
        return current;
    }
    let needed_ms = needed_until_ms.saturating_sub(now_ms);
    now_ms.saturating_add(needed_ms.saturating_mul(2)).saturating_add(IDLE_MS).min(TIME_MAX_MS)
}

/// How long a key outlives its useful state, in milliseconds.
const IDLE_MS: i64 = 60_000;
