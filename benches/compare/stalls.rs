//! How long other clients wait while something large is deleted: the round trips of a client that sends one PING after
//! another, compared with those of an equally long time without a deletion.

use crate::measure::await_rest;
use crate::queue;
use crate::result::Result;
use crate::statistics::{Spread, percentile, spread};
use gw_testkit::Server;
use redis::{Connection, RedisResult, cmd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The number of records in the queue, and of entries in the cache.
pub const COUNT: u64 = 1_000_000;

/// The percentiles that are shown, as shares of all round trips: 99.9 %, and the maximum.
pub const SHARES: [f64; 2] = [0.999, 1.0];

/// The results for one kind of deletion.
pub struct Stall {
    pub name: &'static str,
    /// The time until the reply, in milliseconds.
    pub reply_ms: Spread,
    /// The time until all is freed, in seconds.
    pub freed_s: Spread,
    /// Round trips meanwhile, by [`SHARES`], in milliseconds.
    pub meanwhile_ms: [Spread; 2],
    /// Round trips while nothing happened.
    pub idle_ms: [Spread; 2],
}

struct Kind {
    name: &'static str,
    fill: fn(&mut Connection) -> Result<()>,
    delete: &'static [&'static str],
}

const KINDS: [Kind; 4] = [
    Kind { name: "DEL of a log queue", fill: fill_queue, delete: &["DEL", queue::KEY] },
    Kind { name: "GW.CACHECLEAR ALL", fill: |client| fill_cache(client, &[]), delete: &["GW.CACHECLEAR", "ALL"] },
    Kind {
        name: "GW.CACHECLEAR TAG",
        fill: |client| fill_cache(client, &["TAG", "t"]),
        delete: &["GW.CACHECLEAR", "TAG", "t"],
    },
    Kind {
        name: "GW.CACHECLEAR PATTERN",
        fill: |client| fill_cache(client, &[]),
        delete: &["GW.CACHECLEAR", "PATTERN", "models:*"],
    },
];

/// The number of records in a push, and of entries that are set at once.
const BATCH: u64 = 100;

/// The least time to wait until a queue's memory is freed: that happens on another thread, and no command shows its
/// end.
const FREED_MIN: Duration = Duration::from_secs(1);

pub fn stalls(server: &Server, rounds: usize) -> Result<Vec<Stall>> {
    KINDS.iter().map(|kind| stall(server, kind, rounds)).collect()
}

fn stall(server: &Server, kind: &Kind, rounds: usize) -> Result<Stall> {
    let mut connection = server.connect()?;
    let client = &mut connection;
    let (mut replies_ms, mut freed_s) = (Vec::new(), Vec::new());
    let (mut meanwhile, mut idle) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        cmd("FLUSHALL").arg("SYNC").exec(client)?;
        (kind.fill)(client)?;
        await_rest(client)?;
        meanwhile.push(round_trips(server, || {
            let start = Instant::now();
            cmd(kind.delete[0]).arg(&kind.delete[1..]).exec(client)?;
            replies_ms.push(start.elapsed().as_secs_f64() * 1e3);
            while start.elapsed() < FREED_MIN || cmd("DBSIZE").query::<u64>(client)? > 0 {
                thread::sleep(Duration::from_millis(50));
            }
            freed_s.push(start.elapsed().as_secs_f64());
            Ok(())
        })?);
        await_rest(client)?;
        let as_long = Duration::from_secs_f64(freed_s.last().copied().unwrap_or_default());
        idle.push(round_trips(server, || {
            thread::sleep(as_long);
            Ok(())
        })?);
    }
    cmd("FLUSHALL").arg("SYNC").exec(client)?;
    let by_share = |runs: &[Vec<u64>]| {
        SHARES.map(|share| spread(runs.iter().map(|sorted_us| percentile(sorted_us, share) as f64 / 1e3)))
    };
    Ok(Stall {
        name: kind.name,
        reply_ms: spread(replies_ms.into_iter()),
        freed_s: spread(freed_s.into_iter()),
        meanwhile_ms: by_share(&meanwhile),
        idle_ms: by_share(&idle),
    })
}

fn fill_queue(client: &mut Connection) -> Result<()> {
    queue::push(client, &mut 0, COUNT / BATCH, BATCH)
}

fn fill_cache(client: &mut Connection, options: &[&str]) -> Result<()> {
    let value = "v".repeat(100);
    for first in (0..COUNT).step_by(BATCH as usize) {
        let mut pipe = redis::pipe();
        (first..first + BATCH).for_each(|number| {
            pipe.cmd("GW.CACHESET").arg(format!("models:{number}")).arg(&value).arg(options).ignore();
        });
        pipe.exec(client)?;
    }
    Ok(())
}

/// The round trips of another client in microseconds, sorted.
fn round_trips(server: &Server, meanwhile: impl FnOnce() -> Result<()>) -> Result<Vec<u64>> {
    let mut other = server.connect()?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| -> RedisResult<Vec<u64>> {
            let mut times_us = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let start = Instant::now();
                cmd("PING").exec(&mut other)?;
                times_us.push(start.elapsed().as_micros() as u64);
            }
            Ok(times_us)
        });
        thread::sleep(Duration::from_millis(100));
        let result = meanwhile();
        done.store(true, Ordering::Relaxed);
        result?;
        let mut times_us = waiting.join().map_err(|_| "the other client panicked")??;
        times_us.sort_unstable();
        Ok(times_us)
    })
}
