//! The breaker: after a number of failures within some time it is open, and refuses every request for a while. Then it
//! is half-open, and lets one request at a time through, the probe, which finds out whether calls succeed again.
//!
//! | state | requests | changes |
//! |---|---|---|
//! | closed | all are let through | opens with the failure that reaches the threshold |
//! | open | none | half-open when its time has passed |
//! | half-open | one, the probe | the probe's success closes it, its failure opens it again |
//!
//! Only the probe's own outcome changes a breaker that is not closed: calls that were sent before it opened say nothing
//! about the time after. A probe that ends without an outcome, undone or by time, makes room for the next one. The names
//! of the states are those of Nygard, "Release It!" (2007).
//!
//! A breaker that does not [probe](Breaker::decide) is only watched: no request waits for it, so that there is no probe
//! to close it. It is closed again when its time has passed.
//!
//! Failures are counted by a [sliding window](crate::window), exact in milliseconds for periods of up to 17 minutes.
//! Time is an argument, and must not go back.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use crate::TIME_MAX_MS;
use crate::codec::{Corrupt, Reader, Writer};
use crate::lease::HOLDER_BYTES_MAX;
use crate::limit::Verdict;
use crate::memory::allocated_bytes;
use crate::stored::{Stored, load_nested, save_nested};
use crate::window::{Rule, Shape, SlidingWindow};

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold {
    /// The failures that open it: 1 to 2^53.
    pub failures: u64,
    /// The time within which they happen, in milliseconds: 1 to 366 days.
    pub per_ms: u64,
    /// How long it is open, in milliseconds: 1 to 366 days.
    pub open_ms: u64,
}

impl Threshold {
    fn rule(&self) -> Rule {
        Rule { limit: self.failures, window_ms: self.per_ms, shape: Shape::Sliding }
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Succeeded,
    /// It failed.
    Failed,
    /// It was not made.
    Undone,
}

/// What an outcome has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The breaker has opened, for the first time or again.
    Opened,
    /// The breaker has closed.
    Closed,
}

/// The state of a breaker at one moment, for `GW.DESCRIBE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State<'a> {
    /// Requests are let through. So many failures count at the moment.
    Closed(u64),
    /// Requests are refused for so many milliseconds.
    Open(i64),
    /// The next request is the probe.
    HalfOpen,
    /// This request is the probe, and its lease ends in so many milliseconds.
    Probing(&'a [u8], i64),
}

/// A breaker. See the [module's documentation](self).
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    /// Empty while the breaker is not closed.
    failures: SlidingWindow,
    open: Option<Open>,
}

#[derive(Debug, Clone)]
struct Open {
    /// From then on it is half-open.
    until_ms: i64,
    /// The request that was let through last, unless it has reported its outcome.
    probe: Option<Box<[u8]>>,
}

impl Breaker {
    /// The state at `at_ms`. `ends_after_ms` says in how many milliseconds the lease of a request ends, if it is live.
    /// Changes only hints.
    pub fn state(
        &mut self,
        at_ms: i64,
        threshold: Threshold,
        probes: bool,
        ends_after_ms: impl FnOnce(&[u8]) -> Option<i64>,
    ) -> State<'_> {
        match &self.open {
            Some(open) if at_ms < open.until_ms => State::Open(open.until_ms - at_ms),
            Some(open) if probes => match open.probe.as_deref().map(|id| (id, ends_after_ms(id))) {
                Some((id, Some(left_ms))) => State::Probing(id, left_ms),
                _ => State::HalfOpen,
            },
            Some(_) => State::Closed(0),
            None => State::Closed(self.failures.used_at(at_ms, threshold.rule())),
        }
    }

    /// Decides whether a request is let through, and returns how many failures are left until the breaker opens: one if it
    /// is half-open, and none if it refuses. `probes` is false for a breaker that is only watched. `ends_after_ms` is that
    /// of [`Self::state`]. Changes only hints.
    pub fn decide(
        &mut self,
        at_ms: i64,
        threshold: Threshold,
        probes: bool,
        ends_after_ms: impl FnOnce(&[u8]) -> Option<i64>,
    ) -> Verdict {
        let limit = threshold.failures;
        let refused =
            |left_ms| Verdict { allowed: false, limit, remaining: 0, retry_after_ms: left_ms, reset_after_ms: left_ms };
        let allowed =
            |remaining, reset_after_ms| Verdict { allowed: true, limit, remaining, retry_after_ms: 0, reset_after_ms };
        match self.state(at_ms, threshold, probes, ends_after_ms) {
            State::Open(left_ms) | State::Probing(_, left_ms) => refused(left_ms),
            State::HalfOpen => allowed(1, 0),
            State::Closed(0) => allowed(limit, 0),
            State::Closed(_) => {
                let verdict = self.failures.decide(at_ms, threshold.rule(), 0);
                allowed(verdict.remaining, verdict.reset_after_ms)
            }
        }
    }

    /// Lets a request through. Returns whether it is the probe.
    pub fn admit(
        &mut self,
        at_ms: i64,
        probes: bool,
        id: &[u8],
        ends_after_ms: impl FnOnce(&[u8]) -> Option<i64>,
    ) -> bool {
        let Some(open) = self.open.as_mut().filter(|open| probes && at_ms >= open.until_ms) else { return false };
        // The lease of the request itself is not live yet, whatever an earlier one under the same id was.
        let is_free = open.probe.as_deref().is_none_or(|probe| probe == id || ends_after_ms(probe).is_none());
        if is_free {
            open.probe = Some(id.into());
        }
        is_free
    }

    /// Notes that a request has ended by time. If it was the probe, the next one may be sent.
    pub fn forget(&mut self, id: &[u8]) {
        if let Some(open) = self.open.as_mut().filter(|open| open.probe.as_deref() == Some(id)) {
            open.probe = None;
        }
    }

    /// Takes in the outcome of a request. `is_live` says whether its lease was live until now: a request whose lease has
    /// ended is no longer the probe.
    pub fn report(
        &mut self,
        at_ms: i64,
        threshold: Threshold,
        probes: bool,
        id: &[u8],
        is_live: bool,
        outcome: Outcome,
    ) -> Option<Turn> {
        let mut turn = None;
        if let Some(open) = &mut self.open {
            if probes || at_ms < open.until_ms {
                if open.probe.as_deref() != Some(id) {
                    return None;
                }
                open.probe = None;
                match outcome {
                    _ if !is_live => {}
                    Outcome::Undone => {}
                    Outcome::Failed => {
                        open.until_ms = opens_until_ms(at_ms, threshold);
                        turn = Some(Turn::Opened);
                    }
                    Outcome::Succeeded => {
                        self.open = None;
                        turn = Some(Turn::Closed);
                    }
                }
                return turn;
            }
            self.open = None;
            turn = Some(Turn::Closed);
        }
        if outcome == Outcome::Failed {
            self.failures.record(at_ms, threshold.rule(), 1);
            if self.failures.used_at(at_ms, threshold.rule()) >= threshold.failures {
                self.failures = SlidingWindow::default();
                self.open = Some(Open { until_ms: opens_until_ms(at_ms, threshold), probe: None });
                turn = Some(Turn::Opened);
            }
        }
        turn
    }

    /// Until when the breaker is open, in unix milliseconds, if it is not closed.
    pub fn open_until_ms(&self) -> Option<i64> {
        self.open.as_ref().map(|open| open.until_ms)
    }
}

fn opens_until_ms(at_ms: i64, threshold: Threshold) -> i64 {
    at_ms.saturating_add_unsigned(threshold.open_ms).min(TIME_MAX_MS)
}

impl Stored for Breaker {
    const ENCODING: u32 = 0;

    fn save(&self, out: &mut dyn Writer) {
        save_nested(&self.failures, out);
        out.uint(self.open.is_some().into());
        if let Some(open) = &self.open {
            out.int(open.until_ms);
            out.bytes(open.probe.as_deref().unwrap_or_default());
        }
    }

    fn load(from: &mut dyn Reader, _encoding: u32) -> Result<Self, Corrupt> {
        let failures = load_nested(from)?;
        let open = match from.uint_max(1, "neither an open breaker nor a closed one")? {
            0 => None,
            _ => {
                let (until_ms, probe) = (from.time_ms("an open breaker's end")?, from.bytes(HOLDER_BYTES_MAX)?);
                Some(Open { until_ms, probe: (!probe.is_empty()).then(|| probe.into()) })
            }
        };
        Ok(Self { failures, open })
    }

    fn memory_bytes(&self) -> usize {
        let probe = self.open.as_ref().and_then(|open| open.probe.as_ref());
        self.failures.memory_bytes() + probe.map_or(0, |probe| allocated_bytes(probe.len()))
    }
}
