//! Was every decision of a limiter right? Judged from outside, by when the client sent and received.
//!
//! The server decided somewhere between the two, so each rule counts what is certain: an admission belongs to a span
//! without doubt when it was sent after the span's start and received before its end, and it may belong to it when the
//! two overlap. Too many that belong for certain are a breach; a refusal although all that may belong leave room is
//! one, too. So a breach that is reported is always one, and only decisions within a round trip of the edge go
//! unjudged.

use crate::clock::Timed;
use crate::tally::Tally;

/// The server counts in whole milliseconds, at either end of a span.
const SLACK_US: i128 = 2_000;

/// A limiter's rule.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// At most `limit` units in any span of this length.
    Window { limit: u64, window_ms: u64 },
    /// At most `burst` units at once, and `rate` more in each period.
    Bucket { rate: u64, per_ms: u64, burst: u64 },
}

impl Rule {
    /// The most that a single request can take.
    pub fn units_max(self) -> u64 {
        match self {
            Self::Window { limit, .. } => limit,
            Self::Bucket { burst, .. } => burst,
        }
    }
}

/// One decision on a request of `units`.
#[derive(Debug, Clone, Copy)]
pub struct Decision {
    units: i128,
    sent_us: i128,
    received_us: i128,
    allowed: bool,
}

impl Decision {
    pub fn new<T>(asked: &Timed<T>, units: u64, allowed: bool) -> Self {
        Self { units: units.into(), sent_us: asked.sent_us(), received_us: asked.received_us(), allowed }
    }
}

/// How many decisions of one key the rule does not explain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Breaches {
    /// Admitted beyond the limit.
    pub needless_admissions: usize,
    /// Refused although there was room.
    pub needless_refusals: usize,
}

/// Judges all decisions of one key.
pub fn judge(rule: Rule, decisions: &[Decision]) -> Breaches {
    let admitted: Vec<Decision> = decisions.iter().filter(|decision| decision.allowed).copied().collect();
    let sent = Tally::new(admitted.iter().map(|decision| (decision.sent_us, decision.units)));
    let received = Tally::new(admitted.iter().map(|decision| (decision.received_us, decision.units)));
    let refused = decisions.iter().filter(|decision| !decision.allowed);
    match rule {
        Rule::Window { limit, window_ms } => {
            let (limit, window_us) = (i128::from(limit), i128::from(window_ms) * 1_000);
            let overfull = |admission: &&Decision| {
                let start_us = admission.received_us - window_us + SLACK_US;
                received.until(admission.received_us) - sent.until(start_us) > limit
            };
            let had_room = |refusal: &&Decision| {
                let start_us = refusal.sent_us - window_us - SLACK_US;
                sent.until(refusal.received_us) - received.until(start_us) + refusal.units <= limit
            };
            Breaches {
                needless_admissions: admitted.iter().filter(overfull).count(),
                needless_refusals: refused.filter(had_room).count(),
            }
        }
        Rule::Bucket { rate, per_ms, burst } => {
            // In parts of 1/per_us of a unit, `rate` of which flow in each microsecond.
            let (rate, per_us) = (i128::from(rate), i128::from(per_ms) * 1_000);
            let (burst, slack) = (i128::from(burst) * per_us, SLACK_US * rate);
            // Of any span, no more than this may be admitted: burst + rate × length. The spans that matter start with
            // an admission; the worst start so far stands for all of them.
            let worst_for_admissions = running_max(&sent, |at_us, before| rate * at_us - before * per_us);
            let overfull = |admission: &&Decision| {
                let end_us = admission.received_us;
                worst_for_admissions
                    .get(end_us)
                    .is_some_and(|worst| received.until(end_us) * per_us - rate * end_us + worst > burst + slack)
            };
            let worst_for_refusals = running_max(&received, |at_us, before| rate * at_us - before * per_us);
            let had_room = |refusal: &&Decision| {
                let end_us = refusal.received_us;
                // Or one that was answered only after the refusal.
                let unanswered = rate * end_us - received.until(end_us - 1) * per_us;
                let worst = worst_for_refusals.get(end_us).map_or(unanswered, |worst| worst.max(unanswered));
                let most_taken = (sent.until(end_us) * per_us - rate * refusal.sent_us + worst).max(0);
                most_taken + refusal.units * per_us <= burst - slack
            };
            Breaches {
                needless_admissions: admitted.iter().filter(overfull).count(),
                needless_refusals: refused.filter(had_room).count(),
            }
        }
    }
}

/// The largest value of `of(time, units before it)` over all of the tally's entries up to a time.
fn running_max(tally: &Tally<i128>, of: impl Fn(i128, i128) -> i128) -> Tally<i128> {
    let (mut before, mut max) = (0, i128::MIN);
    tally.map(|at_us, sum| {
        max = max.max(of(at_us, before));
        before = sum;
        max
    })
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
