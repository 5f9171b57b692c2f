//! What must hold of every run of the module, however busy the machine is.

use super::figures::served_by;
use super::module::millis;
use super::plan::{FAILURES, Plan};
use super::run::{Call, Run};
use crate::audit::Check;
use crate::clock::Timed;
use crate::limits::{Decision, Rule, judge};
use crate::text::grouped;
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// The server counts in whole milliseconds, at both ends of a span.
const SLACK: Duration = Duration::from_millis(2);

pub fn checks(plan: &Plan, run: &Run) -> Vec<Check> {
    let check = |name, result| Check { name, result };
    let mut checks = vec![check("limits", limits(plan, run)), check("the server's counters", counters(run))];
    if failing(plan).next().is_some() {
        checks.push(check("failing deployments are left alone", left_alone(plan, run)));
        checks.push(check("deployments come back", come_back(plan, run)));
    }
    checks
}

/// No window has more than its limit. The server decided between the question and the call's arrival, and only what is
/// certain by that counts.
fn limits(plan: &Plan, run: &Run) -> Result<String> {
    let window_ms = millis(plan.policy_window) as u64;
    let mut decisions = 0;
    for (index, deployment) in plan.fleet.iter().enumerate() {
        // Calls that failed gave back what they had taken.
        let served = served_by(run, index);
        type Units = fn(&Call) -> u64;
        let meters: [(&str, u64, Units); 2] =
            [("requests", deployment.requests, |_| 1), ("tokens", deployment.tokens, |call| call.tokens)];
        for (meter, limit, units) in meters {
            let decided = served.iter().map(|call| {
                let asked = Timed { sent: call.asked, received: call.arrived, reply: () };
                Decision::new(&asked, units(call).into(), true)
            });
            let decided: Vec<Decision> = decided.collect();
            let breaches = judge(Rule::Window { limit, window_ms }, &decided, &[]);
            let above = breaches.needless_admissions;
            ensure!(above == 0, "{above} calls above the limit of {} {meter} of {}", limit, deployment.name);
            decisions += decided.len();
        }
    }
    Ok(format!("{} decisions", grouped(decisions)))
}

/// Once a deployment's failures have opened its breaker, it gets one call at a time, the probe, and none before the
/// breaker is half-open. Once a cooldown is known, it gets none before that is over.
fn left_alone(plan: &Plan, run: &Run) -> Result<String> {
    let mut told = Vec::new();
    for (index, name) in failing(plan) {
        let calls: Vec<&Call> = run.calls.iter().filter(|call| call.deployment == index).collect();
        let failed: Vec<&Call> = calls.iter().copied().filter(|call| !call.answer.served).collect();
        for known in &failed {
            let over = known.ended + known.answer.retry_after;
            let early = calls.iter().find(|call| call.asked > known.told && call.arrived + SLACK < over);
            ensure!(early.is_none(), "{name} got a call in its cooldown: {early:?}, after {known:?}");
        }
        // It opened between these two, with one of the first failures that were told.
        let nth = |time: fn(&Call) -> Duration| {
            let mut times: Vec<Duration> = failed.iter().map(|call| time(call)).collect();
            times.sort_unstable();
            times.get(FAILURES - 1).copied()
        };
        let (opened_from, opened_by) = (nth(|call| call.ended), nth(|call| call.told));
        let mut half_open = opened_from.map(|from| from + plan.open);
        let mut probes = 0;
        for call in calls.iter().filter(|call| opened_by.is_some_and(|by| call.asked > by)) {
            let is_early = half_open.is_some_and(|half_open| call.arrived + SLACK < half_open);
            ensure!(!is_early, "{name} got a call while its breaker was open: {call:?}");
            if call.answer.served {
                break;
            }
            half_open = Some(call.ended + plan.open);
            probes += 1;
        }
        told.push(format!("{name} after {} calls, then {probes} probes", failed.len() - probes));
    }
    Ok(told.join("; "))
}

/// After the run, each of them serves a call that can go nowhere else.
fn come_back(plan: &Plan, run: &Run) -> Result<String> {
    let mut told = Vec::new();
    for (index, name) in failing(plan) {
        ensure!(run.back.contains(&index), "{name} gets no call any more");
        let outage = plan.fleet[index].outage;
        let since =
            served_by(run, index).iter().filter(|call| outage.is_some_and(|it| call.arrived >= it.ends)).count();
        told.push(format!("{name}, which has served {} calls since", grouped(since)));
    }
    Ok(told.join("; "))
}

/// The deployments that fail for a time.
fn failing(plan: &Plan) -> impl Iterator<Item = (usize, &'static str)> {
    plan.fleet.iter().enumerate().filter(|(_, it)| it.outage.is_some()).map(|(index, it)| (index, it.name))
}

fn counters(run: &Run) -> Result<String> {
    let counter = |name: &str| run.stats.get(name).copied().with_context(|| format!("GW.STATS has no {name}"));
    let [calls, refusals] = [run.calls.len(), run.refusals].map(|count| count as u64);
    let (picked, refused) = (counter("route_picked")?, counter("route_refused")?);
    ensure!((picked, refused) == (calls, refusals), "{picked} and {refused} for {calls} calls and {refusals} refusals");
    let [probes, opened, closed] = ["breaker_probes", "breaker_opened", "breaker_closed"].map(counter);
    Ok(format!(
        "{} picked, {} refused, {} probes, {} opened, {} closed",
        grouped(picked as usize),
        grouped(refused as usize),
        probes?,
        opened?,
        closed?
    ))
}
