//! `gw`: runs beside the server, and carries what is in it to where people look.

mod caller;
mod config;
mod console;
mod fleet;
mod http;
mod nodes;
mod out;
mod plans;
mod run;
mod shell;
mod ship;
mod stop;
mod supervise;
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
    /// Prints the completions of a shell
    Completions(shell::Completions),
    /// Prints a server's accounts as the file that `gw apply` takes
    Export(plans::export::Args),
    /// Prints the man page
    Man(shell::Man),
    /// Runs every job of a configuration until SIGINT or SIGTERM. Any number of instances may run at once
    Run(run::Args),
    /// Shows what a server or cluster is doing, again and again
    Top(top::Args),
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Apply(apply) => apply.run(),
        Command::Completions(completions) => completions.run(Args::command()),
        Command::Export(export) => export.run(),
        Command::Man(man) => man.run(Args::command()),
        Command::Run(run) => run.run(),
        Command::Top(top) => top.run(),
    }
}
