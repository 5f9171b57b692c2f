//! Routing by the module: GW.ROUTE before a call, GW.SETTLE after it.

use super::deployments::Answer;
use super::plan::{FAILURES, Plan};
use super::router::{Choice, Router};
use anyhow::{Context, Result, ensure};
use redis::{Connection, cmd};
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
        let policy = |name| cmd("GW.POLICYSET").arg(target(plan, index)).arg(name).take();
        let policies = [
            policy("rpm").arg(("WINDOW", deployment.requests, "PER", window_ms)).take(),
            policy("tpm").arg(("WINDOW", deployment.tokens, "PER", window_ms, "METER", "tokens")).take(),
            policy("up").arg(("BREAKER", FAILURES, "PER", failures_ms, "OPEN", open_ms)).take(),
        ];
        for policy in policies {
            let new: u8 = policy.query(connection).context("GW.POLICYSET")?;
            ensure!(new == 1, "GW.POLICYSET of a policy that was there before");
        }
    }
    Ok(())
}

/// A whole number of milliseconds, rounded up.
pub fn millis(time: Duration) -> u64 {
    time.as_nanos().div_ceil(1_000_000) as u64
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
        const TTL_MS: u64 = 30_000;
        self.attempts += 1;
        let mut order: Vec<usize> = (0..self.targets.len()).collect();
        if self.pick == Pick::RoundRobin {
            order.rotate_left((self.client + self.attempts) % self.targets.len());
        }
        order.retain(|deployment| !failed.contains(deployment));
        let mut route = cmd("GW.ROUTE");
        let (first, others) = order.split_first().context("every deployment has failed")?;
        route.arg(&self.targets[*first]);
        if !others.is_empty() {
            route.arg("WITH").arg(others.len());
            for &other in others {
                route.arg(&self.targets[other]);
            }
        }
        route.arg("LEASE").arg(self.lease_id()).arg("TTL").arg(TTL_MS).arg("tokens").arg(tokens).arg("PICK");
        route.arg(match self.pick {
            Pick::First | Pick::RoundRobin => "FIRST",
            Pick::Room => "ROOM",
            Pick::Fast => "FAST",
        });
        let (picked, retry_after_ms, _): (Option<String>, i64, Vec<()>) =
            route.query(&mut self.connection).context("GW.ROUTE")?;
        match picked {
            Some(picked) => {
                let place = self.targets.iter().position(|target| *target == picked);
                let place = place.filter(|place| order.contains(place));
                Ok(Choice::To(place.with_context(|| format!("GW.ROUTE replied {picked}"))?))
            }
            None => {
                let wait_ms = u64::try_from(retry_after_ms).context("GW.ROUTE says that waiting does not help")?;
                ensure!(wait_ms > 0, "GW.ROUTE refuses and says to ask again at once");
                Ok(Choice::Wait(Duration::from_millis(wait_ms)))
            }
        }
    }

    fn tell(&mut self, deployment: usize, tokens: u64, answer: Answer) -> Result<()> {
        let mut settle = cmd("GW.SETTLE");
        settle.arg(&self.targets[deployment]).arg("LEASE").arg(self.lease_id());
        if answer.served {
            settle.arg("tokens").arg(tokens).arg("TOOK").arg(millis(answer.after));
        } else {
            settle.arg("requests").arg(0).arg("tokens").arg(0).arg("FAILED");
            if !answer.retry_after.is_zero() {
                settle.arg("COOLDOWN").arg(millis(answer.retry_after));
            }
        }
        let outcome: String = settle.query(&mut self.connection).context("GW.SETTLE")?;
        ensure!(outcome == "SETTLED", "GW.SETTLE replied {outcome}");
        Ok(())
    }
}
