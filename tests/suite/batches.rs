//! Leased batches of log records: GW.LOGPOP with LEASE, GW.LOGACK, GW.LOGNACK, GW.LOGEXTEND, GW.LOGDEAD, GW.LOGSTATS.

use crate::support::{DEADLINE, Random, SOON_MS, run, server_time_ms, start, state};
use gw_testkit::redis::Connection;
use gw_testkit::{Server, await_in_sync, await_until, call, info, reply};
use std::collections::{HashMap, HashSet};

const LONG_MS: u64 = 3_600_000;

type Batch = (String, Vec<String>, u64);

fn lease(client: &mut Connection, key: &str, count: usize, ms: u64) -> Option<Batch> {
    call!(*client, "GW.LOGPOP", key, "COUNT", count, "LEASE", ms)
}

fn stats(client: &mut Connection, key: &str) -> HashMap<String, u64> {
    call!(*client, "GW.LOGSTATS", key)
}

/// Leases a batch that comes back after some time.
fn lease_again(client: &mut Connection, key: &str) -> Batch {
    let mut batch = None;
    await_until("the batch to come back", DEADLINE, || {
        batch = lease(client, key, 1, LONG_MS);
        batch.is_some()
    })
    .unwrap();
    batch.unwrap()
}

#[test]
fn a_batch_comes_back_as_it_was_until_it_is_acknowledged() {
    let (_server, mut client) = start();
    run(&mut client, "GW.LOGPUSH q a b c");
    let (id, records, deliveries) = lease(&mut client, "q", 2, 1).unwrap();
    assert_eq!((records, deliveries), (vec!["a".to_owned(), "b".into()], 1));
    await_until("the batch to be back", DEADLINE, || run(&mut client, "GW.LOGPEEK q") == r#"["a"]"#).unwrap();
    // A batch that came back is delivered first and whole, whatever count is asked for.
    assert_eq!(lease_again(&mut client, "q"), (id.clone(), vec!["a".into(), "b".into()], 2));
    assert_eq!(lease(&mut client, "q", 9, LONG_MS).unwrap().1, ["c"]);
    assert_eq!(lease(&mut client, "q", 9, LONG_MS), None);
    assert_eq!(reply!(client, "GW.LOGACK", "q", &id), "1");
    assert_eq!(reply!(client, "GW.LOGACK", "q", &id), "0");
    let stats = stats(&mut client, "q");
    for (name, figure) in
        [("length", 0), ("leased", 1), ("leased_batches", 1), ("popped", 3), ("acked", 2), ("redelivered", 2)]
    {
        assert_eq!(stats[name], figure, "{name} in {stats:?}");
    }
    // Everything that a queue younger than half a minute has seen, and no more.
    assert_eq!(stats["pushed_per_minute"], 3, "{stats:?}");
}

#[test]
fn figures_are_of_this_moment_whatever_touched_the_queue_last() {
    let (_server, mut client) = start();
    let check = |client: &mut Connection, key: &str, figures: [u64; 6]| {
        let stats = stats(client, key);
        let names = ["length", "leased", "leased_batches", "dead", "dead_batches", "dead_lettered"];
        assert_eq!(names.map(|name| stats[name]), figures, "{stats:?}");
        assert_eq!(stats["dead_lettered_per_minute"], stats["dead_lettered"]);
        let told = run(client, &format!("GW.DESCRIBE {key}"));
        let [length, leased, _, dead, ..] = figures;
        assert!(told.contains(&format!("\"length\", {length}, \"leased\", {leased}, \"dead\", {dead}")), "{told}");
        assert_eq!(run(client, &format!("GW.LOGLEN {key}")), length.to_string());
    };
    run(&mut client, "GW.LOGPUSH q a b c");
    lease(&mut client, "q", 3, 1).unwrap();
    await_until("the batch to be back", DEADLINE, || run(&mut client, "GW.LOGPEEK q") == r#"["a"]"#).unwrap();
    check(&mut client, "q", [3, 0, 0, 0, 0, 0]);
    assert!(stats(&mut client, "q")["oldest_age_ms"] > 0);
    assert_eq!(run(&mut client, "GW.LOGPUSH q d"), "[4, 0]");
    check(&mut client, "q", [4, 0, 0, 0, 0, 0]);
    lease(&mut client, "q", 3, LONG_MS).unwrap();
    check(&mut client, "q", [1, 3, 1, 0, 0, 0]);

    run(&mut client, "GW.LOGPUSH last a b");
    run(&mut client, "GW.LOGPOP last COUNT 2 LEASE 1 MAXDELIVERIES 1");
    await_until("the batch to be dead", DEADLINE, || stats(&mut client, "last")["dead"] == 2).unwrap();
    check(&mut client, "last", [0, 0, 0, 2, 1, 2]);
    assert_eq!(stats(&mut client, "last")["oldest_age_ms"], 0);
    // A batch that is counted as a dead letter can be dropped.
    run(&mut client, "GW.LOGPUSH late a");
    run(&mut client, "GW.LOGPOP late LEASE 1 MAXDELIVERIES 1");
    await_until("the batch to be dead", DEADLINE, || stats(&mut client, "late")["dead"] == 1).unwrap();
    assert_eq!(run(&mut client, "GW.LOGDEAD late DROP ALL"), "1");
    assert_eq!(run(&mut client, "GW.LOGPUSH last c"), "[1, 0]");
    let stats = stats(&mut client, "last");
    assert_eq!((stats["dead_batches"], stats["dead_lettered"], stats["leased_batches"]), (1, 2, 0), "{stats:?}");
}

#[test]
fn a_batch_is_given_back_at_once_later_or_for_good() {
    let (_server, mut client) = start();
    run(&mut client, "GW.LOGPUSH q a b c");
    let (id, ..) = lease(&mut client, "q", 1, LONG_MS).unwrap();
    assert_eq!(reply!(client, "GW.LOGNACK", "q", &id), "1");
    assert_eq!(lease(&mut client, "q", 1, LONG_MS), Some((id.clone(), vec!["a".into()], 2)));
    assert_eq!(reply!(client, "GW.LOGNACK", "q", &id, "DELAY", SOON_MS), "1");
    assert_eq!(lease(&mut client, "q", 1, LONG_MS).unwrap().1, ["b"]);
    assert_eq!(lease(&mut client, "q", 1, LONG_MS).unwrap().1, ["c"]);
    assert_eq!(lease_again(&mut client, "q"), (id.clone(), vec!["a".into()], 3));
    assert_eq!(reply!(client, "GW.LOGNACK", "q", &id, "DEAD"), "1");
    assert_eq!(reply!(client, "GW.LOGNACK", "q", &id), "0");
    assert_eq!(reply!(client, "GW.LOGEXTEND", "q", &id, "LEASE", 5), "0");
    assert_eq!(reply!(client, "GW.LOGDEAD", "q", "LIST"), format!(r#"[["{id}", ["a"], 3]]"#));
    // The consumer finished its work late.
    assert_eq!(reply!(client, "GW.LOGACK", "q", &id), "1");
    assert_eq!(reply!(client, "GW.LOGDEAD", "q", "LIST"), "[]");
}

#[test]
fn an_extended_lease_lasts() {
    let (_server, mut client) = start();
    run(&mut client, "GW.LOGPUSH q a");
    let (id, ..) = lease(&mut client, "q", 1, SOON_MS as u64).unwrap();
    assert_eq!(reply!(client, "GW.LOGEXTEND", "q", &id, "LEASE", LONG_MS), "1");
    let extended_ms = server_time_ms(&mut client);
    await_until("the first lease's end", DEADLINE, || server_time_ms(&mut client) > extended_ms + SOON_MS).unwrap();
    assert_eq!(lease(&mut client, "q", 1, 1), None);
    // The lease is cut short.
    assert_eq!(reply!(client, "GW.LOGEXTEND", "q", &id, "LEASE", 1), "1");
    assert_eq!(lease_again(&mut client, "q").0, id);
}

#[test]
fn too_many_deliveries_make_dead_letters() {
    let server = Server::options().config("gw.log-max-deliveries 2").start().unwrap();
    let mut client = server.connect().unwrap();
    run(&mut client, "GW.LOGPUSH q a b");
    let (id, ..) = lease(&mut client, "q", 1, LONG_MS).unwrap();
    reply!(client, "GW.LOGNACK", "q", &id);
    assert_eq!(lease(&mut client, "q", 1, LONG_MS).unwrap().2, 2);
    reply!(client, "GW.LOGNACK", "q", &id);
    assert_eq!((stats(&mut client, "q")["dead"], stats(&mut client, "q")["dead_lettered"]), (1, 1));
    // A consumer's own maximum of deliveries; the last lease ends by itself.
    let (other, ..): Batch = call!(client, "GW.LOGPOP", "q", "LEASE", 1, "MAXDELIVERIES", 1);
    await_until("the second batch to be dead", DEADLINE, || stats(&mut client, "q")["dead"] == 2).unwrap();
    assert_eq!(lease(&mut client, "q", 1, LONG_MS), None);
    assert_eq!(
        reply!(client, "GW.LOGDEAD", "q", "LIST", "COUNT", 5),
        format!(r#"[["{id}", ["a"], 2], ["{other}", ["b"], 1]]"#)
    );
    assert_eq!(reply!(client, "GW.LOGDEAD", "q", "REQUEUE", &id), "1");
    assert_eq!(reply!(client, "GW.LOGDEAD", "q", "REQUEUE", &id), "0");
    // Two more deliveries, numbered on from the last one.
    for delivery in [3, 4] {
        assert_eq!(lease(&mut client, "q", 1, LONG_MS), Some((id.clone(), vec!["a".into()], delivery)));
        reply!(client, "GW.LOGNACK", "q", &id);
    }
    assert_eq!(lease(&mut client, "q", 1, LONG_MS), None);
    assert_eq!(reply!(client, "GW.LOGACK", "q", &id, "DELIVERY", 1), "0");
    assert_eq!(reply!(client, "GW.LOGACK", "q", &id, "DELIVERY", 4), "1");
    assert_eq!(reply!(client, "GW.LOGDEAD", "q", "DROP", "ALL"), "1");
    assert_eq!(stats(&mut client, "q")["dropped"], 1);
}

#[test]
fn a_full_queue_never_drops_what_is_leased() {
    let (_server, mut client) = start();
    run(&mut client, "GW.LOGPUSH q a b c d");
    let (id, ..) = lease(&mut client, "q", 2, LONG_MS).unwrap();
    assert_eq!(run(&mut client, "GW.LOGPUSH q MAXLEN 4 e"), "[2, 1]");
    assert!(run(&mut client, "GW.LOGPUSH q MAXLEN 4 REJECT f").starts_with("QUEUEFULL "));
    assert_eq!(run(&mut client, "GW.LOGPUSH q MAXLEN 2 g h"), "[0, 4]");
    assert_eq!(stats(&mut client, "q")["rejected"], 1);
    reply!(client, "GW.LOGNACK", "q", &id);
    assert_eq!(run(&mut client, "GW.LOGPOP q COUNT 9"), r#"["a", "b"]"#);
}

#[test]
fn a_plain_pop_takes_what_has_come_back_first() {
    let (_server, mut client) = start();
    run(&mut client, "GW.LOGPUSH q a b c d");
    let (id, ..) = lease(&mut client, "q", 3, LONG_MS).unwrap();
    reply!(client, "GW.LOGNACK", "q", &id);
    assert_eq!(run(&mut client, "GW.LOGPEEK q COUNT 9"), r#"["a", "b", "c", "d"]"#);
    assert_eq!(run(&mut client, "GW.LOGPOP q COUNT 2"), r#"["a", "b"]"#);
    // The rest is no longer a batch.
    assert_eq!(reply!(client, "GW.LOGACK", "q", &id), "0");
    assert_eq!(run(&mut client, "GW.LOGLEN q"), "2");
    assert_eq!(run(&mut client, "GW.LOGPOP q COUNT 9"), r#"["c", "d"]"#);
}

#[test]
fn leases_are_the_same_on_replicas_and_after_crashes() {
    let mut primary = Server::options().aof().start().unwrap();
    let mut client = primary.connect().unwrap();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let mut reader = replica.connect().unwrap();
    await_in_sync(&mut client, &mut reader);
    for number in 0..1_000 {
        call!(client, "GW.LOGPUSH", "q", "RECORDS", format!("{number:0500}") => Vec<u64>);
    }
    let (done, ..) = lease(&mut client, "q", 100, LONG_MS).unwrap();
    let (out, records, _) = lease(&mut client, "q", 150, LONG_MS).unwrap();
    call!(client, "GW.LOGACK", "q", &done => i64);
    await_in_sync(&mut client, &mut reader);
    let before = state(&mut client);
    assert_eq!(before, state(&mut reader));
    primary.crash_and_restart().unwrap();
    reply!(reader, "REPLICAOF", "NO", "ONE");
    for mut client in [primary.connect().unwrap(), reader] {
        assert_eq!(before, state(&mut client));
        assert_eq!(reply!(client, "GW.LOGNACK", "q", &out), "1");
        assert_eq!(lease(&mut client, "q", 1, LONG_MS), Some((out.clone(), records.clone(), 2)));
    }
}

#[test]
fn ids_are_never_given_twice() {
    let mut server = Server::options().aof().start().unwrap();
    let mut ids = HashSet::new();
    for _ in 0..3 {
        let mut client = server.connect().unwrap();
        for _ in 0..200 {
            run(&mut client, "DEL q");
            run(&mut client, "GW.LOGPUSH q a b");
            for _ in 0..2 {
                let (id, ..) = lease(&mut client, "q", 1, LONG_MS).unwrap();
                assert_eq!(id.len(), 24);
                assert!(ids.insert(id));
            }
        }
        server.crash_and_restart().unwrap();
    }
}

#[test]
fn full_blocks_are_compressed_before_long() {
    let (_server, mut client) = start();
    for number in 0..2_000 {
        let record = format!("{{\"id\":{number},\"text\":\"{}\"}}", "the quick brown fox ".repeat(50));
        call!(client, "GW.LOGPUSH", "q", "RECORDS", record => Vec<u64>);
    }
    await_until("the blocks to be compressed", DEADLINE, || stats(&mut client, "q")["memory_bytes"] < 2_000 * 100)
        .unwrap();
    let before = state(&mut client);
    run(&mut client, "DEBUG RELOAD");
    assert_eq!(before, state(&mut client));
    let popped: Vec<String> = call!(client, "GW.LOGPOP", "q", "COUNT", 1_000);
    assert!(popped.iter().enumerate().all(|(number, record)| record.starts_with(&format!("{{\"id\":{number},"))));
}

#[test]
fn a_long_queue_is_freed_without_anybody_waiting() {
    let (_server, mut client) = start();
    let used = |client: &mut Connection| info(client, "memory")["used_memory"].parse::<u64>().unwrap();
    let before = used(&mut client);
    let mut random = Random(7);
    // Text that compresses to half its size.
    let mut record = || -> String { random.bytes(100).iter().map(|byte| format!("{byte:02x}")).collect() };
    let records: Vec<String> = (0..1_000).map(|_| record()).collect();
    for _ in 0..50 {
        call!(client, "GW.LOGPUSH", "q", "RECORDS", &records => Vec<u64>);
        lease(&mut client, "q", 10, LONG_MS).unwrap();
    }
    assert!(used(&mut client) > before + 3_000_000);
    assert_eq!(run(&mut client, "DEL q"), "1");
    await_until("the memory to be free", DEADLINE, || used(&mut client) < before + 2_000_000).unwrap();
}

#[test]
fn a_delivery_that_is_not_the_latest_changes_nothing() {
    let (_server, mut client) = start();
    run(&mut client, "GW.LOGPUSH q a b");
    let (id, _, first) = lease(&mut client, "q", 2, 1).unwrap();
    assert_eq!(lease_again(&mut client, "q"), (id.clone(), vec!["a".into(), "b".into()], first + 1));
    let before = state(&mut client);
    for delivery in [first, first + 2] {
        for words in [
            "GW.LOGACK q ID",
            "GW.LOGNACK q ID",
            "GW.LOGNACK q ID DEAD",
            "GW.LOGNACK q ID DELAY 5",
            "GW.LOGNACK q ID DEAD RECORD 0",
            "GW.LOGNACK q ID DEAD RECORD 7",
            "GW.LOGEXTEND q ID LEASE 5",
        ] {
            let words = format!("{} DELIVERY {delivery}", words.replace("ID", &id));
            assert_eq!(run(&mut client, &words), "0", "{words}");
        }
    }
    assert_eq!(before, state(&mut client));
    assert_eq!(reply!(client, "GW.LOGEXTEND", "q", &id, "DELIVERY", first + 1, "LEASE", LONG_MS), "1");
    assert_eq!(reply!(client, "GW.LOGACK", "q", &id, "DELIVERY", first + 1), "1");
    for (words, error) in [
        ("GW.LOGACK q ID DELIVERY 0", "ERR not an integer from 1 to 4611686018427387904: DELIVERY"),
        ("GW.LOGACK q ID DELIVERY", "ERR missing value: DELIVERY"),
        ("GW.LOGACK q ID NOW", "ERR unknown option: NOW"),
        ("GW.LOGEXTEND q ID DELIVERY 1", "ERR missing option: LEASE"),
        ("GW.LOGNACK q ID DEAD DELAY 5", "ERR conflicting option: DELAY"),
        ("GW.LOGNACK q ID RECORD 1", "ERR only with DEAD: RECORD"),
    ] {
        assert_eq!(run(&mut client, &words.replace("ID", &id)), error, "{words}");
    }
}

#[test]
fn records_of_a_batch_are_given_up_alone() {
    let (_server, mut client) = start();
    run(&mut client, "GW.LOGPUSH q a b c d");
    let (id, ..) = lease(&mut client, "q", 4, LONG_MS).unwrap();
    let before = state(&mut client);
    for (indexes, error) in [
        ("4", "ERR no such record in the batch: 4"),
        ("1 9 0", "ERR no such record in the batch: 9"),
        ("1 3 1", "ERR repeated record: 1"),
        ("10000", "ERR not an integer from 0 to 9999: RECORD"),
        ("x", "ERR not an integer from 0 to 9999: RECORD"),
        ("", "ERR missing value: RECORD"),
    ] {
        assert_eq!(run(&mut client, &format!("GW.LOGNACK q {id} DEAD RECORD {indexes}")), error);
    }
    assert_eq!(before, state(&mut client));
    // Repeated, the request takes out no other records.
    for _ in 0..2 {
        assert_eq!(reply!(client, "GW.LOGNACK", "q", &id, "DEAD", "RECORD", 3, 1, "DELIVERY", 1), "1");
    }
    let dead: Vec<Batch> = call!(client, "GW.LOGDEAD", "q", "LIST");
    assert_eq!((dead.len(), &dead[0].1[..], dead[0].2), (1, &["b".to_owned(), "d".into()][..], 1));
    assert_ne!(dead[0].0, id);
    assert_eq!(reply!(client, "GW.LOGNACK", "q", &id), "1");
    assert_eq!(lease(&mut client, "q", 9, LONG_MS), Some((id.clone(), vec!["a".into(), "c".into()], 2)));
    // With the last records the batch is gone; acknowledging it does not remove the dead letter.
    assert_eq!(reply!(client, "GW.LOGNACK", "q", &id, "DEAD", "RECORD", 0, 1), "1");
    assert_eq!(reply!(client, "GW.LOGACK", "q", &id), "0");
    let stats = stats(&mut client, "q");
    assert_eq!((stats["dead"], stats["dead_batches"], stats["leased"], stats["dead_lettered"]), (4, 2, 0, 4));
}

#[test]
fn dead_letters_take_no_room_and_have_bounds_of_their_own() {
    let primary = Server::options().config("gw.log-max-dead-records 4").start().unwrap();
    let mut client = primary.connect().unwrap();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let mut reader = replica.connect().unwrap();
    await_in_sync(&mut client, &mut reader);
    let give_up = |client: &mut Connection, count| {
        let (id, ..) = lease(client, "q", count, LONG_MS).unwrap();
        assert_eq!(reply!(*client, "GW.LOGNACK", "q", &id, "DEAD"), "1");
        id
    };
    run(&mut client, "GW.LOGPUSH q MAXLEN 4 a b c d");
    give_up(&mut client, 2);
    let second = give_up(&mut client, 2);
    assert_eq!(run(&mut client, "GW.LOGPUSH q MAXLEN 4 REJECT e f g h"), "[4, 0]");
    let third = give_up(&mut client, 1);
    let listed: Vec<Batch> = call!(client, "GW.LOGDEAD", "q", "LIST");
    assert_eq!(listed.into_iter().map(|(id, ..)| id).collect::<Vec<_>>(), [second, third]);
    let figures = stats(&mut client, "q");
    assert_eq!(
        (figures["dead_dropped"], figures["dropped"], figures["dead_bytes"], figures["record_bytes"]),
        (2, 0, 3, 3)
    );
    assert_eq!(info(&mut client, "gw")["gw_log_dead_dropped"], "2");
    // Lower bounds apply from the next change on.
    run(&mut client, "CONFIG SET gw.log-max-dead-bytes 1");
    run(&mut client, "GW.LOGPUSH q i");
    assert_eq!(stats(&mut client, "q")["dead"], 1);
    await_in_sync(&mut client, &mut reader);
    assert_eq!(state(&mut client), state(&mut reader));
}

#[test]
fn leased_records_above_a_lowered_bound_stay_and_new_ones_are_counted() {
    let (_server, mut client) = start();
    let records: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    call!(client, "GW.LOGPUSH", "q", "RECORDS", &records => Vec<u64>);
    let (id, ..) = lease(&mut client, "q", 20, LONG_MS).unwrap();
    assert_eq!(run(&mut client, "GW.LOGPUSH q MAXLEN 10 a b"), "[0, 2]");
    assert!(run(&mut client, "GW.LOGPUSH q MAXLEN 10 REJECT a").starts_with("QUEUEFULL "));
    let figures = stats(&mut client, "q");
    assert_eq!((figures["leased"], figures["dropped"], figures["rejected"], figures["pushed"]), (20, 2, 1, 22));
    assert_eq!(reply!(client, "GW.LOGACK", "q", &id), "1");
    assert_eq!(run(&mut client, "GW.LOGPUSH q MAXLEN 10 REJECT a"), "[1, 0]");
}

#[test]
fn a_clock_that_steps_back_stretches_no_lease() {
    let (_server, mut client) = start();
    // A node whose clock is an hour ahead has leased it for 50 ms.
    run(&mut client, "GW.LOGPUSH q a");
    let ahead_ms = server_time_ms(&mut client) + 3_600_000;
    let id = "000649ce3d40a00000000007";
    let lease_effect = format!("L {ahead_ms} {id} {} 9 1", ahead_ms + 50);
    assert_eq!(reply!(client, "GW._QUEUE", "q", lease_effect), "OK");
    assert_eq!(lease_again(&mut client, "q").0, id);
    // The same holds for a delay.
    let nack_effect = format!("N {ahead_ms} {id} {}", ahead_ms + 50);
    assert_eq!(reply!(client, "GW._QUEUE", "q", nack_effect), "OK");
    assert_eq!(lease_again(&mut client, "q").0, id);
}
