//! Single flight: of all who miss a key, one computes, and the others get what it computed.

use crate::support::{DEADLINE, SOON_MS, live, run, start};
use gw_testkit::redis::{Connection, RedisResult};
use gw_testkit::{Server, await_in_sync, await_until, call, reply};
use std::collections::HashMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// State, value, age, ttl, token.
type Meta = (String, Option<String>, i64, i64, u64);

fn get(client: &mut Connection, words: &str) -> Meta {
    crate::support::command(&format!("GW.CACHEFETCH {words}")).query(client).unwrap()
}

fn state(client: &mut Connection, words: &str) -> String {
    get(client, words).0
}

fn lead(client: &mut Connection, words: &str) -> u64 {
    let (state, value, _, _, token) = get(client, words);
    assert_eq!((state.as_str(), value), ("MISS", None), "{words}");
    assert_ne!(token, 0);
    token
}

fn blocked(client: &mut Connection) -> usize {
    gw_testkit::info(client, "clients")["blocked_clients"].parse().unwrap()
}

/// Clients that wait, each with what it gets in the end, after `act` on a connection that does not wait.
fn waiters<const N: usize>(
    server: &Server,
    calls: [&str; N],
    act: impl FnOnce(&mut Connection),
) -> [RedisResult<Meta>; N] {
    let mut client = server.connect().unwrap();
    std::thread::scope(|scope| {
        let mut started = blocked(&mut client);
        let threads = calls.map(|words| {
            let mut waiter = server.connect().unwrap();
            let thread =
                scope.spawn(move || crate::support::command(&format!("GW.CACHEFETCH {words}")).query(&mut waiter));
            // One after the other, so that their order is known.
            started += 1;
            await_until("a client to wait", DEADLINE, || blocked(&mut client) == started).unwrap();
            thread
        });
        let before = started - N;
        act(&mut client);
        let answered = await_until("the waiting clients to be answered", DEADLINE, || blocked(&mut client) == before);
        if answered.is_err() {
            // Their threads would wait for ever.
            run(&mut client, "CLIENT KILL TYPE normal SKIPME yes");
        }
        answered.unwrap();
        threads.map(|thread| thread.join().unwrap())
    })
}

#[test]
fn one_leads_and_the_others_are_told_or_wait() {
    let (server, mut client) = start();
    let token = lead(&mut client, "k LEASE 60000");
    let (pending, value, _, left_ms, none) = get(&mut client, "k LEASE 60000");
    assert_eq!((pending.as_str(), value, none), ("PENDING", None, 0));
    assert!((1..=60_000).contains(&left_ms));
    let got = waiters(&server, ["k LEASE 60000 WAIT 60000", "k LEASE 1 WAIT 60000 META"], |client| {
        assert_eq!(reply!(*client, "GW.CACHESET", "k", "other", "TOKEN", token ^ 1), "nil");
        assert_eq!(reply!(*client, "GW.CACHESET", "k", "answer", "TOKEN", token), "OK");
    });
    for got in got {
        let (state, value, _, ttl_ms, token) = got.unwrap();
        assert_eq!((state.as_str(), value.as_deref(), token), ("HIT", Some("answer"), 0));
        assert!((3_500_000..=3_600_000).contains(&ttl_ms));
    }
    // A token is good for one fill.
    assert_eq!(reply!(client, "GW.CACHESET", "k", "again", "TOKEN", token), "nil");
    let stats: HashMap<String, String> = call!(client, "GW.CACHESTATS", "CATEGORY", "default");
    for (name, count) in [("leader_grants", "1"), ("pending", "3"), ("misses", "2"), ("hits", "2"), ("sets", "1")] {
        assert_eq!(stats[name], count, "{name} in {stats:?}");
    }
}

#[test]
fn a_lease_that_ends_goes_to_the_first_who_waits() {
    let (server, mut client) = start();
    let start = Instant::now();
    let first = lead(&mut client, &format!("k LEASE {SOON_MS}"));
    let [second, third] = waiters(&server, ["k LEASE 60000 WAIT 60000", "k LEASE 60000 WAIT 60000"], |client| {
        await_until("the next to lead", DEADLINE, || {
            let stats: HashMap<String, String> = call!(*client, "GW.CACHESTATS", "CATEGORY", "default");
            stats["leader_grants"] == "2"
        })
        .unwrap();
        assert!(start.elapsed() >= Duration::from_millis(SOON_MS as u64), "the lease was cut short");
        assert_eq!(reply!(*client, "GW.CACHESET", "k", "late", "TOKEN", first), "nil");
        run(client, "GW.CACHESET k answer");
    });
    let (state, value, _, left_ms, token) = second.unwrap();
    assert_eq!((state.as_str(), value, left_ms), ("MISS", None, 60_000));
    assert!(token != 0 && token != first);
    assert_eq!(third.unwrap().1.as_deref(), Some("answer"));
}

#[test]
fn a_wait_ends_by_itself() {
    let (server, mut client) = start();
    lead(&mut client, "k LEASE 60000");
    let start = Instant::now();
    let [got] = waiters(&server, ["k LEASE 60000 WAIT 200"], |_| {});
    assert_eq!(got.unwrap().0, "PENDING");
    assert!(start.elapsed() >= Duration::from_millis(200));
    let stats: HashMap<String, String> = call!(client, "GW.CACHESTATS", "CATEGORY", "default");
    assert_eq!((stats["wait_timeouts"].as_str(), stats["misses"].as_str()), ("1", "2"));
}

#[test]
fn a_stale_value_is_served_while_one_refreshes_it() {
    let (_server, mut client) = start();
    run(&mut client, "GW.CACHESET k old PX 1 STALE 60000 TAG t");
    await_until("the value to be stale", DEADLINE, || state(&mut client, "k META") == "STALE").unwrap();
    let (state, value, _, ttl_ms, token) = get(&mut client, "k LEASE 60000 WAIT 60000");
    assert_eq!((state.as_str(), value.as_deref()), ("STALE", Some("old")));
    assert!(token > 0 && (50_000..=60_000).contains(&ttl_ms));
    // All others at once, and the plain form too.
    for _ in 0..3 {
        assert_eq!(get(&mut client, "k LEASE 60000 WAIT 60000").4, 0);
    }
    assert_eq!(run(&mut client, "GW.CACHEGET k"), "\"old\"");
    assert_eq!(reply!(client, "GW.CACHESET", "k", "new", "TOKEN", token), "OK");
    assert_eq!(get(&mut client, "k LEASE 60000").1.as_deref(), Some("new"));
    let stats: HashMap<String, String> = call!(client, "GW.CACHESTATS", "CATEGORY", "default");
    assert_eq!((stats["hit_rate"].as_str(), stats["leader_grants"].as_str()), ("1.0000", "1"));
    assert!(stats["stale_hits"].parse::<u32>().unwrap() >= 5);
}

#[test]
fn what_was_computed_before_an_invalidation_is_not_stored_after_it() {
    let (server, mut client) = start();
    let stale = |client: &mut Connection| {
        run(client, "GW.CACHESET llm:k old PX 1 STALE 60000 TAG t");
        await_until("the value to be stale", DEADLINE, || state(client, "llm:k META") == "STALE").unwrap();
        get(client, "llm:k LEASE 60000").4
    };
    for invalidation in [
        "GW.CACHEDEL llm:k",
        "DEL llm:k",
        "GW.CACHECLEAR TAG t",
        "GW.CACHECLEAR CATEGORY llm",
        "GW.CACHECLEAR PATTERN llm:*",
        "GW.CACHECLEAR ALL",
        "FLUSHALL",
        "FLUSHDB",
        "RENAME llm:k llm:other",
    ] {
        let token = stale(&mut client);
        assert_ne!(token, 0, "{invalidation}");
        run(&mut client, invalidation);
        assert_eq!(reply!(client, "GW.CACHESET", "llm:k", "old", "TOKEN", token), "nil", "{invalidation}");
        assert_eq!(run(&mut client, "GW.CACHEGET llm:k"), "nil", "{invalidation}");
    }
    // Of a key that is not there, too; and who waits goes on at once.
    for invalidation in ["GW.CACHEDEL llm:k", "GW.CACHECLEAR CATEGORY llm", "GW.CACHECLEAR ALL", "FLUSHALL"] {
        let token = lead(&mut client, "llm:k LEASE 60000");
        let [got] = waiters(&server, ["llm:k LEASE 60000 WAIT 60000"], |client| {
            run(client, invalidation);
            assert_eq!(reply!(*client, "GW.CACHESET", "llm:k", "old", "TOKEN", token), "nil", "{invalidation}");
        });
        let (state, _, _, _, next) = got.unwrap();
        assert_eq!(state, "MISS", "{invalidation}");
        assert_eq!(reply!(client, "GW.CACHESET", "llm:k", "new", "TOKEN", next), "OK", "{invalidation}");
        run(&mut client, "GW.CACHEDEL llm:k");
    }
}

#[test]
fn what_a_clear_names_is_known_when_the_value_comes() {
    let (server, mut client) = start();
    // Whether or not there was anything to clear.
    run(&mut client, "GW.CACHESET llm:other v TAG user:42");
    for (invalidation, names) in [
        ("GW.CACHECLEAR TAG user:42", "TAG model:a TAG user:42"),
        ("GW.CACHECLEAR TAG user:42", "TAG user:42"),
        ("GW.CACHECLEAR CATEGORY answers", "CATEGORY answers"),
    ] {
        let token = lead(&mut client, "llm:k LEASE 60000");
        let [got] = waiters(&server, ["llm:k LEASE 60000 WAIT 60000"], |client| {
            run(client, invalidation);
            let late = format!("GW.CACHESET llm:k old {names} TOKEN {token}");
            assert_eq!(run(client, &late), "nil", "{invalidation}");
        });
        // Who waits computes anew, and that is of after the clear.
        let (state, _, _, _, next) = got.unwrap();
        assert_eq!(state, "MISS", "{invalidation}");
        assert_eq!(run(&mut client, &format!("GW.CACHESET llm:k new {names} TOKEN {next}")), "OK", "{invalidation}");
        run(&mut client, "GW.CACHEDEL llm:k");
    }
    // Others are stored.
    let token = lead(&mut client, "llm:k LEASE 60000");
    run(&mut client, "GW.CACHECLEAR TAG user:43");
    run(&mut client, "GW.CACHECLEAR CATEGORY user:42");
    assert_eq!(run(&mut client, &format!("GW.CACHESET llm:k new TAG user:42 TOKEN {token}")), "OK");
}

#[test]
fn of_more_clears_than_are_remembered_leases_from_before_them_are_void() {
    let (_server, mut client) = start();
    let [first, last] = ["llm:first", "llm:last"].map(|key| {
        let token = lead(&mut client, &format!("{key} LEASE 60000"));
        let clears = (0..3_000).map(|tag| crate::support::command(&format!("GW.CACHECLEAR TAG {key}:{tag}")));
        crate::support::pipeline(&mut client, clears).into_iter().for_each(|reply| drop(reply.unwrap()));
        token
    });
    assert_eq!(run(&mut client, &format!("GW.CACHESET llm:first old TOKEN {first}")), "nil");
    assert_eq!(run(&mut client, &format!("GW.CACHESET llm:last v TOKEN {last}")), "OK");
}

#[test]
fn a_value_that_has_come_and_gone_leaves_one_to_lead() {
    let (server, mut client) = start();
    lead(&mut client, "k LEASE 60000");
    let got = waiters(&server, ["k LEASE 60000 WAIT 60000", "k LEASE 60000 WAIT 60000"], |client| {
        for words in ["MULTI", "GW.CACHESET k v", "GW.CACHEDEL k", "EXEC"] {
            run(client, words);
        }
    });
    let [first, second] = got.map(|got| got.unwrap());
    assert_eq!((first.0.as_str(), second.0.as_str()), ("MISS", "PENDING"));
    assert!((1..=60_000).contains(&second.3), "{second:?}");
    assert_eq!(reply!(client, "GW.CACHESET", "k", "v", "TOKEN", first.4), "OK");
}

#[test]
fn a_lease_outlives_the_stale_entry_that_it_refreshes() {
    let (_server, mut client) = start();
    run(&mut client, &format!("GW.CACHESET k old PX 1 STALE {SOON_MS}"));
    await_until("the value to be stale", DEADLINE, || state(&mut client, "k META") == "STALE").unwrap();
    let token = get(&mut client, "k LEASE 60000").4;
    assert_ne!(token, 0);
    await_until("the value to go", DEADLINE, || run(&mut client, "EXISTS k") == "0").unwrap();
    assert_eq!(state(&mut client, "k LEASE 60000"), "PENDING");
    assert_eq!(reply!(client, "GW.CACHESET", "k", "new", "TOKEN", token), "OK");
    assert_eq!(state(&mut client, "k META"), "HIT");
}

#[test]
fn memory_that_is_reclaimed_ends_no_lease() {
    let (_server, mut client) = start();
    run(&mut client, "GW.CACHESET llm:k old");
    run(&mut client, "GW.CACHECLEAR CATEGORY llm");
    let token = lead(&mut client, "llm:k LEASE 60000");
    await_until("the memory to be reclaimed", DEADLINE, || run(&mut client, "DBSIZE") == "0").unwrap();
    assert_eq!(reply!(client, "GW.CACHESET", "llm:k", "new", "TOKEN", token), "OK");
}

#[test]
fn who_waits_hears_of_values_that_come_by_other_ways() {
    let (server, mut client) = start();
    run(&mut client, "GW.CACHESET source value");
    for arrival in ["RENAME copy k", "COPY source k", "GW.CACHESET k value"] {
        run(&mut client, "COPY source copy REPLACE");
        lead(&mut client, "k LEASE 60000");
        let [got] = waiters(&server, ["k LEASE 60000 WAIT 60000"], |client| {
            run(client, arrival);
        });
        assert_eq!(got.unwrap().1.as_deref(), Some("value"), "{arrival}");
        run(&mut client, "DEL k");
    }
}

#[test]
fn who_waits_hears_of_another_type_by_whatever_command() {
    let (server, mut client) = start();
    for arrival in ["SET k text", "LPUSH k element", "GW.LOGPUSH k record"] {
        // Neither the lease nor the wait ends before the test's deadline does.
        lead(&mut client, "k LEASE 3600000");
        let got = waiters(&server, ["k LEASE 3600000 WAIT 3600000", "k LEASE 3600000 WAIT 3600000"], |client| {
            run(client, arrival);
        });
        for got in got {
            assert_eq!(got.unwrap_err().code(), Some("WRONGTYPE"), "{arrival}");
        }
        run(&mut client, "DEL k");
    }
}

#[test]
fn a_key_of_another_type_is_an_error_for_all() {
    let (server, mut client) = start();
    let token = lead(&mut client, "k LEASE 60000");
    let wrong_type = "WRONGTYPE Operation against a key holding the wrong kind of value";
    let got = waiters(&server, ["k LEASE 60000 WAIT 60000", "k LEASE 60000 WAIT 60000"], |client| {
        run(client, "SET k text");
        assert_eq!(reply!(*client, "GW.CACHESET", "k", "answer", "TOKEN", token), wrong_type);
    });
    for got in got {
        assert_eq!(got.unwrap_err().code(), Some("WRONGTYPE"));
    }
    assert_eq!(run(&mut client, "GW.CACHEFETCH k LEASE 1000"), wrong_type);
}

#[test]
fn nobody_waits_where_waiting_is_not_allowed() {
    let (_server, mut client) = start();
    let token = lead(&mut client, "k LEASE 60000");
    run(&mut client, "MULTI");
    run(&mut client, "GW.CACHEFETCH k LEASE 60000 WAIT 60000");
    let replies = run(&mut client, "EXEC");
    assert!(replies.starts_with("[[\"PENDING\", nil"), "{replies}");
    for words in ["MULTI", "GW.CACHECLEAR PATTERN *"] {
        run(&mut client, words);
    }
    let error = run(&mut client, "EXEC");
    assert!(error.contains("ERR not allowed in a transaction or script: PATTERN"), "{error}");
    let script = "return redis.call('GW.CACHEFETCH', KEYS[1], 'LEASE', '60000', 'WAIT', '60000')";
    assert!(reply!(client, "EVAL", script, 1, "k").starts_with("[\"PENDING\""));
    assert_eq!(reply!(client, "GW.CACHESET", "k", "v", "TOKEN", token), "OK");
}

#[test]
fn a_client_that_leaves_is_passed_over() {
    let (server, mut client) = start();
    lead(&mut client, &format!("k LEASE {SOON_MS}"));
    let mut leaver = server.connect().unwrap();
    leaver
        .send_packed_command(&crate::support::command("GW.CACHEFETCH k LEASE 60000 WAIT 60000").get_packed_command())
        .unwrap();
    await_until("the first to wait", DEADLINE, || blocked(&mut client) == 1).unwrap();
    let [got] = waiters(&server, ["k LEASE 60000 WAIT 60000"], |client| {
        drop(leaver);
        await_until("the first to be gone", DEADLINE, || blocked(client) == 1).unwrap();
    });
    assert_ne!(got.unwrap().4, 0);
}

#[test]
fn replicas_read_and_lead_nobody() {
    let primary = Server::start().unwrap();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let (mut client, mut reader) = (primary.connect().unwrap(), replica.connect().unwrap());
    run(&mut client, "GW.CACHESET k v");
    await_in_sync(&mut client, &mut reader);
    assert_eq!(run(&mut reader, "GW.CACHEGET k"), "\"v\"");
    assert!(run(&mut reader, "GW.CACHEGET k META").starts_with("[\"HIT\", \"v\""));
    let read_only = "READONLY You can't write against a read only replica.";
    for words in ["GW.CACHEFETCH k", "GW.CACHEFETCH k LEASE 5", "GW.CACHERELEASE k 5", "GW.CACHECLEAR ALL"] {
        assert_eq!(run(&mut reader, words), read_only);
    }
    // One that becomes a replica lets go of all who wait.
    let mut other = Server::start().unwrap();
    let mut operator = other.connect().unwrap();
    lead(&mut operator, "none LEASE 60000");
    let [got] = waiters(&other, ["none LEASE 60000 WAIT 60000"], |client| {
        assert_eq!(reply!(*client, "REPLICAOF", "127.0.0.1", primary.port()), "OK");
    });
    assert_eq!(got.unwrap_err().code(), Some("UNBLOCKED"));
    assert!(other.is_running());
}

/// 200 gateways want the same answer at once from a model that takes its time: it is called once, and all get its
/// answer. And again with a leader that dies in the middle: one other takes over.
#[test]
fn two_hundred_misses_are_one_call() {
    const CLIENTS: usize = 200;
    const MODEL: Duration = Duration::from_millis(300);
    let (server, mut client) = start();
    for round in 0..live(1, 100) {
        for leader_dies in [false, true] {
            let key = format!("llm:{round}:{leader_dies}");
            // Of a leader that lives the lease lasts as long as it has to.
            let lease_ms = if leader_dies { SOON_MS } else { 60_000 };
            let calls = AtomicUsize::new(0);
            let barrier = Barrier::new(CLIENTS);
            let connections: Vec<_> = (0..CLIENTS).map(|_| server.connect().unwrap()).collect();
            let answered: usize = std::thread::scope(|scope| {
                let (key, calls, barrier) = (&key, &calls, &barrier);
                let threads: Vec<_> = connections
                    .into_iter()
                    .map(|mut connection| {
                        scope.spawn(move || {
                            barrier.wait();
                            let words = format!("{key} LEASE {lease_ms} WAIT 600000");
                            let (state, value, _, _, token) = get(&mut connection, &words);
                            if token == 0 {
                                assert_eq!((state.as_str(), value.as_deref()), ("HIT", Some("answer")));
                                return 1;
                            }
                            let call = calls.fetch_add(1, Ordering::SeqCst);
                            std::thread::sleep(MODEL);
                            if leader_dies && call == 0 {
                                return 0;
                            }
                            let set = reply!(connection, "GW.CACHESET", key, "answer", "TOKEN", token);
                            assert_eq!(set, "OK");
                            1
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert_eq!(calls.into_inner(), 1 + usize::from(leader_dies), "{key}");
            assert_eq!(answered, CLIENTS - usize::from(leader_dies));
            run(&mut client, &format!("GW.CACHEDEL {key}"));
        }
    }
}

/// The first attempt's reply is lost. The second must not wait for the lease that the first was given.
#[test]
fn a_call_that_is_sent_again_gets_its_own_lease() {
    let (server, mut client) = start();
    let token = lead(&mut client, "k LEASE 60000 HOLDER call:1");
    let (state, value, _, left_ms, again) = get(&mut client, "k LEASE 3600000 HOLDER call:1 WAIT 600000");
    assert_eq!((state.as_str(), value, again), ("MISS", None, token));
    assert!((1..=60_000).contains(&left_ms), "{left_ms}: a retry prolongs nothing");
    assert_eq!(get(&mut client, "k LEASE 60000 HOLDER call:2").0, "PENDING");
    assert_eq!(get(&mut client, "k LEASE 60000").0, "PENDING");
    // Two attempts of one call wait, and another call behind them: they are one leader.
    let calls = ["k LEASE 60000 HOLDER call:3 WAIT 60000", "k LEASE 60000 WAIT 60000"];
    let [first, other, second] = waiters(&server, [calls[0], calls[1], calls[0]], |client| {
        assert_eq!(reply!(*client, "GW.CACHERELEASE", "k", token), "1");
        await_until("both attempts to be answered", DEADLINE, || blocked(client) == 1).unwrap();
        run(client, "GW.CACHESET k answer");
    });
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!((first.0.as_str(), second.0.as_str()), ("MISS", "MISS"));
    assert!(first.4 != 0 && first.4 == second.4);
    assert_eq!(other.unwrap().1.as_deref(), Some("answer"));
    let stats: HashMap<String, String> = call!(client, "GW.CACHESTATS", "CATEGORY", "default");
    assert_eq!((stats["leader_grants"].as_str(), stats["releases"].as_str()), ("2", "1"), "{stats:?}");

    // Of a stale value, too; its ttl is how long it is served.
    run(&mut client, "GW.CACHESET s old PX 1 STALE 600000");
    await_until("the value to be stale", DEADLINE, || get(&mut client, "s META").0 == "STALE").unwrap();
    let (_, _, _, _, token) = get(&mut client, "s LEASE 60000 HOLDER a");
    assert_ne!(token, 0);
    assert_eq!(get(&mut client, "s LEASE 60000 HOLDER b").4, 0);
    let (state, value, _, ttl_ms, again) = get(&mut client, "s LEASE 60000 HOLDER a");
    assert_eq!((state.as_str(), value.as_deref(), again), ("STALE", Some("old"), token));
    assert!(ttl_ms > 300_000, "{ttl_ms}");
    let longest = "h".repeat(512);
    assert_ne!(lead(&mut client, &format!("long LEASE 60000 HOLDER {longest}")), 0);
    let error = run(&mut client, &format!("GW.CACHEFETCH long LEASE 60000 HOLDER {longest}h"));
    assert_eq!(error, "ERR not a name of 1 to 512 bytes: HOLDER");
    assert_eq!(run(&mut client, "GW.CACHEFETCH k HOLDER a"), "ERR only with LEASE: HOLDER");
}

#[test]
fn a_lease_that_is_given_up_leaves_the_stale_value_and_the_next_leader_alone() {
    let (server, mut client) = start();
    run(&mut client, "GW.CACHESET k old PX 1 STALE 600000");
    await_until("the value to be stale", DEADLINE, || state(&mut client, "k META") == "STALE").unwrap();
    let first = get(&mut client, "k LEASE 60000").4;
    assert_eq!(reply!(client, "GW.CACHERELEASE", "k", first), "1");
    assert_eq!(reply!(client, "GW.CACHERELEASE", "k", first), "0");
    assert_eq!(run(&mut client, "GW.CACHEGET k"), "\"old\"");
    assert_eq!(reply!(client, "GW.CACHESET", "k", "late", "TOKEN", first), "nil");
    let second = get(&mut client, "k LEASE 60000").4;
    assert!(second != 0 && second != first);
    // A former leader's release does nothing to the new leader's lease.
    assert_eq!(reply!(client, "GW.CACHERELEASE", "k", first), "0");
    assert_eq!(reply!(client, "GW.CACHERELEASE", "other", second), "0");
    assert_eq!(reply!(client, "GW.CACHESET", "k", "new", "TOKEN", second), "OK");
    assert_eq!(run(&mut client, "GW.CACHEGET k"), "\"new\"");

    // Without a value, the first that waits leads at once.
    let first = lead(&mut client, "none LEASE 3600000");
    let [next] = waiters(&server, ["none LEASE 60000 WAIT 3600000"], |client| {
        assert_eq!(reply!(*client, "GW.CACHERELEASE", "none", first), "1");
    });
    let (state, value, _, _, token) = next.unwrap();
    assert_eq!((state.as_str(), value), ("MISS", None));
    // In a transaction.
    for words in ["MULTI", &format!("GW.CACHERELEASE none {token}"), "GW.CACHEFETCH none LEASE 5"] {
        run(&mut client, words);
    }
    let replies = run(&mut client, "EXEC");
    assert!(replies.starts_with("[1, [\"MISS\", nil, 0, 5, "), "{replies}");
    for token in ["0", "-1", "x", "9007199254740993"] {
        let error = run(&mut client, &format!("GW.CACHERELEASE none {token}"));
        assert_eq!(error, "ERR not an integer from 1 to 9007199254740992: token");
    }
}

/// Two nodes, or one before and after a restart, never give out the same token, and none can be guessed from another.
#[test]
fn tokens_are_random() {
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let (_server, mut client) = start();
        tokens.extend((0..50).map(|key| lead(&mut client, &format!("k{key} LEASE 60000"))));
    }
    assert!(tokens.iter().all(|token| (1..1 << 53).contains(token)));
    assert!(tokens.iter().any(|token| *token > 1 << 50) && !tokens.is_sorted());
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 100);
}

/// The server's own rules for write commands hold without a check of the module's.
#[test]
fn readers_neither_touch_nor_lead() {
    let (server, mut client) = start();
    run(&mut client, "GW.CACHESET chat:k v");
    let words =
        "ACL SETUSER reader on nopass %R~chat:* -@all +gw.cacheget +gw.cachefetch +gw.cacherelease +eval_ro +auth";
    assert_eq!(run(&mut client, words), "OK");
    let mut reader = server.connect().unwrap();
    assert_eq!(run(&mut reader, "AUTH reader any"), "OK");
    assert_eq!(run(&mut reader, "GW.CACHEGET chat:k"), "\"v\"");
    for words in ["GW.CACHEFETCH chat:k TOUCH", "GW.CACHEFETCH chat:none LEASE 5", "GW.CACHERELEASE chat:k 1"] {
        assert!(run(&mut reader, words).starts_with("NOPERM"), "{words}");
    }
    for words in ["GW.CACHEGET chat:k TOUCH", "GW.CACHEGET chat:k LEASE 5", "GW.CACHEGET chat:k CATEGORY c"] {
        assert!(run(&mut client, words).starts_with("ERR unknown option"), "{words}");
    }
    let script = "return redis.call('GW.CACHEFETCH', KEYS[1], 'LEASE', '5')";
    let error = reply!(client, "EVAL_RO", script, 1, "chat:none");
    assert!(error.contains("Write commands are not allowed from read-only scripts"), "{error}");
    // A cache serves its hits and leases when the memory is full.
    run(&mut client, "CONFIG SET maxmemory 1");
    assert_eq!(run(&mut client, "GW.CACHEFETCH chat:k TOUCH"), "\"v\"");
    assert_eq!(state(&mut client, "chat:none LEASE 5"), "MISS");
}
