//! Runs the cases alternately.

use crate::case::{Case, Fill, Group, KEYS, State};
use crate::generator::Generator;
use crate::load::{Load, NOISE, RANDOM, RECORD, UNIQUE, key_number};
use crate::random::Random;
use crate::records::{self, record};
use crate::result::Result;
use gw_testkit::{Server, await_until, info, reply_line};
use redis::{Connection, cmd};
use std::collections::HashMap;
use std::thread;
use std::time::Duration;

/// Commands in flight per client: one, and enough that the server is the limit rather than the network.
pub const PIPELINES: [u32; 2] = [1, 16];

/// The result of one run of one case.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub requests_per_s: f64,
    /// CPU time of the server's main thread per command: reading, running and replying.
    pub cpu_us: f64,
    /// Time in the command itself, by the server's own clock.
    pub call_us: f64,
}

/// All samples, by case and pipeline, in the order of the rounds.
#[derive(Default)]
pub struct Samples(HashMap<(&'static str, u32), Vec<Sample>>);

impl Samples {
    pub fn of(&self, case: &str, pipeline: u32) -> &[Sample] {
        let found = self.0.iter().find(|((name, depth), _)| *name == case && *depth == pipeline);
        found.map(|(_, samples)| samples.as_slice()).unwrap_or_default()
    }

    /// Adds the samples of later rounds.
    pub fn extend(&mut self, later: Self) {
        for (of, samples) in later.0 {
            self.0.entry(of).or_default().extend(samples);
        }
    }
}

pub struct Bench<'a> {
    pub server: &'a Server,
    pub generator: &'a Generator,
    /// The number of paired runs.
    pub rounds: usize,
    /// Requests per run at -P 16; a quarter of them at -P 1.
    pub requests: u64,
}

impl Bench<'_> {
    /// Measures the group's cases one after the other, once in each round. The order is reversed each time, so that a
    /// drift of the machine favours no case.
    pub fn group(&self, group: &Group) -> Result<Samples> {
        let mut samples = Samples::default();
        let mut connections = Vec::with_capacity(group.cases.len());
        for (database, case) in group.cases.iter().enumerate() {
            let mut connection = self.server.connect()?;
            cmd("SELECT").arg(database).exec(&mut connection)?;
            cmd("FLUSHDB").exec(&mut connection)?;
            prepare(case, KEYS, &mut connection)?;
            connections.push(connection);
        }
        for pipeline in PIPELINES {
            for round in 0..self.rounds {
                let mut order: Vec<usize> = (0..group.cases.len()).collect();
                if round % 2 == 1 {
                    order.reverse();
                }
                for index in order {
                    let (Some(case), Some(connection)) = (group.cases.get(index), connections.get_mut(index)) else {
                        continue;
                    };
                    let requests = if pipeline == 1 { self.requests / 4 } else { self.requests };
                    let load = Load {
                        commands: &case.commands,
                        database: index,
                        pipeline,
                        requests: requests.clamp(1, group.requests_max),
                        keys: KEYS,
                    };
                    let sample = with_setting(case, connection, |connection| self.run(case, &load, connection));
                    let sample = sample.map_err(|error| format!("{}: {error}", case.name))?;
                    samples.0.entry((case.name, pipeline)).or_default().push(sample);
                }
            }
        }
        for connection in &mut connections {
            cmd("FLUSHDB").exec(connection)?;
        }
        Ok(samples)
    }

    fn run(&self, case: &Case, load: &Load, connection: &mut Connection) -> Result<Sample> {
        let anew = match &case.state {
            State::Empty => Some([].as_slice()),
            State::Anew(fills) | State::Drained(fills) => Some(fills.as_slice()),
            State::Filled(_) => None,
        };
        if let Some(fills) = anew {
            cmd("FLUSHDB").exec(connection)?;
            fills.iter().try_for_each(|fill| apply(fill, connection))?;
        }
        if matches!(case.state, State::Drained(_)) {
            await_rest(connection)?;
        }
        cmd("CONFIG").arg("RESETSTAT").exec(connection)?;
        let cpu_before_us = cpu_us(connection)?;
        let requests_per_s = self.generator.run(load)?;
        let cpu_us = (cpu_us(connection)? - cpu_before_us) / load.requests as f64;
        let call_us = call_us(connection, case, load.requests)?;
        if anew.is_some() {
            cmd("FLUSHDB").exec(connection)?;
        }
        Ok(Sample { requests_per_s, cpu_us, call_us })
    }
}

/// Calls `measure` while the case's setting is in force.
pub fn with_setting<T>(
    case: &Case,
    connection: &mut Connection,
    measure: impl FnOnce(&mut Connection) -> Result<T>,
) -> Result<T> {
    let Some((name, value)) = case.setting else { return measure(connection) };
    let (_, usual): (String, String) = cmd("CONFIG").arg("GET").arg(name).query(connection)?;
    cmd("CONFIG").arg("SET").arg(name).arg(value).exec(connection)?;
    let measured = measure(connection);
    cmd("CONFIG").arg("SET").arg(name).arg(usual).exec(connection)?;
    measured
}

/// Brings the database into the case's state, of at most `keys` keys, and makes sure that the command does what it is
/// measured for.
pub fn prepare(case: &Case, keys: u64, connection: &mut Connection) -> Result<()> {
    if let State::Filled(fills) | State::Anew(fills) | State::Drained(fills) = &case.state {
        for fill in fills {
            apply(&Fill { keys: fill.keys.min(keys), ..fill.clone() }, connection)?;
        }
    }
    let mut first = redis::Cmd::new();
    for argument in case.commands.iter().take(1).flatten() {
        first.arg(argument.replace(RANDOM, &key_number(0)).replace(UNIQUE, &key_number(0)));
    }
    let reply = first.query::<redis::Value>(connection);
    let failed = reply.is_err();
    let reply = reply_line(reply);
    if failed || !reply.starts_with(case.expected) {
        return Err(format!("{}: expected {} ..., got {reply}", case.name, case.expected).into());
    }
    Ok(())
}

/// Fills keys, a thousand commands at a time.
pub fn apply(fill: &Fill, connection: &mut Connection) -> Result<()> {
    const BATCH: u64 = 1_000;
    for _ in 0..fill.rounds {
        for start in (0..fill.keys).step_by(BATCH as usize) {
            let mut batch = redis::pipe();
            for key in start..fill.keys.min(start + BATCH) {
                let number = key_number(key);
                let command = batch.add_command(redis::Cmd::new()).ignore();
                for argument in &fill.arguments {
                    match argument.as_str() {
                        RECORD => command.arg(record(key)),
                        NOISE => command.arg(Random(key).bytes(records::BYTES)),
                        _ => command.arg(argument.replace(RANDOM, &number)),
                    };
                }
            }
            batch.exec(connection)?;
        }
    }
    Ok(())
}

/// Waits until the server's memory no longer changes: then it has nothing left to do in the background, such as
/// compressing.
pub fn await_rest(connection: &mut Connection) -> Result<()> {
    const STEADY_BYTES: u64 = 64 * 1_024;
    let mut last = u64::MAX;
    let mut rests = || {
        thread::sleep(Duration::from_millis(300));
        let used = info(connection, "memory").get("used_memory").and_then(|used| used.parse().ok()).unwrap_or(u64::MAX);
        std::mem::replace(&mut last, used).abs_diff(used) < STEADY_BYTES
    };
    Ok(await_until("the server to rest", Duration::from_secs(60), &mut rests)?)
}

/// CPU time of the server's main thread, in microseconds.
pub fn cpu_us(connection: &mut Connection) -> Result<f64> {
    let fields = info(connection, "cpu");
    let seconds = |mode: &str| -> Result<f64> {
        // On Linux the main thread's time is separate from the rest, such as freeing in the background.
        let names = [format!("used_cpu_{mode}_main_thread"), format!("used_cpu_{mode}")];
        let field = names.iter().find_map(|name| fields.get(name)).ok_or("no CPU times in INFO")?;
        Ok(field.parse()?)
    };
    Ok((seconds("user")? + seconds("sys")?) * 1e6)
}

/// Microseconds in the case's commands, once each, by the server's statistics, which also tell whether every call
/// succeeded.
fn call_us(connection: &mut Connection, case: &Case, requests: u64) -> Result<f64> {
    let fields = info(connection, "commandstats");
    let mut names: Vec<_> = case.commands.iter().filter_map(|words| Some(words.first()?.to_lowercase())).collect();
    names.sort();
    names.dedup();
    let (mut calls, mut total_us) = (0.0, 0.0);
    for name in names {
        let line = fields.get(&format!("cmdstat_{name}")).ok_or_else(|| format!("no statistics of {name}"))?;
        let field = |name: &str| -> Result<f64> {
            let value = line.split(',').find_map(|part| part.split_once('=').filter(|(key, _)| *key == name));
            let (_, value) = value.ok_or_else(|| format!("no {name} in {line}"))?;
            Ok(value.parse()?)
        };
        if field("failed_calls")? + field("rejected_calls")? > 0.0 {
            return Err(format!("not every call succeeded: {line}").into());
        }
        calls += field("calls")?;
        total_us += field("usec")?;
    }
    if calls < requests as f64 * case.commands.len() as f64 {
        return Err(format!("{calls} calls, of {requests} of each command").into());
    }
    Ok(total_us / requests as f64)
}
