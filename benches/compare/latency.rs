//! Latency under a moderate load: with a thousand keys, and with a million.

use crate::case::Fill;
use crate::load::{RANDOM, key_number};
use crate::measure::apply;
use crate::random::Random;
use crate::result::Result;
use crate::statistics::percentile;
use gw_testkit::{Server, await_until, info};
use redis::{Connection, cmd};
use std::thread;
use std::time::{Duration, Instant};

/// The numbers of keys, each in a database of its own.
pub const KEYS: [u64; 2] = [1_000, 1_000_000];

/// Each client sends a command per millisecond and waits for its reply. That is about a tenth of what the server can do
/// without pipelining, so that commands do not queue up.
pub const CLIENTS: u64 = 8;
const PACE: Duration = Duration::from_millis(1);
pub const RUN: Duration = Duration::from_secs(5);

/// The windows and buckets outlive the benchmark, so that no expired keys are collected meanwhile.
const COMMANDS: [(&str, &str); 3] = [
    ("SET", "SET latency:# xxx"),
    ("GW.ALLOW", "GW.ALLOW latency:# 1000000 WINDOW 86400000"),
    ("GW.TOKENS", "GW.TOKENS latency:# 1 1000000 PER 86400000 COST 10"),
];

/// The result of one run, in microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    /// From sending the command to having read its reply.
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    /// The time in the command itself, by the server's own clock, which a busy machine disturbs least.
    pub call_p999_us: f64,
}

/// All runs of a command: with few keys and with many, in pairs.
pub struct Latencies {
    pub name: &'static str,
    pub runs: [Vec<Latency>; KEYS.len()],
}

/// One command after the other, so that the memory for a million keys is needed once.
pub fn latencies(server: &Server, rounds: usize) -> Result<Vec<Latencies>> {
    COMMANDS.iter().map(|&(name, line)| command_latencies(server, rounds, name, line)).collect()
}

fn command_latencies(server: &Server, rounds: usize, name: &'static str, line: &str) -> Result<Latencies> {
    let mut connection = server.connect()?;
    cmd("FLUSHALL").arg("SYNC").exec(&mut connection)?;
    let arguments: Vec<String> = line.replace('#', RANDOM).split(' ').map(str::to_owned).collect();
    for (database, keys) in KEYS.into_iter().enumerate() {
        cmd("SELECT").arg(database).exec(&mut connection)?;
        apply(&Fill { arguments: arguments.clone(), keys, rounds: 1 }, &mut connection)?;
        await_rehashed(database, &mut connection)?;
    }
    let mut latencies = Latencies { name, runs: Default::default() };
    for round in 0..rounds {
        let mut order = [0, 1];
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            cmd("CONFIG").arg("RESETSTAT").exec(&mut connection)?;
            let samples_ns = run(server, index, &arguments)?;
            let us = |share| percentile(&samples_ns, share) as f64 / 1e3;
            let call_p999_us = call_p999_us(&mut connection, name)?;
            let latency = Latency { p50_us: us(0.5), p99_us: us(0.99), p999_us: us(0.999), call_p999_us };
            latencies.runs[index].push(latency);
        }
    }
    cmd("FLUSHALL").arg("SYNC").exec(&mut connection)?;
    Ok(latencies)
}

/// Waits until the server's own tables, which have grown with the keys, have moved to their new size.
fn await_rehashed(database: usize, connection: &mut Connection) -> Result<()> {
    let mut rehashed = || {
        let stats: redis::RedisResult<String> = cmd("DEBUG").arg("HTSTATS").arg(database).query(connection);
        stats.is_ok_and(|stats| !stats.contains("rehashing target"))
    };
    Ok(await_until("the server's tables to be rehashed", Duration::from_secs(60), || {
        // The statistics of a large table take the server a tenth of a second.
        thread::sleep(Duration::from_millis(200));
        rehashed()
    })?)
}

/// The server's own statistics of a command, since they were reset.
fn call_p999_us(connection: &mut Connection, command: &str) -> Result<f64> {
    let fields = info(connection, "latencystats");
    let line = fields.get(&format!("latency_percentiles_usec_{}", command.to_lowercase()));
    let line = line.ok_or_else(|| format!("no latency statistics of {command}"))?;
    let value = line.split(',').find_map(|part| part.strip_prefix("p99.9="));
    Ok(value.ok_or_else(|| format!("no p99.9 in {line}"))?.parse()?)
}

/// All round trips of one run in nanoseconds, shortest first.
fn run(server: &Server, database: usize, arguments: &[String]) -> Result<Vec<u64>> {
    let mut samples_ns = thread::scope(|scope| -> Result<Vec<u64>> {
        let mut clients = Vec::new();
        for seed in 0..CLIENTS {
            let mut connection = server.connect()?;
            cmd("SELECT").arg(database).exec(&mut connection)?;
            clients.push(scope.spawn(move || client(&mut connection, arguments, KEYS[database], Random(seed))));
        }
        let mut samples_ns = Vec::new();
        for client in clients {
            samples_ns.extend(client.join().map_err(|_| "a client panicked")??);
        }
        Ok(samples_ns)
    })?;
    samples_ns.sort_unstable();
    Ok(samples_ns)
}

/// Sends a command per [`PACE`], each for a random key, and measures each.
fn client(
    connection: &mut Connection,
    arguments: &[String],
    keys: u64,
    mut random: Random,
) -> redis::RedisResult<Vec<u64>> {
    let start = Instant::now();
    let mut samples_ns = Vec::new();
    let mut next = start;
    while next.duration_since(start) < RUN {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        let number = key_number(random.below(keys));
        let mut command = redis::Cmd::new();
        for argument in arguments {
            command.arg(argument.replace(RANDOM, &number));
        }
        let packed = command.get_packed_command();
        let sent = Instant::now();
        redis::ConnectionLike::req_packed_command(connection, &packed)?;
        samples_ns.push(sent.elapsed().as_nanos() as u64);
        // A client that is late skips the commands it has missed, so that the load stays moderate.
        next = (next + PACE).max(Instant::now());
    }
    Ok(samples_ns)
}
