//! The providers' own judgement: which calls come to a deployment above its limits.

use super::deployments::Deployment;
use super::run::Call;
use std::collections::VecDeque;
use std::time::Duration;

/// How a provider counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// At most the limit in any window, wherever it begins.
    Sliding,
    /// At most the limit in each of the windows that follow each other from the start of the run on.
    Fixed,
}

/// What a limit has let through.
struct Limit {
    limit: u64,
    counted: VecDeque<(Duration, u64)>,
    sum: u64,
}

impl Limit {
    fn new(limit: u64) -> Self {
        Self { limit, counted: VecDeque::new(), sum: 0 }
    }

    fn forget(&mut self, has_left: impl Fn(Duration) -> bool) {
        while let Some(&(_, units)) = self.counted.front().filter(|(at, _)| has_left(*at)) {
            self.sum -= units;
            self.counted.pop_front();
        }
    }

    fn has_room(&self, units: u64) -> bool {
        self.sum + units <= self.limit
    }

    fn count(&mut self, at: Duration, units: u64) {
        self.counted.push_back((at, units));
        self.sum += units;
    }
}

/// Whether each of the calls is within the limits. `calls` are those that the deployment has served, in the order of their
/// arrival. A call above a limit is not counted, as if the provider had refused it.
pub fn within_limits(deployment: &Deployment, windows: Windows, window: Duration, calls: &[Call]) -> Vec<bool> {
    let (mut requests, mut tokens) = (Limit::new(deployment.requests), Limit::new(deployment.tokens));
    let number = |at: Duration| at.as_nanos() / window.as_nanos();
    let judge = |call: &Call| {
        let has_left = |at: Duration| match windows {
            Windows::Sliding => at + window <= call.arrived,
            Windows::Fixed => number(at) < number(call.arrived),
        };
        requests.forget(has_left);
        tokens.forget(has_left);
        let within = requests.has_room(1) && tokens.has_room(call.tokens);
        if within {
            requests.count(call.arrived, 1);
            tokens.count(call.arrived, call.tokens);
        }
        within
    };
    calls.iter().map(judge).collect()
}

/// The most that has come in any window, as a part of the limit: of tokens or of requests, whichever is more.
pub fn fullest(deployment: &Deployment, window: Duration, calls: &[Call]) -> f64 {
    let (mut requests, mut tokens) = (Limit::new(deployment.requests), Limit::new(deployment.tokens));
    let part = |call: &Call| {
        requests.forget(|at| at + window <= call.arrived);
        tokens.forget(|at| at + window <= call.arrived);
        requests.count(call.arrived, 1);
        tokens.count(call.arrived, call.tokens);
        [&requests, &tokens].map(|meter| meter.sum as f64 / meter.limit as f64).into_iter().fold(0.0, f64::max)
    };
    calls.iter().map(part).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::super::deployments::{Answer, fleet};
    use super::*;
    use crate::clock::Pace;
    use fastrand::Rng;

    const WINDOW: Duration = Duration::from_millis(100);

    fn call(at_ms: u64, tokens: u64) -> Call {
        let at = Duration::from_millis(at_ms);
        let answer = Answer { after: Duration::ZERO, served: true, retry_after: Duration::ZERO };
        Call { deployment: 0, tokens, asked: at, arrived: at, ended: at, told: at, answer }
    }

    fn deployment(requests: u64, tokens: u64) -> Deployment {
        let first = fleet(1_000, Pace { speed: 1.0 }, None).swap_remove(0);
        Deployment { requests, tokens, ..first }
    }

    #[test]
    fn a_window_ends_after_its_length_and_a_fixed_one_with_all_others() {
        let (deployment, calls) =
            (deployment(2, 100), [call(90, 60), call(95, 50), call(110, 30), call(189, 1), call(190, 60)]);
        let judged = |windows| within_limits(&deployment, windows, WINDOW, &calls);
        assert_eq!(judged(Windows::Sliding), [true, false, true, false, true]);
        assert_eq!(judged(Windows::Fixed), [true, false, true, true, false]);
        assert_eq!(fullest(&deployment, WINDOW, &calls), 2.0);
    }

    #[test]
    fn agrees_with_counting_each_window_anew() {
        let mut rng = Rng::with_seed(3);
        for _ in 0..200 {
            let deployment = deployment(rng.u64(1..6), rng.u64(100..300));
            let mut at_ms = 0;
            let calls: Vec<Call> = (0..50)
                .map(|_| {
                    at_ms += rng.u64(0..40);
                    call(at_ms, rng.u64(1..100))
                })
                .collect();
            for windows in [Windows::Sliding, Windows::Fixed] {
                let mut counted = Vec::<Call>::new();
                let judged = within_limits(&deployment, windows, WINDOW, &calls);
                for (call, judged) in calls.iter().zip(judged) {
                    let recent = counted.iter().filter(|one| match windows {
                        Windows::Sliding => call.arrived - one.arrived < WINDOW,
                        Windows::Fixed => call.arrived.as_millis() / 100 == one.arrived.as_millis() / 100,
                    });
                    let (requests, tokens) = recent.fold((1, call.tokens), |sum, one| (sum.0 + 1, sum.1 + one.tokens));
                    let within = requests <= deployment.requests && tokens <= deployment.tokens;
                    assert_eq!(judged, within, "{windows:?} {call:?}");
                    counted.extend(within.then_some(*call));
                }
            }
        }
    }
}
