//! Keeps a SQLite database in step with the ledgers of a server or a cluster: the worker that docs/src/guides/database.md
//! describes. It may be killed at any moment, any number of times.

mod database;
mod feed;
mod follow;

use std::process::ExitCode;
use std::time::Duration;

use database::Database;
use follow::{Failure, Follower, Found};

const USAGE: &str = "\
usage: gw-cost-sync REDIS-URL SQLITE-FILE [--once]

Follows GW.COSTCHANGES of the server at REDIS-URL (redis://user:password@host:port/database) into SQLITE-FILE, which is
made where it does not exist. If the server is a node of a cluster, it follows all primaries, wherever slots move. With
--once it ends when nothing is left to store, as a cron job would want.";

/// The pause after nothing was new, and before trying a server again that cannot be reached.
const PAUSE: Duration = Duration::from_secs(1);

/// The pause while slots move.
const MOVES_PAUSE: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (url, path, once) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [url, path] => (url, path, false),
        [url, path, "--once"] => (url, path, true),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(url, path, once) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gw-cost-sync: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(url: &str, path: &str, once: bool) -> Result<(), Failure> {
    let mut follower = Follower::new(url, Database::open(path)?)?;
    loop {
        match follower.round() {
            Ok(Found::Changes) => {}
            Ok(Found::Nothing) if once => return Ok(()),
            Ok(Found::Nothing) => std::thread::sleep(PAUSE),
            Ok(Found::Moves) => std::thread::sleep(MOVES_PAUSE),
            // An operator must repair a database that cannot be written; a server that cannot be reached comes back.
            Err(error) if once || !error.is::<redis::RedisError>() => return Err(error),
            Err(error) => {
                eprintln!("gw-cost-sync: {error}; trying again");
                std::thread::sleep(PAUSE);
            }
        }
    }
}
