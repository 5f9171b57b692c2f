//! The end of the process, requested by a signal, and pauses that it ends.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Shared by all that run: whether they are to end.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    pub fn request(&self) {
        let (requested, changed) = &*self.0;
        *requested.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }

    pub fn is_requested(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for this time, or until the end is requested. Returns whether it is.
    pub fn pause(&self, time: Duration) -> bool {
        let (requested, changed) = &*self.0;
        let guard = requested.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(guard, time, |requested| !*requested);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Pauses that double from 100 ms up to a bound, so that what is away is not asked more and more.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);

    pub fn up_to(longest: Duration) -> Self {
        Self { next: Self::FIRST.min(longest), longest }
    }

    /// The next pause.
    pub fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }

    /// It worked: the next pause is the first again.
    pub fn reset(&mut self) {
        *self = Self::up_to(self.longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_request_ends_pauses() {
        let stop = Stop::default();
        assert!(!stop.pause(Duration::ZERO) && !stop.is_requested());
        let waiting = thread::spawn({
            let stop = stop.clone();
            move || stop.pause(Duration::from_secs(3_600))
        });
        stop.request();
        assert!(waiting.join().unwrap() && stop.is_requested() && stop.pause(Duration::from_secs(3_600)));
    }

    #[test]
    fn pauses_double_up_to_the_bound() {
        let mut backoff = Backoff::up_to(Duration::from_millis(500));
        let pauses: Vec<_> = (0..4).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 500]);
        backoff.reset();
        assert_eq!(backoff.next().as_millis(), 100);
        assert_eq!(Backoff::up_to(Duration::from_millis(7)).next().as_millis(), 7);
    }
}
