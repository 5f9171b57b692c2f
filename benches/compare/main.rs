//! Side by side on one server: the module's commands, the server's own, and the Lua scripts they replace.
//!
//! `make bench`, or `cargo bench --bench compare`. A benchmark fails on errors, never on speed.

mod cases;
mod load;
mod machine;
mod measure;
mod memory;
mod statistics;
mod table;

use cases::{Group, KEYS};
use gw_testkit::Server;
use load::{Generator, CLIENTS};
use measure::Bench;
use std::process::ExitCode;
use std::str::FromStr;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const HELP: &str = "\
Measures each of the module's commands against the server's own and the Lua script of the same behaviour, in turn, on
one private server, with redis-benchmark; then the memory that values take. Prints Markdown.

Environment:
  RUNS=5            paired runs, at least 1
  REQUESTS=400000   per run at -P 16; a quarter at -P 1
  ONLY=text         only groups with a command whose name contains this, such as GW.ALLOW; or memory
  GW_SERVER, GW_MODULE   another server than the redis-server on the PATH, another build of the module";

fn main() -> ExitCode {
    // Cargo hands --bench over.
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
    let rounds = number("RUNS", 5)?;
    let requests: u64 = number("REQUESTS", 400_000)?;
    if rounds == 0 || requests == 0 {
        return Err("RUNS and REQUESTS are at least 1".into());
    }
    let only = std::env::var("ONLY").unwrap_or_default().to_lowercase();
    let wanted = |name: &str| name.to_lowercase().contains(&only);

    load::check_parser()?;
    let server = Server::start()?;
    let generator = Generator::find(server.port())?;
    let machine = machine::description(&server, &generator);
    eprintln!("{machine}");
    let mut connection = server.connect()?;

    let bench = Bench { server: &server, generator: &generator, rounds, requests };
    let mut measured = Vec::new();
    for group in cases::groups(&mut connection)? {
        check_pairs(&group)?;
        let names: Vec<&str> = group.cases.iter().map(|case| case.name).collect();
        if names.iter().any(|name| wanted(name)) {
            eprintln!("measuring {}", names.join(", "));
            let samples = bench.group(&group)?;
            measured.push((group, samples));
        }
    }
    let mut footprints = Vec::new();
    if wanted("memory") {
        eprintln!("measuring memory");
        footprints = memory::footprints(&mut connection)?;
    }
    if measured.is_empty() && footprints.is_empty() {
        return Err(format!("nothing to measure contains ONLY={only}").into());
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
    if !footprints.is_empty() {
        println!("Memory per key, and per record of a queue that holds 10,000:\n");
        println!("{}", table::memory(&footprints));
    }
    Ok(())
}

/// A pair names two of its group's cases.
fn check_pairs(group: &Group) -> Result<()> {
    for name in group.pairs.iter().flat_map(|pair| [pair.candidate, pair.reference]) {
        if !group.cases.iter().any(|case| case.name == name) {
            return Err(format!("there is no case {name} to compare").into());
        }
    }
    Ok(())
}

/// An environment variable; where it is not set, or empty, the default.
fn number<T: FromStr>(name: &str, default: T) -> Result<T> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => text.parse().map_err(|_| format!("{name} is not a number: {text}").into()),
        _ => Ok(default),
    }
}
