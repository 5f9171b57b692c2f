use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::ids::jitter;

/// Stops asking a server that does not answer, so that an outage costs each request nothing.
///
/// It is closed while calls succeed. After so many failures in a row it is open: nothing is asked for a pause. Then one call at a time
/// tries, until one succeeds; calls that come meanwhile wait for how that goes. Each change is logged once.
pub(super) struct Circuit {
    name: String,
    limit: u32,
    pause: Duration,
    state: Mutex<State>,
    tried: Notify,
}

#[derive(Default)]
struct State {
    failures: u32,
    opened_at: Option<Instant>,
    retry_at: Option<Instant>,
    trying: bool,
    away: Duration,
}

/// The right to ask, and the duty to say how that went. Whoever leaves without a word has learnt nothing.
pub(super) struct Permit<'a> {
    circuit: &'a Circuit,
    tries: bool,
}

impl Circuit {
    pub(super) fn new(name: &str, limit: u32, pause: Duration) -> Self {
        Self { name: name.to_owned(), limit, pause, state: Mutex::default(), tried: Notify::new() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn is_open(&self) -> bool {
        self.state().opened_at.is_some()
    }

    /// For how long it was open, in all.
    pub(super) fn away_for(&self) -> Duration {
        let state = self.state();
        state.away + state.opened_at.map_or(Duration::ZERO, |at| at.elapsed())
    }

    /// None if the server is not to be asked now. While another call tries, this waits for its outcome, at most `longest`.
    pub(super) async fn ask(&self, longest: Duration) -> Option<Permit<'_>> {
        let end = tokio::time::Instant::now() + longest;
        loop {
            let tried = self.tried.notified();
            tokio::pin!(tried);
            tried.as_mut().enable();
            {
                let mut state = self.state();
                if state.opened_at.is_none() {
                    return Some(Permit { circuit: self, tries: false });
                }
                if !state.trying {
                    if state.retry_at.is_some_and(|at| Instant::now() < at) {
                        return None;
                    }
                    state.trying = true;
                    return Some(Permit { circuit: self, tries: true });
                }
            }
            if tokio::time::timeout_at(end, tried).await.is_err() {
                return None;
            }
        }
    }

    fn succeeded(&self) {
        let mut state = self.state();
        state.failures = 0;
        if let Some(opened_at) = state.opened_at.take() {
            let away = opened_at.elapsed();
            state.away += away;
            drop(state);
            log::warn!("{} answers again after {away:?}", self.name);
        }
    }

    fn failed(&self, reason: &str) {
        let mut state = self.state();
        state.failures += 1;
        // The pauses differ between processes: those that lost the server together do not come back to it together.
        let retry_at = Instant::now() + self.pause.mul_f64(0.75 + 0.5 * jitter());
        if state.opened_at.is_some() {
            state.retry_at = Some(retry_at);
        } else if state.failures >= self.limit {
            state.opened_at = Some(Instant::now());
            state.retry_at = Some(retry_at);
            drop(state);
            log::warn!("{} is away ({reason}): it is asked again from time to time", self.name);
        }
    }
}

impl Permit<'_> {
    pub(super) fn succeeded(&self) {
        self.circuit.succeeded();
    }

    pub(super) fn failed(&self, reason: &str) {
        self.circuit.failed(reason);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.tries {
            self.circuit.state().trying = false;
            self.circuit.tried.notify_waiters();
        }
    }
}
