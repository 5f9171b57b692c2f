//! The limit of a window, and its resolution.

use crate::TIME_MAX_MS;

/// A window is divided into at most this many ticks, which bounds its memory: about 2 MiB for a key that admits something
/// in every tick.
pub(super) const TICKS_PER_WINDOW_MAX: u64 = 1 << 20;

/// When units leave a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Each of them a window's length after it was taken.
    Sliding,
    /// All together, a window's length after the first of them.
    Fixed,
    /// All together at the window's end. Windows follow each other without a gap, and one of them begins at this time in
    /// unix milliseconds, not before 1970.
    Anchored(i64),
}

/// The limit of a window.
///
/// The shape comes first also in memory: what an enum with a rule needs to tell its variants apart then lies in the
/// shape's own tag, in front of the other variants' fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Rule {
    /// When units leave it.
    pub shape: Shape,
    /// The most units in a window: 0 to 2^53.
    pub limit: u64,
    /// The window's length in milliseconds: 1 to 366 days.
    pub window_ms: u64,
}

impl Rule {
    /// The resolution in milliseconds: 1 for windows up to about 17 minutes (2^20 ms) and for those that end as a whole;
    /// longer ones are divided into 2^20 ticks. An admission's time is rounded up to the tick, so units are released late
    /// by less than one tick, never early.
    pub fn tick_ms(&self) -> u64 {
        match self.shape {
            Shape::Sliding => self.window_ms.div_ceil(TICKS_PER_WINDOW_MAX).max(1),
            Shape::Fixed | Shape::Anchored(_) => 1,
        }
    }

    /// The time that is recorded for units taken at `now_ms`, if they are the first of a window.
    pub fn tick_at_ms(&self, now_ms: i64) -> i64 {
        match self.shape {
            Shape::Sliding | Shape::Fixed => rounded_up(now_ms, self.tick_ms()),
            Shape::Anchored(anchor_ms) => self.begins_at_ms(anchor_ms, now_ms),
        }
    }

    /// When the window began that `now_ms` lies in.
    fn begins_at_ms(&self, anchor_ms: i64, now_ms: i64) -> i64 {
        // A window is at most 366 days long.
        let into_ms = now_ms.saturating_sub(anchor_ms).rem_euclid(self.window_ms.cast_signed());
        now_ms.saturating_sub(into_ms).max(0)
    }

    /// At `now_ms`, units kept under this time or an earlier one have left the window.
    pub(super) fn cutoff_ms(&self, now_ms: i64) -> i64 {
        match self.shape {
            Shape::Sliding | Shape::Fixed => now_ms.saturating_sub_unsigned(self.window_ms),
            Shape::Anchored(anchor_ms) => self.begins_at_ms(anchor_ms, now_ms) - 1,
        }
    }

    /// Whether units taken at `at_ms` are still in the window at `now_ms`, if it slides or is anchored. One that begins with
    /// its first unit may have begun later.
    pub fn covers(&self, now_ms: i64, at_ms: i64) -> bool {
        self.tick_at_ms(at_ms) > self.cutoff_ms(now_ms)
    }

    /// When units kept under `at_ms` leave the window.
    pub(super) fn leaves_at_ms(&self, at_ms: i64) -> i64 {
        let from_ms = match self.shape {
            Shape::Sliding | Shape::Fixed => at_ms,
            Shape::Anchored(anchor_ms) => self.begins_at_ms(anchor_ms, at_ms),
        };
        from_ms.saturating_add_unsigned(self.window_ms)
    }

    /// The time up to which everything is forgotten if the newest units are recorded at `newest_ms`, whether or not its
    /// bytes are gone: no later question can be about it. With ticks, this is no later than what the last admission
    /// itself left out.
    pub(super) fn floor_ms(&self, newest_ms: i64) -> i64 {
        match self.shape {
            Shape::Sliding | Shape::Fixed => newest_ms.saturating_sub_unsigned(self.window_ms + self.tick_ms() - 1),
            Shape::Anchored(_) => self.cutoff_ms(newest_ms),
        }
    }
}

/// `at_ms` rounded up to a multiple of `tick_ms`, within the times a value may hold.
pub(super) fn rounded_up(at_ms: i64, tick_ms: u64) -> i64 {
    match tick_ms {
        1 => at_ms,
        _ => at_ms.max(0).cast_unsigned().next_multiple_of(tick_ms).min(TIME_MAX_MS.cast_unsigned()).cast_signed(),
    }
}
