//! What a window limits, and in which resolution.

use crate::TIME_MAX_MS;

/// A window is divided into at most this many ticks, which bounds its memory: about 2 MiB for a key that admits something
/// in every tick.
pub(super) const TICKS_PER_WINDOW_MAX: u64 = 1 << 20;

/// The limit of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The most units in a window: 0 to 2^53.
    pub limit: u64,
    /// The window's length in milliseconds: 1 to 366 days.
    pub window_ms: u64,
    /// The window starts with its first unit and ends as a whole, instead of sliding.
    pub fixed: bool,
}

impl Rule {
    /// The resolution in milliseconds: 1 for windows up to about 17 minutes (2^20 ms) and for fixed ones; longer ones are
    /// divided into 2^20 ticks. An admission's time is rounded up to the tick, so units are released late by less than
    /// one tick, never early.
    pub fn tick_ms(&self) -> u64 {
        if self.fixed { 1 } else { self.window_ms.div_ceil(TICKS_PER_WINDOW_MAX).max(1) }
    }

    /// The time under which units taken at `now_ms` are kept.
    pub fn tick_at_ms(&self, now_ms: i64) -> i64 {
        rounded_up(now_ms, self.tick_ms())
    }

    /// The end of what can still be asked about a window whose newest units are kept under `newest_ms`: the last admission
    /// forgot everything up to here, whether or not its bytes are gone. With ticks, no later than what that admission itself
    /// left out.
    pub(super) fn floor_ms(&self, newest_ms: i64) -> i64 {
        newest_ms.saturating_sub_unsigned(self.window_ms + self.tick_ms() - 1)
    }
}

/// `at_ms` rounded up to a multiple of `tick_ms`, within the times a value may hold.
pub(super) fn rounded_up(at_ms: i64, tick_ms: u64) -> i64 {
    match tick_ms {
        1 => at_ms,
        _ => at_ms.max(0).cast_unsigned().next_multiple_of(tick_ms).min(TIME_MAX_MS.cast_unsigned()).cast_signed(),
    }
}
