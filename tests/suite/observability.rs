//! For operators: INFO, GW.STATS, command statistics, settings, memory.

use crate::blocking::ask;
use crate::commands::PUBLIC;
use crate::support::{DEADLINE, command, pipeline, run, start, state};
use gw_testkit::redis::Connection;
use gw_testkit::{Server, await_in_sync, await_until, call, info};
use std::collections::HashMap;

fn stats(client: &mut Connection) -> HashMap<String, u64> {
    call!(*client, "GW.STATS")
}

#[test]
fn info_and_stats_show_the_same_figures() {
    let (_server, mut client) = start();
    for words in ["GW.ALLOW k 1", "GW.ALLOW k 1", "GW.CACHEGET none", "GW.ADDCOST l 1"] {
        run(&mut client, words);
    }
    let stats = stats(&mut client);
    for section in ["gw", "everything"] {
        let fields: HashMap<_, _> = info(&mut client, section)
            .into_iter()
            .filter_map(|(name, value)| Some((name.strip_prefix("gw_")?.to_owned(), value.parse::<u64>().ok()?)))
            .collect();
        assert_eq!(fields, stats, "INFO {section}");
    }
}

#[test]
fn every_counter_counts_its_calls() {
    let (_server, mut client) = start();
    assert!(stats(&mut client).values().all(|&count| count == 0));
    for words in [
        "GW.ALLOW w 2 COST 2",
        "GW.ALLOW w 2",
        "GW.ALLOW w 2",
        "GW.ALLOW w 2 PEEK",
        "GW.TOKENS b 1 1",
        "GW.TOKENS b 1 1 PER 86400000",
        "GW.TOKENS b 1 1 PEEK",
        "GW.ADDCOST l 5",
        "GW.WITHINBUDGET l 10",
        "GW.WITHINBUDGET l 5",
        "GW.WITHINBUDGET l 4",
        "GW.LOGPUSH q MAXLEN 2 a b c",
        "GW.LOGPUSH q MAXLEN 2 REJECT d",
        "GW.LOGPOP q COUNT 9",
        "GW.CACHESET c v",
        "GW.CACHEGET c",
        "GW.CACHEGET none",
        "GW.CACHEFETCH c",
        "GW.CACHEFETCH none LEASE 5000",
        "GW.CACHEDEL c none",
        // None of these counters counts errors; the server does.
        "GW.ALLOW w x",
    ] {
        run(&mut client, words);
    }
    let stats = stats(&mut client);
    for (name, count) in [
        ("allow_admitted", 1),
        ("allow_denied", 2),
        ("allow_peeked", 1),
        ("tokens_admitted", 1),
        ("tokens_denied", 1),
        ("tokens_peeked", 1),
        ("budget_charges", 1),
        ("budget_within", 1),
        ("budget_exceeded", 2),
        ("log_pushed", 3),
        ("log_dropped", 1),
        ("log_rejected", 1),
        ("log_popped", 2),
        ("cache_sets", 1),
        ("cache_hits", 2),
        ("cache_misses", 2),
        ("cache_leader_grants", 1),
        ("cache_deletes", 1),
        ("internal_errors", 0),
    ] {
        assert_eq!(stats.get(name), Some(&count), "{name} in {stats:?}");
    }
}

#[test]
fn counters_are_reset_and_nothing_else() {
    let primary = Server::start().unwrap();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let (mut client, mut reader) = (primary.connect().unwrap(), replica.connect().unwrap());
    await_in_sync(&mut client, &mut reader);
    for words in [
        "GW.ALLOW w 2",
        "GW.ALLOW w 0",
        "GW.ACQUIRE s 1 a TTL 60000",
        "GW.LOGPUSH q a",
        "GW.CACHESET chat:1 v SAVED 0.5",
        "GW.CACHEGET chat:1",
        "GW.CACHEGET chat:2",
    ] {
        run(&mut client, words);
    }
    // A lease that is given up.
    let (_, _, _, _, lease): (String, Option<String>, u64, u64, u64) =
        call!(client, "GW.CACHEFETCH", "chat:3", "LEASE", 60_000);
    assert_eq!(call!(client, "GW.CACHERELEASE", "chat:3", lease => u64), 1);
    await_in_sync(&mut client, &mut reader);
    let token = run(&mut client, "GW.ACQUIRE s 1 a TTL 60000");
    let before = state(&mut client);
    assert_eq!(run(&mut client, "GW.STATSRESET"), "OK");
    assert!(stats(&mut client).values().all(|&count| count == 0));
    let cache = run(&mut client, "GW.CACHESTATS CATEGORY chat");
    for figure in [r#""hits", 0"#, r#""misses", 0"#, r#""releases", 0"#, r#""saved", "0""#, r#""entries", 1"#] {
        assert!(cache.contains(figure), "{figure} in {cache}");
    }
    assert_eq!(state(&mut client), before);
    await_in_sync(&mut client, &mut reader);
    assert!(!info(&mut reader, "commandstats").contains_key("cmdstat_gw.statsreset"), "it is not replicated");
    assert_eq!(run(&mut client, "GW.ACQUIRE s 1 a TTL 60000"), token, "fencing tokens are not counters");
    assert_eq!(run(&mut reader, "GW.STATSRESET"), "OK", "a replica's counters are its own");
    assert_eq!(run(&mut client, "GW.STATSRESET x"), "ERR wrong number of arguments for 'gw.statsreset' command");
}

/// The gauges: clients that wait for slots, for records and for cached values, and fill leases in force.
fn gauges(client: &mut Connection) -> [u64; 4] {
    let stats = stats(client);
    ["leases_waiting", "log_waiting", "cache_waiting", "cache_fill_leases"].map(|name| stats[name])
}

fn await_gauges(client: &mut Connection, expected: [u64; 4]) {
    let mut shown = [0; 4];
    await_until("the gauges to change", DEADLINE, || {
        shown = gauges(client);
        shown == expected
    })
    .unwrap_or_else(|error| panic!("{error}: {shown:?} instead of {expected:?}"));
}

#[test]
fn waiting_clients_and_fill_leases_are_shown_for_as_long_as_there_are_any() {
    let (server, mut client) = start();
    let other = Server::start().unwrap();
    assert_eq!(gauges(&mut client), [0; 4]);
    // However a wait ends: served, its time is up, unblocked, cut off, or the server becomes a replica.
    for end in 0..5 {
        run(&mut client, "DEL s q q2 c other");
        run(&mut client, "GW.ACQUIRE s 1 a TTL 600000");
        run(&mut client, "GW.CACHEFETCH c LEASE 600000");
        run(&mut client, "GW.CACHEFETCH other LEASE 600000");
        assert_eq!(gauges(&mut client), [0, 0, 0, 2]);
        let limit_ms = if end == 1 { 500 } else { 600_000 };
        let waiting: Vec<_> = [
            format!("GW.ACQUIRE s 1 b TTL 600000 BLOCK {limit_ms}"),
            format!("GW.LOGPOP q BLOCK {limit_ms}"),
            format!("GW.LOGPOP q BLOCK {limit_ms} LEASE 600000"),
            format!("GW.LOGPOP q2 BLOCK {limit_ms}"),
            format!("GW.CACHEFETCH c LEASE 600000 WAIT {limit_ms}"),
            format!("GW.CACHEFETCH c LEASE 600000 WAIT {limit_ms}"),
        ]
        .iter()
        .map(|words| ask(&server, words))
        .collect();
        if end != 1 {
            await_gauges(&mut client, [1, 3, 2, 2]);
            assert_eq!(run(&mut client, "GW.STATSRESET"), "OK");
            assert_eq!(gauges(&mut client), [1, 3, 2, 2], "they are no counters");
        }
        match end {
            0 => {
                run(&mut client, "GW.RELEASE s a");
                run(&mut client, "GW.LOGPUSH q RECORDS x y");
                run(&mut client, "GW.LOGPUSH q2 RECORDS x");
                run(&mut client, "GW.CACHESET c v");
                await_gauges(&mut client, [0, 0, 0, 1]);
            }
            1 => await_gauges(&mut client, [0, 0, 0, 2]),
            2 => {
                let list: String = call!(client, "CLIENT", "LIST");
                for line in list.lines().filter(|line| line.contains("flags=b")) {
                    let id = line.split_once("id=").unwrap().1.split(' ').next().unwrap();
                    call!(client, "CLIENT", "UNBLOCK", id => u64);
                }
                await_gauges(&mut client, [0, 0, 0, 2]);
            }
            3 => {
                call!(client, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes" => u64);
                await_gauges(&mut client, [0, 0, 0, 2]);
            }
            _ => {
                call!(client, "REPLICAOF", "127.0.0.1", other.port() => ());
                // A replica has no fill leases.
                await_gauges(&mut client, [0; 4]);
            }
        }
        drop(waiting);
        run(&mut client, "GW.CACHESET c v");
        run(&mut client, "GW.CACHESET other v");
        await_gauges(&mut client, [0; 4]);
    }
}

#[test]
fn the_servers_own_statistics_cover_every_command() {
    let (_server, mut client) = start();
    for public in &PUBLIC {
        run(&mut client, "DEL k");
        run(&mut client, public.call);
    }
    run(&mut client, "GW.ALLOW k x");
    run(&mut client, "GW.ALLOW k");
    let fields = info(&mut client, "commandstats");
    for public in &PUBLIC {
        let field = &fields[&format!("cmdstat_{}", public.name)];
        assert!(field.starts_with("calls="), "{}: {field}", public.name);
    }
    let allow = &fields["cmdstat_gw.allow"];
    assert!(allow.contains("calls=2,") && allow.ends_with("rejected_calls=1,failed_calls=1"), "{allow}");
    let histogram = run(&mut client, "LATENCY HISTOGRAM gw.allow");
    assert!(histogram.contains("\"gw.allow\""), "{histogram}");
}

#[test]
fn settings_have_the_documented_defaults() {
    let (_server, mut client) = start();
    let settings: HashMap<String, String> = call!(client, "CONFIG", "GET", "gw.*");
    let expected = [
        ("gw.timezone", "UTC"),
        ("gw.log-max-records", "100000"),
        ("gw.log-max-bytes", "67108864"),
        ("gw.log-max-dead-records", "100000"),
        ("gw.log-max-dead-bytes", "16777216"),
        ("gw.log-id-ms", "600000"),
        ("gw.log-max-deliveries", "10"),
        ("gw.cache-ttl", ""),
        ("gw.cache-stale", ""),
        ("gw.cache-compress-bytes", "0"),
        ("gw.ledger-days", "62"),
        ("gw.ledger-max-holds", "100000"),
        ("gw.idempotency-ms", "86400000"),
        ("gw.sem-max-entries", "50000"),
        ("gw.sem-max-bytes", "67108864"),
        ("gw.top-keys", "128"),
    ];
    assert_eq!(settings, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
}

#[test]
fn settings_take_effect_when_they_are_set() {
    let (_server, mut client) = start();
    assert_eq!(run(&mut client, "CONFIG SET gw.log-max-records 2"), "OK");
    assert_eq!(run(&mut client, "GW.LOGPUSH q a b c"), "[2, 1]");
    assert_eq!(run(&mut client, "CONFIG SET gw.log-max-bytes 1kb"), "OK");
    assert_eq!(run(&mut client, "CONFIG GET gw.log-max-bytes"), r#"["gw.log-max-bytes", "1024"]"#);
    assert_eq!(run(&mut client, "CONFIG SET gw.cache-ttl chat=30"), "OK");
    run(&mut client, "GW.CACHESET chat:1 v");
    let ttl: i64 = call!(client, "TTL", "chat:1");
    assert!((29..=30).contains(&ttl), "{ttl}");
    assert_eq!(run(&mut client, "CONFIG SET gw.timezone America/New_York"), "OK");
    // 2024-02-01 03:00 UTC is still January in New York.
    run(&mut client, "GW.ADDCOST l 1 AT 1706756400000");
    assert_eq!(run(&mut client, "GW.SPENT l MONTH DATE 2024-01"), "\"1\"");
}

#[test]
fn bad_settings_are_refused_and_the_old_ones_stay() {
    let (_server, mut client) = start();
    let before = run(&mut client, "CONFIG GET gw.*");
    for setting in [
        "gw.timezone Mars/Olympus",
        "gw.timezone ../../etc/passwd",
        "gw.log-max-records -1",
        "gw.log-max-records many",
        "gw.log-max-bytes -1",
        "gw.ledger-days -1",
        "gw.ledger-days 1000000000",
        "gw.idempotency-ms 0",
        "gw.cache-ttl chat",
        "gw.cache-ttl chat=",
        "gw.cache-ttl chat=0",
        "gw.cache-ttl chat=-5",
        "gw.cache-ttl chat=x",
        "gw.cache-ttl =5",
        "gw.cache-stale chat",
        "gw.cache-stale chat=-1",
        "gw.cache-compress-bytes -1",
        "gw.cache-compress-bytes 1mb",
        "gw.top-keys -1",
        "gw.top-keys 513",
        "gw.no-such-setting 1",
    ] {
        let error = run(&mut client, &format!("CONFIG SET {setting}"));
        assert!(error.starts_with("ERR "), "{setting}: {error}");
    }
    assert_eq!(run(&mut client, "CONFIG GET gw.*"), before);
}

#[test]
fn a_server_with_a_bad_setting_or_module_arguments_does_not_start_and_says_why() {
    let refused = |options: gw_testkit::Options| options.start().unwrap_err().to_string();
    let log = refused(Server::options().config("gw.timezone Mars/Olympus"));
    assert!(log.contains("gw.timezone") && log.contains("not an IANA time zone"), "{log}");
    let log = refused(Server::options().config("gw.log-max-records -1"));
    assert!(log.contains("log-max-records"), "{log}");
    let log = refused(Server::options().module_arguments("timezone UTC"));
    assert!(log.contains("<gw> not loaded: module arguments are not supported"), "{log}");
}

#[test]
fn settings_survive_config_rewrite() {
    let (mut server, mut client) = start();
    run(&mut client, "CONFIG SET gw.timezone Europe/Berlin gw.log-max-records 7");
    assert_eq!(run(&mut client, "CONFIG REWRITE"), "OK");
    server.restart().unwrap();
    let mut client = server.connect().unwrap();
    assert_eq!(run(&mut client, "CONFIG GET gw.timezone"), r#"["gw.timezone", "Europe/Berlin"]"#);
    assert_eq!(run(&mut client, "CONFIG GET gw.log-max-records"), r#"["gw.log-max-records", "7"]"#);
}

#[test]
fn keys_are_small() {
    let (_server, mut client) = start();
    let mut bytes = |key: &str, words: &str, times: usize| -> u64 {
        for reply in pipeline(&mut client, (0..times).map(|_| command(words))) {
            reply.unwrap();
        }
        call!(client, "MEMORY", "USAGE", key)
    };
    for (key, words, times, most) in [
        ("w60", "GW.ALLOW w60 60 WINDOW 3600000", 60, 400),
        ("w600", "GW.ALLOW w600 600 WINDOW 3600000", 600, 2_400),
        ("b", "GW.TOKENS b 1000 1000", 50, 200),
        ("l", "GW.ADDCOST l 0.000123", 50, 220),
    ] {
        let taken = bytes(key, words, times);
        assert!(taken <= most, "{key}: {taken} bytes");
    }
}
