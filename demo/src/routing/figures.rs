//! What a run amounts to.

use super::judge::{Windows, fullest, within_limits};
use super::plan::Plan;
use super::run::{Call, Run};
use std::time::Duration;

#[derive(Debug)]
pub struct Figures {
    /// The tokens that were served within the limits, as a part of what the deployments could serve.
    pub utilisation: f64,
    /// Calls above a limit, by windows that slide, and by windows that follow each other.
    pub above: usize,
    pub above_fixed: usize,
    /// The most that came to a deployment in a window, as a part of its limit.
    pub fullest: f64,
    /// How long a request took.
    pub p50: Duration,
    pub p99: Duration,
    /// The longest time from the question where to send a call to its arrival there.
    pub longest_way: Duration,
    pub outages: Vec<OutageFigures>,
}

#[derive(Debug)]
pub struct OutageFigures {
    /// Calls that came to the deployment while it failed.
    pub calls: usize,
    /// Those of them before it was left alone: since the first of them, no breaker and no cooldown could end.
    pub first_calls: usize,
    /// The time from its recovery to the second call that it served, since the first may be a probe.
    pub back_after: Option<Duration>,
}

/// The calls that a deployment has served.
pub fn served_by(run: &Run, deployment: usize) -> Vec<Call> {
    run.calls.iter().filter(|call| call.deployment == deployment && call.answer.served).copied().collect()
}

impl Figures {
    pub fn new(plan: &Plan, run: &Run) -> Self {
        let (mut served_tokens, mut capacity) = (0, 0.0);
        let [mut above, mut above_fixed] = [0, 0];
        let mut fullest_part = 0.0_f64;
        for (index, deployment) in plan.fleet.iter().enumerate() {
            let calls = served_by(run, index);
            let judged = within_limits(deployment, Windows::Sliding, plan.window, &calls);
            let fixed = within_limits(deployment, Windows::Fixed, plan.window, &calls);
            above += judged.iter().filter(|&&within| !within).count();
            above_fixed += fixed.iter().filter(|&&within| !within).count();
            let within = calls.iter().zip(judged).filter(|(call, within)| *within && call.arrived < plan.duration);
            served_tokens += within.map(|(call, _)| call.tokens).sum::<u64>();
            let windows = deployment.available(plan.duration).as_secs_f64() / plan.window.as_secs_f64();
            capacity += deployment.tokens as f64 * windows;
            fullest_part = fullest_part.max(fullest(deployment, plan.window, &calls));
        }
        let mut requests = run.requests.clone();
        requests.sort_unstable();
        let quantile = |part: f64| requests.get((requests.len() as f64 * part) as usize).copied().unwrap_or_default();
        Self {
            utilisation: served_tokens as f64 / capacity,
            above,
            above_fixed,
            fullest: fullest_part,
            p50: quantile(0.5),
            p99: quantile(0.99),
            longest_way: run.calls.iter().map(|call| call.arrived - call.asked).max().unwrap_or_default(),
            outages: outages(plan, run),
        }
    }
}

fn outages(plan: &Plan, run: &Run) -> Vec<OutageFigures> {
    let failing = plan.fleet.iter().enumerate().filter_map(|(index, it)| it.outage.map(|outage| (index, outage)));
    let figures = failing.map(|(index, outage)| {
        let calls = || run.calls.iter().filter(|call| call.deployment == index);
        let failed = || calls().filter(|call| !call.answer.served);
        let back = calls().filter(|call| call.answer.served && call.arrived >= outage.ends);
        let first = failed().next().map_or(outage.ends, |call| call.arrived);
        OutageFigures {
            calls: failed().count(),
            first_calls: failed().filter(|call| call.arrived < first + plan.open).count(),
            back_after: back.map(|call| call.arrived - outage.ends).nth(1),
        }
    });
    figures.collect()
}

/// Each deployment's part of the tokens that were served, by slots of half a window.
pub fn shares(plan: &Plan, run: &Run) -> Vec<Vec<f64>> {
    let slot = plan.window / 2;
    let slots = (plan.duration.as_nanos() / slot.as_nanos()) as usize;
    let mut tokens = vec![vec![0_u64; slots]; plan.fleet.len()];
    for call in run.calls.iter().filter(|call| call.answer.served) {
        let at = (call.arrived.as_nanos() / slot.as_nanos()) as usize;
        if let Some(sum) = tokens[call.deployment].get_mut(at) {
            *sum += call.tokens;
        }
    }
    let sums: Vec<u64> = (0..slots).map(|at| tokens.iter().map(|of| of[at]).sum()).collect();
    let part = |(tokens, sum): (&u64, &u64)| *tokens as f64 / (*sum).max(1) as f64;
    tokens.iter().map(|of| of.iter().zip(&sums).map(part).collect()).collect()
}
