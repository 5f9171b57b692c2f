//! `gw`: runs beside the server, and carries what is in it to where people look.

mod bench;
#[cfg(test)]
mod book;
mod caller;
mod config;
mod console;
mod doctor;
mod fleet;
mod http;
mod ledgers;
mod members;
mod metrics;
mod nodes;
mod out;
mod plans;
mod postgresql;
mod restore;
mod run;
mod scan;
mod shell;
mod ship;
mod spend;
mod stop;
mod supervise;
mod sync;
mod sync_now;
mod target;
mod top;
mod values;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// The companion of redis-gateway.
#[derive(Debug, Parser)]
#[command(name = "gw", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Gives accounts the policies of their plans, as a YAML file says, after showing what that changes
    Apply(plans::apply::Args),
    Bench(bench::Args),
    /// Prints the completions of a shell
    Completions(shell::Completions),
    Doctor(doctor::Args),
    /// Prints a server's accounts as the file that `gw apply` takes
    Export(plans::export::Args),
    /// Prints the man page
    Man(shell::Man),
    /// Makes ledgers that the server has lost again, from the database
    Restore(restore::Args),
    /// Runs every job of a configuration until SIGINT or SIGTERM. Any number of instances may run at once
    Run(run::Args),
    /// Exports what was spent, from the database of ledgers
    Spend(spend::Args),
    /// Brings the database of ledgers up to date with the server, and ends
    Sync(sync_now::Args),
    /// Shows what a server or cluster is doing, again and again
    Top(top::Args),
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Apply(apply) => apply.run(),
        Command::Bench(bench) => bench.run(),
        Command::Completions(completions) => completions.run(Args::command()),
        Command::Doctor(doctor) => doctor.run(),
        Command::Export(export) => export.run(),
        Command::Man(man) => man.run(Args::command()),
        Command::Restore(restore) => restore.run(),
        Command::Run(run) => run.run(),
        Command::Spend(spend) => spend.run(),
        Command::Sync(sync) => sync.run(),
        Command::Top(top) => top.run(),
    }
}
