//! `gw`: runs beside the server, and carries what is in it to where people look.

mod bench;
#[cfg(test)]
mod book;
mod caller;
mod config;
mod doctor;
mod http;
mod ledgers;
mod members;
mod metrics;
mod nodes;
mod restore;
mod run;
mod ship;
mod spend;
mod stop;
mod supervise;
mod sync;
mod sync_now;
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
    /// Makes ledgers that the server has lost again, from the database
    Restore(restore::Args),
    /// Runs every job of a configuration until SIGINT or SIGTERM. Any number of instances may run at once
    Run(run::Args),
    /// Exports what was spent, from the database of ledgers
    Spend(spend::Args),
    /// Brings the database of ledgers up to date with the server, and ends
    Sync(sync_now::Args),
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Bench(bench) => bench.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Restore(restore) => restore.run(),
        Command::Run(run) => run.run(),
        Command::Spend(spend) => spend.run(),
        Command::Sync(sync) => sync.run(),
    }
}
