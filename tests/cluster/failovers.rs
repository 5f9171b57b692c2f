//! Primaries fail over while clients work: on request, and because they die or hang.

use crate::load::{Game, play, repeat, under_load};
use crate::setting::{caller, compare_replicas, games, layout, lose_a_call, pick};
use gw_testkit::{Random, live, seed};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::sleep;
use std::time::Duration;

/// `CLUSTER FAILOVER` loses nothing that was acknowledged.
#[test]
fn every_type_is_exact_while_primaries_hand_over() {
    let seed = seed(0x0bea_c0de);
    let cluster = layout().start().unwrap();
    let met = under_load(&games(), seed, caller(&cluster), |round| {
        let mut random = Random(seed);
        repeat(live(8, 120), 5, |count| {
            if count % 2 == 0 {
                let (_, primary) = pick(&cluster, &mut random);
                round.disturb(|| cluster.fail_over(primary)).unwrap();
            } else {
                lose_a_call(&cluster, &mut random);
            }
            sleep(Duration::from_millis(200));
        });
    });
    assert!(met.redirected > 0 && met.lost > 0, "{met:?} is hardly a test");
    compare_replicas(&cluster);
}

/// What a replica has confirmed is there whatever happens to the primary. What it has not confirmed may be there or not,
/// and counts once when it is sent again.
#[test]
fn what_a_replica_has_confirmed_survives_primaries_that_die_or_hang() {
    let seed = seed(0x0dec_0ded);
    let mut cluster = layout().fails_over_after(Duration::from_secs(3)).start().unwrap();
    let plain = caller(&cluster);
    let caller = || plain().confirming(Arc::new(AtomicUsize::new(1)));
    let met = under_load(&games(), seed, caller, |round| {
        round.is_unsteady();
        let mut random = Random(seed);
        repeat(live(8, 120), 2, |count| {
            let (_, primary) = pick(&cluster, &mut random);
            let port = primary.port();
            if count % 2 == 0 {
                cluster.kill_primary(port).unwrap();
                cluster.node_mut(port).unwrap().start_again().unwrap();
                cluster.await_agreement().unwrap();
            } else {
                cluster.pause_primary(port).unwrap();
            }
        });
    });
    assert!(met.redirected > 0 && met.lost > 0, "{met:?} is hardly a test");
    compare_replicas(&cluster);
}

/// Without it, nobody would know whether the tests above find anything.
#[test]
fn games_notice_what_is_lost() {
    let seed = seed(0x0000_105e);
    let mut cluster = layout().start().unwrap();
    let caller = caller(&cluster);
    let games = games();
    let primaries: Vec<u16> = cluster.primaries().iter().map(|primary| primary.port()).collect();
    play(&games, seed, &caller, |_| {
        sleep(Duration::from_secs(1));
        for &primary in &primaries {
            cluster.cut_replicas_of(primary).unwrap();
        }
        sleep(Duration::from_secs(2));
    });
    for &primary in &primaries {
        cluster.lose_primary(primary).unwrap();
    }
    cluster.await_agreement().unwrap();
    let notices = |game: &dyn Game| catch_unwind(AssertUnwindSafe(|| game.check(&mut caller()))).is_err();
    let noticed: Vec<bool> = games.iter().map(|game| notices(&**game)).collect();
    // The ledger, the accounts, the targets, the queue and the entries. All slots are free in the end, and limiters have
    // more room.
    assert_eq!(noticed[..5], [true; 5], "{noticed:?}");
}
