//! GW.ACQUIRE with BLOCK: who waits, who is served, and how a wait ends.

use crate::blocking::{answer, ask, await_waiting};
use crate::support::{DEADLINE, SOON_MS, aof_commands, command, run, server_time_ms, start, state};
use gw_testkit::redis::{Connection, FromRedisValue, RedisResult, Value};
use gw_testkit::{Server, await_in_sync, await_until, call, info, reply, reply_line};
use std::sync::mpsc::Receiver;
use std::thread;

const LONG: &str = "TTL 3600000";

/// acquired, in_use, max, retry_after_ms, fencing_token
fn acquire(client: &mut Connection, words: &str) -> [i64; 5] {
    command(&format!("GW.ACQUIRE {words}")).query(client).unwrap()
}

/// Lets one more client wait, as the `count`th, and gives back what its reply will come from.
fn wait(server: &Server, client: &mut Connection, words: &str, count: usize) -> Receiver<RedisResult<Value>> {
    let waiting = ask(server, &format!("GW.ACQUIRE {words} BLOCK 0"));
    await_waiting(client, count);
    waiting
}

fn granted(waiting: &Receiver<RedisResult<Value>>) -> [i64; 5] {
    FromRedisValue::from_redis_value(waiting.recv_timeout(DEADLINE).unwrap().unwrap()).unwrap()
}

#[test]
fn fifty_are_served_in_the_order_in_which_they_came_and_nobody_overtakes_them() {
    let primary = Server::options().aof().start().unwrap();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let (mut client, mut reader) = (primary.connect().unwrap(), replica.connect().unwrap());
    await_in_sync(&mut client, &mut reader);
    let mut last = acquire(&mut client, &format!("k 1 first {LONG}"))[4];
    let waiting: Vec<_> =
        (0..50).map(|holder| wait(&primary, &mut client, &format!("k 1 h{holder} {LONG}"), holder + 1)).collect();
    assert_eq!(acquire(&mut client, &format!("k 1 first {LONG}"))[0], 1, "a holder keeps its slot at once");
    run(&mut client, "GW.RELEASE k first");
    for (holder, own) in waiting.iter().enumerate() {
        let [acquired, in_use, max, retry_after_ms, token] = granted(own);
        assert_eq!((acquired, in_use, max, retry_after_ms), (1, 1, 1, 0));
        assert!(token > last, "{token} after {last}");
        last = token;
        assert!(waiting[holder + 1..].iter().all(|other| other.try_recv().is_err()));
        // Released and asked for at once: the slot goes to the next that waits.
        let replies: (i64, [i64; 5]) = crate::support::at_once(
            &mut client,
            &[&format!("GW.RELEASE k h{holder}"), &format!("GW.ACQUIRE k 1 late {LONG}")],
        );
        assert_eq!((replies.0, replies.1[0]), (1, i64::from(holder == 49)));
    }
    await_in_sync(&mut client, &mut reader);
    assert_eq!(state(&mut client), state(&mut reader));
    let operations: Vec<u8> =
        aof_commands(&primary).into_iter().filter(|words| words[0] == b"GW._LIMIT").map(|words| words[2][0]).collect();
    assert_eq!(String::from_utf8(operations).unwrap(), format!("LL{}", "UL".repeat(51)));
}

#[test]
fn expiries_serve_and_a_shorter_time_is_noticed() {
    let (server, mut client) = start();
    acquire(&mut client, "k 1 a TTL 200");
    assert_eq!(granted(&wait_any(&server, &format!("k 1 b {LONG}")))[0], 1);
    let waiting = wait(&server, &mut client, &format!("k 1 c {LONG}"), 1);
    run(&mut client, "GW.RENEW k b TTL 50");
    assert_eq!(granted(&waiting)[0], 1);
}

fn wait_any(server: &Server, words: &str) -> Receiver<RedisResult<Value>> {
    ask(server, &format!("GW.ACQUIRE {words} BLOCK 0"))
}

#[test]
fn each_brings_its_own_maximum() {
    let (server, mut client) = start();
    for holder in ["a", "b", "c"] {
        acquire(&mut client, &format!("k 3 {holder} {LONG}"));
    }
    let low = wait(&server, &mut client, &format!("k 1 low {LONG}"), 1);
    let high = wait(&server, &mut client, &format!("k 3 high {LONG}"), 2);
    run(&mut client, "GW.RELEASE k a");
    assert_eq!(granted(&high)[..3], [1, 3, 3], "what low's maximum does not allow is not kept from others");
    // A slot above the maximum of those who wait is nobody's yet.
    assert_eq!(acquire(&mut client, &format!("k 4 more {LONG}"))[0], 1);
    for holder in ["b", "c", "high"] {
        run(&mut client, &format!("GW.RELEASE k {holder}"));
        assert!(low.try_recv().is_err());
    }
    run(&mut client, "GW.RELEASE k more");
    assert_eq!(granted(&low)[..3], [1, 1, 1]);
    assert_eq!(run(&mut client, "GW.ACQUIRE k 0 never TTL 5 BLOCK 0"), "[0, 1, 0, -1, 0]", "no wait would help");
}

#[test]
fn a_holder_has_one_place_and_one_slot() {
    let (server, mut client) = start();
    acquire(&mut client, &format!("k 1 a {LONG}"));
    let first = wait(&server, &mut client, &format!("k 1 same {LONG}"), 1);
    let other = wait(&server, &mut client, &format!("k 1 other {LONG}"), 2);
    let again = wait(&server, &mut client, &format!("k 1 same {LONG}"), 3);
    run(&mut client, "GW.RELEASE k a");
    let grant = granted(&first);
    assert_eq!(granted(&again), grant, "the same slot, with the same token");
    assert!(other.try_recv().is_err());
    assert_eq!(run(&mut client, "GW.RELEASE k same"), "1");
    assert_eq!(granted(&other)[0], 1);
}

#[test]
fn a_wait_ends_with_its_time_as_a_denial() {
    let (_server, mut client) = start();
    acquire(&mut client, &format!("k 1 a {LONG}"));
    let [acquired, in_use, max, retry_after_ms, token] = acquire(&mut client, "k 1 b TTL 5 BLOCK 10");
    assert_eq!((acquired, in_use, max, token), (0, 1, 1, 0));
    assert!(retry_after_ms > 3_500_000, "{retry_after_ms}");
    let stats = run(&mut client, "GW.STATS");
    for figure in [r#""leases_acquired", 1"#, r#""leases_denied", 1"#, r#""leases_waited", 1"#] {
        assert!(stats.contains(figure), "{figure} in {stats}");
    }
}

#[test]
fn transactions_and_scripts_never_wait() {
    let (_server, mut client) = start();
    acquire(&mut client, &format!("k 1 a {LONG}"));
    run(&mut client, "MULTI");
    run(&mut client, "GW.ACQUIRE k 1 b TTL 5 BLOCK 0");
    assert!(run(&mut client, "EXEC").starts_with("[[0, 1, 1, "));
    let script = "return redis.call('GW.ACQUIRE', 'k', '1', 'b', 'TTL', '5', 'BLOCK', '0')";
    assert!(reply!(client, "EVAL", script, 1, "k").starts_with("[0, 1, 1, "));
}

#[test]
fn a_client_that_has_gone_takes_no_slot() {
    let (server, mut client) = start();
    acquire(&mut client, &format!("k 1 a {LONG}"));
    let mut gone = server.connect().unwrap();
    let id: i64 = call!(gone, "CLIENT", "ID");
    thread::spawn(move || command("GW.ACQUIRE k 1 gone TTL 3600000 BLOCK 0").query::<Value>(&mut gone));
    await_waiting(&mut client, 1);
    let waiting = wait(&server, &mut client, &format!("k 1 b {LONG}"), 2);
    call!(client, "CLIENT", "KILL", "ID", id => i64);
    await_waiting(&mut client, 1);
    run(&mut client, "GW.RELEASE k a");
    assert_eq!(granted(&waiting)[0], 1);
    assert_eq!(run(&mut client, "GW.RELEASE k gone"), "0");
}

#[test]
fn a_key_that_goes_frees_its_slots_and_another_type_keeps_its_clients_waiting() {
    let (server, mut client) = start();
    for gone in ["DEL k", "UNLINK k", "RENAME k other", "FLUSHDB", "FLUSHALL ASYNC", "SWAPDB 0 7", "PEXPIRE k 1"] {
        acquire(&mut client, &format!("k 1 a {LONG}"));
        let waiting = wait(&server, &mut client, &format!("k 1 b {LONG}"), 1);
        run(&mut client, gone);
        assert_eq!(granted(&waiting)[0], 1, "{gone}");
        run(&mut client, "FLUSHALL");
    }
    acquire(&mut client, &format!("k 1 a {LONG}"));
    let waiting = wait(&server, &mut client, &format!("k 1 b {LONG}"), 1);
    run(&mut client, "SET k text");
    assert!(run(&mut client, "GW.ACQUIRE k 1 c TTL 5 BLOCK 0").starts_with("WRONGTYPE "));
    assert_eq!(info(&mut client, "clients")["blocked_clients"], "1");
    run(&mut client, "DEL k");
    assert_eq!(granted(&waiting)[0], 1);
}

#[test]
fn nothing_is_granted_while_writes_are_paused() {
    let (server, mut client) = start();
    acquire(&mut client, &format!("k 1 a TTL {SOON_MS}"));
    let waiting = wait(&server, &mut client, &format!("k 1 b {LONG}"), 1);
    run(&mut client, "CLIENT PAUSE 600000 WRITE");
    let ended_ms = server_time_ms(&mut client) + SOON_MS + 300;
    await_until("the slot to end", DEADLINE, || server_time_ms(&mut client) > ended_ms).unwrap();
    assert!(waiting.try_recv().is_err());
    run(&mut client, "CLIENT UNPAUSE");
    assert_eq!(granted(&waiting)[0], 1);
}

#[test]
fn clients_are_unblocked_by_name_by_a_failover_and_with_their_slot() {
    let (server, mut client) = start();
    let other = Server::start().unwrap();
    acquire(&mut client, &format!("k 1 a {LONG}"));
    for (reason, expected) in [("TIMEOUT", "[0, 1, 1, "), ("ERROR", "UNBLOCKED client unblocked via CLIENT UNBLOCK")] {
        let mut waiting = server.connect().unwrap();
        let id: i64 = call!(waiting, "CLIENT", "ID");
        let answered = thread::spawn(move || reply_line(command("GW.ACQUIRE k 1 b TTL 5 BLOCK 0").query(&mut waiting)));
        await_waiting(&mut client, 1);
        assert_eq!(reply!(client, "CLIENT", "UNBLOCK", id, reason), "1");
        let reply = answered.join().unwrap();
        assert!(reply.starts_with(expected), "{reply}");
    }
    let waiting = wait(&server, &mut client, &format!("k 1 b {LONG}"), 1);
    reply!(client, "REPLICAOF", "127.0.0.1", other.port());
    let reply = answer(&waiting);
    assert!(reply.starts_with("UNBLOCKED "), "{reply}");

    let server = Server::options().cluster().start().unwrap();
    let mut client = server.connect().unwrap();
    acquire(&mut client, &format!("k 1 a {LONG}"));
    let waiting = wait(&server, &mut client, &format!("k 1 b {LONG}"), 1);
    let slot: i64 = call!(client, "CLUSTER", "KEYSLOT", "k");
    reply!(client, "CLUSTER", "DELSLOTS", slot);
    let reply = answer(&waiting);
    // Redis ends waits itself when a cluster lacks a slot.
    assert!(reply.starts_with("UNBLOCKED ") || reply.starts_with("CLUSTERDOWN "), "{reply}");
}

#[test]
fn denials_are_told_and_are_no_changes() {
    let (server, mut client) = start();
    run(&mut client, "CONFIG SET notify-keyspace-events Kd");
    acquire(&mut client, &format!("slots 1 a {LONG}"));
    let mut watcher = server.connect().unwrap();
    for (key, denied, asked) in [
        ("slots", "GW.ACQUIRE slots 1 b TTL 5", "GW.ACQUIRE slots 1 b TTL 5 BLOCK 1"),
        ("window", "GW.ALLOW window 0", "GW.ALLOW window 0 PEEK"),
        ("bucket", "GW.TOKENS bucket 1 0", "GW.TOKENS bucket 1 0 PEEK"),
    ] {
        let mut listener = server.connect().unwrap();
        let mut listening = listener.as_pubsub();
        listening.subscribe(format!("__keyspace@0__:{key}")).unwrap();
        listening.set_read_timeout(Some(DEADLINE)).unwrap();
        run(&mut watcher, &format!("WATCH {key}"));
        run(&mut client, denied);
        let told: String = listening.get_message().unwrap().get_payload().unwrap();
        assert_eq!(told, "gw.denied", "{denied}");
        // What only asks is not denied; a wait in vain is.
        run(&mut client, asked);
        run(&mut watcher, "MULTI");
        run(&mut watcher, "PING");
        assert_ne!(run(&mut watcher, "EXEC"), "nil", "{denied}");
        listening.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
        assert_eq!(listening.get_message().is_ok(), key == "slots", "{asked}");
    }
}
