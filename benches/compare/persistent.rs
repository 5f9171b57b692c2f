//! The same commands with an append-only file and a replica, as in the shipped redis.conf: what a decision costs beyond the
//! primary's core.

use crate::case::{Case, Group, KEYS};
use crate::cases;
use crate::generator::Generator;
use crate::load::Load;
use crate::measure::{cpu_us, prepare};
use crate::result::Result;
use crate::statistics::{Spread, spread};
use gw_testkit::{Server, await_in_sync, await_until, info, replication_offset};
use redis::{Connection, cmd};
use std::time::Duration;

/// The cases that are measured: each decision beside what it replaces.
const CASES: [&str; 15] = [
    "SET",
    "GW.ALLOW",
    "Lua window",
    "GW.TOKENS",
    "Lua bucket",
    "GW.ADDCOST",
    "Lua check + add + expire",
    "GW.RESERVE + GW.COMMIT",
    "Lua reserve + commit",
    "GW.ADMIT + GW.SETTLE",
    "Lua admit + settle",
    "GW.ADMIT 4 policies",
    "the four calls",
    "GW.LOGPUSH 1 KB",
    "Lua push 1 KB",
];

/// Commands in flight per client.
pub const PIPELINE: u32 = 16;

/// What a case costs per decision.
pub struct Cost {
    pub name: &'static str,
    pub requests_per_s: Spread,
    /// CPU time of the main thread, in microseconds.
    pub primary_us: Spread,
    pub replica_us: Spread,
    /// Bytes to a replica, and into the append-only file.
    pub wire_bytes: Spread,
    pub aof_bytes: Spread,
}

/// One run of one case.
struct Run {
    requests_per_s: f64,
    primary_us: f64,
    replica_us: f64,
    wire_bytes: f64,
    aof_bytes: f64,
}

/// Measures the cases one after the other, `rounds` times.
pub fn costs(rounds: usize, requests: u64) -> Result<Vec<Cost>> {
    let options = || Server::options().aof().config("appendfsync everysec").config("auto-aof-rewrite-percentage 0");
    let primary = options().start()?;
    let replica = options().replica_of(&primary).start()?;
    let mut connections = [primary.connect()?, replica.connect()?];
    let generator = Generator::find(primary.port())?;
    let groups = cases::groups(false, &mut connections[0])?;
    let mut costs = Vec::new();
    for name in CASES {
        let (group, case) = find(&groups, name)?;
        let runs = (0..rounds).map(|_| run(group, case, &generator, &mut connections, requests));
        let runs = runs.collect::<Result<Vec<_>>>().map_err(|error| format!("{name}: {error}"))?;
        let of = |figure: fn(&Run) -> f64| spread(runs.iter().map(figure));
        costs.push(Cost {
            name,
            requests_per_s: of(|run| run.requests_per_s),
            primary_us: of(|run| run.primary_us),
            replica_us: of(|run| run.replica_us),
            wire_bytes: of(|run| run.wire_bytes),
            aof_bytes: of(|run| run.aof_bytes),
        });
    }
    Ok(costs)
}

fn find<'a>(groups: &'a [Group], name: &str) -> Result<(&'a Group, &'a Case)> {
    let all = groups.iter().flat_map(|group| group.cases.iter().map(move |case| (group, case)));
    Ok(all.into_iter().find(|(_, case)| case.name == name).ok_or_else(|| format!("there is no case {name}"))?)
}

/// One run, after the case's state was made anew; `connections` are to the primary and to its replica.
fn run(
    group: &Group,
    case: &Case,
    generator: &Generator,
    [primary, replica]: &mut [Connection; 2],
    requests: u64,
) -> Result<Run> {
    cmd("FLUSHALL").exec(primary)?;
    prepare(case, KEYS, primary)?;
    await_in_sync(primary, replica);
    let requests = requests.min(group.requests_max);
    let load = Load { commands: &case.commands, database: 0, pipeline: PIPELINE, requests, keys: KEYS };
    let before = [cpu_us(primary)?, cpu_us(replica)?, replication_offset(primary) as f64, aof_bytes(primary)?];
    let requests_per_s = generator.run(&load)?;
    await_in_sync(primary, replica);
    let after = [cpu_us(primary)?, cpu_us(replica)?, replication_offset(primary) as f64, aof_bytes(primary)?];
    let mut each = before.into_iter().zip(after).map(|(before, after)| (after - before) / requests as f64);
    let mut next = || each.next().unwrap_or(f64::NAN);
    Ok(Run { requests_per_s, primary_us: next(), replica_us: next(), wire_bytes: next(), aof_bytes: next() })
}

/// The size of the append-only file, once all of it is written.
fn aof_bytes(client: &mut Connection) -> Result<f64> {
    let mut field = |name: &str| info(client, "persistence").get(name).and_then(|value| value.parse::<f64>().ok());
    await_until("the append-only file to be written", Duration::from_secs(60), || {
        field("aof_buffer_length") == Some(0.0) && field("aof_pending_bio_fsync") == Some(0.0)
    })?;
    field("aof_current_size").ok_or_else(|| "no aof_current_size in INFO".into())
}
