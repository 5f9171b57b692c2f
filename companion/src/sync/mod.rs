//! Keeps a database in step with the ledgers of a server or a cluster, exactly, whatever is killed on the way:
//!
//! 1. Versions. After each connection the server is told which version the database has of each ledger, and lists those
//!    whole that it cannot follow from there.
//! 2. Changes. The server lists ledgers that have changed since they were acknowledged, with whole sums. They are stored in
//!    one transaction; a ledger older than what the database has is left out.
//! 3. After the commit, what was stored is acknowledged.
//!
//! A process that dies anywhere leaves the rest to the next one, which begins with 1. Of several processes, one works, and
//! the others stand by.

mod feed;
mod follow;
pub mod settings;

use std::time::Duration;

use anyhow::Result;

use crate::ledgers::{self, Address, Database};
use crate::nodes::Seed;
use crate::stop::Stop;
use crate::supervise::{Job, Reporter};
use follow::{Failure, Follower, Found};
use settings::Sync;

/// The pause before a server is tried again that cannot be reached, and before the place of the one that works is asked
/// for again.
const RETRY: Duration = Duration::from_secs(1);

/// The pause while slots move.
const MOVES: Duration = Duration::from_millis(50);

/// How often, with [`RETRY`] between, the place of the one that works is asked for by a command that does not stand by.
const LEAD_TRIES: u32 = 60;

/// The job of a part of the configuration, which was checked, with its name.
///
/// # Errors
/// If the configuration was not checked.
pub fn job(config: &Sync, seed: &Seed) -> Result<(String, Job)> {
    let address = config.address().map_err(anyhow::Error::msg)?;
    let (seed, pause) = (seed.clone(), *config.pause.as_ref());
    let job: Job = Box::new(move |stop, reporter| run(&address, seed.clone(), pause, stop, reporter));
    Ok(("sync".to_owned(), job))
}

fn run(address: &Address, seed: Seed, pause: Duration, stop: &Stop, reporter: &Reporter) -> Result<()> {
    let mut database = ledgers::open(address)?;
    while !database.lead()? {
        // Standing by is all that this process has to do.
        reporter.well();
        if stop.pause(RETRY) {
            return Ok(());
        }
    }
    tracing::info!("following the ledgers");
    let mut follower = Follower::new(seed, database);
    while !stop.is_requested() {
        match follower.round() {
            Ok(found) => {
                reporter.well();
                match found {
                    Found::Changes => {}
                    Found::Moves => drop(stop.pause(MOVES)),
                    Found::Nothing => drop(stop.pause(pause)),
                }
            }
            Err(Failure::Database(error)) => return Err(error),
            Err(failure) => {
                tracing::warn!(error = %failure, "cannot follow; trying again");
                reporter.waiting(&failure);
                stop.pause(RETRY);
            }
        }
    }
    Ok(())
}

/// Follows until nothing is left to store, as a cron job would want. A slot that is just moving is left to the next run.
/// `whole` has every ledger listed first, whatever was acknowledged for another database.
///
/// # Errors
/// Those of the database and of the server, and if another process goes on working.
pub fn catch_up(config: &Sync, seed: Seed, whole: bool) -> Result<()> {
    let mut database = ledgers::open(&config.address().map_err(anyhow::Error::msg)?)?;
    await_lead(&mut *database)?;
    let mut follower = Follower::new(seed, database);
    if whole {
        follower.list_whole()?;
    }
    loop {
        match follower.round() {
            Ok(Found::Nothing) => return Ok(()),
            Ok(Found::Moves) => std::thread::sleep(MOVES),
            Ok(Found::Changes) => {}
            Err(failure) => anyhow::bail!("{failure}"),
        }
    }
}

/// Waits until this process is the one that writes to the database.
///
/// # Errors
/// If another one goes on for a minute.
pub fn await_lead(database: &mut dyn Database) -> Result<()> {
    for _ in 0..LEAD_TRIES {
        if database.lead()? {
            return Ok(());
        }
        std::thread::sleep(RETRY);
    }
    anyhow::bail!("another process follows the ledgers into this database")
}
