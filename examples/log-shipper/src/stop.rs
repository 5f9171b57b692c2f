//! The end of the run, requested with SIGINT or SIGTERM, or because a queue cannot be shipped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

static STOP: AtomicBool = AtomicBool::new(false);

/// From now on a signal requests the end; a second one ends the process at once.
pub fn on_signals() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            // Nothing is lost: leased batches come back.
            std::process::exit(130);
        }
    })
}

pub fn request() {
    STOP.store(true, Ordering::Relaxed);
}

pub fn requested() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Waits for this time, or until the end is requested.
pub fn pause(time: Duration) {
    const STEP: Duration = Duration::from_millis(50);
    let start = Instant::now();
    while !requested() && start.elapsed() < time {
        sleep(STEP.min(time));
    }
}

/// Pauses that double, from 100 ms up to a bound.
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub fn up_to(longest: Duration) -> Self {
        Self { next: Duration::from_millis(100), longest }
    }

    pub fn pause(&mut self) {
        pause(self.next.min(self.longest));
        self.next = (self.next * 2).min(self.longest);
    }
}
