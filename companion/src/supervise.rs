//! Jobs: each runs in a thread of its own, is started again when it fails, and shows in the health.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use crate::stop::{Backoff, Stop};

/// The longest pause before a job is started again.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A job that has run for this long before it failed is started again at once, as after its first failure.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// What a job tells of itself while it runs.
#[derive(Clone)]
pub struct Reporter(Arc<Mutex<State>>);

impl Reporter {
    /// It has done its work, as far as there was any: it is well.
    pub fn well(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (state.is_well, state.since) = (true, if state.is_well { state.since } else { SystemTime::now() });
        state.error = None;
    }

    /// It cannot do its work for now, and tries again by itself.
    pub fn waiting(&self, error: &dyn fmt::Display) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (state.is_well, state.since) = (false, if state.is_well { SystemTime::now() } else { state.since });
        (state.error, state.last_error) = (Some(error.to_string()), Some(SystemTime::now()));
    }
}

struct State {
    is_well: bool,
    since: SystemTime,
    error: Option<String>,
    last_error: Option<SystemTime>,
    starts: u64,
}

/// A job's health, as `/healthz` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    pub job: String,
    pub is_well: bool,
    /// In unix seconds: since when it has been well, or not.
    pub since: u64,
    /// How often it was started.
    pub starts: u64,
    /// In unix seconds: when it last had an error, if it ever had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A job: it runs until the end is requested, or until it fails.
pub type Job = Box<dyn FnMut(&Stop, &Reporter) -> anyhow::Result<()> + Send>;

/// Starts jobs, and knows how they are.
#[derive(Default)]
pub struct Supervisor {
    jobs: Vec<(String, Arc<Mutex<State>>, thread::JoinHandle<()>)>,
}

impl Supervisor {
    /// Starts a job under a name, which appears in logs and in the health.
    pub fn start(&mut self, name: String, stop: &Stop, job: Job) {
        let state = State { is_well: false, since: SystemTime::now(), error: None, last_error: None, starts: 0 };
        let state = Arc::new(Mutex::new(state));
        let (reporter, stop) = (Reporter(Arc::clone(&state)), stop.clone());
        let thread = thread::Builder::new().name(name.clone()).spawn({
            let name = name.clone();
            move || supervise(&name, job, &reporter, &stop)
        });
        match thread {
            Ok(thread) => self.jobs.push((name, state, thread)),
            Err(error) => panic!("the system has no thread for {name}: {error}"),
        }
    }

    /// All jobs, in the order in which they were started.
    pub fn health(&self) -> Vec<Health> {
        let health = self.jobs.iter().map(|(name, state, _)| {
            let state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            let State { is_well, starts, .. } = *state;
            let (since, last_error) = (seconds(state.since), state.last_error.map(seconds));
            Health { job: name.clone(), is_well, since, starts, last_error, error: state.error.clone() }
        });
        health.collect()
    }

    /// Waits until all jobs have ended, which they do when the end is requested.
    pub fn join(self) {
        for (name, _, thread) in self.jobs {
            if thread.join().is_err() {
                tracing::error!(job = name, "its supervisor has failed");
            }
        }
    }
}

fn supervise(name: &str, mut job: Job, reporter: &Reporter, stop: &Stop) {
    let mut backoff = Backoff::up_to(PAUSE_MAX);
    while !stop.is_requested() {
        reporter.0.lock().unwrap_or_else(PoisonError::into_inner).starts += 1;
        let started = Instant::now();
        // What a job has in hand stays at the server or in the database until it is done: it is begun anew.
        let error = match catch_unwind(AssertUnwindSafe(|| job(stop, reporter))) {
            Ok(Ok(())) if stop.is_requested() => break,
            Ok(Ok(())) => anyhow::anyhow!("it has ended"),
            Ok(Err(error)) => error,
            Err(panic) => anyhow::anyhow!("it has panicked: {}", message_of(&*panic)),
        };
        if started.elapsed() >= SETTLED_AFTER {
            backoff.reset();
        }
        let pause = backoff.next();
        tracing::error!(
            job = name,
            error = format!("{error:#}"),
            pause_ms = pause.as_millis() as u64,
            "failed; starting again"
        );
        reporter.waiting(&format_args!("{error:#}"));
        stop.pause(pause);
    }
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn wait_until(what: impl Fn() -> bool) {
        while !what() {
            thread::yield_now();
        }
    }

    #[test]
    fn a_job_that_fails_or_panics_is_started_again() {
        let (stop, mut supervisor, runs) = (Stop::default(), Supervisor::default(), Arc::new(AtomicU32::new(0)));
        let job = {
            let runs = Arc::clone(&runs);
            move |stop: &Stop, reporter: &Reporter| match runs.fetch_add(1, Ordering::SeqCst) {
                0 => anyhow::bail!("no database"),
                1 => panic!("a bug"),
                _ => {
                    reporter.well();
                    while !stop.pause(Duration::from_secs(3_600)) {}
                    Ok(())
                }
            }
        };
        supervisor.start("sync".into(), &stop, Box::new(job));
        wait_until(|| supervisor.health()[0].is_well);
        let health = supervisor.health();
        assert_eq!((&*health[0].job, health[0].starts, &health[0].error), ("sync", 3, &None));
        stop.request();
        supervisor.join();
        assert_eq!(runs.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn what_is_in_the_way_shows_in_the_health() {
        let (stop, mut supervisor) = (Stop::default(), Supervisor::default());
        let job = |stop: &Stop, reporter: &Reporter| {
            reporter.waiting(&"the bucket is away");
            while !stop.pause(Duration::from_secs(3_600)) {}
            Ok(())
        };
        supervisor.start("ship logs".into(), &stop, Box::new(job));
        wait_until(|| supervisor.health()[0].error.is_some());
        let health = supervisor.health().remove(0);
        assert_eq!((health.is_well, health.error.as_deref()), (false, Some("the bucket is away")));
        stop.request();
        supervisor.join();
    }
}
