//! The simulated deployments of a model: what each allows, how long its calls take, and when it is out.

use crate::clock::Pace;
use fastrand::Rng;
use std::ops::Range;
use std::time::Duration;

/// The sizes of requests, evenly distributed.
pub const TOKENS_MIN: u64 = 100;
pub const TOKENS_MAX: u64 = 900;

/// Deployments allow this many times as many requests as they could serve of mean size by their tokens. So tokens are
/// what runs out, and requests only if many small ones come together.
const REQUESTS_SPARE: f64 = 1.3;

/// The spread of call times: the deviation of their logarithm.
const SPREAD: f64 = 0.35;

#[derive(Debug, Clone)]
pub struct Deployment {
    pub name: &'static str,
    /// What it allows in any window.
    pub tokens: u64,
    pub requests: u64,
    /// Half of its calls take longer.
    pub median: Duration,
    pub outage: Option<Outage>,
}

/// A time in which every call that arrives fails.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    pub begins: Duration,
    pub ends: Duration,
    fails_after: Duration,
    /// Whether its answers have a `Retry-After`, which says when the outage ends.
    tells: bool,
}

/// How a call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub after: Duration,
    pub served: bool,
    /// Zero if the provider says nothing.
    pub retry_after: Duration,
}

/// The whole fleet. `tokens` are its limits' sum, `out` is when two of them fail, and times are shortened to the pace.
pub fn fleet(tokens: u64, pace: Pace, out: Option<Range<Duration>>) -> Vec<Deployment> {
    // Name, share of the limits in percent, median in ms; for those that fail: the time until they answer so in ms, and
    // whether they send Retry-After.
    type Row = (&'static str, u64, u64, Option<(u64, bool)>);
    const ROWS: [Row; 8] = [
        ("ptu-eu", 20, 120, None),
        ("ptu-us", 15, 180, None),
        ("eu-1", 15, 240, None),
        ("us-1", 12, 260, Some((1, false))),
        ("us-2", 12, 480, None),
        ("asia", 10, 300, Some((5, true))),
        ("spare-1", 10, 600, None),
        ("spare-2", 6, 800, None),
    ];
    let ms = |ms| pace.shortened(Duration::from_millis(ms));
    let deployment = |&(name, percent, median_ms, fails): &Row| {
        let tokens = tokens * percent / 100;
        let mean = (TOKENS_MIN + TOKENS_MAX) / 2;
        let outage = out.clone().zip(fails).map(|(out, (fails_after_ms, tells))| Outage {
            begins: out.start,
            ends: out.end,
            fails_after: ms(fails_after_ms),
            tells,
        });
        let requests = ((tokens / mean) as f64 * REQUESTS_SPARE) as u64;
        Deployment { name, tokens, requests, median: ms(median_ms), outage }
    };
    ROWS.iter().map(deployment).collect()
}

impl Deployment {
    /// How a call ends that arrives at this time.
    pub fn answer(&self, arrived: Duration, rng: &mut Rng) -> Answer {
        // Drawn in any case, so that a client's later draws do not depend on outages.
        let served = self.median.mul_f64((SPREAD * normal(rng)).exp());
        match self.outage.filter(|outage| outage.is_at(arrived)) {
            Some(outage) => {
                let retry_after = if outage.tells { outage.ends - arrived } else { Duration::ZERO };
                Answer { after: outage.fails_after, served: false, retry_after }
            }
            None => Answer { after: served, served: true, retry_after: Duration::ZERO },
        }
    }

    /// For how long of a run it can serve.
    pub fn available(&self, run: Duration) -> Duration {
        run - self.outage.map_or(Duration::ZERO, |outage| outage.ends - outage.begins)
    }
}

impl Outage {
    pub fn is_at(&self, time: Duration) -> bool {
        (self.begins..self.ends).contains(&time)
    }
}

/// A draw from the normal distribution, by Box and Muller.
fn normal(rng: &mut Rng) -> f64 {
    // Not 0, whose logarithm is infinite.
    let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.f64()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_fail_in_the_outage_alone() {
        let [begins, ends] = [8, 16].map(Duration::from_secs);
        let fleet = fleet(1_000_000, Pace { speed: 1.0 }, Some(begins..ends));
        assert_eq!(fleet.iter().map(|deployment| deployment.tokens).sum::<u64>(), 1_000_000);
        assert_eq!(fleet.iter().filter(|deployment| deployment.outage.is_some()).count(), 2);
        for deployment in &fleet {
            let served = |at| deployment.answer(at, &mut Rng::with_seed(1)).served;
            let just_before = |at| at - Duration::from_nanos(1);
            let is_out = deployment.outage.is_some();
            assert_eq!(
                [just_before(begins), begins, just_before(ends), ends].map(served),
                [true, !is_out, !is_out, true]
            );
            assert_eq!(deployment.available(ends + begins), if is_out { ends } else { ends + begins });
        }
    }

    #[test]
    fn half_of_the_calls_take_longer_than_the_median() {
        let (fleet, mut rng) = (fleet(1_000_000, Pace { speed: 1.0 }, None), Rng::with_seed(7));
        for deployment in &fleet {
            let mut longer = || deployment.answer(Duration::ZERO, &mut rng).after > deployment.median;
            let longer = (0..10_000).filter(|_| longer()).count();
            assert!((4_800..=5_200).contains(&longer), "{}: {longer}", deployment.name);
        }
    }
}
