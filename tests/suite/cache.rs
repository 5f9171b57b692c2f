//! GW.CACHESET, GW.CACHEGET, GW.CACHEFETCH with TOUCH, GW.CACHEDEL, GW.CACHELIST and GW.CACHESTATS.

use crate::support::{DEADLINE, at_once, command, lifetime_ms, pipeline, run, server_time_ms, start};
use gw_testkit::{Server, await_in_sync, await_until, call, digest, redis::Connection, reply};
use std::collections::HashMap;

#[test]
fn a_value_that_was_set_is_returned() {
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
fn every_entry_expires_and_when_it_should() {
    let (_server, mut client) = start();
    for (words, ttl_ms) in [
        ("GW.CACHESET k v", 3_600_000),
        ("GW.CACHESET k v EX 1000", 1_000_000),
        ("GW.CACHESET k v px 1234567", 1_234_567),
        // Back to the default: a set replaces the whole entry.
        ("GW.CACHESET k v CATEGORY c", 3_600_000),
    ] {
        let lifetime_ms = lifetime_ms(&mut client, words, "k");
        assert!(lifetime_ms.contains(&ttl_ms), "{words}: {lifetime_ms:?}");
    }
    assert_eq!(run(&mut client, "GW.CACHESET short v PX 50"), "OK");
    let gone = || run(&mut client, "GW.CACHEGET short") == "nil";
    await_until("the entry to expire", DEADLINE, gone).unwrap();
}

#[test]
fn a_hit_does_not_postpone_the_expiry() {
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
        ("GW.CACHESET chat:2 v EX 500", 500_000),
    ] {
        let lifetime_ms = lifetime_ms(&mut client, words, words.split(' ').nth(1).unwrap());
        assert!(lifetime_ms.contains(&ttl_ms), "{words}: {lifetime_ms:?}");
    }
}

#[test]
fn deleting_counts_the_entries_that_existed() {
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
    call!(*client, "GW.CACHESTATS", "CATEGORY", category)
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
fn entries_and_bytes_are_counted_as_they_come_and_go() {
    let (_server, mut client) = start();
    let entries = |client: &mut Connection| stats(client, "chat")["entries"].clone();
    for words in
        ["GW.CACHESET chat:1 v", "GW.CACHESET chat:1 again", "GW.CACHESET chat:2 v", "GW.CACHESET chat:3 v PX 50"]
    {
        run(&mut client, words);
    }
    run(&mut client, "GW.CACHEDEL chat:2");
    let expired = || run(&mut client, "EXISTS chat:3") == "0";
    await_until("an entry to expire", DEADLINE, expired).unwrap();
    assert_eq!(entries(&mut client), "1");
    let held =
        |client: &mut Connection| ["entries", "bytes", "raw_bytes"].map(|name| stats(client, "chat")[name].clone());
    let before = held(&mut client);
    assert_eq!(before, ["1", "5", "5"]);
    run(&mut client, "DEBUG RELOAD");
    assert_eq!(held(&mut client), before);
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
fn readers_cannot_use_up_the_names_of_categories() {
    let primary = Server::start().unwrap();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let (mut client, mut reader) = (primary.connect().unwrap(), replica.connect().unwrap());
    await_in_sync(&mut client, &mut reader);
    let misses = (0..1_100).map(|category| command(&format!("GW.CACHEGET c{category}:x")));
    pipeline(&mut client, misses);
    let counted = |client: &mut Connection| run(client, "GW.CACHESTATS").matches("\"hit_rate\"").count();
    assert_eq!(counted(&mut client), 511 + 1);
    run(&mut client, "GW.CACHESET real:1 v");
    // More categories than this node counts, and still each entry knows its own.
    let sets = (0..1_100).map(|category| command(&format!("GW.CACHESET s{category}:x v")));
    pipeline(&mut client, sets);
    assert_eq!(counted(&mut client), 1_023 + 1);
    await_in_sync(&mut client, &mut reader);
    for key in ["real:1", "s1:x", "s1099:x"] {
        assert_eq!(digest(&mut client, key), digest(&mut reader, key), "{key}");
        let category = format!("\"category\", \"{}\"", key.split(':').next().unwrap());
        for client in [&mut client, &mut reader] {
            let described = run(client, &format!("GW.DESCRIBE {key}"));
            assert!(described.contains(&category), "{described}");
        }
    }
    // There is one row for the surplus, even if a client uses its name.
    run(&mut client, "GW.CACHESET k v CATEGORY (other)");
    assert_eq!(run(&mut client, "DEBUG RELOAD"), "OK");
    assert_eq!(run(&mut client, "GW.CACHESTATS").matches("(other)").count(), 1);
    assert!(run(&mut client, "GW.CACHESTATS CATEGORY real").contains("\"entries\", 1"));
}

#[test]
fn meta_tells_state_age_and_time_left() {
    let (_server, mut client) = start();
    assert_eq!(run(&mut client, "GW.CACHEGET k META"), "[\"MISS\", nil, 0, 0, 0]");
    // The times are long, so that a slow test passes, too.
    let minute = |minutes: i64| (minutes - 5) * 60_000..=minutes * 60_000;
    let lifetime_ms = lifetime_ms(&mut client, "GW.CACHESET k v EX 6000 STALE 3600000", "k");
    // The key lives until the value is no longer served.
    assert!(lifetime_ms.contains(&9_600_000), "{lifetime_ms:?}");
    let (state, value, age_ms, ttl_ms, token): (String, String, i64, i64, u64) =
        call!(client, "GW.CACHEGET", "k", "meta");
    assert_eq!((state.as_str(), value.as_str(), token), ("HIT", "v", 0));
    assert!((0..300_000).contains(&age_ms) && minute(100).contains(&ttl_ms), "{age_ms} {ttl_ms}");

    // EXPIRE makes the key's expiry earlier or later, and PERSIST removes it.
    let mut meta = |words: &str| -> (String, i64) {
        run(&mut client, words);
        let (state, _, _, ttl_ms, _): (String, String, i64, i64, u64) = call!(client, "GW.CACHEGET", "k", "META");
        (state, ttl_ms)
    };
    let (state, ttl_ms) = meta("EXPIRE k 600");
    assert!(state == "HIT" && minute(10).contains(&ttl_ms), "{state} {ttl_ms}");
    let (state, ttl_ms) = meta("EXPIRE k 60000");
    assert!(state == "HIT" && minute(100).contains(&ttl_ms), "{state} {ttl_ms}");
    let (state, ttl_ms) = meta("PERSIST k");
    assert!(state == "HIT" && minute(100).contains(&ttl_ms), "{state} {ttl_ms}");
    await_until("the value to be stale", DEADLINE, || meta("GW.CACHESET k v PX 1 STALE 600000").0 == "STALE").unwrap();
    // Neither keeps the value longer: it is served for the time given when it was set.
    for words in ["EXPIRE k 6000", "PERSIST k"] {
        let (state, ttl_ms) = meta(words);
        assert!(state == "STALE" && minute(10).contains(&ttl_ms), "{state} {ttl_ms}");
    }
    let (state, ttl_ms) = meta("EXPIRE k 300");
    assert!(state == "STALE" && minute(5).contains(&ttl_ms), "{state} {ttl_ms}");
}

#[test]
fn a_touch_starts_a_life_anew_and_reaches_replicas() {
    let primary = Server::options().aof().start().unwrap();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let (mut client, mut reader) = (primary.connect().unwrap(), replica.connect().unwrap());
    await_in_sync(&mut client, &mut reader);
    run(&mut client, "GW.CACHESET k v PX 100000 STALE 50000");
    let before: i64 = call!(client, "PEXPIRETIME", "k");
    await_until("some time to pass", DEADLINE, || server_time_ms(&mut client) > before - 150_000 + 50).unwrap();
    run(&mut client, "GW.CACHEFETCH k");
    assert_eq!(call!(client, "PEXPIRETIME", "k" => i64), before);
    assert_eq!(run(&mut client, "GW.CACHEFETCH k TOUCH"), "\"v\"");
    let touched: i64 = call!(client, "PEXPIRETIME", "k");
    assert!(touched >= before + 50, "{before} {touched}");
    await_in_sync(&mut client, &mut reader);
    assert_eq!(call!(reader, "PEXPIRETIME", "k" => i64), touched);
    assert_eq!(digest(&mut client, "k"), digest(&mut reader, "k"));
    // In a transaction and in a script, at once; a miss touches nothing.
    let mut before = touched;
    let script =
        "return {redis.call('GW.CACHEFETCH', KEYS[1], 'TOUCH', 'META')[4], redis.call('PEXPIRETIME', KEYS[1])}";
    for transaction in [true, false] {
        await_until("some time to pass", DEADLINE, || server_time_ms(&mut client) > before - 150_000 + 50).unwrap();
        let (ttl_ms, touched): (i64, i64) = match transaction {
            true => {
                let commands = ["GW.CACHEFETCH k TOUCH META", "GW.CACHEFETCH none TOUCH", "PEXPIRETIME k"];
                let (hit, _, touched): ((String, String, i64, i64, u64), Option<String>, i64) =
                    at_once(&mut client, &commands);
                (hit.3, touched)
            }
            false => call!(client, "EVAL", script, 1, "k"),
        };
        assert!(touched >= before + 50, "{before} {touched}");
        // The reply shows the state after the touch. In a script, the clock of Redis 7.0 goes on.
        assert!((99_000..=100_000).contains(&ttl_ms), "{ttl_ms}");
        before = touched;
    }
    await_in_sync(&mut client, &mut reader);
    assert_eq!(digest(&mut client, "k"), digest(&mut reader, "k"));
    run(&mut client, "DEBUG LOADAOF");
    assert_eq!(digest(&mut client, "k"), digest(&mut reader, "k"));
    assert_eq!(call!(client, "PEXPIRETIME", "k" => i64), before);
    assert_eq!(run(&mut client, "EXISTS none"), "0");
    // It does not make a stale value fresh.
    run(&mut client, "GW.CACHESET s v PX 1 STALE 600000");
    let stale = || run(&mut client, "GW.CACHEGET s META").starts_with("[\"STALE\"");
    await_until("the value to be stale", DEADLINE, stale).unwrap();
    let before: i64 = call!(client, "PEXPIRETIME", "s");
    assert_eq!(run(&mut client, "GW.CACHEFETCH s TOUCH"), "\"v\"");
    assert_eq!(call!(client, "PEXPIRETIME", "s" => i64), before);
}

/// The key outlives its value by a part of a millisecond, or after PERSIST for ever.
#[test]
fn a_value_is_not_served_after_its_time() {
    let (_server, mut client) = start();
    for (words, last) in [("GW.CACHESET k v PX 20", "HIT"), ("GW.CACHESET k v PX 1 STALE 20", "STALE")] {
        for persist in [false, true] {
            for _ in 0..5 {
                run(&mut client, words);
                if persist {
                    run(&mut client, "PERSIST k");
                }
                let mut states = Vec::new();
                await_until("the value to end", DEADLINE, || {
                    let polls = std::iter::repeat_with(|| command("GW.CACHEGET k META")).take(50);
                    states.extend(pipeline(&mut client, polls).into_iter().map(|reply| {
                        let (state, value, _, ttl_ms, _): (String, Option<String>, i64, i64, u64) =
                            gw_testkit::redis::from_redis_value(reply.unwrap()).unwrap();
                        assert_eq!((state == "MISS", ttl_ms == 0), (value.is_none(), value.is_none()), "{state}");
                        state
                    }));
                    states.last().is_some_and(|state| state == "MISS")
                })
                .unwrap();
                // On a busy machine a state may pass between two polls.
                let order: &[&str] = if last == "HIT" { &["HIT", "MISS"] } else { &["HIT", "STALE", "MISS"] };
                let places = states.iter().map(|state| order.iter().position(|known| known == state));
                let places: Option<Vec<_>> = places.collect();
                assert!(places.is_some_and(|places| places.is_sorted()), "{words}: {states:?}");
            }
        }
    }
    // An expired value whose key PERSIST has kept is a miss: callers can get a lease and set it.
    // On a busy machine the key may expire before PERSIST.
    await_until("the key to be kept", DEADLINE, || {
        run(&mut client, "GW.CACHESET k v PX 20");
        run(&mut client, "PERSIST k") == "1"
    })
    .unwrap();
    await_until("the value to end", DEADLINE, || run(&mut client, "GW.CACHEGET k") == "nil").unwrap();
    assert!(run(&mut client, "GW.DESCRIBE k").contains("\"state\", \"expired\""));
    assert_eq!(run(&mut client, "GW.CACHEFETCH k TOUCH"), "nil");
    assert_eq!(run(&mut client, "EXISTS k"), "1");
    assert!(run(&mut client, "GW.CACHEFETCH k LEASE 60000").starts_with("[\"MISS\", nil, 0, 60000, "));
    assert_eq!(run(&mut client, "GW.CACHELIST 0 CATEGORY default"), "[\"0\", []]");
    assert_eq!(run(&mut client, "GW.CACHESET k new"), "OK");
    assert_eq!(run(&mut client, "GW.CACHEGET k"), "\"new\"");
}

#[test]
fn the_totals_are_the_sum_of_all_categories() {
    let (_server, mut client) = start();
    for words in [
        "GW.CACHESET chat:1 12345 SAVED 0.5",
        "GW.CACHESET embed:1 1234567 SAVED 0.25",
        // A category of that name is like any other.
        "GW.CACHESET x v CATEGORY TOTAL SAVED 1",
        "GW.CACHEGET chat:1",
        "GW.CACHEGET embed:1",
        "GW.CACHEGET x",
        "GW.CACHEGET chat:none",
        "GW.CACHEGET chat:1 WRONG",
    ] {
        run(&mut client, words);
    }
    let total: HashMap<String, String> = call!(client, "GW.CACHESTATS", "total");
    for (name, count) in [
        ("hits", "3"),
        ("misses", "1"),
        ("sets", "3"),
        ("errors", "1"),
        ("entries", "3"),
        ("bytes", "13"),
        ("hit_rate", "0.7500"),
        ("saved", "1.75"),
    ] {
        assert_eq!(total[name], count, "{name} in {total:?}");
    }
    let mut names: Vec<_> = total.into_keys().collect();
    let mut of_one: Vec<_> = stats(&mut client, "TOTAL").into_keys().collect();
    assert_eq!(stats(&mut client, "TOTAL")["saved"], "1");
    names.sort();
    of_one.sort();
    assert_eq!(names, of_one);
    assert_eq!(run(&mut client, "GW.CACHESTATS chat"), "ERR unknown option: chat");
    assert_eq!(run(&mut client, "GW.CACHESTATS CATEGORY"), "ERR missing value: CATEGORY");
    assert_eq!(run(&mut client, "GW.CACHESTATS TOTAL more"), "ERR wrong number of arguments");
}

/// Everything that GW.CACHELIST lists, and in how many pages.
fn listed(client: &mut Connection, what: &str) -> (Vec<String>, usize) {
    let (mut cursor, mut all, mut pages) = ("0".to_owned(), Vec::new(), 0);
    loop {
        let words = format!("GW.CACHELIST {cursor} {what}");
        let (next, keys): (String, Vec<String>) = command(&words).query(client).unwrap();
        all.extend(keys);
        pages += 1;
        if next == "0" {
            all.sort();
            return (all, pages);
        }
        cursor = next;
    }
}

#[test]
fn keys_are_listed_by_category_and_tag_in_pages() {
    const ENTRIES: usize = 3_000;
    let primary = Server::start().unwrap();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let (mut client, mut reader) = (primary.connect().unwrap(), replica.connect().unwrap());
    assert_eq!(run(&mut client, "GW.CACHELIST 0 CATEGORY answers"), "[\"0\", []]");
    let sets = (0..ENTRIES).flat_map(|number| {
        let set = match number % 3 {
            0 => format!("GW.CACHESET chat:{number} v CATEGORY answers TAG user:{}", number % 4),
            1 => format!("GW.CACHESET chat:{number} v TAG x TAG user:{}", number % 4),
            _ => format!("SET other:{number} v"),
        };
        [command(&set)]
    });
    pipeline(&mut client, sets);
    await_in_sync(&mut client, &mut reader);
    let expected = |is_meant: &dyn Fn(usize) -> bool| {
        let mut keys: Vec<_> = (0..ENTRIES).filter(|n| is_meant(*n)).map(|number| format!("chat:{number}")).collect();
        keys.sort();
        keys
    };
    for client in [&mut client, &mut reader] {
        for (what, keys) in [
            ("CATEGORY answers", expected(&|n| n % 3 == 0)),
            ("category chat COUNT 1", expected(&|n| n % 3 == 1)),
            ("COUNT 1000 TAG user:3", expected(&|n| n % 3 != 2 && n % 4 == 3)),
            ("TAG none", Vec::new()),
        ] {
            let (mut all, pages) = listed(client, what);
            all.dedup();
            assert_eq!(all, keys, "{what}");
            assert!(what != "category chat COUNT 1" || pages > 25, "{pages}");
        }
    }
    // Cleared entries are not listed, although their memory may not be freed yet.
    for words in ["MULTI", "GW.CACHECLEAR TAG user:3", "GW.CACHELIST 0 TAG user:3", "EXEC"] {
        let reply = run(&mut client, words);
        assert!(words != "EXEC" || reply.ends_with(", []]]"), "{reply}");
    }
    let (mut all, _) = listed(&mut client, "CATEGORY answers");
    all.dedup();
    assert_eq!(all, expected(&|n| n % 3 == 0 && n % 4 != 3));
    let largest = "GW.CACHELIST 18446744073709551615 CATEGORY answers";
    assert!(run(&mut client, largest).starts_with("[\""), "{largest}");
    for (words, error) in [
        ("GW.CACHELIST 0 COUNT 5", "ERR missing option: CATEGORY or TAG"),
        ("GW.CACHELIST 0 TAG a CATEGORY b", "ERR conflicting option: CATEGORY"),
        ("GW.CACHELIST 0 TAG a COUNT 1001", "ERR not an integer from 1 to 1000: COUNT"),
        ("GW.CACHELIST x TAG a", "ERR not an integer from 0 to 18446744073709551615: cursor"),
        ("GW.CACHELIST -1 TAG a", "ERR not an integer from 0 to 18446744073709551615: cursor"),
        ("GW.CACHELIST 18446744073709551616 TAG a", "ERR not an integer from 0 to 18446744073709551615: cursor"),
    ] {
        assert_eq!(run(&mut client, words), error, "{words}");
    }
}

/// Listing leaves no trace: an entry that nobody reads is evicted before one that is read.
#[test]
fn listing_is_no_use_of_an_entry() {
    let (_server, mut client) = start();
    run(&mut client, "CONFIG SET maxmemory-policy allkeys-lfu");
    run(&mut client, "GW.CACHESET chat:k v");
    let frequency: i64 = call!(client, "OBJECT", "FREQ", "chat:k");
    for _ in 0..200 {
        assert_eq!(run(&mut client, "GW.CACHELIST 0 CATEGORY chat"), "[\"0\", [\"chat:k\"]]");
    }
    assert_eq!(call!(client, "OBJECT", "FREQ", "chat:k" => i64), frequency);
}

#[test]
fn stale_times_come_from_the_call_or_the_category() {
    let server = Server::options().config(r#"gw.cache-stale "chat=60""#).config(r#"gw.cache-ttl "chat=30""#).start();
    let server = server.unwrap();
    let mut client = server.connect().unwrap();
    for (words, ttl_ms) in [
        ("GW.CACHESET chat:1 v", 90_000),
        ("GW.CACHESET chat:2 v STALE 0", 30_000),
        ("GW.CACHESET chat:3 v EX 500 STALE 7000", 507_000),
        ("GW.CACHESET k v EX 500", 500_000),
        ("GW.CACHESET k2 v EX 500 CATEGORY chat", 560_000),
    ] {
        let lifetime_ms = lifetime_ms(&mut client, words, words.split(' ').nth(1).unwrap());
        assert!(lifetime_ms.contains(&ttl_ms), "{words}: {lifetime_ms:?}");
    }
}

#[test]
fn money_saved_by_hits_is_added_up() {
    let (_server, mut client) = start();
    run(&mut client, "GW.CACHESET llm:1 v SAVED 0.0000015");
    run(&mut client, "GW.CACHESET llm:2 v SAVED 1e18");
    for _ in 0..1_000 {
        run(&mut client, "GW.CACHEGET llm:1");
    }
    assert_eq!(stats(&mut client, "llm")["saved"], "0.0015");
    // The sum stops at the largest amount.
    for _ in 0..3 {
        run(&mut client, "GW.CACHEGET llm:2");
    }
    assert_eq!(stats(&mut client, "llm")["saved"], "1000000000000000000");
    assert_eq!(run(&mut client, "GW.CACHESET llm:3 v SAVED nan"), "ERR not an amount: SAVED");
    assert_eq!(run(&mut client, "GW.CACHESET llm:3 v SAVED -1"), "ERR negative amount: SAVED");
}

#[test]
fn expired_entries_and_errors_are_counted() {
    let (_server, mut client) = start();
    run(&mut client, "GW.CACHESET llm:1 v PX 1");
    run(&mut client, "GW.CACHESET llm:2 v");
    run(&mut client, "GW.CACHEDEL llm:2");
    run(&mut client, "SET llm:text v");
    run(&mut client, "GW.CACHEGET llm:text");
    run(&mut client, "GW.CACHESET llm:3 v EX x");
    let expired = || stats(&mut client, "llm")["expired"] == "1";
    await_until("the entry to expire", DEADLINE, expired).unwrap();
    assert_eq!(stats(&mut client, "llm")["errors"], "2");
}

#[test]
fn names_and_patterns_have_bounds() {
    let (_server, mut client) = start();
    let name = |bytes: usize| "n".repeat(bytes);
    assert_eq!(reply!(client, "GW.CACHESET", "k", "v", "CATEGORY", name(64), "TAG", name(256)), "OK");
    let error = reply!(client, "GW.CACHESET", "k", "v", "CATEGORY", name(65));
    assert_eq!(error, "ERR not a name of 1 to 64 bytes: CATEGORY");
    for tag in [name(0), name(257)] {
        assert_eq!(reply!(client, "GW.CACHESET", "k", "v", "TAG", tag), "ERR not a name of 1 to 256 bytes: TAG");
    }
    let tags = |count: usize| (0..count).flat_map(|tag| ["TAG".to_owned(), tag.to_string()]).collect::<Vec<_>>();
    assert_eq!(reply!(client, "GW.CACHESET", "k", "v", tags(16)), "OK");
    assert_eq!(reply!(client, "GW.CACHESET", "k", "v", tags(17)), "ERR more than 16 tags: TAG");
    assert_eq!(reply!(client, "GW.CACHECLEAR", "PATTERN", name(1_024)), "0");
    assert_eq!(reply!(client, "GW.CACHECLEAR", "PATTERN", name(1_025)), "ERR longer than 1024 bytes: PATTERN");
}

/// A chat completion of 4,096 bytes.
const COMPLETION: &[u8] = include_bytes!("../vectors/completion.json");

#[test]
fn values_are_compressed_if_that_pays() {
    let primary = Server::start().unwrap();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let (mut client, mut reader) = (primary.connect().unwrap(), replica.connect().unwrap());
    await_in_sync(&mut client, &mut reader);
    run(&mut client, "CONFIG SET gw.cache-compress-bytes 1kb");
    reply!(client, "SET", "plain", COMPLETION);
    reply!(client, "GW.CACHESET", "llm:completion", COMPLETION);
    let [plain, compressed]: [u64; 2] = ["plain", "llm:completion"].map(|key| call!(client, "MEMORY", "USAGE", key));
    // Redis rounds a plain string up to 5 KB and more, Valkey to a little over its 4 KB.
    assert!(compressed * 3 <= plain * 2, "{compressed} of {plain} bytes");
    let figures = stats(&mut client, "llm");
    assert_eq!(figures["raw_bytes"], "4096");
    assert!(figures["bytes"].parse::<u64>().unwrap() < 3_000, "{figures:?}");

    let incompressible = crate::support::Random(7).bytes(4_096);
    for value in [&b""[..], b"short", &incompressible, &b"x".repeat(262_144), &b"x".repeat(262_145), COMPLETION] {
        reply!(client, "GW.CACHESET", "k", value);
        assert_eq!(call!(client, "GW.CACHEGET", "k" => Vec<u8>), value);
    }
    // Each node decides by itself whether to compress: the replica does not.
    await_in_sync(&mut client, &mut reader);
    for key in ["k", "llm:completion"] {
        assert_eq!(digest(&mut client, key), digest(&mut reader, key));
    }
    assert_eq!(call!(reader, "GW.CACHEGET", "llm:completion" => Vec<u8>), COMPLETION);
    run(&mut client, "DEBUG RELOAD");
    assert_eq!(call!(client, "GW.CACHEGET", "llm:completion" => Vec<u8>), COMPLETION);
    assert_eq!(digest(&mut client, "llm:completion"), digest(&mut reader, "llm:completion"));
}

/// With the eviction policy of the shipped redis.conf, and more data than fits.
#[test]
fn eviction_takes_cache_entries_and_leaves_ledgers_and_queues() {
    let conf = std::fs::read_to_string(gw_testkit::project_root().join("redis.conf")).unwrap();
    let memory = conf.lines().filter(|line| line.starts_with("maxmemory-") || line.starts_with("lazyfree-"));
    let options = memory.fold(Server::options(), |options, line| options.config(line));
    let server = options.start().unwrap();
    let mut client = server.connect().unwrap();
    const KEPT: usize = 100;
    for key in 0..KEPT {
        run(&mut client, &format!("GW.ADDCOST spend:{key} 0.5"));
        reply!(client, "GW.LOGPUSH", format!("log:{key}"), "RECORDS", "r".repeat(1_000));
    }
    let used: u64 = gw_testkit::info(&mut client, "memory")["used_memory"].parse().unwrap();
    reply!(client, "CONFIG", "SET", "maxmemory", used + (8 << 20));
    let value = "v".repeat(4_000);
    for key in 0..10_000 {
        assert_eq!(reply!(client, "GW.CACHESET", format!("chat:{key}"), &value, "TAG", format!("t{key}")), "OK");
    }
    let evicted: u64 = gw_testkit::info(&mut client, "stats")["evicted_keys"].parse().unwrap();
    assert!(evicted > 5_000, "{evicted}");
    run(&mut client, "CONFIG SET maxmemory 0");
    for key in 0..KEPT {
        assert_eq!(run(&mut client, &format!("GW.SPENT spend:{key} TOTAL")), "\"0.5\"");
        assert_eq!(run(&mut client, &format!("GW.LOGLEN log:{key}")), "1");
    }
    let figures = stats(&mut client, "chat");
    let left: u64 = call!(client, "DBSIZE");
    assert_eq!(figures["entries"].parse::<u64>().unwrap(), left - 2 * KEPT as u64);
    assert_eq!(figures["bytes"].parse::<u64>().unwrap(), 4_000 * (left - 2 * KEPT as u64));
    assert_eq!(run(&mut client, "GW.CACHECLEAR ALL"), figures["entries"]);
}

#[test]
fn a_touch_undoes_a_shorter_expire_even_in_the_millisecond_of_the_set() {
    let (_server, mut client) = start();
    let commands = ["GW.CACHESET k v EX 1800", "EXPIRE k 60", "GW.CACHEFETCH k TOUCH", "TTL k"];
    let (_, _, value, ttl_s): (String, i64, String, i64) = at_once(&mut client, &commands);
    assert_eq!((value.as_str(), ttl_s), ("v", 1_800));
}
