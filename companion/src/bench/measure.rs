//! Times of single calls.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

/// The middle and the slow end of many times, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Times {
    pub count: usize,
    pub median_us: f64,
    pub p99_us: f64,
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} µs, 99 of 100 within {:.0} µs ({} tries)", self.median_us, self.p99_us, self.count)
    }
}

/// The most calls: more do not make the figures better.
const CALLS: usize = 100_000;

/// Repeats a call for this time, at least once.
///
/// # Errors
/// The first one of the call.
pub fn times<E>(time: Duration, mut call: impl FnMut() -> Result<(), E>) -> Result<Times, E> {
    let (started, mut taken) = (Instant::now(), Vec::new());
    while taken.is_empty() || started.elapsed() < time && taken.len() < CALLS {
        let before = Instant::now();
        call()?;
        taken.push(before.elapsed());
    }
    Ok(summary(taken))
}

fn summary(mut taken: Vec<Duration>) -> Times {
    taken.sort();
    let at = |part: usize| taken.get((taken.len() * part / 100).min(taken.len() - 1)).map_or(0.0, us);
    Times { count: taken.len(), median_us: at(50), p99_us: at(99) }
}

fn us(time: &Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_summed_up() {
        let of = |numbers: &[u64]| summary(numbers.iter().map(|&us| Duration::from_micros(us)).collect());
        assert_eq!(of(&[7]), Times { count: 1, median_us: 7.0, p99_us: 7.0 });
        let hundred: Vec<u64> = (0..100).rev().collect();
        assert_eq!(of(&hundred), Times { count: 100, median_us: 50.0, p99_us: 99.0 });
        let mut calls = 0;
        let once = times(Duration::ZERO, || {
            calls += 1;
            Ok::<(), ()>(())
        });
        assert_eq!((once.unwrap().count, calls), (1, 1));
    }
}
