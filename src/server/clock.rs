//! Detects that the server's clock was set back.
//!
//! The server's timers wait for a time of that clock. After it was set back they ring that much later, although what
//! they wait for has ended long ago. A clock that is set ahead does not delay any timer.

use std::time::{Duration, Instant};

/// Smaller differences come from reading two clocks one after the other.
const TOLERANCE_MS: i64 = 5;

/// Two clocks at their last reading: the server's clock, and one that nobody can set.
#[derive(Debug)]
pub struct Clocks {
    last: Option<(i64, Instant)>,
}

impl Clocks {
    pub const fn new() -> Self {
        Self { last: None }
    }

    /// Reads both clocks. Returns whether the server's clock was set back since the last reading.
    pub fn read(&mut self, server_ms: i64, steady: Instant) -> bool {
        let Some((server_before_ms, steady_before)) = self.last.replace((server_ms, steady)) else { return false };
        let passed = steady.saturating_duration_since(steady_before).saturating_add(Duration::from_micros(500));
        let passed_ms = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
        passed_ms.saturating_sub(server_ms.saturating_sub(server_before_ms)) > TOLERANCE_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_is_noticed_once() {
        let (mut clocks, start) = (Clocks::new(), Instant::now());
        let mut read = |server_ms, steady_ms| clocks.read(server_ms, start + Duration::from_millis(steady_ms));
        assert!(!read(1_000_000, 0));
        assert!(!read(1_000_100, 100));
        // The server was stopped for an hour, or the machine slept.
        assert!(!read(4_600_100, 3_600_100));
        // The clock is set back by less than the time passed, back by more, and ahead.
        assert!(read(4_600_150, 3_600_200));
        assert!(!read(4_600_250, 3_600_300));
        assert!(read(1_000_000, 3_600_400));
        assert!(!read(1_000_101, 3_600_500));
        assert!(!read(9_000_000, 3_600_600));
        assert!(!read(9_000_000, 3_600_600));
    }
}
