//! Tokens that clients get from different nodes.

use crate::support::{run, two};
use gw_testkit::{Cluster, Server, call, slot_of};
use std::collections::HashSet;

/// The token of a new fill lease.
fn lease(client: &mut gw_testkit::redis::Connection, key: &str) -> u64 {
    let (state, _, _, _, token): (String, Option<String>, u64, u64, u64) =
        call!(*client, "GW.CACHEFETCH", key, "LEASE", 600_000);
    assert!(state == "MISS" && token > 0, "{key}: {state}");
    token
}

/// No two nodes issue the same number, nor does a node that was restarted, so no leader's value is taken for another's.
#[test]
fn tokens_of_fill_leases_are_unique_across_nodes_and_restarts() {
    const PER_NODE: u32 = 300;
    let mut cluster = Cluster::start(&Server::options(), 3, 0).unwrap();
    let mut seen = HashSet::new();
    for round in 0..2 {
        for node in cluster.nodes() {
            let mut client = node.connect().unwrap();
            let [from, to] = {
                let slots: Vec<(u64, u64, gw_testkit::redis::Value)> = call!(client, "CLUSTER", "SLOTS");
                let port = format!("int({})", node.port());
                let own = slots.iter().find(|(_, _, primary)| format!("{primary:?}").contains(&port)).unwrap();
                [own.0, own.1]
            };
            let mut leases = 0;
            for number in 0.. {
                let key = format!("{round}:{number}");
                let slot: u64 = call!(client, "CLUSTER", "KEYSLOT", &key);
                if (from..=to).contains(&slot) {
                    assert!(seen.insert(lease(&mut client, &key)), "a token twice");
                    leases += 1;
                }
                if leases == PER_NODE {
                    break;
                }
            }
        }
        if round == 0 {
            cluster.nodes_mut().iter_mut().for_each(|node| node.crash_and_restart().unwrap());
            cluster.await_agreement().unwrap();
        }
    }
}

/// A leader whose slot has moved is refused at the new node, whatever leases there are.
#[test]
fn a_leader_from_before_a_move_does_not_fill_another_ones_key() {
    let cluster = Cluster::start(&Server::options(), 2, 0).unwrap();
    let (from, to) = two(&cluster, "{a}");
    let (mut source, mut target) = (from.connect().unwrap(), to.connect().unwrap());
    let slot = slot_of(&mut source, "{a}").unwrap();
    let old: Vec<u64> = (0..50).map(|key| lease(&mut source, &format!("{{a}}:{key}"))).collect();
    cluster.move_slot(slot, from, to).unwrap();
    let new: Vec<u64> = (0..50).map(|key| lease(&mut target, &format!("{{a}}:{key}"))).collect();
    for (key, (old, new)) in old.iter().zip(&new).enumerate() {
        assert_ne!(old, new);
        assert_eq!(run(&mut target, &format!("GW.CACHESET {{a}}:{key} v TOKEN {old}")), "nil");
        assert_eq!(run(&mut target, &format!("GW.CACHERELEASE {{a}}:{key} {old}")), "0");
        assert_eq!(run(&mut target, &format!("GW.CACHESET {{a}}:{key} v TOKEN {new}")), "OK");
    }
}

/// Fencing tokens and batches' delivery numbers are part of the data: they go on where they were, whatever node counts.
#[test]
fn fencing_tokens_and_deliveries_never_go_back_when_a_slot_moves() {
    let cluster = Cluster::start(&Server::options(), 2, 0).unwrap();
    let (mut from, mut to) = two(&cluster, "{a}");
    let slot = slot_of(&mut from.connect().unwrap(), "{a}").unwrap();
    let (mut last_token, mut last_delivery) = (0, 0);
    run(&mut from.connect().unwrap(), "GW.LOGPUSH {a}:q RECORDS r");
    for round in 0..4 {
        let mut client = from.connect().unwrap();
        for step in 0..3 {
            let acquired: Vec<u64> = call!(client, "GW.ACQUIRE", "{a}:s", 1, format!("{round}:{step}"), "TTL", 600_000);
            let token = acquired[4];
            assert!(token > last_token, "{token} after {last_token}");
            last_token = token;
            call!(client, "GW.RELEASE", "{a}:s", format!("{round}:{step}") => u64);
            // The lease is over at once, and the batch is delivered again.
            let (id, _, delivery): (String, Vec<String>, u64) =
                call!(client, "GW.LOGPOP", "{a}:q", "LEASE", 600_000, "MAXDELIVERIES", 1000);
            assert_eq!(delivery, last_delivery + 1);
            last_delivery = delivery;
            call!(client, "GW.LOGNACK", "{a}:q", id => u64);
        }
        cluster.move_slot(slot, from, to).unwrap();
        (from, to) = (to, from);
    }
}
