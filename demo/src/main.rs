//! The demonstration: a gateway's hour against a real server with the module, checked to the last digit.

mod admission;
mod args;
mod audit;
mod clock;
mod content;
mod gateway;
mod heavy;
mod latency;
mod limits;
mod models;
mod money;
mod progress;
mod replay;
mod report;
mod routing;
mod tally;
mod text;
mod trace;
mod watch;
mod workload;

use anyhow::{Context, Result, bail};
use args::{Args, Speed};
use audit::Audit;
use clap::Parser;
use clock::Pace;
use gw_testkit::Server;
use models::Model;
use redis_gateway_client::commands::{Budget, Period, within_budget};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use text::grouped;
use trace::Arrival;
use watch::Watch;
use workload::Workload;

static STOP: AtomicBool = AtomicBool::new(false);
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    match demo(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // Ctrl-C also ends the server, so errors that follow from that do not count.
        Err(_) if INTERRUPTED.load(Ordering::Relaxed) => {
            eprintln!("interrupted");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(args: &Args) -> Result<()> {
    if args.top {
        print!("{}", heavy::table(&arrivals(args)?, args.seed));
        return Ok(());
    }
    // Ends the run in order, with its server, instead of the process at once.
    ctrlc::set_handler(|| {
        INTERRUPTED.store(true, Ordering::Relaxed);
        STOP.store(true, Ordering::Relaxed);
    })?;
    if args.routing {
        let speed = if let Speed::Times(speed) = args.speed { speed } else { 1.0 };
        return routing::simulate(args.connections.unwrap_or(200).into(), Pace { speed }, args.seed, &STOP);
    }
    let workload = Workload::new(&arrivals(args)?, Model::all()?, args.seed);
    let pace = pace(args.speed, workload.duration());
    let connections = usize::from(args.connections.unwrap_or(48));

    let server = Server::start()?;
    let mut connection = server.connect()?;
    println!(
        "{} requests of {} keys, {} users and {} teams in {:.1} minutes, {:.1} times as fast: limits per minute have windows of {} ms",
        grouped(workload.requests.len()),
        workload.keys.len(),
        workload.users.len(),
        workload.teams.len(),
        workload.duration().as_secs_f64() / 60.0,
        pace.speed,
        pace.minute_ms()
    );
    println!("over {connections} connections to {} on port {}", server.binary(), server.port());
    let _watch = args.watch.as_deref().map(|gw| Watch::start(gw, args.console, &server)).transpose()?;
    admission::set_policies(&mut connection, &workload, pace)?;
    await_month_with_room(&mut connection, &workload, pace)?;
    let run = replay::replay(&server, &workload, pace, connections, &STOP)?;
    if STOP.load(Ordering::Relaxed) {
        bail!("stopped");
    }

    print!("{}", report::tables(&workload, &run));
    let checks = Audit { workload: &workload, run: &run, pace }.checks(&mut connection);
    print!("\n{}", report::checks(&checks));
    match checks.iter().filter(|check| check.result.is_err()).count() {
        0 => Ok(()),
        wrong => bail!("{wrong} of {} checks failed", checks.len()),
    }
}

fn arrivals(args: &Args) -> Result<Vec<Arrival>> {
    match args.trace() {
        Some(path) => {
            let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            trace::parse(&text).with_context(|| path.display().to_string())
        }
        None => Ok(trace::generate(args.requests as usize, args.seed)),
    }
}

fn pace(speed: Speed, duration: Duration) -> Pace {
    const AUTO: Duration = Duration::from_secs(25);
    match speed {
        Speed::Times(speed) => Pace { speed },
        Speed::Auto => Pace { speed: (duration.as_secs_f64() / AUTO.as_secs_f64()).clamp(1.0, 6_000.0) },
    }
}

/// Budgets are for a calendar month: a run over the end of a month would be charged to two of them. So it waits for the
/// next month if too little is left.
fn await_month_with_room(connection: &mut redis::Connection, workload: &Workload, pace: Pace) -> Result<()> {
    const MARGIN: Duration = Duration::from_secs(30);
    let needed = pace.shortened(workload.duration()) + MARGIN;
    let Some(team) = workload.teams.first() else { return Ok(()) };
    let month = [Budget { amount: 1.into(), period: Period::Month }];
    let left_ms = within_budget(&team.account, &month, &Default::default()).query(connection)?.reset_after_ms;
    let left = Duration::from_millis(u64::try_from(left_ms).context("the month has no end")?);
    if left < needed {
        println!("the month ends in {left:.0?}: waiting for the next");
        clock::Clock::start().sleep_until(left + Duration::from_secs(1), &STOP);
    }
    Ok(())
}
