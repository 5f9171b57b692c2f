//! GW.POLICYSET and its like, GW.ADMIT, GW.SETTLE and GW.KEEPALIVE.

use crate::support::{DEADLINE, SOON_MS, command, run, server_time_ms, start};
use gw_testkit::redis::{self, Connection, FromRedisValue, Value};
use gw_testkit::{Server, await_until, call};
use std::collections::HashMap;

/// A policy's answer in GW.ADMIT's reply.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    account: String,
    policy: String,
    allowed: bool,
    limit: String,
    remaining: String,
    retry_after_ms: i64,
    reset_after_ms: i64,
}

impl FromRedisValue for Row {
    fn from_redis_value(value: Value) -> Result<Self, redis::ParsingError> {
        let (account, policy, allowed, limit, remaining, retry_after_ms, reset_after_ms) =
            redis::from_redis_value(value)?;
        Ok(Self { account, policy, allowed, limit, remaining, retry_after_ms, reset_after_ms })
    }
}

fn admit(client: &mut Connection, words: &str) -> (bool, i64, Vec<Row>) {
    command(&format!("GW.ADMIT {words}")).query(client).unwrap()
}

/// What is left by policy, without a change.
fn remaining(client: &mut Connection, account: &str) -> HashMap<String, String> {
    let (_, _, rows) = admit(client, &format!("{account} LEASE only-asks TTL 1 SHADOW"));
    rows.into_iter().map(|row| (row.policy, row.remaining)).collect()
}

fn set(client: &mut Connection, account: &str, policies: &[&str]) {
    for policy in policies {
        assert_eq!(run(client, &format!("GW.POLICYSET {account} {policy}")), "1", "{policy}");
    }
}

fn stats(client: &mut Connection) -> HashMap<String, u64> {
    call!(*client, "GW.STATS")
}

/// The error of a lease that has ended.
fn ended(id: &str) -> String {
    format!("LEASEENDED lease has ended: {id}")
}

/// What this node has seen of an account's policies: requests denied, and whether the meter was ever named.
fn tallies(client: &mut Connection, account: &str) -> HashMap<String, (u64, bool)> {
    let policies: Vec<(String, HashMap<String, Value>)> = call!(*client, "GW.POLICYLIST", account, "STATS");
    let tally = |stats: HashMap<String, Value>| {
        let Value::Int(denied) = stats["denied"] else { panic!("{stats:?}") };
        (denied as u64, stats["named_ms"] != Value::Nil)
    };
    policies.into_iter().map(|(name, stats)| (name, tally(stats))).collect()
}

/// A key, its user and its team, each with a limit of its own.
const CHAIN: &str = "{t}:key WITH 2 {t}:user {t}";

fn set_chain(client: &mut Connection) {
    set(client, "{t}:key", &["rpm WINDOW 10 PER 3600000", "inflight INFLIGHT 2"]);
    set(client, "{t}:user", &["tpm BUCKET 1000 5000 PER 3600000 METER tokens"]);
    set(client, "{t}", &["month BUDGET 1 MONTH", "total BUDGET 1.5 TOTAL"]);
}

#[test]
fn a_request_is_charged_to_all_accounts_or_to_none() {
    let (_server, mut client) = start();
    set_chain(&mut client);
    let (admitted, retry_after_ms, rows) =
        admit(&mut client, &format!("{CHAIN} LEASE r1 TTL 60000 tokens 2000 usd 0.4"));
    assert!(admitted && retry_after_ms == 0);
    let shown: Vec<_> = rows.iter().map(|row| (&*row.account, &*row.policy, &*row.limit, &*row.remaining)).collect();
    assert_eq!(
        shown,
        [
            ("{t}:key", "rpm", "10", "9"),
            ("{t}:key", "inflight", "2", "1"),
            ("{t}:user", "tpm", "5000", "3000"),
            ("{t}", "month", "1", "0.6"),
            ("{t}", "total", "1.5", "1.1"),
        ]
    );
    assert!(rows.iter().all(|row| row.allowed && row.retry_after_ms == 0));
    // A window of an hour has ticks of four milliseconds.
    assert!((3_600_000..3_600_004).contains(&rows[0].reset_after_ms), "{rows:?}");
    assert_eq!(rows[4].reset_after_ms, -1);

    // Every violated policy is named, and the longest wait is the request's.
    let before = ["{t}:key", "{t}:user", "{t}"].map(|account| gw_testkit::digest(&mut client, account));
    let (admitted, retry_after_ms, rows) =
        admit(&mut client, &format!("{CHAIN} LEASE r2 TTL 60000 tokens 3500 usd 0.7"));
    assert!(!admitted);
    let refusing: Vec<_> = rows.iter().filter(|row| !row.allowed).map(|row| row.policy.as_str()).collect();
    assert_eq!(refusing, ["tpm", "month"]);
    assert_eq!(retry_after_ms, rows.iter().map(|row| row.retry_after_ms).max().unwrap());
    assert!((1_790_000..=1_800_000).contains(&rows[2].retry_after_ms), "{rows:?}");
    assert_eq!(before, ["{t}:key", "{t}:user", "{t}"].map(|account| gw_testkit::digest(&mut client, account)));

    // Above the whole limit: no wait will help.
    let (admitted, retry_after_ms, rows) = admit(&mut client, &format!("{CHAIN} LEASE r3 TTL 60000 tokens 5001 usd 1"));
    assert!(!admitted && retry_after_ms == -1 && rows[2].retry_after_ms == -1, "{rows:?}");
    let stats = stats(&mut client);
    assert_eq!((stats["admit_admitted"], stats["admit_denied"]), (1, 2));
}

#[test]
fn actuals_take_the_place_of_estimates_once() {
    let (_server, mut client) = start();
    set(
        &mut client,
        "k",
        &[
            "rpm WINDOW 10 PER 3600000",
            "window WINDOW 10000 PER 3600000 METER tokens",
            "bucket BUCKET 1 10000 PER 3600000 METER tokens",
            "inflight INFLIGHT 5",
            "spend BUDGET 1 DAY",
            "used BUDGET 1000000 TOTAL METER tokens",
        ],
    );
    let left = |client: &mut Connection| {
        let left = remaining(client, "k");
        ["rpm", "window", "bucket", "inflight", "spend", "used"].map(|policy| left[policy].clone())
    };
    for lease in ["less", "more", "none", "same"] {
        let (admitted, ..) = admit(&mut client, &format!("k LEASE {lease} TTL 60000 tokens 1000 usd 0.1"));
        assert!(admitted);
        // A retry after a lost reply is the same admission.
        let (admitted, _, rows) = admit(&mut client, &format!("k LEASE {lease} TTL 60000 tokens 1000 usd 0.1"));
        assert!(admitted && rows.iter().all(|row| row.allowed));
    }
    assert_eq!(left(&mut client), ["6", "6000", "6000", "1", "0.6", "996000"]);
    assert_eq!(run(&mut client, "GW.SETTLE k LEASE less tokens 400 usd 0.04"), "\"SETTLED\"");
    assert_eq!(left(&mut client), ["6", "6600", "6600", "2", "0.66", "996600"]);
    assert_eq!(run(&mut client, "GW.SETTLE k LEASE more tokens 2400.5 usd 0.2"), "\"SETTLED\"");
    // A fraction counts as a whole unit, but not for budgets.
    assert_eq!(left(&mut client), ["6", "5199", "5199", "3", "0.56", "995199.5"]);
    assert_eq!(run(&mut client, "GW.SETTLE k LEASE none requests 0 tokens 0 usd 0"), "\"SETTLED\"");
    assert_eq!(left(&mut client), ["7", "6199", "6199", "4", "0.66", "996199.5"]);
    assert_eq!(run(&mut client, "GW.SETTLE k LEASE same"), "\"SETTLED\"");
    let settled = left(&mut client);
    assert_eq!(settled, ["7", "6199", "6199", "5", "0.66", "996199.5"]);
    // Once: neither a second settlement nor a second admission changes anything.
    assert_eq!(run(&mut client, "GW.SETTLE k LEASE more tokens 1 usd 1"), "\"REPEATED\"");
    assert_eq!(run(&mut client, "GW.SETTLE k LEASE never tokens 1 usd 1"), "\"UNKNOWN\"");
    assert_eq!(run(&mut client, "GW.ADMIT k LEASE more TTL 60000 tokens 9000 usd 1"), ended("more"));
    assert_eq!(left(&mut client), settled);
    // Into debt, and over the limit, if need be.
    assert!(admit(&mut client, "k LEASE late TTL 60000").0);
    assert_eq!(run(&mut client, "GW.SETTLE k LEASE late tokens 9000 usd 2"), "\"SETTLED\"");
    assert_eq!(left(&mut client), ["6", "0", "0", "5", "0", "987199.5"]);
    let (admitted, _, rows) = admit(&mut client, "k LEASE next TTL 60000 tokens 0 usd 0");
    let refusing: Vec<_> = rows.iter().filter(|row| !row.allowed).map(|row| row.policy.as_str()).collect();
    assert!(!admitted);
    assert_eq!(refusing, ["window", "bucket", "spend"]);
    let stats = stats(&mut client);
    assert_eq!((stats["admit_repeated"], stats["admit_lease_ended"]), (4, 1));
    assert_eq!((stats["settle_done"], stats["settle_repeated"], stats["settle_unknown"]), (5, 1, 1));
}

#[test]
fn an_ended_lease_is_not_admitted_again() {
    let (_server, mut client) = start();
    set(&mut client, "u", &["rpm WINDOW 1 PER 3600000", "fl INFLIGHT 1", "b BUDGET 10 MONTH"]);
    // Undone, its unit and slot taken by another request: it must not pass for free.
    assert!(admit(&mut client, "u LEASE req TTL 30000 usd 5").0);
    assert_eq!(run(&mut client, "GW.SETTLE u LEASE req requests 0 usd 0"), "\"SETTLED\"");
    assert!(admit(&mut client, "u LEASE other TTL 30000 usd 1").0);
    let before = gw_testkit::digest(&mut client, "u");
    for words in ["", " SHADOW", " ROWS NONE", " REQUIRE"] {
        assert_eq!(run(&mut client, &format!("GW.ADMIT u LEASE req TTL 30000 usd 5{words}")), ended("req"));
    }
    assert_eq!(run(&mut client, "GW.SETTLE u LEASE req usd 5"), "\"REPEATED\"");
    assert_eq!(gw_testkit::digest(&mut client, "u"), before);
    assert_eq!(run(&mut client, "GW.SPENT u"), "\"0\"");
    // Five pairs under one id are one request.
    set(&mut client, "w", &["rpm WINDOW 2 PER 3600000", "b BUDGET 10 MONTH"]);
    let mut admitted = 0;
    for _ in 0..5 {
        admitted += u32::from(run(&mut client, "GW.ADMIT w LEASE same TTL 30000 usd 1").starts_with("[1, "));
        run(&mut client, "GW.SETTLE w LEASE same usd 1");
    }
    assert_eq!((admitted, run(&mut client, "GW.SPENT w").as_str()), (1, "\"1\""));
    assert_eq!(remaining(&mut client, "w")["rpm"], "1");
    // By time, too; and if one of several accounts knows that it has ended, none of them is charged.
    set(&mut client, "{t}:a", &["rpm WINDOW 9 PER 3600000"]);
    set(&mut client, "{t}:b", &["rpm WINDOW 9 PER 3600000"]);
    assert!(admit(&mut client, "{t}:a LEASE gone TTL 1").0);
    await_until("the lease to end", DEADLINE, || {
        run(&mut client, "GW.ADMIT {t}:a LEASE gone TTL 30000") == ended("gone")
    })
    .unwrap();
    assert_eq!(run(&mut client, "GW.ADMIT {t}:b WITH 1 {t}:a LEASE gone TTL 30000"), ended("gone"));
    assert_eq!(run(&mut client, "GW.SETTLE {t}:a LEASE gone"), "\"LATE\"");
    // Live, it is the same admission; an account that does not know it decides for itself.
    assert!(admit(&mut client, "{t}:a LEASE live TTL 30000").0);
    let (admitted, _, rows) = admit(&mut client, "{t}:a WITH 1 {t}:b LEASE live TTL 30000");
    assert!(admitted && rows.len() == 2);
    assert_eq!(
        (remaining(&mut client, "{t}:a")["rpm"].as_str(), remaining(&mut client, "{t}:b")["rpm"].as_str()),
        ("7", "8")
    );
    assert!(stats(&mut client)["admit_lease_ended"] > 4 + 4);
}

#[test]
fn accounts_can_be_required() {
    let (_server, mut client) = start();
    set(&mut client, "{t}", &["rpm WINDOW 9 PER 3600000"]);
    run(&mut client, "GW.ADDCOST {t}:ledger 1");
    for missing in ["{t}:none", "{t}:ledger"] {
        let error = format!("NOACCOUNT no such account: {missing}");
        for words in [format!("{{t}} WITH 1 {missing}"), format!("{missing} WITH 1 {{t}}"), missing.to_owned()] {
            assert_eq!(run(&mut client, &format!("GW.ADMIT {words} LEASE a TTL 1000 require")), error);
        }
    }
    assert!(admit(&mut client, "{t} LEASE a TTL 1000 REQUIRE").0);
    assert_eq!(remaining(&mut client, "{t}")["rpm"], "8");
    assert_eq!(stats(&mut client)["admit_no_account"], 6);
}

#[test]
fn rows_are_replied_as_asked_for() {
    let (_server, mut client) = start();
    set(
        &mut client,
        "k",
        &[
            "rpm WINDOW 3 PER 3600000",
            "tpm BUCKET 10 100 PER 31622400000 METER tokens",
            "fl INFLIGHT 5",
            "day BUDGET 10 DAY",
            "all BUDGET 20 TOTAL",
            "try WINDOW 1 PER 60000 SHADOW",
        ],
    );
    assert_eq!(run(&mut client, "GW.ADMIT k LEASE a TTL 60000 tokens 30 usd 2.5 ROWS NONE"), "[1, 0, []]");
    let rows = |client: &mut Connection, words: &str| -> (bool, i64, Vec<Vec<Value>>) {
        command(&format!("GW.ADMIT {words}")).query(client).unwrap()
    };
    let (admitted, _, refused) = rows(&mut client, "k LEASE b TTL 60000 tokens 30 usd 2.5 ROWS REFUSED");
    assert!(admitted && refused.len() == 1, "the shadow's alone: {refused:?}");
    let (admitted, _, all) = rows(&mut client, "k LEASE c TTL 60000 usd 1 rows all");
    assert!(admitted && all.len() == 6 && all.iter().all(|row| row.len() == 7));
    let (admitted, _, detail) = rows(&mut client, "k LEASE d TTL 60000 usd 1 SHADOW ROWS DETAIL");
    let shown: Vec<String> =
        detail.iter().map(|row| gw_testkit::reply_line(Ok(Value::Array(row[7..].to_vec())))).collect();
    assert!(admitted);
    assert_eq!(
        shown,
        [
            r#"["WINDOW", "requests", 3600000, 3]"#,
            r#"["BUCKET", "tokens", 31622400000, 60]"#,
            r#"["INFLIGHT", "", -1, 3]"#,
            r#"["BUDGET", "usd", 86400000, "6"]"#,
            r#"["BUDGET", "usd", -1, "6"]"#,
            r#"["WINDOW", "requests", 60000, 1]"#,
        ]
    );
    let (admitted, _, refused) = rows(&mut client, "k LEASE d TTL 60000 usd 1 ROWS REFUSED");
    let names: Vec<String> = refused.iter().map(|row| gw_testkit::reply_line(Ok(row[1].clone()))).collect();
    assert!(!admitted);
    assert_eq!(names, ["\"rpm\"", "\"try\""]);
    let (admitted, wait_ms, none) = rows(&mut client, "k LEASE d TTL 60000 usd 1 ROWS NONE");
    assert!(!admitted && wait_ms > 0 && none.is_empty());
    // Above the limit, what is used says by how much.
    run(&mut client, "GW.SETTLE k LEASE a tokens 500 usd 25");
    let (_, _, detail) = rows(&mut client, "k LEASE d TTL 60000 SHADOW ROWS DETAIL");
    assert_eq!(gw_testkit::reply_line(Ok(detail[1][10].clone())), "530");
    assert_eq!(gw_testkit::reply_line(Ok(detail[3][10].clone())), "\"28.5\"");
}

#[test]
fn denials_and_named_meters_are_told_by_policy() {
    let (server, mut client) = start();
    set(&mut client, "{t}:k", &["rpm WINDOW 1 PER 3600000", "try INFLIGHT 0 SHADOW"]);
    set(&mut client, "{t}", &["tpm BUCKET 10 100 PER 60000 METER tokens", "day BUDGET 10 DAY"]);
    let digest = gw_testkit::digest(&mut client, "{t}:k");
    let never = HashMap::from([("rpm".to_owned(), (0, false)), ("try".to_owned(), (0, false))]);
    assert_eq!(tallies(&mut client, "{t}:k"), never);
    // Calls that only ask tell nothing.
    admit(&mut client, "{t}:k LEASE asks TTL 1 requests 9 SHADOW");
    assert_eq!(tallies(&mut client, "{t}:k"), never);
    assert_eq!(gw_testkit::digest(&mut client, "{t}:k"), digest);
    assert!(admit(&mut client, "{t}:k WITH 1 {t} LEASE a TTL 60000 usd 1").0);
    assert_eq!(stats(&mut client)["admit_meter_unnamed"], 1, "no tokens");
    run(&mut client, "CONFIG SET notify-keyspace-events Ed");
    let mut listener = server.connect().unwrap();
    let mut listener = listener.as_pubsub();
    listener.subscribe("__keyevent@0__:gw.denied").unwrap();
    listener.set_read_timeout(Some(DEADLINE)).unwrap();
    let digests = |client: &mut Connection| ["{t}:k", "{t}"].map(|key| gw_testkit::digest(client, key));
    let before = digests(&mut client);
    for lease in ["b", "c"] {
        assert!(!admit(&mut client, &format!("{{t}}:k WITH 1 {{t}} LEASE {lease} TTL 60000 usd 1")).0);
    }
    assert!(!admit(&mut client, "{t} LEASE d TTL 60000 tokens 1 usd 11 ROWS NONE").0);
    assert_eq!(digests(&mut client), before);
    let told: Vec<String> = (0..3).map(|_| listener.get_message().unwrap().get_payload().unwrap()).collect();
    assert_eq!(told, ["{t}:k", "{t}:k", "{t}"]);
    let key = HashMap::from([("rpm".to_owned(), (2, true)), ("try".to_owned(), (3, false))]);
    assert_eq!(tallies(&mut client, "{t}:k"), key);
    let team = HashMap::from([("tpm".to_owned(), (0, true)), ("day".to_owned(), (1, true))]);
    assert_eq!(tallies(&mut client, "{t}"), team);
    assert!(run(&mut client, "GW.DESCRIBE {t}").contains(r#""stats", ["tpm", ["denied", 0, "named_ms", "#));
    // They are this node's: a copy and a policy that counts anew start at 0, a policy that is set again does not.
    assert_eq!(run(&mut client, "COPY {t} {t}:copy"), "1");
    assert_eq!(tallies(&mut client, "{t}:copy")["day"], (0, false));
    assert_eq!(run(&mut client, "GW.POLICYSET {t} day BUDGET 12 DAY"), "0");
    assert_eq!(tallies(&mut client, "{t}")["day"], (1, true));
    assert_eq!(run(&mut client, "GW.POLICYSET {t} day BUDGET 12 DAY METER words"), "0");
    assert_eq!(tallies(&mut client, "{t}")["day"], (0, false));
    // A meter that is named when the request is settled is named.
    assert_eq!(run(&mut client, "GW.SETTLE {t}:k WITH 1 {t} LEASE a words 5"), "\"SETTLED\"");
    assert_eq!(tallies(&mut client, "{t}")["day"], (0, true));
    assert_eq!(run(&mut client, "GW.POLICYLIST {t} STAT"), "ERR unknown option: STAT");
    assert_eq!(run(&mut client, "GW.POLICYLIST none STATS"), "[]");
}

#[test]
fn a_lease_that_ends_frees_slot_and_money_and_can_be_settled_late() {
    let (_server, mut client) = start();
    set(
        &mut client,
        "k",
        &[
            "rpm WINDOW 10 PER 3600000",
            "kept BUCKET 1 10000 PER 31622400000 METER tokens",
            "given WINDOW 10000 PER 3600000 METER tokens GIVEBACK",
            "inflight INFLIGHT 1",
            "spend BUDGET 1 MONTH",
        ],
    );
    let left = |client: &mut Connection| {
        let left = remaining(client, "k");
        ["rpm", "kept", "given", "inflight", "spend"].map(|policy| left[policy].clone())
    };
    assert!(admit(&mut client, &format!("k LEASE crashed TTL {SOON_MS} tokens 1000 usd 0.6")).0);
    let (admitted, retry_after_ms, _) = admit(&mut client, "k LEASE next TTL 60000 tokens 1000 usd 0.6");
    assert!(!admitted && (1..=SOON_MS).contains(&retry_after_ms), "{retry_after_ms}");
    assert_eq!(left(&mut client), ["9", "9000", "9000", "0", "0.4"]);
    await_until("the lease to end", DEADLINE, || admit(&mut client, "k LEASE next TTL 60000 tokens 1000 usd 0.6").0)
        .unwrap();
    // Windows and buckets keep what it took, but for the one that gives it back.
    assert_eq!(left(&mut client), ["8", "8000", "9000", "0", "0.4"]);
    assert_eq!(run(&mut client, "GW.KEEPALIVE k LEASE crashed TTL 60000"), "0");
    assert_eq!(run(&mut client, "GW.SETTLE k LEASE crashed tokens 1500 usd 0.3"), "\"LATE\"");
    assert_eq!(left(&mut client), ["8", "7500", "7500", "0", "0.1"]);
    assert_eq!(run(&mut client, "GW.SETTLE k LEASE crashed tokens 1500 usd 0.3"), "\"REPEATED\"");
    assert_eq!(stats(&mut client)["settle_late"], 1);
    // A long stream keeps its lease.
    assert_eq!(run(&mut client, "GW.SETTLE k LEASE next"), "\"SETTLED\"");
    assert!(admit(&mut client, &format!("k LEASE stream TTL {SOON_MS}")).0);
    assert_eq!(run(&mut client, "GW.KEEPALIVE k LEASE stream TTL 60000"), "1");
    let ended_ms = server_time_ms(&mut client) + SOON_MS;
    await_until("the lease's first end", DEADLINE, || server_time_ms(&mut client) > ended_ms).unwrap();
    assert_eq!(run(&mut client, "GW.SETTLE k LEASE stream"), "\"SETTLED\"");
}

#[test]
fn shadows_decide_and_count_and_refuse_nothing() {
    let (_server, mut client) = start();
    set(&mut client, "k", &["rpm WINDOW 5 PER 3600000", "new WINDOW 2 PER 3600000 SHADOW"]);
    let digest = gw_testkit::digest(&mut client, "k");
    for _ in 0..3 {
        let (admitted, retry_after_ms, rows) = admit(&mut client, "k LEASE a TTL 60000 requests 3 SHADOW");
        assert!(admitted && retry_after_ms == 0 && !rows[1].allowed);
        // What it would have been told.
        let (admitted, retry_after_ms, rows) = admit(&mut client, "k LEASE a TTL 60000 requests 6 SHADOW");
        assert!(admitted && retry_after_ms == -1 && !rows[0].allowed);
    }
    assert_eq!(gw_testkit::digest(&mut client, "k"), digest);
    for (lease, new) in [("1", true), ("2", true), ("3", false), ("4", false)] {
        let (admitted, _, rows) = admit(&mut client, &format!("k LEASE {lease} TTL 60000"));
        assert!(admitted && rows[0].allowed);
        assert_eq!(rows[1].allowed, new);
    }
    // The shadow has counted what it would have allowed; the other one all.
    let left = remaining(&mut client, "k");
    assert_eq!((left["rpm"].as_str(), left["new"].as_str()), ("1", "0"));
    let stats = stats(&mut client);
    // Calls that only ask count for themselves; the last of them is the one that asked what is left.
    assert_eq!((stats["admit_would_deny"], stats["admit_denied"]), (2, 0));
    assert_eq!((stats["admit_probed"], stats["admit_admitted"]), (3 + 3 + 1, 4));
}

#[test]
fn policies_change_and_keep_what_they_have_counted() {
    let (_server, mut client) = start();
    assert_eq!(run(&mut client, "GW.POLICYLIST k"), "[]");
    set(&mut client, "k", &["rpm WINDOW 5 PER 3600000", "inflight INFLIGHT 5", "spend BUDGET 10 WEEK SOFT 75"]);
    for lease in 0..4 {
        assert!(admit(&mut client, &format!("k LEASE l{lease} TTL 60000 usd 2")).0);
    }
    // Set again in the words in which it is listed: nothing changes.
    let policies: Vec<Vec<String>> = call!(client, "GW.POLICYLIST", "k");
    assert_eq!(policies[0].join(" "), "rpm WINDOW 5 PER 3600000 METER requests");
    assert_eq!(policies[2].join(" "), "spend BUDGET 10 WEEK SOFT 75 METER usd");
    for policy in &policies {
        assert_eq!(run(&mut client, &format!("GW.POLICYSET k {}", policy.join(" "))), "0");
    }
    assert_eq!(run(&mut client, "GW.POLICYSET k rpm WINDOW 6 PER 7200000"), "0");
    assert_eq!(run(&mut client, "GW.POLICYSET k spend BUDGET 20 TOTAL"), "0");
    let left = |client: &mut Connection| {
        let left = remaining(client, "k");
        ["rpm", "inflight", "spend"].map(|policy| left[policy].clone())
    };
    assert_eq!(left(&mut client), ["2", "1", "12"]);
    assert_eq!(run(&mut client, "GW.POLICYRESET k rpm"), "1");
    assert_eq!(left(&mut client), ["6", "1", "12"]);
    // What was counted before is settled without a trace in the new count.
    assert_eq!(run(&mut client, "GW.SETTLE k LEASE l0 requests 0 usd 1"), "\"SETTLED\"");
    assert_eq!(left(&mut client), ["6", "2", "13"]);
    assert_eq!(run(&mut client, "GW.POLICYRESET k inflight"), "1");
    assert_eq!(left(&mut client), ["6", "5", "19"]);
    assert_eq!(run(&mut client, "GW.SETTLE k LEASE l1"), "\"LATE\"");
    assert_eq!(
        run(&mut client, "GW.POLICYRESET k spend"),
        "ERR budget spend cannot be reset; set another budget: spend"
    );
    assert_eq!(run(&mut client, "GW.POLICYDEL k spend"), "1");
    assert_eq!(run(&mut client, "GW.POLICYDEL k spend"), "0");
    // The account's ledger has it all the same.
    assert_eq!(run(&mut client, "GW.POLICYSET k spend BUDGET 20 TOTAL"), "1");
    assert_eq!(left(&mut client), ["6", "5", "17"]);
    for policy in 0..29 {
        set(&mut client, "k", &[&format!("p{policy} INFLIGHT 5")]);
    }
    assert_eq!(run(&mut client, "GW.POLICYSET k more INFLIGHT 5"), "ERR more than 32 policies: account");
}

#[test]
fn a_budget_tells_when_it_gets_to_its_soft_limit() {
    let (server, mut client) = start();
    set(&mut client, "k", &["spend BUDGET 10 MONTH SOFT 75"]);
    run(&mut client, "CONFIG SET notify-keyspace-events Ed");
    let mut listener = server.connect().unwrap();
    let mut listener = listener.as_pubsub();
    listener.subscribe("__keyevent@0__:gw.softbudget").unwrap();
    for lease in 0..4 {
        assert!(admit(&mut client, &format!("k LEASE l{lease} TTL 60000 usd 2.5")).0);
    }
    assert_eq!(stats(&mut client)["admit_soft"], 2);
    listener.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(listener.get_message().unwrap().get_payload::<String>().unwrap(), "k");
    // Once: what comes next is what the test sends itself.
    assert_eq!(run(&mut client, "PUBLISH __keyevent@0__:gw.softbudget no-more"), "1");
    assert_eq!(listener.get_message().unwrap().get_payload::<String>().unwrap(), "no-more");
    // What was used may get there, too.
    set(&mut client, "more", &["spend BUDGET 10 MONTH SOFT 75"]);
    assert!(admit(&mut client, "more LEASE l TTL 60000 usd 1").0);
    assert_eq!(run(&mut client, "GW.SETTLE more LEASE l usd 8"), "\"SETTLED\"");
    listener.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(listener.get_message().unwrap().get_payload::<String>().unwrap(), "more");
}

#[test]
fn a_budget_of_requests_counts_each_as_one() {
    let (_server, mut client) = start();
    set(&mut client, "k", &["daily BUDGET 3 DAY METER requests"]);
    for lease in ["1", "2"] {
        assert!(admit(&mut client, &format!("k LEASE {lease} TTL 60000")).0);
    }
    assert_eq!(run(&mut client, "GW.SETTLE k LEASE 1"), "\"SETTLED\"");
    assert_eq!(remaining(&mut client, "k")["daily"], "1");
    assert!(!admit(&mut client, "k LEASE 3 TTL 60000 requests 2").0);
    assert!(admit(&mut client, "k LEASE 3 TTL 60000").0);
    assert!(!admit(&mut client, "k LEASE 4 TTL 60000").0);
    assert_eq!(run(&mut client, "GW.SETTLE k LEASE 2 requests 0"), "\"SETTLED\"");
    assert!(admit(&mut client, "k LEASE 4 TTL 60000").0);
}

#[test]
fn a_ledger_is_no_account_before_its_first_policy() {
    let (_server, mut client) = start();
    run(&mut client, "GW.ADDCOST {t} 5");
    set(&mut client, "{t}:key", &["rpm WINDOW 5 PER 3600000"]);
    let (admitted, _, rows) = admit(&mut client, "{t}:key WITH 1 {t} LEASE a TTL 60000 usd 1");
    assert_eq!((admitted, rows.len()), (true, 1));
    assert_eq!(stats(&mut client)["admit_no_account"], 1);
    assert_eq!(run(&mut client, "GW.SETTLE {t}:key WITH 1 {t} LEASE a usd 1"), "\"SETTLED\"");
    assert_eq!(run(&mut client, "GW.SETTLE {t} LEASE a usd 1"), "\"UNKNOWN\"");
    assert_eq!(run(&mut client, "GW.KEEPALIVE {t} LEASE a TTL 1000"), "0");
    for command in ["GW.POLICYLIST {t}", "GW.POLICYDEL {t} month", "GW.POLICYRESET {t} month"] {
        assert!(["[]", "0"].contains(&run(&mut client, command).as_str()), "{command}");
    }
    assert_eq!((run(&mut client, "GW.SPENT {t}"), run(&mut client, "TYPE {t}")), ("\"5\"".into(), "gw-ledger".into()));
    // Anything else is an error still.
    run(&mut client, "SET {t}:text x");
    assert!(run(&mut client, "GW.ADMIT {t}:key WITH 1 {t}:text LEASE b TTL 60000").contains("WRONGTYPE"));
}

#[test]
fn a_full_server_still_settles() {
    let (_server, mut client) = start();
    set(&mut client, "k", &["month BUDGET 10 MONTH"]);
    assert!(admit(&mut client, "k LEASE a TTL 60000 usd 1").0);
    run(&mut client, "CONFIG SET maxmemory 100kb");
    assert!(run(&mut client, "GW.ADMIT k LEASE b TTL 60000").contains("OOM"));
    assert_eq!(run(&mut client, "GW.SETTLE k LEASE a usd 2"), "\"SETTLED\"");
    assert_eq!(run(&mut client, "GW.SPENT k"), "\"2\"");
}

#[test]
fn who_only_asks_hears_of_what_was_given_back() {
    let (_server, mut client) = start();
    set(&mut client, "k", &["tpm BUCKET 1 1 PER 3600000 GIVEBACK"]);
    assert!(admit(&mut client, "k LEASE a TTL 20").0);
    let fits = || admit(&mut client, "k LEASE b TTL 20 SHADOW").2[0].allowed;
    await_until("the lease to end", DEADLINE, fits).unwrap();
    assert!(admit(&mut client, "k LEASE b TTL 20").0);
}

#[test]
fn accounts_that_do_not_exist_limit_nothing_and_are_counted() {
    let (_server, mut client) = start();
    assert_eq!(run(&mut client, "GW.ADMIT none LEASE a TTL 60000 tokens 5"), "[1, 0, []]");
    assert_eq!(run(&mut client, "GW.SETTLE none LEASE a tokens 5"), "\"UNKNOWN\"");
    assert_eq!(run(&mut client, "GW.KEEPALIVE none LEASE a TTL 60000"), "0");
    assert_eq!(run(&mut client, "DBSIZE"), "0");
    assert_eq!(stats(&mut client)["admit_no_account"], 1);
    // Among others, whose policies hold. It has no rows.
    set(&mut client, "{t}", &["rpm WINDOW 1 PER 3600000"]);
    for (lease, admits) in [("b", true), ("c", false)] {
        let (admitted, _, rows) =
            admit(&mut client, &format!("{{t}}:none WITH 2 {{t}} {{t}}:no LEASE {lease} TTL 60000"));
        assert_eq!((admitted, rows.len(), rows[0].account.as_str()), (admits, 1, "{t}"));
    }
    assert_eq!(run(&mut client, "GW.KEEPALIVE {t}:none WITH 1 {t} LEASE b TTL 60000"), "1");
    assert_eq!(run(&mut client, "GW.SETTLE {t}:none WITH 1 {t} LEASE b"), "\"SETTLED\"");
    assert_eq!(run(&mut client, "DBSIZE"), "1");
    assert_eq!(stats(&mut client)["admit_no_account"], 3);
    // An account that has lost its last policy is there, and keeps its leases and its spend.
    run(&mut client, "GW.POLICYDEL {t} rpm");
    assert_eq!(run(&mut client, "GW.ADMIT {t} LEASE d TTL 60000 usd 1"), "[1, 0, []]");
    assert_eq!(run(&mut client, "GW.SETTLE {t} LEASE d usd 2"), "\"SETTLED\"");
    assert_eq!(run(&mut client, "GW.SPENT {t}"), "\"2\"");
    assert_eq!(stats(&mut client)["admit_no_account"], 3);
}

#[test]
fn no_account_is_charged_twice_by_one_request() {
    let (_server, mut client) = start();
    set_chain(&mut client);
    let before = gw_testkit::digest(&mut client, "{t}");
    for words in [
        "GW.ADMIT {t} WITH 1 {t} LEASE a TTL 60000 usd 1",
        "GW.ADMIT {t}:key WITH 2 {t} {t} LEASE a TTL 60000 usd 1",
        "GW.SETTLE {t} WITH 1 {t} LEASE a",
        "GW.KEEPALIVE {t} WITH 1 {t} LEASE a TTL 60000",
    ] {
        assert_eq!(run(&mut client, words), "ERR repeated key: {t}", "{words}");
    }
    assert_eq!(gw_testkit::digest(&mut client, "{t}"), before);
}

#[test]
fn the_budget_commands_work_on_an_account() {
    let (_server, mut client) = start();
    set(&mut client, "k", &["spend BUDGET 10 TOTAL", "inflight INFLIGHT 5"]);
    let left = |client: &mut Connection| remaining(client, "k")["spend"].clone();
    // One truth about spend: what either way charges or holds, the other one sees.
    assert_eq!(run(&mut client, "GW.ADDCOST k 1 ID charge"), "\"1\"");
    assert_eq!(run(&mut client, "GW.ADDCOST k 1 ID charge"), "\"1\"");
    assert!(admit(&mut client, "k LEASE l1 TTL 60000 usd 2").0);
    assert_eq!(left(&mut client), "7");
    let within = |client: &mut Connection, cost: &str| run(client, &format!("GW.WITHINBUDGET k 10 TOTAL COST {cost}"));
    assert_eq!(within(&mut client, "7"), "[1, \"TOTAL\", \"10\", \"1\", \"2\", \"7\", -1]");
    assert_eq!(within(&mut client, "7.1"), "[0, \"TOTAL\", \"10\", \"1\", \"2\", \"7\", -1]");
    let held = run(&mut client, "GW.RESERVE k 3 10 TOTAL ID h1");
    assert!(held.starts_with("[1, \"h1\", \"TOTAL\", \"10\", \"1\", \"5\", \"4\""), "{held}");
    assert_eq!(left(&mut client), "4");
    let (admitted, _, rows) = admit(&mut client, "k LEASE l2 TTL 60000 usd 4.5");
    assert!(!admitted && rows[0].policy == "spend" && !rows[0].allowed);
    assert!(run(&mut client, "GW.RESERVE k 4.5 10 TOTAL").starts_with("[0, "));
    // A lease's hold is no client's to end, and a hold may have a lease's name.
    assert!(run(&mut client, "GW.COMMIT k l1 1").starts_with("NOHOLD "));
    assert!(run(&mut client, "GW.CANCEL k l1").starts_with("NOHOLD "));
    assert!(
        run(&mut client, "GW.RESERVE k 1 10 TOTAL ID l1").starts_with("[1, \"l1\", \"TOTAL\", \"10\", \"1\", \"6\", ")
    );
    assert!(run(&mut client, "GW.CANCEL k l1").starts_with("[1, \"cancelled\""));
    assert!(run(&mut client, "GW.COMMIT k h1 3.5").starts_with("[1, \"committed\", \"3.5\", 1, \"4.5\"]"));
    assert_eq!(run(&mut client, "GW.SETTLE k LEASE l1 usd 1.5"), "\"SETTLED\"");
    assert_eq!(run(&mut client, "GW.SPENT k TOTAL"), "\"6\"");
    assert_eq!(run(&mut client, "GW.SPENT k HISTORY MONTH 1").matches("\"6\"").count(), 1);
    assert_eq!(left(&mut client), "4");
    assert_eq!(run(&mut client, "GW.ADDCOST k -1 REFUND"), "\"5\"");
    assert_eq!(left(&mut client), "5");
    // A change to one account alone, and it is the account still.
    assert_eq!(run(&mut client, "TYPE k"), "gw-accnts");
    assert_eq!(run(&mut client, "DBSIZE"), "1");
}

#[test]
fn the_feed_has_what_was_settled() {
    let (_server, mut client) = start();
    set_chain(&mut client);
    let listed = |client: &mut Connection| -> Vec<(String, u64)> {
        let (more, ledgers): (bool, Vec<(String, u64, u64, Value)>) = call!(*client, "GW.COSTCHANGES");
        assert!(!more);
        ledgers.into_iter().map(|(key, version, ..)| (key, version)).collect()
    };
    assert_eq!(listed(&mut client), []);
    admit(&mut client, &format!("{CHAIN} LEASE r1 TTL 60000 tokens 2000 usd 0.4"));
    assert_eq!(listed(&mut client), [], "an estimate is no spend");
    run(&mut client, &format!("GW.SETTLE {CHAIN} LEASE r1 tokens 2000 usd 0.3"));
    let mut changed = listed(&mut client);
    changed.sort();
    assert_eq!(changed.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["{t}", "{t}:key", "{t}:user"]);
    for (key, version) in changed {
        assert_eq!(run(&mut client, &format!("GW.COSTACK {key} {version}")), "[1]");
    }
    assert_eq!(listed(&mut client), []);
    // The index is there now, and kept by the changes; renamed, an account is listed anew.
    admit(&mut client, "{t} LEASE r2 TTL 60000 usd 0.4");
    run(&mut client, "GW.SETTLE {t} LEASE r2");
    assert_eq!(listed(&mut client).len(), 1);
    let changes = run(&mut client, "GW.COSTCHANGES");
    assert!(changes.contains("\"TOTAL\", \"0001-01-01\", \"0.7\""), "{changes}");
    run(&mut client, "RENAME {t} {t}:new");
    assert_eq!(listed(&mut client).into_iter().map(|(key, _)| key).collect::<Vec<_>>(), ["{t}:new"]);
}

#[test]
fn a_ledger_becomes_an_account_with_its_first_policy() {
    let mut server = Server::options().aof().start().unwrap();
    let mut client = server.connect().unwrap();
    run(&mut client, "GW.ADDCOST k 1 ID charge");
    run(&mut client, "GW.RESERVE k 2 10 ID hold");
    assert_eq!(run(&mut client, "GW.POLICYSET k spend BUDGET 0 NEVER"), "ERR not DAY, WEEK, MONTH or TOTAL: NEVER");
    assert_eq!(run(&mut client, "TYPE k"), "gw-ledger");
    set(&mut client, "k", &["spend BUDGET 10 TOTAL"]);
    assert_eq!(run(&mut client, "TYPE k"), "gw-accnts");
    assert_eq!(remaining(&mut client, "k")["spend"], "7");
    assert_eq!(run(&mut client, "GW.ADDCOST k 1 ID charge"), "\"1\"");
    assert!(run(&mut client, "GW.COMMIT k hold 3").starts_with("[1, \"committed\""));
    assert_eq!(remaining(&mut client, "k")["spend"], "6");
    let digest = gw_testkit::digest(&mut client, "k");
    server.crash_and_restart().unwrap();
    let mut client = server.connect().unwrap();
    assert_eq!(gw_testkit::digest(&mut client, "k"), digest);
}

#[test]
fn an_account_never_expires_and_says_what_it_holds() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    set_chain(&mut client);
    admit(&mut client, &format!("{CHAIN} LEASE r1 TTL 60000 tokens 2000 usd 0.4"));
    for account in ["{t}:key", "{t}:user", "{t}"] {
        assert_eq!(run(&mut client, &format!("TTL {account}")), "-1");
    }
    let described: HashMap<String, Value> = call!(client, "GW.DESCRIBE", "{t}");
    let text = |name: &str| gw_testkit::reply_line(Ok(described[name].clone()));
    assert_eq!(text("type"), "\"account\"");
    assert!(text("ledgers").contains("\"held\", \"0.4\""), "{}", text("ledgers"));
    assert!(text("leases").starts_with("[[\"r1\", "), "{}", text("leases"));
    assert_eq!(run(&mut client, "GW.SETTLE {t} LEASE r1"), "\"SETTLED\"");
    let described: HashMap<String, Value> = call!(client, "GW.DESCRIBE", "{t}");
    assert_eq!(described["remembered"], Value::Int(1));
}
