//! Compares the module's commands with the server's own, and with the Lua scripts that they replace, on one server.
//!
//! `make bench`, or `cargo bench --bench compare`. A benchmark fails on errors, never on speed.

mod case;
mod cases;
mod cycles;
mod generator;
mod guest;
mod instructions;
mod latency;
mod load;
mod machine;
mod measure;
mod memory;
mod persistent;
mod queue;
mod random;
mod records;
mod result;
mod stalls;
mod statistics;
mod table;

use case::{Group, KEYS};
use generator::Generator;
use gw_testkit::{Options, Server};
use load::CLIENTS;
use measure::Bench;
use result::Result;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

const HELP: &str = "\
Measures each of the module's commands against the server's own and the Lua script of the same behaviour, in turn, on
one private server, with redis-benchmark. What is called bare is a command of another module that makes the same calls
to the server and does nothing else: as fast as a command can be. Then the latency with a thousand and with a million
keys (half a gigabyte, three minutes), a log queue of a million records (half a gigabyte), what others wait for while a
million records or entries are deleted, what decisions cost with an append-only file and a replica, the memory that
values take, and what the module costs commands that have nothing to do with it. Prints Markdown.

Environment:
  RUNS=5            paired runs, at least 1
  REQUESTS=400000   per run at -P 16; a quarter at -P 1
  ONLY=text         only groups with a command whose name contains this, such as GW.ALLOW; or latency; or queue; or
                    stalls; or persistent; or memory; or guest
  CL_THROTTLE=path  also compare with CL.THROTTLE: path is a build of redis-cell, which is loaded beside the module
                    (git clone https://github.com/brandur/redis-cell, cargo build --release, libredis_cell.so)
  INSTRUCTIONS=1    instead of all that, count instructions per command with valgrind's callgrind: slow, and the same
                    whatever else the machine does; takes ONLY, CL_THROTTLE and what follows
  GW_SERVER, GW_MODULE   another server than the redis-server on the PATH, another build of the module";

fn main() -> ExitCode {
    // Cargo passes --bench.
    if std::env::args().any(|argument| argument == "--help" || argument == "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match compare() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare() -> Result<()> {
    let only = text("ONLY").unwrap_or_default().to_lowercase();
    let wanted = |name: &str| name.to_lowercase().contains(&only);
    let count_instructions = text("INSTRUCTIONS").is_some();

    generator::check_parser()?;
    let server = start(count_instructions)?;
    let generator = Generator::find(server.port())?;
    let mut groups = cases::groups(text("CL_THROTTLE").is_some(), &mut server.connect()?)?;
    groups.retain(|group| group.cases.iter().any(|case| wanted(case.name)));
    for group in &groups {
        check_pairs(group)?;
    }
    let others = if count_instructions {
        &["guest"][..]
    } else {
        &["latency", "queue", "stalls", "persistent", "memory", "guest"]
    };
    if groups.is_empty() && !others.iter().copied().any(wanted) {
        return Err(format!("nothing to measure contains ONLY={only}").into());
    }
    if count_instructions {
        if !groups.is_empty() {
            print_instructions(&groups, &server, &generator)?;
        }
        drop(server);
        return if wanted("guest") { print_guest_instructions() } else { Ok(()) };
    }
    measure(groups, wanted, &server, &generator)
}

/// A server with the module, the bare module and, if it is named, redis-cell; under callgrind if instructions are
/// counted.
fn start(count_instructions: bool) -> Result<Server> {
    let mut options = Server::options().config(format!("loadmodule {}", bare_module()?.display()));
    if let Some(path) = text("CL_THROTTLE") {
        // The server has a working directory of its own.
        let path = std::fs::canonicalize(&path).map_err(|error| format!("CL_THROTTLE={path}: {error}"))?;
        options = options.config(format!("loadmodule {}", path.display()));
    }
    if count_instructions {
        options = instructions::CONFIG.into_iter().fold(options.under(&instructions::WRAPPER), Options::config);
    }
    Ok(options.start()?)
}

/// The library that `cargo build --release --package gw-bare` leaves two folders above this program.
fn bare_module() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let path = program.ancestors().nth(2).unwrap_or(&program).join("libgw_bare.so");
    match path.exists() {
        true => Ok(path),
        false => Err(format!("no {}: cargo build --release --package gw-bare", path.display()).into()),
    }
}

fn measure(groups: Vec<Group>, wanted: impl Fn(&str) -> bool, server: &Server, generator: &Generator) -> Result<()> {
    let rounds = number("RUNS", 5)?;
    let requests: u64 = number("REQUESTS", 400_000)?;
    if rounds == 0 || requests == 0 {
        return Err("RUNS and REQUESTS are at least 1".into());
    }
    let machine = machine::description(server, generator);
    eprintln!("{machine}");

    let bench = Bench { server, generator, rounds, requests };
    let mut measured = Vec::new();
    for group in groups {
        let names: Vec<&str> = group.cases.iter().map(|case| case.name).collect();
        eprintln!("measuring {}", names.join(", "));
        let samples = bench.group(&group)?;
        measured.push((group, samples));
    }
    let mut latencies = Vec::new();
    if wanted("latency") {
        eprintln!("measuring latency");
        latencies = latency::latencies(server, rounds)?;
    }
    let mut million = None;
    if wanted("queue") {
        eprintln!("measuring a queue of a million records");
        million = Some(queue::report()?);
    }
    let mut stalls = Vec::new();
    if wanted("stalls") {
        eprintln!("measuring deletions of a million");
        stalls = stalls::stalls(server, rounds)?;
    }
    let mut costs = Vec::new();
    if wanted("persistent") {
        eprintln!("measuring with an append-only file and a replica");
        costs = persistent::costs(rounds, requests)?;
    }
    let mut footprints = Vec::new();
    if wanted("memory") {
        eprintln!("measuring memory");
        footprints = memory::footprints(&mut server.connect()?)?;
    }

    let mut guests = None;
    if wanted("guest") {
        eprintln!("measuring others' commands");
        guests = Some(guest::measure(Generator::find, rounds, requests)?);
    }

    println!("{machine}.\n");
    if !measured.is_empty() {
        println!(
            "{CLIENTS} clients, {KEYS} keys at random, {requests} requests per run at -P 16 (a quarter at -P 1; at \
             most 200,000 where each adds a log record), medians of {rounds} run(s).\n"
        );
        println!("{}", table::throughput(&measured));
        println!(
            "Ratios of paired runs, as median (least - greatest). Above 1, the command is faster, or takes that much \
             less of the server's CPU time, than what it is compared with.\n"
        );
        println!("{}", table::ratios(&measured));
    }
    if !latencies.is_empty() {
        println!(
            "Latency, as median (least - greatest) of {rounds} run(s) of {} s, with {} clients that send a command a \
             millisecond each; ratios of paired runs:\n",
            latency::RUN.as_secs(),
            latency::CLIENTS
        );
        println!("{}", table::latency(&latencies));
    }
    if let Some(report) = million {
        println!(
            "A log queue of {} records of 1 KB; times in the command, by the server's own clock:\n",
            queue::RECORDS
        );
        println!("{}", table::queue(&report));
    }
    if !stalls.is_empty() {
        println!(
            "Deletions of {} records or entries, and the round trips of another client that sends one PING after the \
             other until all is freed, and for as long with nothing to do; medians (least - greatest) of {rounds} \
             run(s):\n",
            stalls::COUNT
        );
        println!("{}", table::stalls(&stalls));
    }
    if !costs.is_empty() {
        println!(
            "With appendonly yes, appendfsync everysec and a replica, at -P {}: CPU of the main threads, and bytes, per \
             decision; medians (least - greatest) of {rounds} run(s):\n",
            persistent::PIPELINE
        );
        println!("{}", table::persistent(&costs));
    }
    if !footprints.is_empty() {
        println!("Memory per key, and per record of a queue that holds 10,000:\n");
        println!("{}", table::memory(&footprints));
    }
    if let Some(samples) = guests {
        println!(
            "Others' commands on servers with the module, compared with the same on a server without it, as median (least - \
             greatest) of {rounds} paired run(s):\n"
        );
        println!("{}", table::guest(&samples));
    }
    Ok(())
}

fn print_instructions(groups: &[Group], server: &Server, generator: &Generator) -> Result<()> {
    let counted = instructions::counts(groups, server, generator)?;
    println!(
        "{}. Instructions per command at -P 16, {CLIENTS} clients, {} keys at random, by callgrind: all that the \
         server's main thread does for it.\n",
        server.binary(),
        instructions::KEYS
    );
    println!("{}", table::instructions(&counted));
    Ok(())
}

fn print_guest_instructions() -> Result<()> {
    let counted = guest::count(Generator::find)?;
    println!("Instructions per command of others, on one server, without the module and after loading it:\n");
    println!("{}", table::guest_instructions(&counted));
    Ok(())
}

/// Checks that each pair names two of its group's cases.
fn check_pairs(group: &Group) -> Result<()> {
    for name in group.pairs.iter().flat_map(|pair| [pair.candidate, pair.reference]) {
        if !group.cases.iter().any(|case| case.name == name) {
            return Err(format!("there is no case {name} to compare").into());
        }
    }
    Ok(())
}

/// An environment variable that is set, and not empty.
fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// An environment variable, or the default if it is not set or empty.
fn number<T: FromStr>(name: &str, default: T) -> Result<T> {
    match text(name) {
        Some(text) => text.parse().map_err(|_| format!("{name} is not a number: {text}").into()),
        None => Ok(default),
    }
}
