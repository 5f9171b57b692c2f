//! Keeps a SQLite database in step with the ledgers of a server: the worker that docs/src/guides/database.md describes. It
//! may be killed at any moment, any number of times.

mod database;
mod feed;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use database::Database;
use feed::Feed;

const USAGE: &str = "\
usage: gw-cost-sync REDIS-URL SQLITE-FILE [--once]

Follows GW.COSTCHANGES of the server at REDIS-URL (redis://user:password@host:port/database) into SQLITE-FILE, which is
made where it does not exist. With --once it ends when nothing is left to store, as a cron job would want.";

/// The pause after the server had nothing new, and before trying a server again that cannot be reached.
const PAUSE: Duration = Duration::from_secs(1);

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

fn run(url: &str, path: &str, once: bool) -> Result<(), Box<dyn Error>> {
    let mut database = Database::open(path)?;
    loop {
        match follow(url, &mut database, once) {
            Ok(()) => return Ok(()),
            // An operator must repair a database that cannot be written; a server that cannot be reached comes back.
            Err(error) => match error.downcast::<redis::RedisError>() {
                Ok(error) if !once => eprintln!("gw-cost-sync: {error}; trying again"),
                Ok(error) => return Err(error),
                Err(error) => return Err(error),
            },
        }
        std::thread::sleep(PAUSE);
    }
}

/// Follows over one connection, until it is lost or, with `once`, until nothing is left to store.
fn follow(url: &str, database: &mut Database, once: bool) -> Result<(), Box<dyn Error>> {
    // The server can only learn from the database's versions what it lost in a failover, or got back from a backup.
    let mut feed = Feed::connect(url)?;
    let gone = feed.tell_versions(&database.versions()?)?;
    if gone > 0 {
        eprintln!("gw-cost-sync: {gone} accounts of the database have no ledger any more");
    }
    loop {
        let (more, ledgers) = feed.changes()?;
        database.store(&ledgers)?;
        // Only after storing, because acknowledged changes are not listed again.
        feed.acknowledge(&ledgers)?;
        if ledgers.is_empty() && !more {
            if once {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
    }
}
