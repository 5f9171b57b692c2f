//! What a run simulates: the deployments, the clients, and for how long.

use super::deployments::{Deployment, TOKENS_MAX, TOKENS_MIN, fleet};
use crate::clock::Pace;
use std::time::Duration;

/// The failures that open a deployment's breaker.
pub const FAILURES: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Clients rest between requests, and ask for half of what the deployments can serve. None fails.
    Half,
    /// Clients do not rest, and ask for more than the deployments can serve. Two of them fail in the middle.
    Full,
}

#[derive(Debug, Clone)]
pub struct Plan {
    pub load: Load,
    pub fleet: Vec<Deployment>,
    /// The providers' windows.
    pub window: Duration,
    /// The policies' windows: longer by more than a call takes from the decision to the provider.
    pub policy_window: Duration,
    pub duration: Duration,
    pub clients: usize,
    /// Within this time from the start on, each client sends its first request.
    pub start: Duration,
    /// The mean of the time that a client rests after a request.
    pub rest: Duration,
    /// How long a breaker is open.
    pub open: Duration,
    /// The time within which failures count.
    pub failures_within: Duration,
    /// A refused request is tried again after the time that the reply says, but at most after this: a call that fails
    /// gives its tokens back, and a probe closes a breaker, earlier than a reply can tell.
    pub wait_max: Duration,
    /// Each wait is longer by a random part of this, so that clients do not ask all at once.
    pub jitter: Duration,
    pub seed: u64,
}

impl Plan {
    pub fn new(load: Load, clients: usize, pace: Pace, seed: u64) -> Self {
        /// The mean of all calls, if each deployment has its share.
        const CALL: Duration = Duration::from_millis(340);
        const WINDOW: Duration = Duration::from_secs(4);
        /// The part of the clients whose calls the deployments can serve at once.
        const SERVED: f64 = 0.9;
        let ms = |ms| pace.shortened(Duration::from_millis(ms));
        let calls = WINDOW.div_duration_f64(CALL) * clients as f64 * SERVED;
        let tokens = calls * (TOKENS_MIN + TOKENS_MAX) as f64 / 2.0;
        let window = pace.shortened(WINDOW);
        let (windows, rest, out) = match load {
            Load::Half => (4, ms(480), None),
            Load::Full => (6, Duration::ZERO, Some(window * 2..window * 4)),
        };
        Self {
            load,
            fleet: fleet(tokens as u64, pace, out),
            window,
            policy_window: ms(4_080),
            duration: window * windows,
            clients,
            start: pace.shortened(CALL),
            rest,
            open: ms(300),
            failures_within: ms(10_000),
            wait_max: ms(250),
            jitter: ms(20),
            seed,
        }
    }
}
