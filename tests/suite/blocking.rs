//! GW.LOGPOP with BLOCK: which clients wait, in which order they are served, and how a wait ends.

use crate::support::{DEADLINE, SOON_MS, aof_commands, run, server_time_ms, start, state};
use gw_testkit::redis::{self, Connection, RedisResult, Value};
use gw_testkit::{Clock, Server, await_in_sync, await_until, call, info, reply, reply_line};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// Sends `words` on a connection of its own. Returns a receiver for the reply.
pub fn ask(server: &Server, words: &str) -> Receiver<RedisResult<Value>> {
    let (sender, receiver) = channel();
    let (mut client, words) = (server.connect().unwrap(), words.to_owned());
    thread::spawn(move || sender.send(crate::support::command(&words).query(&mut client)));
    receiver
}

pub fn answer(waiting: &Receiver<RedisResult<Value>>) -> String {
    reply_line(waiting.recv_timeout(DEADLINE).unwrap())
}

pub fn await_waiting(client: &mut Connection, count: usize) {
    let all_wait = || info(client, "clients")["blocked_clients"] == count.to_string();
    await_until("clients to wait", DEADLINE, all_wait).unwrap();
}

#[test]
fn the_first_to_wait_is_the_first_to_be_served() {
    let (server, mut client) = start();
    let waiting: Vec<_> = (1..=3)
        .map(|count| {
            let waiting = ask(&server, "GW.LOGPOP q BLOCK 0 COUNT 2");
            await_waiting(&mut client, count);
            waiting
        })
        .collect();
    run(&mut client, "GW.LOGPUSH q a b c");
    assert_eq!(answer(&waiting[0]), r#"["a", "b"]"#);
    assert_eq!(answer(&waiting[1]), r#"["c"]"#);
    await_waiting(&mut client, 1);
    run(&mut client, "GW.LOGPUSH q d");
    assert_eq!(answer(&waiting[2]), r#"["d"]"#);
    assert_eq!(run(&mut client, "GW.LOGLEN q"), "0");
}

#[test]
fn a_wait_that_times_out_replies_like_a_call_without_block() {
    let (_server, mut client) = start();
    assert_eq!(run(&mut client, "GW.LOGPOP q BLOCK 10"), "[]");
    assert_eq!(run(&mut client, "GW.LOGPOP q BLOCK 10 LEASE 5"), "nil");
    run(&mut client, "GW.LOGPUSH q a");
    assert_eq!(run(&mut client, "GW.LOGPOP q BLOCK 0"), r#"["a"]"#);
    assert_eq!(run(&mut client, "EXISTS none"), "0");
}

#[test]
fn transactions_and_scripts_never_wait() {
    let (_server, mut client) = start();
    for (words, nothing) in [("GW.LOGPOP q BLOCK 0", "[]"), ("GW.LOGPOP q BLOCK 0 LEASE 5", "nil")] {
        run(&mut client, "MULTI");
        run(&mut client, words);
        assert_eq!(run(&mut client, "EXEC"), format!("[{nothing}]"));
        let arguments = words.split(' ').map(|word| format!("'{word}'")).collect::<Vec<_>>().join(",");
        let reply = reply!(client, "EVAL", format!("return redis.call({arguments})"), 1, "q");
        assert_eq!(reply, nothing);
    }
}

#[test]
fn leases_that_end_wake_waiting_clients() {
    let (server, mut client) = start();
    run(&mut client, "GW.LOGPUSH q a b c");
    run(&mut client, &format!("GW.LOGPOP q LEASE {SOON_MS}"));
    let (later, ..): (String, Vec<String>, u64) = call!(client, "GW.LOGPOP", "q", "LEASE", 3_600_000);
    let (much_later, ..): (String, Vec<String>, u64) = call!(client, "GW.LOGPOP", "q", "LEASE", 3_600_000);
    let waiting: Vec<_> = (1..=3)
        .map(|count| {
            let waiting = ask(&server, "GW.LOGPOP q BLOCK 0 LEASE 3600000");
            await_waiting(&mut client, count);
            waiting
        })
        .collect();
    assert!(answer(&waiting[0]).ends_with(r#", ["a"], 2]"#));
    // A batch given back with a short delay and a lease cut short are both ready earlier.
    call!(client, "GW.LOGNACK", "q", &later, "DELAY", 100 => i64);
    assert_eq!(answer(&waiting[1]), format!(r#"["{later}", ["b"], 2]"#));
    call!(client, "GW.LOGEXTEND", "q", &much_later, "LEASE", 100 => i64);
    assert_eq!(answer(&waiting[2]), format!(r#"["{much_later}", ["c"], 2]"#));
}

#[test]
fn a_clock_that_is_set_back_keeps_nobody_waiting_for_a_lease_that_has_ended() {
    let clock = Clock::new().unwrap();
    let server = Server::options().clock(&clock).start().unwrap();
    let mut client = server.connect().unwrap();
    let hour_ms = 3_600_000;
    let lease_ms = 3_000;
    for key in ["a", "b"] {
        run(&mut client, &format!("GW.LOGPUSH {key} record"));
        run(&mut client, &format!("GW.LOGPOP {key} LEASE {lease_ms}"));
    }
    run(&mut client, &format!("GW.ACQUIRE slots 1 first TTL {lease_ms}"));
    let words = ["GW.LOGPOP a BLOCK 0", "GW.LOGPOP b BLOCK 0 LEASE 500", "GW.ACQUIRE slots 1 next TTL 500 BLOCK 0"];
    let waiting = words.map(|words| ask(&server, words));
    let mut answers: [Option<String>; 3] = [None, None, None];
    // On a busy machine a lease may end before all clients wait.
    await_until("clients to wait", DEADLINE, || {
        for (answer, waiting) in answers.iter_mut().zip(&waiting) {
            *answer = answer.take().or_else(|| waiting.try_recv().ok().map(reply_line));
        }
        let blocked: usize = info(&mut client, "clients")["blocked_clients"].parse().unwrap();
        blocked + answers.iter().flatten().count() == words.len()
    })
    .unwrap();
    clock.set(-hour_ms).unwrap();
    let mut answered =
        answers.into_iter().zip(&waiting).map(|(early, waiting)| early.unwrap_or_else(|| answer(waiting)));
    assert_eq!(answered.next().unwrap(), r#"["record"]"#);
    assert!(answered.next().unwrap().ends_with(r#"["record"], 2]"#));
    let slot = answered.next().unwrap();
    assert!(slot.starts_with("[1, 1, 1, 0, "), "{slot}");
}

#[test]
fn batches_popped_by_a_waiting_client_are_replicated_once() {
    let primary = Server::options().aof().start().unwrap();
    let mut client = primary.connect().unwrap();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let mut reader = replica.connect().unwrap();
    await_in_sync(&mut client, &mut reader);
    let plain = ask(&primary, "GW.LOGPOP q BLOCK 0");
    await_waiting(&mut client, 1);
    let leased = ask(&primary, &format!("GW.LOGPOP q BLOCK 0 LEASE {SOON_MS}"));
    await_waiting(&mut client, 2);
    run(&mut client, "GW.LOGPUSH q a b c");
    assert_eq!(answer(&plain), r#"["a"]"#);
    assert!(answer(&leased).ends_with(r#", ["b"], 1]"#));
    run(&mut client, "GW.LOGPOP q");
    // Delivered by a timer when its lease has ended.
    let again = ask(&primary, "GW.LOGPOP q BLOCK 0 LEASE 3600000");
    assert!(answer(&again).ends_with(r#", ["b"], 2]"#));
    await_in_sync(&mut client, &mut reader);
    assert_eq!(state(&mut client), state(&mut reader));
    let operations: Vec<u8> =
        aof_commands(&primary).into_iter().filter(|words| words[0] == b"GW._QUEUE").map(|words| words[2][0]).collect();
    assert_eq!(String::from_utf8(operations).unwrap(), "PDLDR");
}

#[test]
fn a_client_that_has_disconnected_is_not_served() {
    let (server, mut client) = start();
    for words in ["GW.LOGPOP q BLOCK 0", "GW.LOGPOP q BLOCK 0 LEASE 3600000"] {
        let mut gone = server.connect().unwrap();
        let id: i64 = call!(gone, "CLIENT", "ID");
        thread::spawn({
            let command = crate::support::command(words);
            move || command.query::<Value>(&mut gone)
        });
        await_waiting(&mut client, 1);
        call!(client, "CLIENT", "KILL", "ID", id => i64);
        await_waiting(&mut client, 0);
    }
    run(&mut client, "GW.LOGPUSH q a");
    assert_eq!(run(&mut client, "GW.LOGPOP q"), r#"["a"]"#);
}

#[test]
fn deleted_and_replaced_queues_keep_their_clients_waiting() {
    let (server, mut client) = start();
    run(&mut client, "GW.LOGPUSH q a");
    run(&mut client, "GW.LOGPOP q");
    let waiting = ask(&server, "GW.LOGPOP q BLOCK 0");
    await_waiting(&mut client, 1);
    for words in ["DEL q", "RPUSH q x", "DEL q", "GW.LOGPUSH other b"] {
        run(&mut client, words);
        assert_eq!(info(&mut client, "clients")["blocked_clients"], "1", "{words}");
    }
    assert_eq!(run(&mut client, "RENAME other q"), "OK");
    assert_eq!(answer(&waiting), r#"["b"]"#);
}

#[test]
fn clients_are_unblocked_by_name_and_by_a_failover() {
    let (server, mut client) = start();
    let other = Server::start().unwrap();
    for (reason, reply) in [("TIMEOUT", "nil"), ("ERROR", "UNBLOCKED client unblocked via CLIENT UNBLOCK")] {
        let mut waiting = server.connect().unwrap();
        let id: i64 = call!(waiting, "CLIENT", "ID");
        let answered = thread::spawn(move || {
            reply_line(redis::cmd("GW.LOGPOP").arg(&["q", "BLOCK", "0", "LEASE", "5"]).query(&mut waiting))
        });
        await_waiting(&mut client, 1);
        assert_eq!(reply!(client, "CLIENT", "UNBLOCK", id, reason), "1");
        assert_eq!(answered.join().unwrap(), reply);
    }
    let waiting = ask(&server, "GW.LOGPOP q BLOCK 0");
    await_waiting(&mut client, 1);
    reply!(client, "REPLICAOF", "127.0.0.1", other.port());
    let answer = answer(&waiting);
    assert!(answer.starts_with("UNBLOCKED "), "{answer}");
}

#[test]
fn nothing_is_popped_while_writes_are_paused() {
    let (server, mut client) = start();
    run(&mut client, "GW.LOGPUSH q a");
    run(&mut client, &format!("GW.LOGPOP q LEASE {SOON_MS}"));
    let waiting = ask(&server, "GW.LOGPOP q BLOCK 0 LEASE 3600000");
    await_waiting(&mut client, 1);
    run(&mut client, "CLIENT PAUSE 600000 WRITE");
    // By then the lease has ended, and the timer for its end has run.
    let ended_ms = server_time_ms(&mut client) + SOON_MS + 300;
    await_until("the lease to end", DEADLINE, || server_time_ms(&mut client) > ended_ms).unwrap();
    assert_eq!(info(&mut client, "clients")["blocked_clients"], "1");
    assert!(waiting.try_recv().is_err());
    run(&mut client, "CLIENT UNPAUSE");
    assert!(answer(&waiting).ends_with(r#", ["a"], 2]"#));
}

#[test]
fn a_wait_is_for_a_key_of_a_database() {
    let (server, mut client) = start();
    let mut other = server.connect().unwrap();
    run(&mut other, "SELECT 1");
    let waiting = ask(&server, "GW.LOGPOP q BLOCK 0 LEASE 3600000");
    await_waiting(&mut client, 1);
    run(&mut other, "GW.LOGPUSH q a b");
    // When the databases are swapped, one of the two batches is leased for a short time, the other for a long time.
    run(&mut other, &format!("GW.LOGPOP q LEASE {SOON_MS}"));
    run(&mut other, "GW.LOGPOP q LEASE 3600000");
    assert_eq!(info(&mut client, "clients")["blocked_clients"], "1");
    assert_eq!(run(&mut client, "SWAPDB 0 1"), "OK");
    assert!(answer(&waiting).ends_with(r#", ["a"], 2]"#));
}

#[test]
fn waiting_clients_are_not_served_dead_letters() {
    let (server, mut client) = start();
    run(&mut client, "GW.LOGPUSH q a");
    run(&mut client, "GW.LOGPOP q LEASE 20 MAXDELIVERIES 1");
    let waiting = ask(&server, "GW.LOGPOP q BLOCK 0");
    await_waiting(&mut client, 1);
    let is_dead = || call!(client, "GW.LOGDEAD", "q", "LIST" => Vec<Value>).len() == 1;
    await_until("the batch to be dead", DEADLINE, is_dead).unwrap();
    assert_eq!(info(&mut client, "clients")["blocked_clients"], "1");
    assert_eq!(run(&mut client, "GW.LOGDEAD q REQUEUE ALL"), "1");
    assert_eq!(answer(&waiting), r#"["a"]"#);
}
