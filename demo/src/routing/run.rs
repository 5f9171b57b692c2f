//! A run: clients on connections of their own, each with one request after the other.

use super::counters::{Counters, Process};
use super::deployments::{Answer, TOKENS_MAX, TOKENS_MIN};
use super::module::{Module, Pick, set_policies};
use super::plan::Plan;
use super::router::{Choice, Router};
use crate::clock::Clock;
use anyhow::Result;
use fastrand::Rng;
use gw_testkit::{DEADLINE, Server};
use redis::{Connection, cmd};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// The clients of one gateway process, which share what they know of failures if they route by counters.
const CLIENTS_PER_PROCESS: usize = 10;

/// Who chooses the deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Module(Pick),
    Counters,
}

impl By {
    pub const ALL: [Self; 5] = [
        Self::Module(Pick::First),
        Self::Module(Pick::Room),
        Self::Module(Pick::Fast),
        Self::Module(Pick::RoundRobin),
        Self::Counters,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Module(Pick::First) => "GW.ROUTE FIRST",
            Self::Module(Pick::Room) => "GW.ROUTE ROOM",
            Self::Module(Pick::Fast) => "GW.ROUTE FAST",
            Self::Module(Pick::RoundRobin) => "GW.ROUTE, in turn",
            Self::Counters => "clients' counters",
        }
    }
}

/// A call to a deployment. Times are since the start of the run.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub deployment: usize,
    pub tokens: u64,
    /// When the choice was asked for.
    pub asked: Duration,
    /// When it was known, and the call came to the deployment.
    pub arrived: Duration,
    /// When the answer came, and was told.
    pub ended: Duration,
    /// When it was told: all choices asked for from now on know it.
    pub told: Duration,
    pub answer: Answer,
}

/// Everything that the clients saw.
#[derive(Debug, Default)]
pub struct Run {
    /// In the order of their arrival.
    pub calls: Vec<Call>,
    /// How long requests took that were served: from the first question on, with waits and failed calls.
    pub requests: Vec<Duration>,
    /// Choices that led to no deployment.
    pub refusals: usize,
    /// The counters of GW.STATS at the end.
    pub stats: BTreeMap<String, u64>,
    /// The deployments with an outage that GW.ROUTE picks after the run, if it has no other choice.
    pub back: Vec<usize>,
}

/// One run, with a server of its own.
///
/// # Errors
/// The first error of any client, which ends all others. Setting `stop` ends the run early.
pub fn run(plan: &Plan, by: By, stop: &AtomicBool) -> Result<Run> {
    let server = Server::start()?;
    let mut connection = server.connect()?;
    set_policies(plan, &mut connection)?;
    let connections: Vec<Connection> = (0..plan.clients).map(|_| server.connect()).collect::<Result<_, _>>()?;
    let processes: Vec<_> =
        (0..plan.clients.div_ceil(CLIENTS_PER_PROCESS)).map(|_| Arc::new(Process::new(plan))).collect();
    let clock = Clock::start();
    let mut run = thread::scope(|scope| {
        let client = |(number, connection)| {
            let process = Arc::clone(&processes[number / CLIENTS_PER_PROCESS]);
            let router: Box<dyn Router + Send> = match by {
                By::Module(pick) => Box::new(Module::new(plan, pick, number, connection)),
                By::Counters => Box::new(Counters::new(plan, clock, process, connection)),
            };
            let mut rng = Rng::with_seed(plan.seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
            let jitter = rng.fork();
            let mut client = Client { plan, clock, router, rng, jitter, stop, seen: Run::default() };
            scope.spawn(move || {
                let served = client.serve_until_the_end();
                served.inspect_err(|_| stop.store(true, Ordering::Relaxed)).map(|()| client.seen)
            })
        };
        let clients: Vec<_> = connections.into_iter().enumerate().map(client).collect();
        let (mut all, mut failed) = (Run::default(), None);
        for client in clients {
            match client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
                Ok(seen) => all.add(seen),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(all), Err)
    })?;
    run.calls.sort_unstable_by_key(|call| call.arrived);
    run.stats = cmd("GW.STATS").query(&mut connection)?;
    if let By::Module(pick) = by {
        let failing = (0..plan.fleet.len()).filter(|&index| plan.fleet[index].outage.is_some());
        for deployment in failing {
            let mut router = Module::new(plan, pick, plan.clients + deployment, server.connect()?);
            if is_back(plan, &mut router, deployment, stop)? {
                run.back.push(deployment);
            }
        }
    }
    Ok(run)
}

/// Whether a deployment that can serve again gets a call that no other may get, as soon as it has room.
fn is_back(plan: &Plan, router: &mut impl Router, deployment: usize, stop: &AtomicBool) -> Result<bool> {
    let others: Vec<usize> = (0..plan.fleet.len()).filter(|&other| other != deployment).collect();
    let answer = Answer { after: Duration::ZERO, served: true, retry_after: Duration::ZERO };
    let clock = Clock::start();
    while clock.elapsed() < DEADLINE {
        match router.choose(TOKENS_MIN, &others)? {
            Choice::To(_) => return router.tell(deployment, TOKENS_MIN, answer).map(|()| true),
            Choice::Wait(wait) => clock.sleep_until(clock.elapsed() + wait.min(plan.wait_max), stop),
        }
    }
    Ok(false)
}

impl Run {
    fn add(&mut self, other: Self) {
        self.calls.extend(other.calls);
        self.requests.extend(other.requests);
        self.refusals += other.refusals;
    }
}

struct Client<'a> {
    plan: &'a Plan,
    clock: Clock,
    router: Box<dyn Router + Send + 'a>,
    rng: Rng,
    /// Its own, so that the requests do not depend on how often a client waits.
    jitter: Rng,
    stop: &'a AtomicBool,
    seen: Run,
}

impl Client<'_> {
    fn serve_until_the_end(&mut self) -> Result<()> {
        let start = self.plan.start.mul_f64(self.rng.f64());
        self.sleep(start);
        while !self.has_ended() {
            if !self.plan.rest.is_zero() {
                // Rests are exponentially distributed: requests come at random.
                let rest = self.plan.rest.mul_f64(-(1.0 - self.rng.f64()).ln());
                self.sleep(rest);
            }
            self.serve()?;
        }
        Ok(())
    }

    fn has_ended(&self) -> bool {
        self.clock.elapsed() >= self.plan.duration || self.stop.load(Ordering::Relaxed)
    }

    fn sleep(&self, time: Duration) {
        self.clock.sleep_until(self.clock.elapsed() + time, self.stop);
    }

    /// Serves one request: by the deployment that is chosen, by another if that one fails, and later if there is none.
    fn serve(&mut self) -> Result<()> {
        let tokens = self.rng.u64(TOKENS_MIN..=TOKENS_MAX);
        let (began, mut failed) = (self.clock.elapsed(), Vec::new());
        while !self.has_ended() {
            let asked = self.clock.elapsed();
            match self.router.choose(tokens, &failed)? {
                Choice::To(deployment) => {
                    let call = self.call(deployment, tokens, asked)?;
                    self.seen.calls.push(call);
                    if call.answer.served {
                        self.seen.requests.push(call.told - began);
                        return Ok(());
                    }
                    failed.push(deployment);
                }
                Choice::Wait(wait) => {
                    self.seen.refusals += 1;
                    // What has failed the request before is asked again.
                    failed.clear();
                    let jitter = self.plan.jitter.mul_f64(self.jitter.f64());
                    self.sleep(wait.min(self.plan.wait_max) + jitter);
                }
            }
        }
        Ok(())
    }

    fn call(&mut self, deployment: usize, tokens: u64, asked: Duration) -> Result<Call> {
        let arrived = self.clock.elapsed();
        let answer = self.plan.fleet[deployment].answer(arrived, &mut self.rng);
        self.sleep(answer.after);
        let ended = self.clock.elapsed();
        self.router.tell(deployment, tokens, answer)?;
        Ok(Call { deployment, tokens, asked, arrived, ended, told: self.clock.elapsed(), answer })
    }
}
