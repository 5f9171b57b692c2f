//! A log queue of a million records: the longest times of its commands, and the cost of a snapshot under load.

use crate::measure::await_rest;
use crate::records::record;
use crate::result::Result;
use gw_testkit::{Server, info};
use redis::{Cmd, Connection, cmd};
use std::thread;
use std::time::{Duration, Instant};

pub const RECORDS: u64 = 1_000_000;
pub const KEY: &str = "million";
/// With these settings of jemalloc, freed memory stays with the server. Otherwise a virtual machine may get pages from
/// its host when they are first touched, which takes ten microseconds each here, and up to four milliseconds.
const KEEPS_MEMORY: [&str; 2] = ["env", "MALLOC_CONF=dirty_decay_ms:-1,muzzy_decay_ms:-1"];
const BITS_BYTES: u64 = 512 << 10;
const BOUNDS: [&str; 5] = ["MAXLEN", "10000000", "MAXBYTES", "100000000000", "RECORDS"];

/// How long the commands of one kind took, by the server's own clock, in microseconds.
pub struct Times {
    pub name: String,
    pub calls: u64,
    pub p50_us: f64,
    pub p9999_us: f64,
    pub max_us: f64,
}

/// A BGSAVE while records were pushed and popped.
pub struct Snapshot {
    pub took: Duration,
    pub records_per_s: f64,
    /// The memory that the snapshot's process and the server did not share at the end, as a share of the server's
    /// memory.
    pub copied: f64,
    /// The share of the queue that was popped and replaced, which the snapshot's process keeps.
    pub popped: f64,
}

pub struct Report {
    pub times: Vec<Times>,
    /// Bytes per record, when the queue holds a million.
    pub record_bytes: f64,
    /// Under a gateway's load, and under the highest possible load.
    pub snapshots: [Snapshot; 2],
}

pub fn report() -> Result<Report> {
    let server = Server::options().under(&KEEPS_MEMORY).start()?;
    let mut connection = server.connect()?;
    let client = &mut connection;
    cmd("CONFIG").arg("SET").arg("latency-tracking-info-percentiles").arg("50 99.99 100").exec(client)?;
    // As in the shipped redis.conf.
    cmd("CONFIG").arg("SET").arg("rdbcompression").arg("no").exec(client)?;
    let mut next = 0;
    let mut times = vec![timed(client, "GW.LOGPUSH of 1", |client| push(client, &mut next, RECORDS / 2, 1))?];
    times.push(timed(client, "GW.LOGPUSH of 100", |client| push(client, &mut next, RECORDS / 2 / 100, 100))?);
    await_rest(client)?;
    let usage: f64 = cmd("MEMORY").arg("USAGE").arg(KEY).query(client)?;
    for count in [1, 100] {
        let peek = words(&["GW.LOGPEEK", KEY, "COUNT", &count.to_string()]);
        times.push(timed(client, &format!("GW.LOGPEEK of {count}"), |client| repeat(client, &peek, 50_000))?);
    }
    let snapshots = [snapshot(client, &mut next, Some(20_000))?, snapshot(client, &mut next, None)?];
    times.push(timed(client, "GW.LOGPUSH of 1 after a snapshot", |client| push(client, &mut next, 200_000, 1))?);
    for (name, calls, count, leased) in [
        ("GW.LOGPOP of 1", 100_000, 1, false),
        ("GW.LOGPOP of 100", 20_000, 100, false),
        ("GW.LOGPOP of 100, leased", 20_000, 100, true),
    ] {
        times.push(timed(client, name, |client| pop_and_push(client, &mut next, calls, count, leased))?);
    }
    times.push(timed(client, "DEL of the queue", |client| Ok(cmd("DEL").arg(KEY).exec(client)?))?);
    // A command that always does the same work, about as much as a pop of 100: it shows the machine's own delays.
    cmd("SETBIT").arg("bits").arg(8 * BITS_BYTES - 1).arg(1).exec(client)?;
    let count = words(&["BITCOUNT", "bits"]);
    times.push(timed(client, "BITCOUNT of 512 KB", |client| repeat(client, &count, 50_000))?);
    Ok(Report { times, record_bytes: usage / RECORDS as f64, snapshots })
}

fn words(words: &[&str]) -> Cmd {
    let mut command = Cmd::new();
    command.arg(words);
    command
}

/// Runs `body`, which sends commands of one kind only, and asks the server how long they took.
fn timed(client: &mut Connection, name: &str, body: impl FnOnce(&mut Connection) -> Result<()>) -> Result<Times> {
    cmd("CONFIG").arg("RESETSTAT").exec(client)?;
    body(client)?;
    let command = name.split(' ').next().unwrap_or_default().to_lowercase();
    let latencies = info(client, "latencystats");
    let line = latencies.get(&format!("latency_percentiles_usec_{command}")).cloned().unwrap_or_default();
    let stats = info(client, "commandstats").get(&format!("cmdstat_{command}")).cloned().unwrap_or_default();
    let field = |line: &str, name: &str| -> Result<f64> {
        let value = line.split(',').find_map(|part| part.split_once('=').filter(|(key, _)| *key == name));
        Ok(value.ok_or_else(|| format!("no {name} in {line}"))?.1.parse()?)
    };
    let percentile = |name| field(&line, name);
    Ok(Times {
        name: name.to_owned(),
        calls: field(&stats, "calls")? as u64,
        p50_us: percentile("p50")?,
        p9999_us: percentile("p99.99")?,
        max_us: percentile("p100")?,
    })
}

/// `calls` pushes of `count` records each, all different.
pub fn push(client: &mut Connection, next: &mut u64, calls: u64, count: u64) -> Result<()> {
    const PIPELINE: u64 = 16;
    for _ in 0..calls.div_ceil(PIPELINE) {
        let mut pipe = redis::pipe();
        (0..PIPELINE).for_each(|_| {
            pipe.add_command(batch(next, count)).ignore();
        });
        pipe.exec(client)?;
    }
    Ok(())
}

fn batch(next: &mut u64, count: u64) -> Cmd {
    let mut push = cmd("GW.LOGPUSH");
    push.arg(KEY).arg(&BOUNDS);
    for _ in 0..count {
        *next += 1;
        push.arg(record(*next));
    }
    push
}

fn repeat(client: &mut Connection, command: &Cmd, calls: u64) -> Result<()> {
    for _ in 0..calls {
        command.exec(client)?;
    }
    Ok(())
}

/// Pops in rounds. After each round, as many records are pushed as were popped, so that the queue stays long. Leased
/// batches are acknowledged.
fn pop_and_push(client: &mut Connection, next: &mut u64, calls: u64, count: u64, leased: bool) -> Result<()> {
    const ROUNDS: u64 = 5;
    let mut pop = words(&["GW.LOGPOP", KEY, "COUNT", &count.to_string()]);
    if leased {
        pop.arg(&["LEASE", "3600000"]);
    }
    for _ in 0..ROUNDS {
        for _ in 0..calls / ROUNDS {
            if leased {
                let (id, _, _): (String, redis::Value, u64) = pop.query(client)?;
                cmd("GW.LOGACK").arg(KEY).arg(id).exec(client)?;
            } else {
                pop.exec(client)?;
            }
        }
        push(client, next, calls / ROUNDS, count)?;
        await_rest(client)?;
    }
    Ok(())
}

/// A BGSAVE while records are pushed and popped in batches of 100: `per_s` a second, or as fast as possible.
///
/// It begins when that has gone on for longer than the allocator keeps freed memory (jemalloc's `dirty_decay_ms`, 10
/// s), so that memory from filling the queue is not counted.
fn snapshot(client: &mut Connection, next: &mut u64, per_s: Option<u64>) -> Result<Snapshot> {
    const BEFORE: Duration = Duration::from_secs(12);
    load(client, next, per_s, |_, passed| Ok(passed > BEFORE))?;
    let memory = |client: &mut Connection| -> Result<f64> {
        Ok(info(client, "memory").get("used_memory").ok_or("no used_memory")?.parse()?)
    };
    let before = memory(client)?;
    cmd("BGSAVE").exec(client)?;
    let start = Instant::now();
    let records = load(client, next, per_s, |client, _| {
        Ok(info(client, "persistence").get("rdb_bgsave_in_progress").is_some_and(|value| value == "0"))
    })?;
    let took = start.elapsed();
    let saved = info(client, "persistence");
    let copied: f64 = saved.get("rdb_last_cow_size").ok_or("no rdb_last_cow_size")?.parse()?;
    Ok(Snapshot {
        took,
        records_per_s: records as f64 / took.as_secs_f64(),
        copied: copied / before,
        popped: records as f64 / RECORDS as f64,
    })
}

/// Pushes and pops until `done`, which gets the time since the start. Returns how many records each.
fn load(
    client: &mut Connection,
    next: &mut u64,
    per_s: Option<u64>,
    done: impl Fn(&mut Connection, Duration) -> Result<bool>,
) -> Result<u64> {
    const BATCH: u64 = 100;
    let pop = words(&["GW.LOGPOP", KEY, "COUNT", &BATCH.to_string()]);
    let start = Instant::now();
    let mut records = 0;
    while !done(client, start.elapsed())? {
        batch(next, BATCH).exec(client)?;
        pop.exec(client)?;
        records += BATCH;
        let due = per_s.map_or(Duration::ZERO, |per_s| Duration::from_secs_f64(records as f64 / per_s as f64));
        thread::sleep(due.saturating_sub(start.elapsed()));
    }
    Ok(records)
}
