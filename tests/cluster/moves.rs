//! Slots move, and nodes come and go, while clients work.

use crate::load::{repeat, under_load};
use crate::setting::{caller, compare_replicas, games, layout, lose_a_call, pick};
use gw_testkit::{Cluster, Random, Server, live, seed};
use std::thread::sleep;
use std::time::Duration;

/// Another primary than `node`.
fn other<'a>(cluster: &'a Cluster, node: &Server, random: &mut Random) -> &'a Server {
    let mut others = cluster.primaries();
    others.retain(|other| other.port() != node.port());
    others[random.below(others.len())]
}

/// Every type keeps its promises, and calls whose replies are lost count once.
#[test]
fn every_type_is_exact_while_slots_move() {
    let seed = seed(0x00c0_ffee);
    let mut cluster = layout().start().unwrap();
    let met = under_load(&games(), seed, caller(&cluster), |round| {
        let mut random = Random(seed);
        let added = cluster.add_primary().unwrap();
        repeat(live(8, 120), 8, |count| {
            let (slot, from) = pick(&cluster, &mut random);
            // The new node gets some slots, in any case.
            let to = if count == 0 { cluster.node(added).unwrap() } else { other(&cluster, from, &mut random) };
            match count % 4 {
                0 => round.disturb(|| cluster.move_slot(slot, from, to)).unwrap(),
                1 => lose_a_call(&cluster, &mut random),
                // Each step takes its time.
                2 => round.disturb(|| {
                    let pause = Duration::from_millis(100 + random.below(400) as u64);
                    cluster.begin_move(slot, from, to).unwrap();
                    sleep(pause);
                    cluster.move_keys(slot, from, to).unwrap();
                    sleep(pause);
                    cluster.end_move(slot, to).unwrap();
                }),
                _ => round.disturb(|| cluster.reshard(2, from, to)).unwrap(),
            }
        });
        round.disturb(|| {
            let node = cluster.node(added).unwrap();
            let slots = cluster.slots_of(node).unwrap();
            if slots > 0 {
                cluster.reshard(slots, node, cluster.nodes().first().unwrap()).unwrap();
            }
            cluster.remove_node(added).unwrap();
        });
    });
    assert!(met.redirected > 0 && met.lost > 0, "{met:?} is hardly a test");
    compare_replicas(&cluster);
}
