//! `gw`: runs beside the server, and carries what is in it to where people look.

mod bench;
#[cfg(test)]
mod book;
mod caller;
mod config;
mod doctor;
mod http;
mod members;
mod metrics;
mod nodes;
mod run;
mod ship;
mod stop;
mod supervise;
mod target;
mod values;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The companion of redis-gateway.
#[derive(Debug, Parser)]
#[command(name = "gw", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Bench(bench::Args),
    Doctor(doctor::Args),
    /// Runs every job of a configuration until SIGINT or SIGTERM. Any number of instances may run at once
    Run(run::Args),
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Bench(bench) => bench.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Run(run) => run.run(),
    }
}
