//! GW.RESERVE, GW.COMMIT and GW.CANCEL; charges under an id; refunds; histories.

use crate::support::{DEADLINE, SOON_MS, command, pipeline, run, server_time_ms, start, state};
use gw_testkit::redis::{Connection, FromRedisValue, Value};
use gw_testkit::{Server, await_in_sync, await_until, call, digest, reply};
use std::collections::BTreeMap;

const DAY_MS: i64 = 86_400_000;
const NO_HOLD: &str = "NOHOLD no such hold: it was never made, or is forgotten";

/// GW.RESERVE's reply without the last field, which is a time.
fn reserve(client: &mut Connection, words: &str) -> String {
    let reply = run(client, words);
    reply.rsplit_once(", ").unwrap_or_else(|| panic!("{words}: {reply}")).0.to_owned()
}

/// The amount held, from GW.WITHINBUDGET.
fn held(client: &mut Connection, words: &str) -> String {
    let reply: (i64, String, String, String, String, String, i64) =
        crate::support::command(words).query(client).unwrap();
    reply.4
}

#[test]
fn a_hold_counts_until_it_is_committed() {
    let (_server, mut client) = start();
    run(&mut client, "GW.ADDCOST k 2");
    let granted = reserve(&mut client, "GW.RESERVE k 5 10 ID a");
    assert_eq!(granted, r#"[1, "a", "MONTH", "10", "2", "5", "3""#);
    // Exact to the last digit.
    let denied = reserve(&mut client, "GW.RESERVE k 3.000000000001 10 ID b");
    assert_eq!(denied, r#"[0, nil, "MONTH", "10", "2", "5", "3""#);
    assert_eq!(reserve(&mut client, "GW.RESERVE k 3 10 ID b"), r#"[1, "b", "MONTH", "10", "2", "8", "0""#);
    assert_eq!(held(&mut client, "GW.WITHINBUDGET k 10"), "8");
    // Less than the hold is charged: the rest is released. The reply has the amount charged, and the new total.
    assert_eq!(run(&mut client, "GW.COMMIT k a 1.25"), r#"[1, "committed", "1.25", 0, "3.25"]"#);
    assert_eq!(run(&mut client, "GW.CANCEL k b"), r#"[1, "cancelled", "0", 0, "3.25"]"#);
    assert_eq!(held(&mut client, "GW.WITHINBUDGET k 10"), "0");
    assert_eq!(run(&mut client, "GW.SPENT k"), "\"3.25\"");
    // More than the hold is charged completely, and the reply says so.
    run(&mut client, "GW.RESERVE k 1 10 ID c");
    assert_eq!(run(&mut client, "GW.COMMIT k c 9"), r#"[1, "committed", "9", 1, "12.25"]"#);
    assert_eq!(run(&mut client, "GW.SPENT k DAY"), "\"12.25\"");
}

#[test]
fn all_budgets_must_bear_a_hold_or_none_has_it() {
    let (_server, mut client) = start();
    run(&mut client, "GW.ADDCOST k 3");
    let words = "GW.RESERVE k 2 100 MONTH 4 DAY 50 TOTAL ID a";
    assert_eq!(reserve(&mut client, words), r#"[0, nil, "DAY", "4", "3", "0", "1""#);
    assert_eq!(held(&mut client, "GW.WITHINBUDGET k 100 TOTAL"), "0");
    assert_eq!(
        reserve(&mut client, "GW.RESERVE k 1 100 MONTH 4 DAY 50 TOTAL ID a"),
        r#"[1, "a", "DAY", "4", "3", "1", "0""#
    );
    for period in ["DAY", "WEEK", "MONTH", "TOTAL"] {
        assert_eq!(held(&mut client, &format!("GW.WITHINBUDGET k 100 {period}")), "1");
    }
}

#[test]
fn ids_are_made_where_none_is_given() {
    let (_server, mut client) = start();
    let mut ids = Vec::new();
    for _ in 0..200 {
        let (granted, id): (i64, String) = {
            let reply: (i64, String, String, String, String, String, String, i64) =
                call!(client, "GW.RESERVE", "k", 1, 1_000_000);
            (reply.0, reply.1)
        };
        assert_eq!(granted, 1);
        ids.push(id);
    }
    for id in &ids {
        assert!(reply!(client, "GW.COMMIT", "k", id, "0.5").starts_with("[1, "), "{id}");
    }
    assert_eq!(run(&mut client, "GW.SPENT k"), "\"100\"");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 200);
}

#[test]
fn ids_that_are_made_differ_whatever_the_ledgers_version() {
    let (_server, mut client) = start();
    // A node whose clock is two days ahead has charged it.
    let now_ms = server_time_ms(&mut client);
    let effect = format!("C {} 1 62 {}", now_ms / DAY_MS, (now_ms + 2 * DAY_MS) * 1_000);
    assert_eq!(reply!(client, "GW._BUDGET", "k", effect), "OK");
    let mut granted = || reserve(&mut client, "GW.RESERVE k 4 10 TOTAL").starts_with("[1, ");
    assert_eq!([granted(), granted(), granted()], [true, true, false]);
    assert_eq!(held(&mut client, "GW.WITHINBUDGET k 10 TOTAL"), "8");
}

#[test]
fn what_has_ended_stays_as_it_ended() {
    let (_server, mut client) = start();
    run(&mut client, "GW.RESERVE k 5 10 ID a");
    run(&mut client, "GW.RESERVE k 5 10 ID b");
    assert_eq!(run(&mut client, "GW.COMMIT k a 7"), r#"[1, "committed", "7", 1, "7"]"#);
    for again in ["GW.COMMIT k a 7", "GW.COMMIT k a 1", "GW.CANCEL k a"] {
        assert_eq!(run(&mut client, again), r#"[0, "committed", "7", 1, "7"]"#, "{again}");
    }
    assert_eq!(run(&mut client, "GW.CANCEL k b"), r#"[1, "cancelled", "0", 0, "7"]"#);
    for again in ["GW.COMMIT k b 1", "GW.CANCEL k b"] {
        assert_eq!(run(&mut client, again), r#"[0, "cancelled", "0", 0, "7"]"#, "{again}");
    }
    assert_eq!(run(&mut client, "GW.SPENT k"), "\"7\"");
    for unknown in ["GW.COMMIT k x 1", "GW.CANCEL k x", "GW.COMMIT none a 1", "GW.CANCEL none a"] {
        assert_eq!(run(&mut client, unknown), NO_HOLD, "{unknown}");
    }
    // A repeated reservation finds its hold, or learns that it has ended.
    assert_eq!(reserve(&mut client, "GW.RESERVE k 1 10 ID c"), r#"[1, "c", "MONTH", "10", "7", "1", "2""#);
    assert_eq!(reserve(&mut client, "GW.RESERVE k 1 10 ID c"), r#"[1, "c", "MONTH", "10", "7", "1", "2""#);
    for used in ["a", "b"] {
        assert_eq!(run(&mut client, &format!("GW.RESERVE k 1 10 ID {used}")), "ERR id already used: ID");
    }
}

/// Makes a hold by a clock that was an hour ahead and has stepped back to the present since.
fn hold_of_a_clock_ahead(client: &mut Connection, key: &str, ttl_ms: i64) {
    let now_ms = server_time_ms(client);
    let at_ms = now_ms + 3_600_000;
    let effect = format!("H {} {} 6 {at_ms} 62 60000 {}", now_ms / DAY_MS, at_ms + ttl_ms, at_ms * 1_000);
    assert_eq!(reply!(*client, "GW._BUDGET", key, effect, "h"), "OK");
}

#[test]
fn a_hold_lasts_as_granted_if_the_clock_has_stepped_back() {
    const TTL_MS: i64 = 200;
    let primary = Server::start().unwrap();
    let mut client = primary.connect().unwrap();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let mut reader = replica.connect().unwrap();
    await_in_sync(&mut client, &mut reader);
    for (look, kind) in [
        ("GW.WITHINBUDGET k 10", "ledger"),
        ("GW.DESCRIBE k", "ledger"),
        ("GW.RESERVE k 5 10 TTL 60000 ID denied", "ledger"),
        ("GW.RESERVE k 0 10 TTL 60000 ID granted", "ledger"),
        ("GW.RESERVE k 6 10 TTL 60000 ID h", "ledger"),
        ("GW.CANCEL k cancelled", "ledger"),
        ("GW.ADDCOST k 0", "ledger"),
        ("GW.ADDCOST k 1", "ledger"),
        ("GW.ADDCOST k 1 ID once", "ledger"),
        ("GW.CREDIT k DAY 1 ID credit", "ledger"),
        ("GW.CREDIT k DAY 1 ID given", "ledger"),
        ("GW.WITHINBUDGET k 10", "account"),
        ("GW.DESCRIBE k", "account"),
        ("GW.RESERVE k 5 10 TTL 60000 ID denied", "account"),
        ("GW.ADDCOST k 1", "account"),
        ("GW.ADMIT k LEASE refused TTL 60000 usd 5", "account"),
        ("GW.ADMIT k LEASE admitted TTL 60000 usd 0", "account"),
        ("GW.ADMIT k LEASE asked TTL 60000 usd 5 SHADOW", "account"),
    ] {
        run(&mut client, "FLUSHALL");
        if kind == "account" {
            run(&mut client, "GW.POLICYSET k b BUDGET 10 MONTH");
        }
        for words in ["GW.ADDCOST k 0 ID once", "GW.CREDIT k DAY 0 ID given", "GW.RESERVE k 0 10 ID cancelled"] {
            run(&mut client, words);
        }
        run(&mut client, "GW.CANCEL k cancelled");
        hold_of_a_clock_ahead(&mut client, "k", TTL_MS);
        run(&mut client, look);
        let looked_ms = server_time_ms(&mut client);
        await_until("the hold's time to pass", DEADLINE, || server_time_ms(&mut client) > looked_ms + TTL_MS + 50)
            .unwrap();
        assert_eq!(held(&mut client, "GW.WITHINBUDGET k 10"), "0", "{look}, on an {kind}");
        await_in_sync(&mut client, &mut reader);
        assert_eq!(digest(&mut client, "k"), digest(&mut reader, "k"), "{look}, on an {kind}");
    }
}

#[test]
fn what_describe_says_of_a_hold_goes_on_after_a_step_back() {
    let (_server, mut client) = start();
    hold_of_a_clock_ahead(&mut client, "k", 60_000);
    let left_ms = |client: &mut Connection| -> i64 {
        let ledger: BTreeMap<String, Value> = call!(*client, "GW.DESCRIBE", "k");
        let holds: Vec<(String, String, String, i64)> =
            FromRedisValue::from_redis_value(ledger["holds"].clone()).unwrap();
        holds[0].3
    };
    assert_eq!(left_ms(&mut client), 60_000, "as granted");
    await_until("the hold to come closer to its end", DEADLINE, || left_ms(&mut client) < 59_990).unwrap();
}

#[test]
fn a_hold_expires_by_itself_and_is_charged_all_the_same() {
    let (_server, mut client) = start();
    run(&mut client, &format!("GW.RESERVE k 6 10 TTL {SOON_MS} ID a"));
    run(&mut client, "GW.RESERVE k 4 10 TTL 60000 ID b");
    assert_eq!(held(&mut client, "GW.WITHINBUDGET k 10"), "10");
    await_until("the hold to expire", DEADLINE, || held(&mut client, "GW.WITHINBUDGET k 10") == "4").unwrap();
    assert_eq!(reserve(&mut client, "GW.RESERVE k 6 10 ID c"), r#"[1, "c", "MONTH", "10", "0", "10", "0""#);
    // A late commit is charged, and only once.
    assert_eq!(run(&mut client, "GW.COMMIT k a 6"), r#"[1, "committed", "6", 0, "6"]"#);
    assert_eq!(run(&mut client, "GW.COMMIT k a 6"), r#"[0, "committed", "6", 0, "6"]"#);
    assert_eq!(run(&mut client, "GW.SPENT k"), "\"6\"");
}

#[test]
fn a_hold_belongs_to_the_day_it_was_made_on() {
    let (_server, mut client) = start();
    let now_ms = server_time_ms(&mut client);
    let yesterday = now_ms / DAY_MS - 1;
    // The effect of a hold that was made yesterday and lasts until tomorrow.
    let effect = format!("H {yesterday} {} 5 {} 62 86400000 0", now_ms + DAY_MS, now_ms - DAY_MS);
    assert_eq!(reply!(client, "GW._BUDGET", "k", effect, "a"), "OK");
    assert_eq!(held(&mut client, "GW.WITHINBUDGET k 10 DAY"), "0");
    assert_eq!(held(&mut client, "GW.WITHINBUDGET k 10 TOTAL"), "5");
    assert!(run(&mut client, "GW.COMMIT k a 4").starts_with(r#"[1, "committed", "4", 0, "#));
    assert_eq!(run(&mut client, "GW.SPENT k DAY"), "\"0\"");
    let rows: Vec<(String, String)> = call!(client, "GW.SPENT", "k", "HISTORY", "DAY", 3);
    assert_eq!(rows.iter().map(|row| row.1.as_str()).collect::<Vec<_>>(), ["0", "4", "0"]);
}

#[test]
fn an_id_is_charged_once() {
    let (_server, mut client) = start();
    let at_ms = 1_706_731_200_000i64;
    for _ in 0..3 {
        assert_eq!(run(&mut client, "GW.ADDCOST k 2 ID a"), "\"2\"");
        assert_eq!(run(&mut client, &format!("GW.ADDCOST k 3 AT {at_ms} ID b")), "\"3\"");
    }
    // The reply is the total of the month that the first call charged.
    run(&mut client, &format!("GW.ADDCOST k 1 AT {at_ms}"));
    assert_eq!(run(&mut client, "GW.ADDCOST k 3 ID b"), "\"4\"");
    assert_eq!(run(&mut client, "GW.SPENT k TOTAL"), "\"6\"");
    // The id of a hold counts, too: a charge under it after the commit charges nothing.
    run(&mut client, "GW.RESERVE k 1 100 ID h");
    assert_eq!(run(&mut client, "GW.ADDCOST k 1 ID h"), "ERR a hold has this id: ID");
    run(&mut client, "GW.COMMIT k h 1");
    assert_eq!(run(&mut client, "GW.ADDCOST k 1 ID h"), "\"3\"");
    assert_eq!(run(&mut client, "GW.COMMIT k a 5"), r#"[0, "charged", "2", 0, "3"]"#);
    assert_eq!(run(&mut client, "GW.RESERVE k 1 100 ID a"), "ERR id already used: ID");
    assert_eq!(run(&mut client, "GW.SPENT k TOTAL"), "\"7\"");
    for id in ["", &"x".repeat(513)] {
        assert_eq!(reply!(client, "GW.ADDCOST", "k", 1, "ID", id), "ERR not a name of 1 to 512 bytes: ID");
    }
    assert_eq!(reply!(client, "GW.ADDCOST", "k", 1, "ID", "x".repeat(512)), "\"4\"");
}

#[test]
fn ids_are_remembered_for_the_time_that_is_set() {
    let server = Server::options().config(format!("gw.idempotency-ms {SOON_MS}")).start().unwrap();
    let mut client = server.connect().unwrap();
    run(&mut client, "GW.ADDCOST k 1 ID a");
    assert_eq!(run(&mut client, "GW.ADDCOST k 1 ID a"), "\"1\"");
    run(&mut client, "GW.RESERVE k 1 10 TTL 1 ID h");
    await_until("the id to be forgotten", DEADLINE, || run(&mut client, "GW.ADDCOST k 1 ID a") == "\"2\"").unwrap();
    await_until("the hold to be forgotten", DEADLINE, || {
        run(&mut client, "GW.COMMIT k h 1") == NO_HOLD || run(&mut client, "GW.SPENT k") == "\"3\""
    })
    .unwrap();
}

#[test]
fn plain_charges_forget_ids_on_replicas_as_well() {
    let server = Server::options().aof().config("gw.idempotency-ms 86400000").start().unwrap();
    let mut client = server.connect().unwrap();
    let replica = Server::options().replica_of(&server).start().unwrap();
    let mut reader = replica.connect().unwrap();
    await_in_sync(&mut client, &mut reader);
    let described = |client: &mut Connection, field: &str| -> i64 {
        let description: BTreeMap<String, Value> = call!(*client, "GW.DESCRIBE", "k");
        i64::from_redis_value(description[field].clone()).unwrap()
    };
    run(&mut client, "GW.ADDCOST k 1 ID long");
    run(&mut client, &format!("CONFIG SET gw.idempotency-ms {}", 2 * SOON_MS));
    pipeline(&mut client, (0..5_000).map(|id| command(&format!("GW.ADDCOST k 1 ID id:{id}"))));
    assert!(described(&mut client, "bytes") > 100_000);
    await_until("the ids to be forgotten", DEADLINE, || described(&mut client, "ids_remembered") == 0).unwrap();
    // Memory is freed for a thousand ids with each change.
    (0..6).for_each(|_| drop(run(&mut client, "GW.ADDCOST k 1")));
    assert!(described(&mut client, "bytes") < 1_000);
    await_in_sync(&mut client, &mut reader);
    assert_eq!(state(&mut client), state(&mut reader));
    let before = state(&mut client);
    run(&mut client, "DEBUG LOADAOF");
    assert_eq!(before, state(&mut client));
}

#[test]
fn refunds_are_asked_for() {
    let (_server, mut client) = start();
    run(&mut client, "GW.ADDCOST k 5");
    assert_eq!(run(&mut client, "GW.ADDCOST k -2"), "ERR negative amount: amount");
    assert_eq!(run(&mut client, "GW.ADDCOST k 2 REFUND"), "ERR REFUND requires a negative amount: amount");
    assert_eq!(run(&mut client, "GW.ADDCOST k -2 REFUND ID r"), "\"3\"");
    assert_eq!(run(&mut client, "GW.ADDCOST k -2 REFUND ID r"), "\"3\"");
    assert_eq!(run(&mut client, "GW.ADDCOST k -4 REFUND AT 0"), "\"-4\"");
    assert_eq!(run(&mut client, "GW.SPENT k TOTAL"), "\"-1\"");
}

#[test]
fn a_history_has_a_row_for_each_period() {
    let (_server, mut client) = start();
    let now_ms = server_time_ms(&mut client);
    for days_ago in 0..40 {
        run(&mut client, &format!("GW.ADDCOST k 1 AT {}", now_ms - days_ago * DAY_MS));
    }
    let rows = |client: &mut Connection, period: &str, count: usize| -> Vec<(String, i64)> {
        let rows: Vec<(String, String)> = call!(*client, "GW.SPENT", "k", "HISTORY", period, count);
        rows.into_iter().map(|(start, spent)| (start, spent.parse().unwrap())).collect()
    };
    let days = rows(&mut client, "DAY", 45);
    assert_eq!(days.iter().map(|row| row.1).collect::<Vec<_>>(), [vec![1; 40], vec![0; 5]].concat());
    assert!(days.is_sorted_by(|a, b| a.0 > b.0), "{days:?}");
    let weeks = rows(&mut client, "WEEK", 8);
    assert_eq!(weeks.iter().map(|row| row.1).sum::<i64>(), 40);
    assert!(weeks[1..5].iter().all(|row| row.1 == 7), "{weeks:?}");
    let months = rows(&mut client, "MONTH", 4);
    assert_eq!(months.iter().map(|row| row.1).sum::<i64>(), 40);
    assert!(months.iter().all(|row| row.0.ends_with("-01")), "{months:?}");
    for (period, day) in [("DAY", &days[3]), ("WEEK", &weeks[1]), ("MONTH", &months[1])] {
        assert_eq!(reply!(client, "GW.SPENT", "k", period, "DATE", &day.0), format!("\"{}\"", day.1));
    }
    assert_eq!(run(&mut client, "GW.SPENT none HISTORY DAY 1").matches("\"0\"").count(), 1);
}

#[test]
fn a_description_tells_of_every_hold() {
    let (_server, mut client) = start();
    run(&mut client, "GW.ADDCOST k 2 ID once");
    run(&mut client, "GW.RESERVE k 3 100 TTL 60000 ID late");
    run(&mut client, "GW.RESERVE k 4.5 100 TTL 30000 ID early");
    let description = run(&mut client, "GW.DESCRIBE k");
    let holds = description.split_once(r#""holds", "#).unwrap().1;
    let (early, late) = (holds.find(r#"["early", "#).unwrap(), holds.find(r#"["late", "#).unwrap());
    assert!(early < late, "{description}");
    assert!(
        description.contains(r#""held", "7.5""#) && description.contains(r#""ids_remembered", 1"#),
        "{description}"
    );
    let holds =
        (0..1_010).map(|number| command(&format!("GW.RESERVE many 1 9999 TTL {} ID h{number}", 60_000 + number)));
    pipeline(&mut client, holds);
    let description = run(&mut client, "GW.DESCRIBE many");
    assert!(description.contains(r#""open_holds", 1010"#), "{description}");
    assert!(description.contains(r#"["h999", "#) && !description.contains(r#"["h1000", "#), "{description}");
}

#[test]
fn a_policy_that_evicts_ledgers_is_warned_of() {
    let warnings = |server: &Server| server.log().matches("may evict ledgers").count();
    let server = Server::options().config("maxmemory-policy allkeys-lru").start().unwrap();
    assert_eq!(warnings(&server), 1);
    let (server, mut client) = start();
    assert_eq!(warnings(&server), 0);
    for (policy, count) in
        [("volatile-lfu", 0), ("allkeys-lfu", 1), ("allkeys-random", 1), ("noeviction", 1), ("allkeys-lru", 2)]
    {
        run(&mut client, &format!("CONFIG SET maxmemory-policy {policy}"));
        assert_eq!(warnings(&server), count, "{policy}");
    }
}
