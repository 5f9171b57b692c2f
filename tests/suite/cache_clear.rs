//! GW.CACHECLEAR: clears many entries at once, for every reader, with the same result on every node.

use crate::support::{DEADLINE, aof_commands, command, pipeline, run, server_time_ms, start, state};
use gw_testkit::redis::Connection;
use gw_testkit::{Clock, Server, await_in_sync, await_until, call, info, reply};
use std::sync::atomic::{AtomicBool, Ordering};

fn entry(category: &str, number: usize) -> String {
    format!("GW.CACHESET {category}:{number} v TAG t{} TAG u{}", number % 2, number % 3)
}

fn fill(client: &mut Connection, count: usize) {
    let sets = ["chat", "embed"]
        .into_iter()
        .flat_map(|category| (0..count).map(move |number| command(&entry(category, number))));
    for reply in pipeline(client, sets) {
        reply.unwrap();
    }
}

/// How many of the keys that [`fill`] has set are visible to readers.
fn visible(client: &mut Connection, count: usize) -> usize {
    let gets = ["chat", "embed"]
        .into_iter()
        .flat_map(|category| (0..count).map(move |number| command(&format!("GW.CACHEGET {category}:{number}"))));
    let replies = pipeline(client, gets);
    replies.into_iter().filter(|reply| *reply.as_ref().unwrap() != gw_testkit::redis::Value::Nil).count()
}

fn await_reclaimed(client: &mut Connection, left: usize) {
    let done = || call!(*client, "DBSIZE" => usize) == left;
    await_until("the memory to be reclaimed", DEADLINE, done).unwrap();
}

#[test]
fn cleared_entries_are_invisible_at_once() {
    let (_server, mut client) = start();
    fill(&mut client, 600);
    assert_eq!(run(&mut client, "GW.CACHECLEAR CATEGORY none"), "0");
    assert_eq!(run(&mut client, "GW.CACHESTATS CATEGORY none"), "nil");
    assert_eq!(run(&mut client, "GW.CACHECLEAR TAG u0"), "400");
    assert_eq!(visible(&mut client, 600), 800);
    await_reclaimed(&mut client, 800);
    assert_eq!(run(&mut client, "GW.CACHECLEAR CATEGORY chat"), "400");
    assert_eq!(visible(&mut client, 600), 400);
    // Entries that are set from then on are not cleared. A tag given twice counts once.
    run(&mut client, "GW.CACHESET chat:1 new TAG u0 TAG u0");
    assert_eq!(run(&mut client, "GW.CACHECLEAR TAG u0"), "1");
    run(&mut client, "GW.CACHESET chat:1 new TAG u0");
    assert_eq!(run(&mut client, "GW.CACHEGET chat:1"), "\"new\"");
    await_reclaimed(&mut client, 401);
    assert_eq!(run(&mut client, "GW.CACHECLEAR PATTERN *:*[13579]"), "201");
    assert_eq!(call!(client, "DBSIZE" => usize), 200);
    assert_eq!(run(&mut client, "GW.CACHECLEAR ALL"), "200");
    assert_eq!(run(&mut client, "GW.CACHECLEAR ALL"), "0");
    assert_eq!(visible(&mut client, 600), 0);
    let stats = run(&mut client, "GW.CACHESTATS CATEGORY chat");
    assert!(stats.contains("\"entries\", 0, \"bytes\", 0"), "{stats}");
    await_reclaimed(&mut client, 0);
}

#[test]
fn entries_of_every_database_are_cleared_and_of_no_other_type() {
    let (_server, mut client) = start();
    for database in [0, 3, 15] {
        run(&mut client, &format!("SELECT {database}"));
        run(&mut client, "GW.CACHESET chat:1 v");
        run(&mut client, "SET chat:text v");
        run(&mut client, "GW.ADDCOST chat:ledger 1");
    }
    assert_eq!(run(&mut client, "GW.CACHECLEAR PATTERN chat:*"), "1");
    assert_eq!(run(&mut client, "GW.CACHECLEAR CATEGORY chat"), "2");
    for database in [0, 3, 15] {
        run(&mut client, &format!("SELECT {database}"));
        await_reclaimed(&mut client, 2);
    }
}

#[test]
fn cleared_entries_stay_cleared_when_their_keys_are_copied_or_renamed() {
    let (_server, mut client) = start();
    run(&mut client, "GW.CACHESET chat:1 v TAG t");
    // In one transaction: no memory is reclaimed in between.
    for words in [
        "MULTI",
        "GW.CACHECLEAR TAG t",
        "GW.CACHEGET chat:1",
        "GW.CACHEGET chat:1 META",
        "COPY chat:1 chat:2",
        "GW.CACHEGET chat:2",
        "RENAME chat:1 chat:3",
        "GW.CACHEGET chat:3",
        "GW.CACHEDEL chat:3",
        "GW.DESCRIBE chat:2",
    ] {
        run(&mut client, words);
    }
    let replies = run(&mut client, "EXEC");
    assert!(replies.starts_with("[1, nil, [\"MISS\", nil, 0, 0, 0], 1, nil, OK, nil, 0, "), "{replies}");
    assert!(replies.contains("\"state\", \"cleared\""), "{replies}");
    await_reclaimed(&mut client, 0);
}

#[test]
fn entries_that_the_scan_misses_are_reclaimed_as_well() {
    let (_server, mut client) = start();
    fill(&mut client, 2_000);
    run(&mut client, "GW.CACHESET dumped v TAG t");
    run(&mut client, "MULTI");
    for words in ["GW.CACHECLEAR TAG t", "DUMP dumped"] {
        run(&mut client, words);
    }
    let (cleared, payload): (u64, Vec<u8>) = call!(client, "EXEC");
    assert_eq!(cleared, 1);
    await_reclaimed(&mut client, 4_000);
    // A restored copy of a cleared entry stays cleared, even if it never expires.
    assert_eq!(reply!(client, "RESTORE", "restored", 0, &payload), "OK");
    assert_eq!(run(&mut client, "GW.CACHEGET restored"), "nil");
    await_reclaimed(&mut client, 4_000);
    // So it does on a server that has cleared nothing itself.
    let (_other, mut other) = start();
    assert_eq!(reply!(other, "RESTORE", "restored", 0, &payload), "OK");
    await_reclaimed(&mut other, 0);
    // Keys that are renamed and moved while the scan runs.
    for key in 0..2_000 {
        run(&mut client, &format!("PERSIST chat:{key}"));
    }
    assert_eq!(run(&mut client, "GW.CACHECLEAR CATEGORY chat"), "2000");
    let moves = (0..2_000).map(|key| match key % 3 {
        0 => command(&format!("RENAME chat:{key} moved:{key}")),
        1 => command(&format!("MOVE chat:{key} 1")),
        _ => command(&format!("COPY chat:{key} copied:{key}")),
    });
    pipeline(&mut client, moves);
    run(&mut client, "SWAPDB 0 2");
    run(&mut client, "SWAPDB 1 3");
    run(&mut client, "GW.CACHESET fresh v");
    for (database, left) in [(0, 1), (1, 0), (2, 2_000), (3, 0)] {
        run(&mut client, &format!("SELECT {database}"));
        await_reclaimed(&mut client, left);
    }
}

#[test]
fn flushed_entries_no_longer_count_although_they_are_freed_later() {
    let (_server, mut client) = start();
    fill(&mut client, 3_000);
    for words in
        ["MULTI", "FLUSHALL ASYNC", "GW.CACHESTATS CATEGORY chat", "GW.CACHESET chat:1 v", "GW.CACHECLEAR ALL", "EXEC"]
    {
        run(&mut client, words);
    }
    fill(&mut client, 1);
    run(&mut client, "FLUSHALL ASYNC");
    let stats = run(&mut client, "GW.CACHESTATS CATEGORY chat");
    assert!(stats.contains("\"clears\", 1, \"expired\", 0, \"errors\", 0, \"entries\", 0, \"bytes\", 0"), "{stats}");
    assert_eq!(run(&mut client, "GW.CACHECLEAR ALL"), "0");
}

#[test]
fn a_clear_is_the_same_on_replicas_and_after_a_restart() {
    for preamble in ["yes", "no"] {
        let options = Server::options().aof().config(format!("aof-use-rdb-preamble {preamble}"));
        let mut primary = options.start().unwrap();
        let mut client = primary.connect().unwrap();
        let replica = Server::options().replica_of(&primary).start().unwrap();
        let mut reader = replica.connect().unwrap();
        await_in_sync(&mut client, &mut reader);
        fill(&mut client, 3_000);
        assert_eq!(run(&mut client, "GW.CACHECLEAR TAG t0"), "3000");
        // A replica that connects while cleared entries are not yet deleted gets them as cleared.
        let late = Server::options().replica_of(&primary).start().unwrap();
        let mut latecomer = late.connect().unwrap();
        run(&mut client, "GW.CACHECLEAR CATEGORY chat");
        run(&mut client, &entry("chat", 0));
        assert_eq!(visible(&mut client, 3_000), 1_501);
        await_in_sync(&mut client, &mut reader);
        await_in_sync(&mut client, &mut latecomer);
        assert_eq!(visible(&mut reader, 3_000), 1_501);
        assert_eq!(visible(&mut latecomer, 3_000), 1_501);
        // A crash in the middle, with what was written until then.
        run(&mut client, "BGREWRITEAOF");
        run(&mut client, "GW.CACHECLEAR TAG u1");
        let left = visible(&mut client, 3_000);
        await_until("the rewrite to end", DEADLINE, || {
            info(&mut client, "persistence")["aof_rewrite_in_progress"] == "0"
        })
        .unwrap();
        primary.crash_and_restart().unwrap();
        let mut client = primary.connect().unwrap();
        assert_eq!(visible(&mut client, 3_000), left, "preamble {preamble}");
        await_reclaimed(&mut client, left);
        for reader in [&mut reader, &mut latecomer] {
            await_in_sync(&mut client, reader);
            assert_eq!(state(&mut client), state(reader));
        }
    }
}

#[test]
fn entries_saved_as_cleared_are_loaded_as_cleared() {
    let (mut server, mut client) = start();
    fill(&mut client, 2_000);
    // Nothing is reclaimed while writes are paused.
    for words in ["MULTI", "GW.CACHECLEAR CATEGORY chat", "CLIENT PAUSE 100000 WRITE", "EXEC"] {
        run(&mut client, words);
    }
    assert_eq!(run(&mut client, "SAVE"), "OK");
    server.kill();
    server.crash_and_restart().unwrap();
    let mut client = server.connect().unwrap();
    assert_eq!(visible(&mut client, 2_000), 2_000);
    await_reclaimed(&mut client, 2_000);
}

#[test]
fn a_new_primary_reclaims_what_the_old_one_has_left() {
    let primary = Server::start().unwrap();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let (mut client, mut reader) = (primary.connect().unwrap(), replica.connect().unwrap());
    await_in_sync(&mut client, &mut reader);
    fill(&mut client, 1_000);
    await_in_sync(&mut client, &mut reader);
    for words in ["MULTI", "GW.CACHECLEAR ALL", "CLIENT PAUSE 100000 WRITE", "EXEC"] {
        run(&mut client, words);
    }
    await_until("the clear to arrive", DEADLINE, || visible(&mut reader, 1_000) == 0).unwrap();
    assert_eq!(call!(reader, "DBSIZE" => usize), 2_000);
    assert_eq!(run(&mut reader, "REPLICAOF NO ONE"), "OK");
    await_reclaimed(&mut reader, 0);
    // The old primary goes on when writes are allowed again.
    assert_eq!(call!(client, "DBSIZE" => usize), 2_000);
    run(&mut client, "CLIENT UNPAUSE");
    await_reclaimed(&mut client, 0);
}

/// How long other clients wait meanwhile is measured by `ONLY=stalls make bench`.
#[test]
fn other_clients_are_served_during_a_clear() {
    const ENTRIES: usize = 20_000;
    let (server, mut client) = start();
    for what in ["CATEGORY chat", "TAG t", "ALL", "PATTERN chat:*"] {
        // On a busy machine the other client may be served only before and after the clear: then try again.
        await_until("an answer in the middle of a clear", DEADLINE, || {
            let set = |number| command(&format!("GW.CACHESET chat:{number} v TAG t"));
            pipeline(&mut client, (0..ENTRIES).map(set));
            let seen = sizes_seen_by_another(&server, || {
                assert_eq!(run(&mut client, &format!("GW.CACHECLEAR {what}")), ENTRIES.to_string());
                await_reclaimed(&mut client, 0);
            });
            seen.iter().any(|size| (1..ENTRIES).contains(size))
        })
        .unwrap();
    }
}

/// The numbers of keys that another client saw, which asked all the time while `act` ran.
fn sizes_seen_by_another(server: &Server, act: impl FnOnce()) -> Vec<usize> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let (mut other, mut seen) = (server.connect().unwrap(), Vec::new());
            while !stop.load(Ordering::Relaxed) {
                seen.push(call!(other, "DBSIZE" => usize));
            }
            seen
        });
        act();
        stop.store(true, Ordering::Relaxed);
        other.join().unwrap()
    })
}

/// A node of a cluster serves nobody for some moments after it has started.
fn restart(server: &mut Server) -> Connection {
    server.crash_and_restart().unwrap();
    let mut client = server.connect().unwrap();
    await_until("the cluster to be up", DEADLINE, || run(&mut client, "EXISTS {a}") == "0").unwrap();
    client
}

/// In a cluster an entry may come from a node that was not told of a clear yet.
#[test]
fn in_a_cluster_an_entry_from_before_a_clear_arrives_cleared() {
    let mut server = Server::options().cluster().aof().start().unwrap();
    let mut client = server.connect().unwrap();
    let dump = |client: &mut Connection, words: &str| -> Vec<u8> {
        run(client, words);
        let key = words.split(' ').nth(1).unwrap();
        let payload = call!(*client, "DUMP", key);
        run(client, &format!("DEL {key}"));
        payload
    };
    let restore = |client: &mut Connection, key: &str, payload: &[u8]| reply!(*client, "RESTORE", key, 0, payload);
    let tagged = dump(&mut client, "GW.CACHESET {a}:tagged v CATEGORY c TAG s TAG t");
    let other = dump(&mut client, "GW.CACHESET {a}:other v CATEGORY d TAG u");
    assert_eq!(run(&mut client, "GW.CACHECLEAR TAG t"), "0");
    assert_eq!(restore(&mut client, "{a}:tagged", &tagged), "OK");
    assert_eq!(restore(&mut client, "{a}:other", &other), "OK");
    assert_eq!(run(&mut client, "GW.CACHEGET {a}:tagged"), "nil");
    assert_eq!(run(&mut client, "GW.CACHEGET {a}:other"), "\"v\"");
    await_reclaimed(&mut client, 1);
    // What is set after a clear is never covered by it, even within the same millisecond.
    for words in ["MULTI", "GW.CACHECLEAR ALL", "GW.CACHESET {a}:new v TAG t", "EXEC"] {
        run(&mut client, words);
    }
    let new: Vec<u8> = call!(client, "DUMP", "{a}:new");
    for words in ["GW.CACHECLEAR CATEGORY d", "GW.CACHECLEAR TAG s"] {
        run(&mut client, words);
    }
    assert_eq!(restore(&mut client, "{a}:copy", &new), "OK");
    assert_eq!(run(&mut client, "GW.CACHEGET {a}:copy"), "\"v\"");
    await_reclaimed(&mut client, 2);
    let before = state(&mut client);
    let mut client = restart(&mut server);
    assert_eq!(state(&mut client), before, "the AOF replayed");
    // The file has the clears with their times.
    assert_eq!(restore(&mut client, "{a}:other", &other), "OK");
    assert_eq!(run(&mut client, "GW.CACHEGET {a}:other"), "nil");
}

/// After the clock was set back, times no longer tell what came first.
#[test]
fn in_a_cluster_clears_are_forgotten_when_the_clock_is_set_back() {
    const HOUR_MS: i64 = 3_600_000;
    let clock = Clock::new().unwrap();
    let mut server = Server::options().cluster().aof().clock(&clock).start().unwrap();
    let mut client = server.connect().unwrap();
    run(&mut client, "GW.CACHESET {a}:1 v TAG t");
    run(&mut client, "GW.CACHECLEAR TAG t");
    // Timers that are set follow the clock: the scan's next slice would come an hour later.
    await_reclaimed(&mut client, 0);
    let before_ms = server_time_ms(&mut client);
    clock.set(-HOUR_MS).unwrap();
    await_until("the server to see the clock", DEADLINE, || server_time_ms(&mut client) < before_ms - HOUR_MS / 2)
        .unwrap();
    assert_eq!(run(&mut client, "GW.CACHESET {a}:2 v PX 60000 TAG t"), "OK");
    // It lives for as long as it is to, by the clock that there is now.
    let left_ms: i64 = call!(client, "PTTL", "{a}:2");
    assert!((1..=60_000).contains(&left_ms), "{left_ms}");
    let payload: Vec<u8> = call!(client, "DUMP", "{a}:2");
    assert_eq!(reply!(client, "RESTORE", "{a}:3", 0, payload), "OK");
    assert_eq!(run(&mut client, "GW.CACHEGET {a}:3"), "\"v\"");
    let commands = aof_commands(&server);
    let forgotten = commands.iter().filter(|words| words[0] == b"GW._CACHECLEAR" && words[1] == b"F").count();
    assert_eq!(forgotten, 1);
    let before = state(&mut client);
    assert_eq!(state(&mut restart(&mut server)), before, "the AOF replayed");
}
