//! `gw`: runs beside the server, and carries what is in it to where people look.

mod caller;
mod config;
mod http;
mod ledgers;
mod nodes;
mod restore;
mod run;
mod ship;
mod spend;
mod stop;
mod supervise;
mod sync;
mod sync_now;
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
        Command::Restore(restore) => restore.run(),
        Command::Run(run) => run.run(),
        Command::Spend(spend) => spend.run(),
        Command::Sync(sync) => sync.run(),
    }
}
