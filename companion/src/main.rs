//! `gw`: runs beside the server, and carries what is in it to where people look.

mod caller;
mod config;
mod fleet;
mod http;
mod metrics;
mod nodes;
mod run;
mod ship;
mod stop;
mod supervise;
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
    /// Runs every job of a configuration until SIGINT or SIGTERM. Any number of instances may run at once
    Run(run::Args),
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Run(run) => run.run(),
    }
}
