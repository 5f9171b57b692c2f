//! GW.CACHESET, GW.CACHEGET, GW.CACHEDEL and GW.CACHESTATS.

use crate::support::{command, pipeline, run, server_time_ms, start};
use gw_testkit::{await_in_sync, await_until, call, digest, redis::Connection, reply, Server};
use std::collections::HashMap;
use std::time::Duration;

#[test]
fn what_is_set_is_got() {
    let (_server, mut client) = start();
    assert_eq!(run(&mut client, "GW.CACHEGET k"), "nil");
    assert_eq!(run(&mut client, "GW.CACHESET k value"), "OK");
    assert_eq!(run(&mut client, "GW.CACHEGET k"), "\"value\"");
    assert_eq!(run(&mut client, "TYPE k"), "gw-cached");
    for value in [&b""[..], b"\0\xff\r\n", &[0xfe; 100_000]] {
        assert_eq!(reply!(client, "GW.CACHESET", "k", value), "OK");
        let got: Vec<u8> = call!(client, "GW.CACHEGET", "k");
        assert_eq!(got, value);
    }
}

#[test]
fn entries_expire_always_and_when_they_should() {
    let (_server, mut client) = start();
    let mut ttl_ms = |words: &str| {
        let before_ms = server_time_ms(&mut client);
        assert_eq!(run(&mut client, words), "OK");
        run(&mut client, "PEXPIRETIME k").parse::<i64>().unwrap() - before_ms
    };
    for (words, ttl) in [
        ("GW.CACHESET k v", 3_600_000),
        ("GW.CACHESET k v EX 10", 10_000),
        ("GW.CACHESET k v px 12345", 12_345),
        // Back to the default: a set replaces the whole entry.
        ("GW.CACHESET k v CATEGORY c", 3_600_000),
    ] {
        let got = ttl_ms(words);
        assert!((ttl..ttl + 5_000).contains(&got), "{words}: {got}");
    }
    assert_eq!(run(&mut client, "GW.CACHESET short v PX 50"), "OK");
    let gone = || run(&mut client, "GW.CACHEGET short") == "nil";
    await_until("the entry to expire", Duration::from_secs(10), gone).unwrap();
}

#[test]
fn a_hit_does_not_put_the_expiry_off() {
    let (_server, mut client) = start();
    run(&mut client, "GW.CACHESET k v EX 100");
    let expires_at_ms = run(&mut client, "PEXPIRETIME k");
    for _ in 0..20 {
        run(&mut client, "GW.CACHEGET k");
    }
    assert_eq!(run(&mut client, "PEXPIRETIME k"), expires_at_ms);
}

#[test]
fn a_category_has_the_configured_lifetime() {
    let server = Server::options().config(r#"gw.cache-ttl "chat=60 embed=7200""#).start().unwrap();
    let mut client = server.connect().unwrap();
    for (words, ttl_ms) in [
        ("GW.CACHESET chat:1 v", 60_000),
        ("GW.CACHESET other:1 v CATEGORY embed", 7_200_000),
        ("GW.CACHESET other:2 v", 3_600_000),
        ("GW.CACHESET chat:2 v EX 5", 5_000),
    ] {
        run(&mut client, words);
        let left_ms: i64 = call!(client, "PTTL", words.split(' ').nth(1).unwrap());
        assert!((ttl_ms - 4_000..=ttl_ms).contains(&left_ms), "{words}: {left_ms}");
    }
}

#[test]
fn deleting_counts_what_was_there() {
    let (_server, mut client) = start();
    run(&mut client, "GW.CACHESET a 1");
    run(&mut client, "GW.CACHESET b 2");
    assert_eq!(run(&mut client, "GW.CACHEDEL a b none a"), "2");
    assert_eq!(run(&mut client, "EXISTS a b"), "0");
}

#[test]
fn only_cache_entries_are_deleted_or_replaced() {
    let (_server, mut client) = start();
    run(&mut client, "GW.CACHESET a 1");
    run(&mut client, "GW.ADDCOST ledger 1");
    let wrong_type = "WRONGTYPE Operation against a key holding the wrong kind of value";
    assert_eq!(run(&mut client, "GW.CACHEDEL a ledger"), wrong_type);
    assert_eq!(run(&mut client, "GW.CACHESET ledger v"), wrong_type);
    assert_eq!(run(&mut client, "EXISTS a ledger"), "2");
}

/// The figures of one category.
fn stats(client: &mut Connection, category: &str) -> HashMap<String, String> {
    call!(*client, "GW.CACHESTATS", category)
}

#[test]
fn hits_and_misses_are_counted_by_category() {
    let (_server, mut client) = start();
    // The category is the key's part before the first colon, unless it is named.
    run(&mut client, "GW.CACHESET chat:1:x 12345");
    run(&mut client, "GW.CACHESET chat:2 12345");
    run(&mut client, "GW.CACHESET chat:3 12345 CATEGORY embed");
    for words in ["GW.CACHEGET chat:1:x", "GW.CACHEGET chat:1:x", "GW.CACHEGET chat:2", "GW.CACHEGET chat:none"] {
        run(&mut client, words);
    }
    run(&mut client, "GW.CACHEGET chat:3");
    let chat = stats(&mut client, "chat");
    let figures = ["hits", "misses", "sets", "entries"].map(|name| chat[name].as_str());
    assert_eq!(figures, ["3", "1", "2", "2"], "{chat:?}");
    assert_eq!(chat["hit_rate"].parse::<f64>().unwrap(), 0.75);
    assert!(chat["bytes"].parse::<u64>().unwrap() >= 10, "{chat:?}");
    let embed = stats(&mut client, "embed");
    assert_eq!((embed["hits"].as_str(), embed["entries"].as_str()), ("1", "1"));

    // Without a category: all of them, each with its figures.
    let all = run(&mut client, "GW.CACHESTATS");
    assert!(all.contains("\"chat\", [\"hits\", 3") && all.contains("\"embed\", [\"hits\", 1"), "{all}");
}

#[test]
fn entries_and_bytes_follow_what_is_there() {
    let (_server, mut client) = start();
    let entries = |client: &mut Connection| stats(client, "chat")["entries"].clone();
    for words in
        ["GW.CACHESET chat:1 v", "GW.CACHESET chat:1 again", "GW.CACHESET chat:2 v", "GW.CACHESET chat:3 v PX 50"]
    {
        run(&mut client, words);
    }
    run(&mut client, "GW.CACHEDEL chat:2");
    let expired = || run(&mut client, "EXISTS chat:3") == "0";
    await_until("an entry to expire", Duration::from_secs(10), expired).unwrap();
    assert_eq!(entries(&mut client), "1");
    run(&mut client, "DEBUG RELOAD");
    assert_eq!(entries(&mut client), "1");
    run(&mut client, "COPY chat:1 chat:4");
    assert_eq!(entries(&mut client), "2");
    run(&mut client, "FLUSHALL SYNC");
    assert_eq!(entries(&mut client), "0");
    assert_eq!(stats(&mut client, "chat")["bytes"], "0");
}

#[test]
fn lifetimes_are_checked() {
    let (_server, mut client) = start();
    for option in ["EX", "PX"] {
        for ttl in ["0", "-1", "x", "1.5", "9223372036854775807", "-9223372036854775808"] {
            let error = run(&mut client, &format!("GW.CACHESET k v {option} {ttl}"));
            assert!(
                error.starts_with("ERR not an integer from 1 to ") && error.ends_with(&format!(": {option}")),
                "{error}"
            );
        }
    }
    let both = run(&mut client, "GW.CACHESET k v EX 1 PX 1000");
    assert!(both.starts_with("ERR "), "{both}");
    assert_eq!(run(&mut client, "EXISTS k"), "0");
}

#[test]
fn readers_cannot_take_the_names_of_what_is_stored() {
    let primary = Server::start().unwrap();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let (mut client, mut reader) = (primary.connect().unwrap(), replica.connect().unwrap());
    await_in_sync(&mut client, &mut reader);
    let misses = (0..1_100).map(|category| command(&format!("GW.CACHEGET c{category}:x")));
    pipeline(&mut client, misses);
    run(&mut client, "GW.CACHESET real:1 v");
    // More categories than this node counts, and still each entry knows its own.
    let sets = (0..1_100).map(|category| command(&format!("GW.CACHESET s{category}:x v")));
    pipeline(&mut client, sets);
    await_in_sync(&mut client, &mut reader);
    for key in ["real:1", "s1:x", "s1099:x"] {
        assert_eq!(digest(&mut client, key), digest(&mut reader, key), "{key}");
        let category = format!("\"category\", \"{}\"", key.split(':').next().unwrap());
        for client in [&mut client, &mut reader] {
            let described = run(client, &format!("GW.DESCRIBE {key}"));
            assert!(described.contains(&category), "{described}");
        }
    }
    // One row for the surplus, also where a client names it so.
    run(&mut client, "GW.CACHESET k v CATEGORY (other)");
    assert_eq!(run(&mut client, "DEBUG RELOAD"), "OK");
    assert_eq!(run(&mut client, "GW.CACHESTATS").matches("(other)").count(), 1);
    assert!(run(&mut client, "GW.CACHESTATS real").contains("\"entries\", 1"));
}
