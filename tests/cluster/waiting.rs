//! Clients that wait for a key are told at once when its slot moves or its primary fails over.

use gw_testkit::redis::{Connection, RedisResult, Value, cmd};
use gw_testkit::{Cluster, DEADLINE, Flavour, Server, await_until, info, reply_line, slot_of};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// Calls that wait. Each has a command that runs before it, so that the call has to wait.
const WAITS: [(&str, &str); 3] = [
    ("GW.CACHEFETCH k:cache LEASE 600000", "GW.CACHEFETCH k:cache LEASE 600000 WAIT 600000"),
    ("GW.ACQUIRE k:slots 1 other TTL 600000", "GW.ACQUIRE k:slots 1 this TTL 600000 BLOCK 600000"),
    ("GW.LOGLEN k:queue", "GW.LOGPOP k:queue BLOCK 600000"),
];

/// The number of clients that wait by each call.
const CLIENTS: usize = 3;

fn run(client: &mut Connection, words: &str) -> RedisResult<Value> {
    let (name, arguments) = words.split_once(' ').unwrap();
    cmd(name).arg(arguments.split(' ').collect::<Vec<_>>()).query(client)
}

/// Lets clients wait for keys with `{tag}` by all of the calls. Returns the receiver of their replies.
fn wait(server: &Server, tag: &str) -> Receiver<(&'static str, String)> {
    let (sender, replies) = channel();
    let mut client = server.connect().unwrap();
    for (before, call) in WAITS {
        let named = |words: &str| words.replace("k:", &format!("{{{tag}}}:"));
        run(&mut client, &named(before)).unwrap();
        for _ in 0..CLIENTS {
            let (mut waiting, words, sender) = (server.connect().unwrap(), named(call), sender.clone());
            thread::spawn(move || {
                let reply = run(&mut waiting, &words);
                // The receiver is gone if the test has failed.
                let _ = sender.send((call, reply_line(reply)));
            });
        }
    }
    await_until("the clients to wait", DEADLINE, || info(&mut client, "clients")["blocked_clients"] == "9").unwrap();
    replies
}

fn replies(receiver: &Receiver<(&'static str, String)>) -> Vec<(&'static str, String)> {
    (0..WAITS.len() * CLIENTS).map(|_| receiver.recv_timeout(DEADLINE).expect("a client still waits")).collect()
}

/// While the slot moves, the keys that clients wait for are on the new node, or will be created there.
#[test]
fn clients_that_wait_are_sent_on_when_their_slot_moves() {
    let cluster = Cluster::start(&Server::options(), 2, 0).unwrap();
    let from = cluster.primary_of("{a}").unwrap();
    let to = cluster.nodes().iter().find(|node| node.port() != from.port()).unwrap();
    let slot = slot_of(&mut from.connect().unwrap(), "{a}").unwrap();
    let waiting = wait(from, "a");
    cluster.begin_move(slot, from, to).unwrap();
    cluster.move_keys(slot, from, to).unwrap();
    for _ in 0..2 * CLIENTS {
        let (call, reply) = waiting.recv_timeout(DEADLINE).expect("a client still waits");
        assert_eq!(reply, "UNBLOCKED the wait was ended", "{call}");
        let again = reply_line(run(&mut from.connect().unwrap(), &call.replace("k:", "{a}:")));
        assert_eq!(again, format!("ASK {slot} 127.0.0.1:{}", to.port()), "{call}");
    }
    // When the slot has moved for good, the server itself ends waits for keys.
    cluster.end_move(slot, to).unwrap();
    for _ in 0..CLIENTS {
        let (call, reply) = waiting.recv_timeout(DEADLINE).expect("a client still waits");
        assert_eq!(reply, format!("MOVED {slot} 127.0.0.1:{}", to.port()), "{call}");
    }
    // On the new node the place is taken, too.
    let denied = run(&mut to.connect().unwrap(), "GW.ACQUIRE {a}:slots 1 this TTL 5").unwrap();
    assert!(reply_line(Ok(denied)).starts_with("[0, 1, 1, "));
}

/// A slot is assigned to another node without a move, as after a forced failover.
#[test]
fn clients_that_wait_are_redirected_when_their_slot_is_given_away() {
    let cluster = Cluster::start(&Server::options(), 2, 0).unwrap();
    let from = cluster.primary_of("{a}").unwrap();
    let to = cluster.nodes().iter().find(|node| node.port() != from.port()).unwrap();
    let slot = slot_of(&mut from.connect().unwrap(), "{a}").unwrap();
    let waiting = wait(from, "a");
    // A node does not give away a slot that has keys.
    run(&mut from.connect().unwrap(), "DEL {a}:slots").unwrap();
    for _ in 0..CLIENTS {
        let (call, reply) = waiting.recv_timeout(DEADLINE).expect("a client still waits");
        assert!(call.starts_with("GW.ACQUIRE ") && reply.starts_with('['), "{call}: {reply}");
        run(&mut from.connect().unwrap(), "DEL {a}:slots").unwrap();
    }
    cluster.end_move(slot, to).unwrap();
    for _ in 0..2 * CLIENTS {
        let (call, reply) = waiting.recv_timeout(DEADLINE).expect("a client still waits");
        assert_eq!(reply, format!("MOVED {slot} 127.0.0.1:{}", to.port()), "{call}");
    }
}

/// Where the server can, the slot moves in one step: there is no time in which the key is elsewhere already.
#[test]
fn clients_that_wait_are_redirected_when_their_slot_moves_at_once() {
    if !Cluster::moves_slots_at_once().unwrap() {
        return;
    }
    let cluster = Cluster::start(&Server::options(), 2, 0).unwrap();
    let from = cluster.primary_of("{a}").unwrap();
    let to = cluster.nodes().iter().find(|node| node.port() != from.port()).unwrap();
    let slot = slot_of(&mut from.connect().unwrap(), "{a}").unwrap();
    let waiting = wait(from, "a");
    cluster.move_slots_at_once([slot, slot], from, to).unwrap();
    for (call, reply) in replies(&waiting) {
        assert_eq!(reply, format!("MOVED {slot} 127.0.0.1:{}", to.port()), "{call}");
    }
    let denied = run(&mut to.connect().unwrap(), "GW.ACQUIRE {a}:slots 1 this TTL 5").unwrap();
    assert!(reply_line(Ok(denied)).starts_with("[0, 1, 1, "));
}

/// Whether the server tells of a failover or of where the slot is now, it tells all clients the same.
#[test]
fn clients_that_wait_are_told_when_their_primary_fails_over() {
    let cluster = Cluster::start(&Server::options(), 3, 1).unwrap();
    let primary = cluster.primary_of("{a}").unwrap();
    let slot = slot_of(&mut primary.connect().unwrap(), "{a}").unwrap();
    let waiting = wait(primary, "a");
    let replica = cluster.fail_over(primary).unwrap();
    assert_ne!(replica.port(), primary.port());
    let binary = primary.binary();
    let expected = match binary.flavour == Flavour::Valkey && binary.version >= (9, 0, 0) {
        true => format!("MOVED {slot} 127.0.0.1:{}", replica.port()),
        false => "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)".into(),
    };
    for (call, reply) in replies(&waiting) {
        assert_eq!(reply, expected, "{call}");
    }
}
