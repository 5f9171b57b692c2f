//! A primary that Sentinel replaces while clients work.

use crate::load::under_load;
use crate::setting::{compare, games};
use gw_testkit::{Caller, Discovery, Server, Watched, live, seed};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::Duration;

const REPLICAS: usize = 2;

/// Clients find the new primary through the sentinels. What both replicas have confirmed is there, whichever of them is
/// promoted.
#[test]
fn every_type_survives_a_failover_by_sentinel() {
    let seed = seed(0x5e11_711e);
    let mut watched = Watched::start(&Server::options(), REPLICAS, Duration::from_secs(2)).unwrap();
    let sentinels = watched.sentinels();
    let confirmed_by = Arc::new(AtomicUsize::new(REPLICAS));
    let caller = || Caller::new(Discovery::Sentinels(sentinels.clone())).confirming(confirmed_by.clone());
    let met = under_load(&games(), seed, caller, |round| {
        round.is_unsteady();
        for failover in 0..live(1, 5) {
            sleep(Duration::from_secs(2));
            if failover > 0 {
                // A killed server is a replica when it is back: some ten seconds later.
                watched.start_again().unwrap();
                confirmed_by.store(REPLICAS, Ordering::Relaxed);
                sleep(Duration::from_secs(2));
            }
            watched.kill_primary().unwrap();
            confirmed_by.store(REPLICAS - 1, Ordering::Relaxed);
        }
        sleep(Duration::from_secs(2));
    });
    assert!(met.lost > 0, "{met:?} is hardly a test");
    let primary = watched.primary().unwrap();
    let replicas = watched.servers().iter().filter(|server| server.can_answer() && server.port() != primary.port());
    assert_eq!(replicas.map(|replica| compare(primary, replica)).count(), REPLICAS - 1);
}
