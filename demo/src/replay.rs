//! The run: connections that serve requests when they are due, and a consumer that pops the log records.

use crate::clock::{Clock, Pace};
use crate::gateway::{Gateway, Journey, LOG_KEY};
use crate::latency::{Latencies, Trip};
use crate::progress::Progress;
use crate::workload::Workload;
use anyhow::{Context, Result};
use gw_testkit::Server;
use redis::{Connection, cmd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Everything that the clients saw.
pub struct Run {
    pub journeys: Vec<Journey>,
    pub latencies: Latencies,
    /// The records in the order in which they were popped.
    pub records: Vec<String>,
    pub elapsed: Duration,
}

/// State that the threads of a run share.
struct Shared<'a> {
    workload: &'a Workload,
    pace: Pace,
    clock: Clock,
    /// The next request that no connection has taken yet.
    next: AtomicUsize,
    served: AtomicUsize,
    /// Set when all connections have ended: no more records will come.
    ended: AtomicBool,
    /// Set on Ctrl-C, and by the first error.
    stop: &'a AtomicBool,
}

/// Replays the workload over `connections` connections at once; each takes the next request when it is free.
///
/// # Errors
/// The first error of any connection, which ends all others. Setting `stop` ends the run early.
pub fn replay(server: &Server, workload: &Workload, pace: Pace, connections: usize, stop: &AtomicBool) -> Result<Run> {
    let gateway_connections: Vec<Connection> = (0..connections).map(|_| server.connect()).collect::<Result<_, _>>()?;
    let consumer_connection = server.connect()?;
    let shared = Shared {
        workload,
        pace,
        clock: Clock::start(),
        next: AtomicUsize::new(0),
        served: AtomicUsize::new(0),
        ended: AtomicBool::new(false),
        stop,
    };
    let shared = &shared;
    thread::scope(|scope| {
        let gateways: Vec<_> = gateway_connections
            .into_iter()
            .map(|connection| scope.spawn(move || stopping_on_error(stop, || serve_all(shared, connection))))
            .collect();
        let consumer = scope.spawn(move || stopping_on_error(stop, || consume_all(shared, consumer_connection)));

        let mut progress = Progress::new(workload.requests.len());
        while !gateways.iter().all(|gateway| gateway.is_finished()) {
            progress.show(shared.served.load(Ordering::Relaxed));
            thread::sleep(Progress::INTERVAL);
        }
        progress.show(shared.served.load(Ordering::Relaxed));
        shared.ended.store(true, Ordering::Release);

        let mut latencies = Latencies::default();
        let mut journeys = Vec::with_capacity(workload.requests.len());
        let mut failed = None;
        for gateway in gateways {
            match joined(gateway) {
                Ok(gateway) => {
                    latencies.merge(&gateway.latencies);
                    journeys.extend(gateway.journeys);
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let elapsed = shared.clock.elapsed();
        let consumed = joined(consumer);
        if let Some(error) = failed {
            return Err(error);
        }
        let (records, pops) = consumed?;
        latencies.merge(&pops);
        Ok(Run { journeys, latencies, records, elapsed })
    })
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn stopping_on_error<T>(stop: &AtomicBool, work: impl FnOnce() -> Result<T>) -> Result<T> {
    work().inspect_err(|_| stop.store(true, Ordering::Relaxed))
}

/// One connection's part of the requests.
fn serve_all<'a>(shared: &Shared<'a>, connection: Connection) -> Result<Gateway<'a>> {
    let mut gateway = Gateway::new(shared.workload, shared.pace, shared.clock, shared.stop, connection);
    loop {
        let index = shared.next.fetch_add(1, Ordering::Relaxed);
        let Some(request) = shared.workload.requests.get(index) else { return Ok(gateway) };
        shared.clock.sleep_until(shared.pace.shortened(request.at), shared.stop);
        if shared.stop.load(Ordering::Relaxed) {
            return Ok(gateway);
        }
        gateway.serve(index).with_context(|| format!("request {index}"))?;
        shared.served.fetch_add(1, Ordering::Relaxed);
    }
}

/// Pops records in batches until none can come any more.
fn consume_all(shared: &Shared<'_>, mut connection: Connection) -> Result<(Vec<String>, Latencies)> {
    const BATCH: usize = 100;
    const PAUSE: Duration = Duration::from_millis(2);
    let mut records = Vec::new();
    let mut latencies = Latencies::default();
    loop {
        // Read before the pop, so that this pop or a later one gets everything that was pushed before the connections
        // ended.
        let ended = shared.ended.load(Ordering::Acquire);
        let asked_at = Instant::now();
        let batch: Vec<String> = cmd("GW.LOGPOP").arg(LOG_KEY).arg("COUNT").arg(BATCH).query(&mut connection)?;
        latencies.record(Trip::LogPop, asked_at.elapsed());
        let count = batch.len();
        records.extend(batch);
        if ended && count == 0 {
            return Ok((records, latencies));
        }
        if count < BATCH && !ended {
            thread::sleep(PAUSE);
        }
    }
}
