//! Routing by counters that clients keep, as gateways do it today: read what each deployment has used in this window,
//! choose the one with the most room, call it, and add what was used afterwards. Failures are each process's own.

use super::deployments::Answer;
use super::plan::{FAILURES, Plan};
use super::router::{Choice, Router};
use crate::clock::Clock;
use anyhow::{Context, Result};
use redis::{Connection, cmd, pipe};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a process knows of the deployments that have failed its own calls.
#[derive(Debug)]
pub struct Process(Mutex<Vec<Cooldown>>);

#[derive(Debug, Clone, Default)]
struct Cooldown {
    until: Duration,
    failures: Vec<Duration>,
}

impl Process {
    pub fn new(plan: &Plan) -> Self {
        Self(Mutex::new(vec![Cooldown::default(); plan.fleet.len()]))
    }

    fn cooldowns(&self) -> MutexGuard<'_, Vec<Cooldown>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a failure. As with a breaker, a number of them within some time is followed by a cooldown.
    fn fail(&self, plan: &Plan, deployment: usize, now: Duration, retry_after: Duration) {
        let cooldown = &mut self.cooldowns()[deployment];
        cooldown.failures.retain(|&failure| now < failure + plan.failures_within);
        cooldown.failures.push(now);
        let own = if cooldown.failures.len() >= FAILURES { plan.open } else { Duration::ZERO };
        cooldown.until = cooldown.until.max(now + own.max(retry_after));
    }
}

pub struct Counters<'a> {
    plan: &'a Plan,
    clock: Clock,
    process: Arc<Process>,
    connection: Connection,
}

impl<'a> Counters<'a> {
    pub fn new(plan: &'a Plan, clock: Clock, process: Arc<Process>, connection: Connection) -> Self {
        Self { plan, clock, process, connection }
    }

    /// Windows follow each other, and all clients agree on when they begin.
    fn window(&self) -> u128 {
        self.clock.elapsed().as_nanos() / self.plan.window.as_nanos()
    }

    fn keys(&self, deployment: usize, window: u128) -> [String; 2] {
        ["requests", "tokens"].map(|meter| format!("{meter}:{}:{window}", self.plan.fleet[deployment].name))
    }
}

impl Router for Counters<'_> {
    fn choose(&mut self, tokens: u64, failed: &[usize]) -> Result<Choice> {
        let window = self.window();
        let mut read = cmd("MGET");
        for deployment in 0..self.plan.fleet.len() {
            read.arg(&self.keys(deployment, window));
        }
        let used: Vec<Option<u64>> = read.query(&mut self.connection).context("MGET")?;
        let now = self.clock.elapsed();
        let cooldowns = self.process.cooldowns();
        let mut best: Option<(usize, f64)> = None;
        let mut soonest = self.plan.window * (window as u32 + 1);
        for (index, deployment) in self.plan.fleet.iter().enumerate() {
            let [requests, used_tokens] =
                [0, 1].map(|meter| used.get(2 * index + meter).copied().flatten().unwrap_or(0));
            if now < cooldowns[index].until {
                soonest = soonest.min(cooldowns[index].until);
                continue;
            }
            let has_room = requests < deployment.requests && used_tokens + tokens <= deployment.tokens;
            let share = used_tokens as f64 / deployment.tokens as f64;
            if has_room && !failed.contains(&index) && best.is_none_or(|(_, least)| share < least) {
                best = Some((index, share));
            }
        }
        Ok(best.map_or(Choice::Wait(soonest.saturating_sub(now)), |(index, _)| Choice::To(index)))
    }

    fn tell(&mut self, deployment: usize, tokens: u64, answer: Answer) -> Result<()> {
        if !answer.served {
            self.process.fail(self.plan, deployment, self.clock.elapsed(), answer.retry_after);
            return Ok(());
        }
        let [requests, used_tokens] = self.keys(deployment, self.window());
        let mut add = pipe();
        for (key, amount) in [(requests, 1), (used_tokens, tokens)] {
            add.cmd("INCRBY").arg(&key).arg(amount).ignore();
            add.cmd("EXPIRE").arg(&key).arg(60).ignore();
        }
        add.query::<()>(&mut self.connection).context("INCRBY")
    }
}
