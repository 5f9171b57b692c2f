//! `gw bench`: is this machine fast enough?

mod disk;
mod load;
mod measure;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use redis::Connection;
use serde::Serialize;

use crate::members::Info;
use crate::nodes::{self, Address, PATIENCE, Seed};
use crate::target::Target;
use load::{Call, Load};
use measure::Times;

/// Measures the commands of the request path, the round trip and the disk. It takes about six times the time of a
/// measurement, uses keys of its own and deletes them. Exit codes: 0, 1 if --need is not reached, 2 if it cannot measure
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// How long each measurement takes, in seconds
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Connections at once, each with a thread of its own
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    clients: u16,
    /// The requests a second that the server must be able to admit and settle, with half of its core left over
    #[arg(long)]
    need: Option<u64>,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

const TOO_SLOW: u8 = 1;
const NOT_MEASURED: u8 = 2;

/// Commands a second.
#[derive(Debug, Serialize)]
struct Rate {
    /// `allow`, or `admit_settle`: both commands together count as one.
    call: &'static str,
    pipeline: u16,
    per_second: u64,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    node: String,
    clients: u16,
    round_trip: Times,
    rates: Vec<Rate>,
    /// `null` if the data are not on this machine.
    fsync: Option<Times>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_enough: Option<bool>,
}

impl Args {
    pub fn run(&self) -> ExitCode {
        match self.measure() {
            Ok(report) => {
                if self.json {
                    print_json(&report)
                } else {
                    print_text(&report, self.need)
                }
                ExitCode::from(if report.is_enough == Some(false) { TOO_SLOW } else { 0 })
            }
            Err(error) => {
                eprintln!("gw: {error:#}");
                ExitCode::from(NOT_MEASURED)
            }
        }
    }

    fn measure(&self) -> Result<Report> {
        let (seed, time) = (self.target.seed()?, Duration::from_secs(self.seconds));
        let load = Load::new();
        let node = node_of(&seed, load.slot())?;
        let connect = || seed.connect(&node, PATIENCE);
        let mut connection = connect().map_err(|error| anyhow!("{node}: {error}"))?;
        let round_trip = measure::times(time, || redis::cmd("PING").exec(&mut connection))?;
        load.prepare(&mut connection)?;
        let rates = self.rates(&load, time, &connect);
        // Also if the measurement has failed.
        load.delete(&mut connection)?;
        let (rates, fsync) = (rates?, disk::fsync(&directory(&mut connection)?, time)?);
        let admitted =
            rates.iter().filter(|rate| rate.call == Call::AdmitSettle.name()).map(|rate| rate.per_second).max();
        let is_enough = self.need.map(|need| admitted.unwrap_or_default() >= need.saturating_mul(2));
        Ok(Report { node: node.to_string(), clients: self.clients, round_trip, rates, fsync, is_enough })
    }

    fn rates(
        &self,
        load: &Load,
        time: Duration,
        connect: &(dyn Fn() -> redis::RedisResult<Connection> + Sync),
    ) -> Result<Vec<Rate>> {
        let mut rates = Vec::new();
        for call in [Call::Allow, Call::AdmitSettle] {
            for pipeline in [1, 16] {
                let per_second = load.rate(call, pipeline, self.clients, time, connect)?;
                rates.push(Rate { call: call.name(), pipeline, per_second });
            }
        }
        Ok(rates)
    }
}

/// The primary that has the keys.
fn node_of(seed: &Seed, slot: u16) -> Result<Address> {
    let connected = seed.connect(seed.address(), PATIENCE);
    let mut connection = connected.map_err(|error| anyhow!("{}: {error}", seed.address()))?;
    let shards = nodes::shards(&mut connection, seed.address())?;
    let shard = shards.into_iter().find(|shard| shard.slots.contains(&slot));
    Ok(shard.context("nobody serves the slot")?.primary)
}

/// The server's data directory and process.
fn directory(connection: &mut Connection) -> Result<disk::Place> {
    let info = Info::ask(connection, &["server"])?;
    let process = info.text("process_id").parse().unwrap_or_default();
    let setting: redis::RedisResult<std::collections::HashMap<String, String>> =
        redis::cmd("CONFIG").arg("GET").arg("dir").query(connection);
    // Without the right to ask, or with CONFIG renamed, there is no directory.
    let directory = setting.ok().and_then(|mut setting| setting.remove("dir"));
    Ok(disk::Place { process, directory: directory.map(Into::into) })
}

fn print_text(report: &Report, need: Option<u64>) {
    println!("{}, {} clients", report.node, report.clients);
    println!("round trip             {}", report.round_trip);
    for Rate { call, pipeline, per_second } in &report.rates {
        println!("{call:<12} -P {pipeline:<2}     {per_second:>9} a second");
    }
    match &report.fsync {
        Some(times) => println!("write and fsync, 4 KB  {times}"),
        None => println!("write and fsync, 4 KB  not measured: the data directory is not here, or may not be written"),
    }
    if let (Some(need), Some(is_enough)) = (need, report.is_enough) {
        let word = if is_enough { "enough" } else { "not enough" };
        println!("{word} for {need} requests a second with half of the core left over");
    }
}

fn print_json(report: &Report) {
    match serde_json::to_string_pretty(report) {
        Ok(text) => println!("{text}"),
        Err(error) => eprintln!("gw: {error}"),
    }
}
