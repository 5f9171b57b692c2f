//! Was every decision of a limiter right? Judged from outside, by when the client sent and received.
//!
//! The server decided somewhere between the two, so each rule counts what is certain: an admission belongs to a span
//! without doubt when it was sent after the span's start and received before its end, and it may belong to it when the
//! two overlap. Too many that belong for certain are a breach; a refusal although all that may belong leave room is
//! one, too. What a settlement gives back counts the other way around. So a breach that is reported is always one, and
//! only decisions within a round trip of the edge go unjudged.

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
    /// At most `max` taken and not given back: requests in flight, or money.
    Level { max: i128 },
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
    pub fn new<T>(asked: &Timed<T>, units: i128, allowed: bool) -> Self {
        Self { units, sent_us: asked.sent_us(), received_us: asked.received_us(), allowed }
    }
}

/// Units that a settlement took on top of an estimate, or gave back where they are fewer than none.
#[derive(Debug, Clone, Copy)]
pub struct Correction {
    units: i128,
    sent_us: i128,
    received_us: i128,
}

impl Correction {
    pub fn new<T>(settled: &Timed<T>, units: i128) -> Self {
        Self { units, sent_us: settled.sent_us(), received_us: settled.received_us() }
    }
}

/// What can have been taken by when.
pub struct Bounds {
    /// Takings once they are certain; what was given back as soon as it is possible.
    least: Tally<i128>,
    /// Takings as soon as they are possible; what was given back once it is certain.
    most: Tally<i128>,
    /// The same apart, by when each is possible and when it is certain; what was given back is below zero.
    taken_early: Tally<i128>,
    taken_late: Tally<i128>,
    given_early: Tally<i128>,
    given_late: Tally<i128>,
}

impl Bounds {
    pub fn new(decisions: &[Decision], corrections: &[Correction]) -> Self {
        let admitted = decisions.iter().filter(|decision| decision.allowed);
        let changes: Vec<(i128, i128, i128)> = admitted
            .map(|decision| (decision.units, decision.sent_us, decision.received_us))
            .chain(corrections.iter().map(|correction| (correction.units, correction.sent_us, correction.received_us)))
            .collect();
        let taken = || changes.iter().filter(|(units, ..)| *units > 0);
        let given = || changes.iter().filter(|(units, ..)| *units < 0);
        let sent = |&(units, sent_us, _): &(i128, i128, i128)| (sent_us, units);
        let received = |&(units, _, received_us): &(i128, i128, i128)| (received_us, units);
        Self {
            least: Tally::new(taken().map(received).chain(given().map(sent))),
            most: Tally::new(taken().map(sent).chain(given().map(received))),
            taken_early: Tally::new(taken().map(sent)),
            taken_late: Tally::new(taken().map(received)),
            given_early: Tally::new(given().map(sent)),
            given_late: Tally::new(given().map(received)),
        }
    }

    /// The least that can have been taken at any moment between the two.
    pub fn least(&self, sent_us: i128, received_us: i128) -> i128 {
        self.taken_late.until(sent_us - 1) + self.given_early.until(received_us)
    }

    /// The most that can have been taken at any moment between the two.
    pub fn most(&self, sent_us: i128, received_us: i128) -> i128 {
        self.taken_early.until(received_us) + self.given_late.until(sent_us - 1)
    }
}

/// How many decisions of one account the rule does not explain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Breaches {
    /// Admitted beyond the limit.
    pub needless_admissions: usize,
    /// Refused although there was room.
    pub needless_refusals: usize,
}

/// Judges all decisions of one account. Windows know no corrections.
pub fn judge(rule: Rule, decisions: &[Decision], corrections: &[Correction]) -> Breaches {
    match rule {
        Rule::Window { limit, window_ms } => judge_window(limit.into(), window_ms, decisions),
        Rule::Bucket { rate, per_ms, burst } => judge_bucket(rate.into(), per_ms, burst.into(), decisions, corrections),
        Rule::Level { max } => {
            let (bounds, without_debts) = bounds(decisions, corrections);
            count(
                decisions,
                |admission| without_debts.least.until(admission.received_us) > max,
                |refusal| bounds.most(refusal.sent_us, refusal.received_us) + refusal.units <= max,
            )
        }
    }
}

/// With all corrections, and without those that took more. These go into debt whatever the limit, so that no admission
/// is accused of what one took after it; a limiter that had never seen them would have admitted no less.
fn bounds(decisions: &[Decision], corrections: &[Correction]) -> (Bounds, Bounds) {
    let given: Vec<Correction> = corrections.iter().filter(|correction| correction.units < 0).copied().collect();
    (Bounds::new(decisions, corrections), Bounds::new(decisions, &given))
}

fn count(
    decisions: &[Decision],
    overfull: impl Fn(&Decision) -> bool,
    had_room: impl Fn(&Decision) -> bool,
) -> Breaches {
    let (admitted, refused): (Vec<&Decision>, Vec<&Decision>) = decisions.iter().partition(|decision| decision.allowed);
    Breaches {
        needless_admissions: admitted.into_iter().filter(|admission| overfull(admission)).count(),
        needless_refusals: refused.into_iter().filter(|refusal| had_room(refusal)).count(),
    }
}

fn judge_window(limit: i128, window_ms: u64, decisions: &[Decision]) -> Breaches {
    let window_us = i128::from(window_ms) * 1_000;
    let Bounds { least: received, most: sent, .. } = Bounds::new(decisions, &[]);
    let overfull = |admission: &Decision| {
        let start_us = admission.received_us - window_us + SLACK_US;
        received.until(admission.received_us) - sent.until(start_us) > limit
    };
    let had_room = |refusal: &Decision| {
        let start_us = refusal.sent_us - window_us - SLACK_US;
        sent.until(refusal.received_us) - received.until(start_us) + refusal.units <= limit
    };
    count(decisions, overfull, had_room)
}

fn judge_bucket(rate: i128, per_ms: u64, burst: i128, decisions: &[Decision], corrections: &[Correction]) -> Breaches {
    // In parts of 1/per_us of a unit, `rate` of which flow in each microsecond.
    let per_us = i128::from(per_ms) * 1_000;
    let (burst, slack) = (burst * per_us, SLACK_US * rate);
    let (bounds, without_debts) = bounds(decisions, corrections);
    // Of any span, no more than this may be taken: burst + rate × length. The spans that matter start with a change;
    // the worst start so far stands for all of them.
    let worst_for_admissions = running_max(&without_debts.most, |at_us, before| rate * at_us - before * per_us);
    let overfull = |admission: &Decision| {
        let end_us = admission.received_us;
        worst_for_admissions
            .get(end_us)
            .is_some_and(|worst| without_debts.least.until(end_us) * per_us - rate * end_us + worst > burst + slack)
    };
    let worst_for_refusals = running_max(&bounds.least, |at_us, before| rate * at_us - before * per_us);
    let had_room = |refusal: &Decision| {
        let end_us = refusal.received_us;
        // Or one that was answered only after the refusal.
        let unanswered = rate * end_us - bounds.least.until(end_us - 1) * per_us;
        let worst = worst_for_refusals.get(end_us).map_or(unanswered, |worst| worst.max(unanswered));
        let most = bounds.most(refusal.sent_us, end_us);
        let most_taken = (most * per_us - rate * refusal.sent_us + worst).max(0);
        most_taken + refusal.units * per_us <= burst - slack
    };
    count(decisions, overfull, had_room)
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
