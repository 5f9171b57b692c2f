//! Instructions per command, counted by callgrind. A busy machine does not change them.

use crate::case::{Case, Group, State};
use crate::generator::Generator;
use crate::load::Load;
use crate::measure::{prepare, with_setting};
use crate::result::Result;
use gw_testkit::Server;
use redis::{Connection, cmd};
use std::process::Command;

/// The program that the server runs under. No caches are simulated, and nothing is written: the counter is read while
/// it runs.
pub const WRAPPER: [&str; 3] = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"];

/// Lines of its configuration: the server's timer runs by the clock, and under callgrind a command takes fifty times as
/// long, so the timer's share would be too large.
pub const CONFIG: [&str; 2] = ["hz 1", "dynamic-hz no"];

/// So few keys that each is used several times before the counting starts.
pub const KEYS: u64 = 1_000;

/// Commands of the shorter run.
pub const COMMANDS: u64 = 10_000;

/// As under load, so that work that the server does once for a batch of commands is shared.
const PIPELINE: u32 = 16;

/// A case's instructions per command, including the server's own work for it.
pub struct Count {
    pub name: &'static str,
    pub instructions: f64,
}

/// Counts every case of the groups once: some are in several.
pub fn counts(groups: &[Group], server: &Server, generator: &Generator) -> Result<Vec<Count>> {
    let mut connection = server.connect()?;
    let mut counts: Vec<Count> = Vec::new();
    for case in groups.iter().flat_map(|group| &group.cases) {
        // Cases whose runs start anew have too few commands to count. Scripts take long, and say nothing about the
        // module.
        let script = case.commands.iter().flatten().any(|word| word == "EVALSHA");
        let drained = matches!(case.state, State::Drained(_));
        if script || drained || counts.iter().any(|known| known.name == case.name) {
            continue;
        }
        eprintln!("counting {}", case.name);
        let counted =
            with_setting(case, &mut connection, |connection| per_command(case, server, generator, connection));
        let instructions = counted.map_err(|error| format!("{}: {error}", case.name))?;
        counts.push(Count { name: case.name, instructions });
    }
    Ok(counts)
}

fn per_command(case: &Case, server: &Server, generator: &Generator, connection: &mut Connection) -> Result<f64> {
    cmd("FLUSHALL").arg("SYNC").exec(connection)?;
    prepare(case, KEYS, connection)?;
    let run = |requests| -> Result<u64> {
        let before = executed(server)?;
        generator.run(&Load { commands: &case.commands, database: 0, pipeline: PIPELINE, requests, keys: KEYS })?;
        Ok(executed(server)? - before)
    };
    // A first run, in which values allocate their buffers.
    run(COMMANDS)?;
    // Two runs of different lengths: the difference leaves out costs that do not depend on the length, such as
    // connecting.
    let (short, long) = (run(COMMANDS)?, run(3 * COMMANDS)?);
    Ok((long as f64 - short as f64) / (2 * COMMANDS) as f64)
}

/// Instructions that the server's main thread has executed so far.
fn executed(server: &Server) -> Result<u64> {
    let pid = server.pid().ok_or("the server has stopped")?;
    let output = Command::new("vgdb")
        .arg(format!("--pid={pid}"))
        .args(["status", "internal"])
        .output()
        .map_err(|error| format!("cannot run vgdb, which comes with valgrind: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let count = text.lines().find_map(|line| line.strip_prefix("events-1: ")?.trim().parse().ok());
    count.ok_or_else(|| format!("no count of instructions from vgdb: {text}").into())
}
