//! A primary that sentinels watch over: its ledgers are followed through a failover.

use std::time::Duration;

use gw_testkit::redis::cmd;
use gw_testkit::{Caller, DEADLINE, Discovery, Outcome, SENTINEL_NAME, Server, Watched, await_until};

use crate::companion::Companion;
use crate::database::Database;
use crate::ledgers::ledger_rows;

#[test]
fn the_primary_that_sentinels_name_is_followed() {
    let mut watched = Watched::start(&Server::options(), 2, Duration::from_secs(2)).unwrap();
    let folder = std::env::temp_dir().join(format!("gw-sync-sentinel-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let database = Database::sqlite(&folder);
    // One of the sentinels is away. The address itself leads nowhere.
    let mut sentinels: Vec<String> = watched.sentinels().iter().map(|port| format!("127.0.0.1:{port}")).collect();
    sentinels.insert(0, "127.0.0.1:1".to_owned());
    let companion = Companion::behind_sentinels(&folder, &sentinels, SENTINEL_NAME, &database.address());
    let running = companion.run();
    let mut caller = Caller::new(Discovery::Sentinels(watched.sentinels()));
    let mut charge = |key: &str| {
        let mut charge = cmd("GW.ADDCOST");
        charge.arg(key).arg("0.25");
        while !matches!(caller.call(key, &charge).unwrap(), Outcome::Replied(_)) {}
    };
    let await_in_step = |watched: &Watched, key: &str| {
        await_until("the database to have what the primary has", DEADLINE, || {
            let ledgers = watched.primary().map(|primary| ledger_rows(&mut primary.connect().unwrap()));
            ledgers.is_ok_and(|ledgers| ledgers.keys().any(|(own, ..)| own == key) && ledgers == database.rows())
        })
        .unwrap();
    };
    charge("a");
    await_in_step(&watched, "a");
    watched.kill_primary().unwrap();
    charge("b");
    await_in_step(&watched, "b");
    running.kill();
    std::fs::remove_dir_all(&folder).unwrap();
}
