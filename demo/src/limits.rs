//! Judges a limiter's decisions from outside, by the times at which the client sent commands and received replies.
//!
//! The server decided at some time between the two, so each rule counts only what is certain. An admission certainly
//! belongs to a span if it was sent after the span's start and received before its end, and may belong to it if the two
//! overlap. It is a breach if too many admissions certainly belong to a span, or if a request was refused although even
//! all that may belong leave room. Units that a settlement gives back count the other way around. So every reported
//! breach is one, and only decisions within a round trip of the limit are not judged.

use crate::clock::Timed;
use crate::tally::Tally;

/// The server counts in whole milliseconds, at both ends of a span.
const SLACK_US: i128 = 2_000;

/// A limiter's rule.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// At most `limit` units in any span of this length.
    Window { limit: u64, window_ms: u64 },
    /// At most `burst` units at once, and `rate` more in each period.
    Bucket { rate: u64, per_ms: u64, burst: u64 },
    /// At most `max` units taken and not given back: requests in flight, or money.
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

/// Units that a settlement took in addition to an estimate, or, if negative, gave back.
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

/// The units that can have been taken up to a time.
pub struct Bounds {
    /// Counts units taken once that is certain, and units given back as soon as that is possible.
    least: Tally<i128>,
    /// Counts units taken as soon as that is possible, and units given back once that is certain.
    most: Tally<i128>,
    /// Units taken and given back, each by when it is possible and when it is certain; units given back are negative.
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

    /// The least that can have been taken at any time between the two.
    pub fn least(&self, sent_us: i128, received_us: i128) -> i128 {
        self.taken_late.until(sent_us - 1) + self.given_early.until(received_us)
    }

    /// The most that can have been taken at any time between the two.
    pub fn most(&self, sent_us: i128, received_us: i128) -> i128 {
        self.taken_early.until(received_us) + self.given_late.until(sent_us - 1)
    }
}

/// The numbers of one account's decisions that break the rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Breaches {
    /// Admitted beyond the limit.
    pub needless_admissions: usize,
    /// Refused although there was room.
    pub needless_refusals: usize,
}

/// Judges all decisions of one account. Windows have no corrections.
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

/// The bounds with all corrections, and those without corrections that took more. Such corrections are taken whatever
/// the limit, into debt, so they must not make an earlier admission look wrong. A limiter without them would have
/// admitted at least as much.
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
    // Counts in parts of 1/per_us of a unit: `rate` of them flow in each microsecond.
    let per_us = i128::from(per_ms) * 1_000;
    let (burst, slack) = (burst * per_us, SLACK_US * rate);
    let (bounds, without_debts) = bounds(decisions, corrections);
    // In any span, at most burst + rate × length may be taken. Only spans that start with a change matter, and of those
    // only the one with the worst start so far.
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
        // Also a change whose reply came only after the refusal.
        let unanswered = rate * end_us - bounds.least.until(end_us - 1) * per_us;
        let worst = worst_for_refusals.get(end_us).map_or(unanswered, |worst| worst.max(unanswered));
        let most = bounds.most(refusal.sent_us, end_us);
        let most_taken = (most * per_us - rate * refusal.sent_us + worst).max(0);
        most_taken + refusal.units * per_us <= burst - slack
    };
    count(decisions, overfull, had_room)
}

/// The largest value of `of(time, units before it)` over the tally's entries up to a time.
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
