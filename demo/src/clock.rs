//! The run's time: when requests are due, and when commands were sent and replies received.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How many times as fast as in the trace the requests are sent.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub speed: f64,
}

impl Pace {
    /// The length in the run of a span of the trace's time.
    pub fn shortened(self, span: Duration) -> Duration {
        span.div_f64(self.speed)
    }

    /// The length in the run of a minute of the trace's time, in milliseconds: the window of limits per minute.
    pub fn minute_ms(self) -> u64 {
        (60_000.0 / self.speed).round().max(1.0) as u64
    }

    /// The length of an admission's lease in milliseconds: more than any request takes.
    pub fn lease_ms(self) -> u64 {
        self.minute_ms().max(30_000)
    }
}

/// The time since the start of the run, the same for all connections.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub fn elapsed(self) -> Duration {
        self.start.elapsed()
    }

    /// Returns at `due`, or earlier if `stop` is set.
    pub fn sleep_until(self, due: Duration, stop: &AtomicBool) {
        const SLICE: Duration = Duration::from_millis(50);
        while !stop.load(Ordering::Relaxed) {
            match due.checked_sub(self.elapsed()) {
                Some(left) if !left.is_zero() => std::thread::sleep(left.min(SLICE)),
                _ => return,
            }
        }
    }
}

/// A reply, and the times between which the server decided on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timed<T> {
    pub sent: Duration,
    pub received: Duration,
    pub reply: T,
}

impl<T> Timed<T> {
    pub fn sent_us(&self) -> i128 {
        self.sent.as_micros() as i128
    }

    pub fn received_us(&self) -> i128 {
        self.received.as_micros() as i128
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_shortens_time() {
        let pace = Pace { speed: 140.0 };
        assert_eq!(pace.shortened(Duration::from_secs(3_500)), Duration::from_secs(25));
        assert_eq!(pace.minute_ms(), 429);
        assert_eq!(Pace { speed: 1.0 }.minute_ms(), 60_000);
        assert_eq!(Pace { speed: 1e9 }.minute_ms(), 1);
    }

    #[test]
    fn sleeping_ends_at_the_due_time_or_when_the_run_stops() {
        let clock = Clock::start();
        let stop = AtomicBool::new(false);
        let due = Duration::from_millis(3);
        clock.sleep_until(due, &stop);
        assert!(clock.elapsed() >= due);
        stop.store(true, Ordering::Relaxed);
        clock.sleep_until(Duration::from_secs(3_600), &stop);
        assert!(clock.elapsed() < Duration::from_secs(60));
    }
}
