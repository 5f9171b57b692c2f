//! A value is the same on the primary and its replica, and after every way of saving, loading and moving it.

use crate::support::{DEADLINE, KEYS, fill, fill_window, full_state, run, state, verdict};
use gw_testkit::{Options, Server, await_in_sync, await_until, call, info, redis::Connection, reply};

/// Starts a server with an append-only file, filled.
fn start_filled(options: Options) -> (Server, Connection) {
    let server = options.aof().start().unwrap();
    let mut client = server.connect().unwrap();
    fill(&mut client);
    (server, client)
}

fn rewrite_aof(client: &mut Connection) {
    run(client, "BGREWRITEAOF");
    await_rewritten_aof(client);
}

/// Waits until no append-only file is being written anew.
fn await_rewritten_aof(client: &mut Connection) {
    let done = await_until("the rewrite to end", DEADLINE, || {
        let state = info(client, "persistence");
        state["aof_rewrite_in_progress"] == "0" && state["aof_rewrite_scheduled"] == "0"
    });
    done.unwrap();
    assert_eq!(info(client, "persistence")["aof_last_bgrewrite_status"], "ok");
}

#[test]
fn a_replica_has_what_its_primary_has() {
    let primary = Server::start().unwrap();
    let mut client = primary.connect().unwrap();
    fill(&mut client);
    // The replica gets what exists as an RDB file, and what follows as effects.
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let mut reader = replica.connect().unwrap();
    await_in_sync(&mut client, &mut reader);
    assert_eq!(full_state(&mut client), full_state(&mut reader));
    fill(&mut client);
    run(&mut client, "GW.CACHEDEL a:cached");
    fill(&mut client);
    await_in_sync(&mut client, &mut reader);
    assert_eq!(full_state(&mut client), full_state(&mut reader));
}

#[test]
fn a_replica_that_saw_only_effects_has_what_its_primary_has() {
    let primary = Server::start().unwrap();
    let mut client = primary.connect().unwrap();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let mut reader = replica.connect().unwrap();
    await_in_sync(&mut client, &mut reader);
    fill(&mut client);
    fill(&mut client);
    await_in_sync(&mut client, &mut reader);
    assert_eq!(full_state(&mut client), full_state(&mut reader));
}

#[test]
fn a_replicas_own_aof_restores_it() {
    let primary = Server::start().unwrap();
    let mut client = primary.connect().unwrap();
    fill(&mut client);
    // It becomes a replica while it runs, so after its restart it is a primary, and has only its own file.
    let mut replica = Server::options().aof().start().unwrap();
    let mut reader = replica.connect().unwrap();
    reply!(reader, "REPLICAOF", "127.0.0.1", primary.port());
    await_in_sync(&mut client, &mut reader);
    fill(&mut client);
    await_in_sync(&mut client, &mut reader);
    let before = full_state(&mut client);
    // The synchronisation makes it rewrite its file; until that is done, the old file is in place.
    await_rewritten_aof(&mut reader);
    replica.crash_and_restart().unwrap();
    let mut reader = replica.connect().unwrap();
    assert_eq!(info(&mut reader, "replication")["role"], "master");
    assert_eq!(before, full_state(&mut reader));
}

#[test]
fn an_rdb_file_restores_everything() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    fill(&mut client);
    let before = full_state(&mut client);
    assert_eq!(run(&mut client, "DEBUG RELOAD"), "OK");
    assert_eq!(before, full_state(&mut client));
}

#[test]
fn effects_in_the_aof_restore_everything() {
    let (mut server, mut client) = start_filled(Server::options());
    let before = full_state(&mut client);
    server.crash_and_restart().unwrap();
    assert_eq!(before, full_state(&mut server.connect().unwrap()));
    server.restart().unwrap();
    assert_eq!(before, full_state(&mut server.connect().unwrap()));
}

#[test]
fn a_rewritten_aof_restores_everything() {
    for preamble in ["yes", "no"] {
        let options = Server::options().config(format!("aof-use-rdb-preamble {preamble}"));
        let (mut server, mut client) = start_filled(options);
        rewrite_aof(&mut client);
        let rewritten = full_state(&mut client);
        server.crash_and_restart().unwrap();
        let mut client = server.connect().unwrap();
        assert_eq!(rewritten, full_state(&mut client), "preamble {preamble}");
        // Also with effects after the rewritten part.
        fill(&mut client);
        let before = full_state(&mut client);
        server.crash_and_restart().unwrap();
        assert_eq!(before, full_state(&mut server.connect().unwrap()), "preamble {preamble}");
    }
}

#[test]
fn a_long_window_is_the_same_everywhere() {
    let mut primary = Server::options().aof().config("aof-use-rdb-preamble no").start().unwrap();
    let mut client = primary.connect().unwrap();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let mut reader = replica.connect().unwrap();
    await_in_sync(&mut client, &mut reader);
    fill_window(&mut client, "w", 2_000);
    await_in_sync(&mut client, &mut reader);
    let before = state(&mut client);
    assert_eq!(before, state(&mut reader));
    run(&mut reader, "DEBUG RELOAD");
    assert_eq!(before, state(&mut reader));
    primary.crash_and_restart().unwrap();
    let mut client = primary.connect().unwrap();
    assert_eq!(before, state(&mut client));
    rewrite_aof(&mut client);
    primary.crash_and_restart().unwrap();
    assert_eq!(before, state(&mut primary.connect().unwrap()));
}

#[test]
fn emptied_and_tiny_values_are_rewritten_too() {
    let server = Server::options().aof().config("aof-use-rdb-preamble no").start();
    let mut server = server.unwrap();
    let mut client = server.connect().unwrap();
    for words in [
        "GW.ALLOW a:window 1",
        "GW.TOKENS a:bucket 1 1",
        "GW.ACQUIRE a:leases 1 h TTL 100000",
        "GW.RESERVE a:ledger 1 1 TTL 100000",
        "GW.LOGPUSH a:queue MAXLEN 1 x y",
        "GW.LOGPOP a:queue",
        "GW.POLICYSET a:account p INFLIGHT 0",
        "GW.SEMSET a:index i aaaa v",
    ] {
        run(&mut client, words);
    }
    reply!(client, "GW.CACHESET", "a:cached", b"");
    rewrite_aof(&mut client);
    let before = full_state(&mut client);
    server.crash_and_restart().unwrap();
    assert_eq!(before, full_state(&mut server.connect().unwrap()));
}

#[test]
fn copies_dumps_and_renames_keep_the_value() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    fill(&mut client);
    let before = full_state(&mut client);
    let digest = |client: &mut Connection, key: &str| gw_testkit::digest(client, key);
    for (key, kind) in KEYS {
        let original = digest(&mut client, key);
        let copy = format!("copy-of-{key}");
        assert_eq!(run(&mut client, &format!("COPY {key} {copy}")), "1");
        assert_eq!(digest(&mut client, &copy), original, "{key}");

        let dump: Vec<u8> = call!(client, "DUMP", key);
        let restored = format!("restored-{key}");
        // The server's digest of a value depends on whether it expires.
        let expires_at_ms: i64 = call!(client, "PEXPIRETIME", key);
        assert_eq!(reply!(client, "RESTORE", &restored, expires_at_ms.max(0), dump, "ABSTTL"), "OK");
        assert_eq!(digest(&mut client, &restored), original, "{key}");
        assert_eq!(run(&mut client, &format!("TYPE {restored}")), kind);

        let renamed = format!("renamed-{key}");
        assert_eq!(run(&mut client, &format!("RENAME {copy} {renamed}")), "OK");
        assert_eq!(digest(&mut client, &renamed), original, "{key}");
        // A copy is a value of its own.
        assert_eq!(run(&mut client, &format!("COPY {key} {copy}")), "1");
        for words in changes_of(&copy) {
            run(&mut client, &words);
        }
        assert_ne!(digest(&mut client, &copy), original, "{key}");
        assert_eq!(digest(&mut client, key), original, "{key}");
        assert_eq!(run(&mut client, &format!("DEL {copy} {restored} {renamed}")), "3");
    }
    assert_eq!(before, full_state(&mut client));
}

/// Commands that change a key of any type; those for other types fail.
fn changes_of(key: &str) -> [String; 9] {
    [
        format!("GW.SEMREJECT {key} id7 1"),
        format!("GW.ALLOW {key} 1000000 WINDOW 3600000"),
        format!("GW.TOKENS {key} 7 1000000 PER 1100 COST 50"),
        format!("GW.RELEASE {key} holder1"),
        format!("GW.ADDCOST {key} 1"),
        format!("GW.CREDIT {key} MONTH 1"),
        format!("GW.LOGPOP {key}"),
        format!("GW.CACHESET {key} other"),
        format!("GW.ADMIT {key} LEASE other TTL 3600000"),
    ]
}

#[test]
fn a_limit_holds_over_a_crash_and_a_failover() {
    let mut primary = Server::options().aof().start().unwrap();
    let mut client = primary.connect().unwrap();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let mut reader = replica.connect().unwrap();
    await_in_sync(&mut client, &mut reader);
    for words in ["GW.ALLOW w 5 WINDOW 3600000 COST 5", "GW.TOKENS b 1 5 PER 3600000 COST 5"] {
        assert_eq!(verdict(&mut client, words)[0], 1);
    }
    await_in_sync(&mut client, &mut reader);

    primary.crash_and_restart().unwrap();
    reply!(reader, "REPLICAOF", "NO", "ONE");
    for mut client in [primary.connect().unwrap(), reader] {
        for words in ["GW.ALLOW w 5 WINDOW 3600000", "GW.TOKENS b 1 5 PER 3600000"] {
            assert_eq!(verdict(&mut client, words)[..3], [0, 5, 0], "{words}");
        }
    }
}
