//! Routing by the module: GW.ROUTE before a call, GW.SETTLE after it.

use super::deployments::Answer;
use super::plan::{FAILURES, Plan};
use super::router::{Choice, Router};
use anyhow::{Context, Result, ensure};
use redis::Connection;
use redis_gateway_client::Amount;
use redis_gateway_client::commands::{
    self, BreakerPolicy, Outcome, Policy, PolicySetOptions, RouteOptions, SettleOptions, WindowPolicy, policy_set,
    route, settle,
};
use std::time::Duration;

/// In which order the targets are named, and which one is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    First,
    Room,
    Fast,
    /// FIRST, with the targets named in turn.
    RoundRobin,
}

/// A target's key. All are in one slot of a cluster.
pub fn target(plan: &Plan, deployment: usize) -> String {
    format!("{{model}}:{}", plan.fleet[deployment].name)
}

/// Sets the policies of all targets.
///
/// # Errors
/// An error of the server, or a target that had policies before.
pub fn set_policies(plan: &Plan, connection: &mut Connection) -> Result<()> {
    let [window_ms, failures_ms, open_ms] = [plan.policy_window, plan.failures_within, plan.open].map(millis);
    for (index, deployment) in plan.fleet.iter().enumerate() {
        let window = |limit: u64| -> Result<Policy> {
            Ok(WindowPolicy { limit: Amount::try_from(limit)?, window_ms, ..Default::default() }.into())
        };
        let failures = FAILURES.try_into()?;
        let policies = [
            ("rpm", window(deployment.requests)?, None),
            ("tpm", window(deployment.tokens)?, Some("tokens".into())),
            ("up", BreakerPolicy { failures, per_ms: failures_ms, open_ms }.into(), None),
        ];
        for (name, policy, meter) in policies {
            let options = PolicySetOptions { meter, ..Default::default() };
            let new = policy_set(target(plan, index), name, &policy, &options).query(connection)?;
            ensure!(new, "GW.POLICYSET of a policy that was there before");
        }
    }
    Ok(())
}

/// A whole number of milliseconds, rounded up.
pub fn millis(time: Duration) -> i64 {
    time.as_nanos().div_ceil(1_000_000) as i64
}

pub struct Module {
    pick: Pick,
    client: usize,
    targets: Vec<String>,
    connection: Connection,
    /// Attempts so far. Each has a lease of its own.
    attempts: usize,
}

impl Module {
    pub fn new(plan: &Plan, pick: Pick, client: usize, connection: Connection) -> Self {
        let targets = (0..plan.fleet.len()).map(|deployment| target(plan, deployment)).collect();
        Self { pick, client, targets, connection, attempts: 0 }
    }

    fn lease_id(&self) -> String {
        format!("client-{}-attempt-{}", self.client, self.attempts)
    }
}

impl Router for Module {
    fn choose(&mut self, tokens: u64, failed: &[usize]) -> Result<Choice> {
        /// More than any call takes.
        const TTL_MS: i64 = 30_000;
        self.attempts += 1;
        let mut order: Vec<usize> = (0..self.targets.len()).collect();
        if self.pick == Pick::RoundRobin {
            order.rotate_left((self.client + self.attempts) % self.targets.len());
        }
        order.retain(|deployment| !failed.contains(deployment));
        ensure!(!order.is_empty(), "every deployment has failed");
        let targets: Vec<_> = order.iter().map(|&deployment| &self.targets[deployment]).collect();
        let options = RouteOptions {
            amounts: [("tokens".into(), Amount::try_from(tokens)?)].into(),
            pick: Some(match self.pick {
                Pick::First | Pick::RoundRobin => commands::Pick::First,
                Pick::Room => commands::Pick::Room,
                Pick::Fast => commands::Pick::Fast,
            }),
            ..Default::default()
        };
        let found = route(&targets, self.lease_id(), TTL_MS, &options).query(&mut self.connection)?;
        match found.target {
            Some(picked) => {
                let place = self.targets.iter().position(|target| picked == target.as_str());
                let place = place.filter(|place| order.contains(place));
                Ok(Choice::To(place.with_context(|| format!("GW.ROUTE replied {picked}"))?))
            }
            None => {
                let wait_ms =
                    u64::try_from(found.retry_after_ms).context("GW.ROUTE says that waiting does not help")?;
                ensure!(wait_ms > 0, "GW.ROUTE refuses and says to ask again at once");
                Ok(Choice::Wait(Duration::from_millis(wait_ms)))
            }
        }
    }

    fn tell(&mut self, deployment: usize, tokens: u64, answer: Answer) -> Result<()> {
        let options = if answer.served {
            let amounts = [("tokens".into(), Amount::try_from(tokens)?)].into();
            SettleOptions { amounts, took_ms: Some(millis(answer.after)), ..Default::default() }
        } else {
            let amounts = [("requests".into(), Amount::ZERO), ("tokens".into(), Amount::ZERO)].into();
            let cooldown_ms = (!answer.retry_after.is_zero()).then(|| millis(answer.retry_after));
            SettleOptions { amounts, failed: true, cooldown_ms, ..Default::default() }
        };
        let request = settle(&[&self.targets[deployment]], self.lease_id(), &options);
        let outcome = request.query(&mut self.connection)?;
        ensure!(outcome == Outcome::Settled, "GW.SETTLE replied {outcome}");
        Ok(())
    }
}
