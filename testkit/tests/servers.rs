//! Tests of the kit, on the chosen server, without the module.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use gw_testkit::redis::cmd;
use gw_testkit::{
    Binary, Caller, Cluster, Discovery, Layout, Options, Outcome, Server, await_in_sync, call, digest, info,
    replication_offset, reply, slot_of, try_call,
};

fn bare() -> Options {
    Server::options().without_module()
}

/// Whether the server at the other end of a connection has ended.
fn is_gone(client: &mut redis::Connection) -> bool {
    try_call!(*client, "PING").map(|pong: String| pong).is_err()
}

#[test]
fn a_server_ends_when_its_value_is_dropped() {
    let mut server = bare().start().unwrap();
    let dir = server.dir().to_owned();
    assert!(server.is_running() && dir.exists());
    assert_eq!(info(&mut server.connect().unwrap(), "server")["process_id"], server.pid().unwrap().to_string());
    let mut orphan = server.connect().unwrap();
    drop(server);
    assert!(is_gone(&mut orphan));
    assert!(!dir.exists());
}

#[test]
fn a_server_ends_when_its_test_panics() {
    let mut orphan = None;
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let server = bare().start().unwrap();
        orphan = Some(server.connect().unwrap());
        panic!("as a failing test does");
    }));
    assert!(panicked.is_err());
    assert!(is_gone(&mut orphan.unwrap()));
}

#[test]
fn data_survives_a_restart_and_with_an_aof_a_crash() {
    let mut server = bare().start().unwrap();
    let _: () = call!(server.connect().unwrap(), "SET", "key", "saved");
    server.restart().unwrap();
    assert_eq!(reply!(server.connect().unwrap(), "GET", "key"), "\"saved\"");

    let mut server = bare().aof().start().unwrap();
    let _: () = call!(server.connect().unwrap(), "SET", "key", "logged");
    let pid = server.pid();
    server.crash_and_restart().unwrap();
    assert_ne!(server.pid(), pid);
    assert_eq!(reply!(server.connect().unwrap(), "GET", "key"), "\"logged\"");
}

#[test]
fn a_replica_catches_up() {
    let primary = bare().start().unwrap();
    let replica = bare().replica_of(&primary).start().unwrap();
    let (mut primary, mut replica) = (primary.connect().unwrap(), replica.connect().unwrap());
    await_in_sync(&mut primary, &mut replica);
    let offset = replication_offset(&mut primary);
    let _: () = call!(primary, "SET", "key", "value");
    assert!(replication_offset(&mut primary) > offset);
    await_in_sync(&mut primary, &mut replica);
    assert_eq!(digest(&mut primary, "key"), digest(&mut replica, "key"));
    assert_ne!(digest(&mut primary, "key"), "0".repeat(40));
    assert_eq!(reply!(replica, "SET", "key", "other"), "READONLY You can't write against a read only replica.");
}

#[test]
fn a_cluster_of_one_node_serves_every_slot() {
    let server = bare().cluster().start().unwrap();
    let mut client = server.connect().unwrap();
    let _: () = call!(client, "SET", "key", "value");
    assert_eq!(reply!(client, "MGET", "key", "other"), "CROSSSLOT Keys in request don't hash to the same slot");
}

#[test]
fn resp3_and_acl_users_connect() {
    let server = bare().config("user reader on >secret ~* +get").start().unwrap();
    let map: redis::Value = call!(server.connect_resp3().unwrap(), "CONFIG", "GET", "port");
    assert!(matches!(map, redis::Value::Map(_)), "{map:?}");
    let refused = reply!(server.connect_as("reader", "secret").unwrap(), "SET", "key", "value");
    assert!(refused.starts_with("NOPERM"), "{refused}");
}

#[test]
fn replies_and_errors_read_in_one_line() {
    let server = bare().start().unwrap();
    let mut client = server.connect().unwrap();
    assert_eq!(reply!(client, "SET", "bytes", b"a\xff\""), "OK");
    assert_eq!(reply!(client, "MGET", "bytes", "none"), r#"["a\xff\"", nil]"#);
    assert_eq!(reply!(client, "INCR", "number"), "1");
    assert_eq!(reply!(server.connect_resp3().unwrap(), "CONFIG", "GET", "save"), r#"{"save": ""}"#);
    let _: () = call!(client, "SET", "text", "value");
    assert_eq!(reply!(client, "INCR", "text"), "ERR value is not an integer or out of range");
    let wrong_type = "WRONGTYPE Operation against a key holding the wrong kind of value";
    assert_eq!(reply!(client, "LPUSH", "text", "value"), wrong_type);
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let missing = Server::options().module("/no/such/module.so").start().unwrap_err().to_string();
    assert!(missing.contains("Can't load module from /no/such/module.so"), "{missing}");
    let option = bare().config("no-such-option yes").start().unwrap_err().to_string();
    assert!(option.contains("no-such-option"), "{option}");
}

#[test]
fn the_matrix_holds_the_chosen_server() {
    assert!(Binary::all().contains(&Binary::named("system").unwrap()));
}

#[test]
fn confirmed_calls_do_not_stand_in_the_way_of_a_move() {
    let cluster = Layout::new(&bare(), 2, 1).start().unwrap();
    let mut caller = Caller::new(Discovery::Cluster(cluster.ports())).confirming(Arc::new(AtomicUsize::new(1)));
    let mut write = |key: &str| {
        let set = cmd("SET").arg(key).arg("value").to_owned();
        while !matches!(caller.call(key, &set).unwrap(), Outcome::Replied(_)) {}
    };
    write("{a}:before");
    let from = cluster.primary_of("{a}").unwrap();
    let to = cluster.primaries().into_iter().find(|node| node.port() != from.port()).unwrap();
    let slot = slot_of(&mut from.connect().unwrap(), "{a}").unwrap();
    cluster.begin_move(slot, from, to).unwrap();
    write("{a}:meanwhile");
    cluster.move_keys(slot, from, to).unwrap();
    cluster.end_move(slot, to).unwrap();
    write("{a}:after");
}

/// A slot that comes back at once, before the nodes have told each other anything, stays where it was moved last.
#[test]
fn a_slot_moves_there_and_back() {
    let cluster = Cluster::start(&bare(), 2, 1).unwrap();
    let home = cluster.primary_of("{a}").unwrap();
    let away = cluster.primaries().into_iter().find(|node| node.port() != home.port()).unwrap();
    let mut client = home.connect().unwrap();
    let slot = slot_of(&mut client, "{a}").unwrap();
    for round in 0..20 {
        let _: () = call!(client, "SET", "{a}", round);
        cluster.move_slot(slot, home, away).unwrap();
        cluster.move_slot(slot, away, home).unwrap();
        assert_eq!(reply!(client, "GET", "{a}"), format!("\"{round}\""));
    }
}
