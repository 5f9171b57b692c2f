//! Plans: an account's whole set of policies from one document, blocks, budgets as windows, and accounts that expire.

use std::thread;

use crate::support::{DEADLINE, aof_commands, at_once, command, run, server_time_ms, start};
use gw_testkit::redis::{Connection, FromRedisValue, Value};
use gw_testkit::{Server, await_in_sync, await_until, call, digest, reply, reply_line};

fn put(client: &mut Connection, words: &str) -> String {
    run(client, &format!("GW.POLICYPUT {words}"))
}

fn document(policies: &[&str]) -> String {
    format!(r#"{{"policies":[{}]}}"#, policies.join(","))
}

/// The account's document, as the server replies it.
fn listed(client: &mut Connection, account: &str) -> String {
    call!(*client, "GW.POLICYLIST", account, "JSON")
}

const RPM: &str = r#"{"name":"rpm","kind":"window","limit":100,"per_ms":3600000,"meter":"requests"}"#;
const TPM: &str =
    r#"{"name":"tpm","kind":"bucket","rate":1000,"burst":5000,"per_ms":60000,"meter":"tokens","give_back":true}"#;
const FLIGHT: &str = r#"{"name":"flight","kind":"inflight","max":3,"shadow":true}"#;
const MONTH: &str =
    r#"{"name":"month","kind":"budget","amount":"12.5","period":"month","soft_percent":80,"meter":"usd"}"#;
const ROLLING: &str = r#"{"name":"hour","kind":"window","limit":"0.3","per_ms":3600000,"decimal":true,"meter":"usd"}"#;
const ANCHORED: &str = r#"{"name":"cycle","kind":"window","limit":"20","per_ms":2592000000,"decimal":true,"fixed":true,"anchor_ms":1700000000000,"meter":"usd"}"#;
const BLOCK: &str = r#"{"name":"off","kind":"block","until_ms":1700000000000}"#;

/// Limit, remaining, retry_after_ms and reset_after_ms of each policy, from an admission that is only decided.
fn rows(client: &mut Connection, words: &str) -> Vec<(String, String, String, i64, i64)> {
    let (_, _, rows): (i64, i64, Vec<Vec<Value>>) = command(&format!("GW.ADMIT {words} SHADOW")).query(client).unwrap();
    let text = |value: &Value| match value {
        Value::Int(value) => value.to_string(),
        other => String::from_redis_value_ref(other).unwrap(),
    };
    let number = |value: &Value| text(value).parse::<i64>().unwrap();
    rows.iter().map(|row| (text(&row[1]), text(&row[3]), text(&row[4]), number(&row[5]), number(&row[6]))).collect()
}

fn remaining(client: &mut Connection, account: &str) -> Vec<(String, String)> {
    let rows = rows(client, &format!("{account} LEASE none TTL 1000"));
    rows.into_iter().map(|(name, _, remaining, ..)| (name, remaining)).collect()
}

#[test]
fn a_document_comes_back_word_for_word_and_changes_nothing_a_second_time() {
    let primary = Server::options().aof().start().unwrap();
    let mut client = primary.connect().unwrap();
    let all = document(&[RPM, TPM, FLIGHT, MONTH, ROLLING, ANCHORED, BLOCK]);
    assert_eq!(put(&mut client, &format!("k {all}")), "1");
    assert_eq!(listed(&mut client, "k"), all);
    let before = (digest(&mut client, "k"), aof_commands(&primary).len());
    assert_eq!(put(&mut client, &format!("k {all}")), "1");
    assert_eq!((digest(&mut client, "k"), aof_commands(&primary).len()), before);
    // Other forms that clients may write: white space, any order, defaults, numbers for amounts.
    let loose =
        r#" { "policies" : [ {"kind":"WINDOW", "per_ms":3600000, "limit":100, "name":"rpm", "shadow":false} ] } "#;
    assert_eq!(reply!(client, "GW.POLICYPUT", "l", loose), "1");
    assert_eq!(listed(&mut client, "l"), document(&[RPM]));
    let money = r#"{"name":"hour","kind":"window","limit":0.30,"per_ms":3600000,"decimal":true,"meter":"usd"}"#;
    assert_eq!(put(&mut client, &format!("l {}", document(&[money]))), "1");
    assert_eq!(listed(&mut client, "l"), document(&[ROLLING]));
    // GW.POLICYSET with arguments gives the same policies.
    for policy in [
        "rpm WINDOW 100 PER 3600000",
        "tpm BUCKET 1000 5000 PER 60000 METER tokens GIVEBACK",
        "flight INFLIGHT 3 SHADOW",
        "month BUDGET 12.50 MONTH SOFT 80",
        "hour WINDOW .3 PER 3600000 METER usd DECIMAL",
        "cycle WINDOW 20 FIXED ANCHOR 1700000000000 DECIMAL METER usd PER 2592000000",
        "off BLOCK UNTIL 1700000000000",
    ] {
        assert_eq!(run(&mut client, &format!("GW.POLICYSET s {policy}")), "1", "{policy}");
    }
    assert_eq!(listed(&mut client, "s"), all);
    assert_eq!(run(&mut client, "GW.POLICYLIST s"), run(&mut client, "GW.POLICYLIST k"));
    let cycle = r#"["cycle", "WINDOW", "20", "PER", "2592000000", "DECIMAL", "FIXED", "ANCHOR", "1700000000000", "METER", "usd"]"#;
    assert!(run(&mut client, "GW.POLICYLIST k").contains(cycle));
    assert!(run(&mut client, "GW.DESCRIBE k").contains(cycle));
    assert_eq!(run(&mut client, "GW.POLICYLIST none JSON"), "nil");
    assert_eq!(put(&mut client, r#"none {"policies":[]}"#), "1");
    assert_eq!(listed(&mut client, "none"), r#"{"policies":[]}"#);
    assert_eq!(run(&mut client, "GW.ADMIT none LEASE a TTL 1000 REQUIRE"), "[1, 0, []]");
    // Names that are not text cannot be written as JSON.
    assert_eq!(reply!(client, "GW.POLICYSET", "b", b"\xff", "INFLIGHT", 1), "1");
    assert_eq!(run(&mut client, "GW.POLICYLIST b JSON"), "ERR not UTF-8, so JSON cannot say it: ?");
}

#[test]
fn a_change_of_plan_keeps_what_was_counted() {
    let (_server, mut client) = start();
    assert_eq!(put(&mut client, &format!("k {}", document(&[RPM, ROLLING, FLIGHT, MONTH]))), "1");
    for lease in 0..3 {
        run(&mut client, &format!("GW.ADMIT k LEASE l{lease} TTL 60000 usd 0.01"));
    }
    // Another order and another limit; one policy is removed, one is added, and one counts something else.
    let rpm = RPM.replace("100", "10");
    let rolling = ROLLING.replace("\"decimal\":true", "\"decimal\":true,\"fixed\":true");
    assert_eq!(put(&mut client, &format!("k {}", document(&[TPM, &rolling, MONTH, &rpm]))), "1");
    let expected = [("tpm", "5000"), ("hour", "0.3"), ("month", "12.47"), ("rpm", "7")];
    assert_eq!(remaining(&mut client, "k"), expected.map(|(name, left)| (name.into(), left.into())));
    // A policy that was removed comes back without its count; leases in flight belong to the account.
    assert_eq!(put(&mut client, &format!("k {}", document(&[FLIGHT]))), "1");
    assert_eq!(put(&mut client, &format!("k {}", document(&[RPM, FLIGHT]))), "1");
    assert_eq!(remaining(&mut client, "k"), [("rpm".into(), "100".into()), ("flight".into(), "0".into())]);
    // An account that was a ledger keeps its spend.
    run(&mut client, "GW.ADDCOST ledger 2.5");
    assert_eq!(put(&mut client, &format!("ledger {} NX", document(&[MONTH]))), "1");
    assert_eq!(remaining(&mut client, "ledger"), [("month".into(), "10".into())]);
}

#[test]
fn a_mistake_is_told_with_its_place_and_changes_nothing() {
    let (_server, mut client) = start();
    put(&mut client, &format!("k {}", document(&[RPM, MONTH])));
    run(&mut client, "SET text x");
    let before = digest(&mut client, "k");
    for (policy, error) in [
        (
            MONTH.replace(r#":"month","soft"#, r#":"mounth","soft"#),
            "ERR not DAY, WEEK, MONTH or TOTAL: mounth (policies[1].period)",
        ),
        (MONTH.replace("period", "mounth"), "ERR unknown word: mounth (policies[1])"),
        (MONTH.replace("12.5", "-1"), "ERR negative amount: -1 (policies[1].amount)"),
        (MONTH.replace("80", "0"), "ERR not an integer from 1 to 100: 0 (policies[1].soft_percent)"),
        (
            TPM.replace("budget", "bucket").replace("60000", "0"),
            "ERR not an integer from 1 to 31622400000: 0 (policies[1].per_ms)",
        ),
        (
            TPM.replace("bucket", "leaky"),
            "ERR not WINDOW, BUCKET, INFLIGHT, BUDGET, BLOCK or BREAKER: leaky (policies[1].kind)",
        ),
        (TPM.replace("tokens", "ttl"), "ERR reserved name: ttl (policies[1].meter)"),
        (
            ROLLING.replace("0.3", "9000000.000000001"),
            "ERR not an amount from 0 to 9000000: 9000000.000000001 (policies[1].limit)",
        ),
        (ROLLING.replace("0.3", "0.0000000001"), "ERR finer than a billionth: 0.0000000001 (policies[1].limit)"),
        (ANCHORED.replace("\"fixed\":true,", ""), "ERR only with fixed: anchor_ms (policies[1])"),
        (RPM.into(), "ERR repeated name: rpm (policies[1].name)"),
        (RPM.replace("\"limit\":100,", ""), "ERR missing word: limit (policies[1])"),
        (RPM.replace("\"limit\"", "\"kind\""), "ERR repeated word: kind (policies[1])"),
        ("7".into(), "ERR not an object: 7 (policies[1])"),
    ] {
        // The policy gets another name, so that it has only the intended mistake.
        let policy =
            if error.contains("repeated name") { policy } else { policy.replace(r#""name":"rpm""#, r#""name":"x""#) };
        assert_eq!(put(&mut client, &format!("k {}", document(&[RPM, &policy]))), error);
    }
    for (words, error) in [
        ("k {} NX NX", "ERR repeated option: NX"),
        ("k {} XX", "ERR unknown option: XX"),
        ("k {} IDLE", "ERR missing value: IDLE"),
        ("k {} IDLE 31622400001", "ERR not an integer from 0 to 31622400000: IDLE"),
        ("k {}", "ERR missing word: policies (json)"),
        ("k []", "ERR not an object: [] (json)"),
        (r#"k {"policies":[],"x":1}"#, "ERR unknown word: x (json)"),
        (r#"k {"policies":7}"#, "ERR not an array: 7 (policies)"),
        (r#"k {"policies":["#, "ERR not valid JSON: json at byte 13"),
        (r#"text {"policies":[]}"#, "WRONGTYPE Operation against a key holding the wrong kind of value"),
    ] {
        assert_eq!(put(&mut client, words), error, "{words}");
    }
    let budgets = |count: usize| {
        let policies: Vec<String> = (0..count)
            .map(|meter| {
                MONTH
                    .replace(r#""usd"}"#, &format!(r#""m{meter}"}}"#))
                    .replace(r#":"month","kind"#, &format!(r#":"b{meter}","kind"#))
            })
            .collect();
        document(&policies.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!(put(&mut client, &format!("k {}", budgets(9))), "ERR budgets of more than 9 meters: account");
    assert_eq!(put(&mut client, &format!("k {}", budgets(33))), "ERR more than 32 policies: account");
    assert_eq!(digest(&mut client, "k"), before, "an error changes nothing");
    assert_eq!(put(&mut client, &format!("many {}", budgets(8))), "1");

    // Hostile documents: not text, deeply nested, huge.
    let reply = reply!(client, "GW.POLICYPUT", "k", b"{\"policies\":[\xff]}");
    assert_eq!(reply, "ERR not valid JSON: json at byte 13");
    assert_eq!(reply!(client, "GW.POLICYPUT", "k", "[".repeat(30_000)), "ERR not valid JSON: json at byte 30000");
    let deep = format!(r#"{{"policies":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
    assert_eq!(
        reply!(client, "GW.POLICYPUT", "k", deep),
        format!("ERR not an object: {} (policies[0])", "[".repeat(64))
    );
    assert_eq!(reply!(client, "GW.POLICYPUT", "k", "x".repeat(1 << 20)), "ERR longer than 65536 bytes: json");
    let digits = "9".repeat(400);
    let error = format!("ERR amount out of range: {} (policies[0].amount)", "9".repeat(64));
    assert_eq!(put(&mut client, &format!("k {}", document(&[&MONTH.replace("\"12.5\"", &digits)]))), error);
    assert_eq!(digest(&mut client, "k"), before, "an error changes nothing");
}

#[test]
fn of_many_that_provision_an_account_at_once_one_does() {
    let (server, mut client) = start();
    let callers: Vec<_> = (0..8)
        .map(|caller| {
            let mut client = server.connect().unwrap();
            let limit = RPM.replace("100", &(100 + caller).to_string());
            thread::spawn(move || put(&mut client, &format!("k {} NX IDLE 3600000", document(&[&limit]))))
        })
        .collect();
    let replies: Vec<String> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
    assert_eq!(replies.iter().filter(|reply| *reply == "1").count(), 1, "{replies:?}");
    assert_eq!(replies.iter().filter(|reply| *reply == "0").count(), 7);
    let before = digest(&mut client, "k");
    assert_eq!(put(&mut client, &format!("k {} NX", document(&[FLIGHT]))), "0");
    assert_eq!(digest(&mut client, "k"), before);
    // On NOACCOUNT a client creates the account from its plan, and asks again.
    assert_eq!(run(&mut client, "GW.ADMIT u LEASE a TTL 1000 REQUIRE ROWS NONE"), "NOACCOUNT no such account: u");
    assert_eq!(put(&mut client, &format!("u {} NX IDLE 3600000", document(&[RPM]))), "1");
    assert_eq!(run(&mut client, "GW.ADMIT u LEASE a TTL 1000 REQUIRE ROWS NONE"), "[1, 0, []]");
}

#[test]
fn an_idle_account_expires_after_its_last_admission_and_its_last_lease() {
    let primary = Server::options().aof().start().unwrap();
    let mut client = primary.connect().unwrap();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let mut reader = replica.connect().unwrap();
    let ttl = |client: &mut Connection, key: &str| -> i64 { call!(*client, "PTTL", key) };
    let within = |ttl_ms: i64, idle_ms: i64| (idle_ms - 20_000..=idle_ms + idle_ms / 4).contains(&ttl_ms);

    assert_eq!(put(&mut client, &format!("k {} IDLE 100000", document(&[RPM]))), "1");
    assert!(within(ttl(&mut client, "k"), 100_000), "{}", ttl(&mut client, "k"));
    // A longer lease extends the account's life; another plan does not change it.
    run(&mut client, "GW.ADMIT k LEASE long TTL 900000");
    assert!(ttl(&mut client, "k") > 890_000);
    run(&mut client, "GW.KEEPALIVE k LEASE long TTL 5000000");
    assert!(ttl(&mut client, "k") > 4_900_000);
    assert_eq!(put(&mut client, &format!("k {}", document(&[RPM, FLIGHT]))), "1");
    assert!(ttl(&mut client, "k") > 4_900_000);
    assert!(run(&mut client, "GW.DESCRIBE k").contains("\"idle_ms\", 100000"));
    run(&mut client, "GW.SETTLE k LEASE long tokens 5");
    run(&mut client, "GW.ADMIT k LEASE short TTL 1000");
    assert!(within(ttl(&mut client, "k"), 100_000), "{}", ttl(&mut client, "k"));
    // The expiry is renewed coarsely: the next admission does not move it.
    let expires_at_ms: i64 = call!(client, "PEXPIRETIME", "k");
    run(&mut client, "GW.ADMIT k LEASE next TTL 1000");
    assert_eq!(call!(client, "PEXPIRETIME", "k" => i64), expires_at_ms);

    let same = |client: &mut Connection, other: &mut Connection, key: &str| {
        assert_eq!(digest(client, key), digest(other, key), "{key}");
        assert_eq!(call!(*client, "PEXPIRETIME", key => i64), call!(*other, "PEXPIRETIME", key => i64), "{key}");
    };
    await_in_sync(&mut client, &mut reader);
    same(&mut client, &mut reader, "k");
    let (before, expires_at_ms): (_, i64) = (digest(&mut client, "k"), call!(client, "PEXPIRETIME", "k"));
    run(&mut client, "DEBUG RELOAD");
    assert_eq!(digest(&mut client, "k"), before);
    run(&mut client, "DEBUG LOADAOF");
    assert_eq!((digest(&mut client, "k"), call!(client, "PEXPIRETIME", "k" => i64)), (before, expires_at_ms));

    // Any money makes the account stay.
    for (change, words) in [
        ("GW.ADDCOST", "GW.ADDCOST m 0.01"),
        ("GW.ADDCOST ID", "GW.ADDCOST m 0 ID a"),
        ("GW.RESERVE", "GW.RESERVE m 1 10"),
        ("GW.CREDIT", "GW.CREDIT m MONTH 1"),
        ("GW.CREDIT METER", "GW.CREDIT m MONTH 1 METER tokens"),
        ("GW.POLICYSET", "GW.POLICYSET m b BUDGET 5 DAY"),
        ("GW.SETTLE", "GW.SETTLE m LEASE a usd 0.01"),
        ("IDLE 0", &format!("GW.POLICYPUT m {} IDLE 0", document(&[RPM]))),
    ] {
        run(&mut client, "DEL m");
        assert_eq!(put(&mut client, &format!("m {} IDLE 1000000", document(&[RPM]))), "1");
        run(&mut client, "GW.ADMIT m LEASE a TTL 1000 usd 0.02");
        assert!(ttl(&mut client, "m") > 0);
        let reply = run(&mut client, words);
        assert!(!reply.starts_with("ERR"), "{words}: {reply}");
        assert_eq!(ttl(&mut client, "m"), -1, "{change}");
        await_in_sync(&mut client, &mut reader);
        same(&mut client, &mut reader, "m");
    }
    assert_eq!(put(&mut client, &format!("n {} IDLE 1000", document(&[MONTH]))), "ERR not with a budget: IDLE");
    run(&mut client, "GW.ADDCOST n 1");
    assert_eq!(
        put(&mut client, &format!("n {} IDLE 1000", document(&[RPM]))),
        "ERR not for an account with money: IDLE"
    );
    assert_eq!(run(&mut client, "TYPE n"), "gw-ledger");

    // The account expires on both servers; its next admission finds no account.
    assert_eq!(put(&mut client, &format!("gone {} IDLE 50", document(&[RPM]))), "1");
    await_until("the account to expire", DEADLINE, || run(&mut client, "EXISTS gone") == "0").unwrap();
    await_in_sync(&mut client, &mut reader);
    assert_eq!(run(&mut reader, "EXISTS gone"), "0");
    assert!(run(&mut client, "GW.ADMIT gone LEASE a TTL 1000 REQUIRE").starts_with("NOACCOUNT"));
}

#[test]
fn a_live_lease_keeps_an_account_until_it_ends() {
    let (_server, mut client) = start();
    let ends_ms = server_time_ms(&mut client) + 600;
    let put = format!("GW.POLICYPUT k {} IDLE 1", document(&[FLIGHT]));
    let (put, admitted): (i64, Value) = at_once(&mut client, &[&put, "GW.ADMIT k LEASE a TTL 600 ROWS NONE"]);
    assert_eq!((put, reply_line(Ok(admitted))), (1, "[1, 0, []]".into()));
    loop {
        let there = run(&mut client, "EXISTS k");
        if server_time_ms(&mut client) >= ends_ms {
            break;
        }
        assert_eq!(there, "1", "the lease is live");
    }
    await_until("the account to expire", DEADLINE, || run(&mut client, "EXISTS k") == "0").unwrap();
}

#[test]
fn a_block_refuses_everything_until_its_end() {
    let primary = Server::options().aof().start().unwrap();
    let mut client = primary.connect().unwrap();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let mut reader = replica.connect().unwrap();
    run(&mut client, "GW.POLICYSET k rpm WINDOW 100 PER 60000");
    run(&mut client, "GW.ADMIT k LEASE live TTL 600000");
    assert_eq!(run(&mut client, "GW.POLICYSET k off BLOCK"), "1");
    assert_eq!(
        run(&mut client, "GW.ADMIT k LEASE a TTL 1000 ROWS REFUSED"),
        r#"[0, -1, [["k", "off", 0, 0, 0, -1, -1]]]"#
    );
    assert!(run(&mut client, "GW.ADMIT k LEASE live TTL 1000 ROWS NONE").starts_with("[1, 0"), "admitted before");
    assert_eq!(run(&mut client, "GW.SETTLE k LEASE live"), "\"SETTLED\"");
    assert_eq!(run(&mut client, "GW.POLICYSET k off BLOCK SHADOW"), "0");
    assert!(run(&mut client, "GW.ADMIT k LEASE b TTL 1000 ROWS NONE").starts_with("[1, 0"));

    // FOR is stored, listed and replicated as UNTIL.
    assert_eq!(run(&mut client, "GW.POLICYSET k off BLOCK FOR 900000"), "0");
    let until_ms = server_time_ms(&mut client) + 900_000;
    let said = run(&mut client, "GW.POLICYLIST k");
    let said: i64 = said.split("\"UNTIL\", \"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
    assert!((until_ms - 60_000..=until_ms).contains(&said));
    let (_, retry_after_ms, rows): (i64, i64, Vec<Vec<Value>>) =
        command("GW.ADMIT k LEASE c TTL 1000 ROWS DETAIL").query(&mut client).unwrap();
    assert!((800_000..=900_000).contains(&retry_after_ms));
    assert!(reply_line(Ok(Value::Array(rows[1][7..].to_vec()))).starts_with(r#"["BLOCK", "", -1, 0]"#));
    await_in_sync(&mut client, &mut reader);
    assert_eq!(digest(&mut client, "k"), digest(&mut reader, "k"));
    assert_eq!(run(&mut reader, "GW.POLICYLIST k"), run(&mut client, "GW.POLICYLIST k"));
    let before = digest(&mut client, "k");
    run(&mut client, "DEBUG LOADAOF");
    assert_eq!(digest(&mut client, "k"), before);
    run(&mut client, "DEBUG RELOAD");
    assert_eq!(digest(&mut client, "k"), before);

    // The block ends by itself, and is listed until it is removed.
    assert_eq!(run(&mut client, "GW.POLICYSET k off BLOCK FOR 30"), "0");
    let mut lease = 0;
    await_until("the block to end", DEADLINE, || {
        lease += 1;
        run(&mut client, &format!("GW.ADMIT k LEASE l{lease} TTL 1000 ROWS NONE")).starts_with("[1, 0")
    })
    .unwrap();
    assert!(run(&mut client, "GW.POLICYLIST k").contains("BLOCK"));
    for (words, error) in [
        ("off BLOCK FOR 0", "ERR not an integer from 1 to 31622400000: FOR"),
        ("off BLOCK UNTIL -1", "ERR not an integer from 0 to 253402300799999: UNTIL"),
        ("off BLOCK FOR 1 UNTIL 1", "ERR conflicting option: UNTIL"),
        ("off BLOCK METER m", "ERR unknown option: METER"),
        ("w WINDOW 1 PER 1 ANCHOR 5", "ERR only with FIXED: ANCHOR"),
        ("w WINDOW 1.5 PER 1", "ERR not an integer from 0 to 9007199254740992: limit"),
        ("w WINDOW x PER 1 DECIMAL", "ERR not an amount: limit"),
        ("w BUCKET 0 1 PER 1 DECIMAL", "ERR not an amount from 0.000000001 to 9000000: rate"),
        ("w WINDOW 9000001 PER 1 DECIMAL", "ERR not an amount from 0 to 9000000: limit"),
        ("f INFLIGHT 1 DECIMAL", "ERR unknown option: DECIMAL"),
    ] {
        assert_eq!(run(&mut client, &format!("GW.POLICYSET k {words}")), error, "{words}");
    }
}

/// A budget of any length is a window that counts all spend, by admissions and without.
#[test]
fn budgets_of_any_length_are_windows_over_money() {
    let primary = Server::options().aof().start().unwrap();
    let mut client = primary.connect().unwrap();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let mut reader = replica.connect().unwrap();
    let (now_ms, hour_ms, days_30_ms) = (server_time_ms(&mut client), 3_600_000, 2_592_000_000i64);
    // Five days into a cycle of thirty days.
    let anchor_ms = now_ms - 5 * 86_400_000 - 7 * days_30_ms;
    let anchored = ANCHORED.replace("1700000000000", &anchor_ms.to_string());
    let bucket = r#"{"name":"flow","kind":"bucket","rate":"0.000000001","burst":"1","per_ms":31622400000,"decimal":true,"meter":"usd"}"#;
    assert_eq!(put(&mut client, &format!("k {}", document(&[ROLLING, &anchored, bucket]))), "1");
    let mut left = |client: &mut Connection, hour: &str, cycle: &str, flow: &str| {
        let expected = [("hour", hour), ("cycle", cycle), ("flow", flow)];
        assert_eq!(remaining(client, "k"), expected.map(|(name, left)| (name.to_owned(), left.to_owned())));
        await_in_sync(client, &mut reader);
        assert_eq!(digest(client, "k"), digest(&mut reader, "k"));
    };
    left(&mut client, "0.3", "20", "1");
    // Admitted with the estimate and corrected by the amount used; each amount is rounded up to a billionth.
    assert!(run(&mut client, "GW.ADMIT k LEASE a TTL 60000 usd 0.1 ROWS NONE").starts_with("[1, 0"));
    left(&mut client, "0.2", "19.9", "0.9");
    assert_eq!(run(&mut client, "GW.SETTLE k LEASE a usd 0.040000000001"), "\"SETTLED\"");
    left(&mut client, "0.259999999", "19.959999999", "0.959999999");
    // Without an admission: charged, charged once, held and committed, dated back, and given back.
    run(&mut client, "GW.ADDCOST k 0.05");
    run(&mut client, "GW.ADDCOST k 0.01 ID once");
    run(&mut client, "GW.ADDCOST k 0.01 ID once");
    left(&mut client, "0.199999999", "19.899999999", "0.899999999");
    run(&mut client, "GW.RESERVE k 0.1 10 ID h");
    left(&mut client, "0.199999999", "19.899999999", "0.899999999");
    run(&mut client, "GW.COMMIT k h 0.02");
    left(&mut client, "0.179999999", "19.879999999", "0.879999999");
    run(&mut client, &format!("GW.ADDCOST k 1 AT {}", now_ms - 2 * hour_ms));
    left(&mut client, "0.179999999", "18.879999999", "0");
    run(&mut client, &format!("GW.ADDCOST k 1 AT {}", now_ms - 6 * 86_400_000));
    left(&mut client, "0.179999999", "18.879999999", "0");
    run(&mut client, &format!("GW.ADDCOST k 0.1 AT {}", now_ms - hour_ms / 2));
    left(&mut client, "0.079999999", "18.779999999", "0");
    run(&mut client, "GW.ADDCOST k -0.03 REFUND");
    left(&mut client, "0.109999999", "18.809999999", "0");
    // Refused with the correct wait: until what was spent half an hour ago leaves the hour, or until the cycle ends.
    let refused = rows(&mut client, "k LEASE b TTL 1000 usd 0.12");
    assert!((hour_ms / 2 - 60_000..=hour_ms / 2).contains(&refused[0].3), "{refused:?}");
    run(&mut client, "GW.ADDCOST k 18.8");
    let refused = rows(&mut client, "k LEASE b TTL 1000 usd 0.12");
    assert_eq!((&*refused[1].1, &*refused[1].2), ("20", "0.009999999"));
    let ends_after_ms = 25 * 86_400_000;
    assert!((ends_after_ms - 60_000..=ends_after_ms).contains(&refused[1].3), "{refused:?}");
    assert_eq!(refused[1].3, refused[1].4);
    assert!(run(&mut client, "GW.ADMIT k LEASE b TTL 1000 usd 0.12 ROWS NONE").starts_with("[0, "));
    let detail = run(&mut client, "GW.ADMIT k LEASE b TTL 1000 ROWS DETAIL SHADOW");
    assert!(detail.contains(r#""WINDOW", "usd", 2592000000, "19.990000001""#), "{detail}");
    assert!(run(&mut client, "GW.DESCRIBE k").contains(r#""cycle", "19.990000001""#));

    let before = digest(&mut client, "k");
    run(&mut client, "DEBUG LOADAOF");
    assert_eq!(digest(&mut client, "k"), before, "the AOF replayed");
    run(&mut client, "DEBUG RELOAD");
    assert_eq!(digest(&mut client, "k"), before, "reloaded");
    run(&mut client, "CONFIG SET aof-use-rdb-preamble no");
    run(&mut client, "BGREWRITEAOF");
    let done = || run(&mut client, "INFO persistence").contains("aof_rewrite_in_progress:0");
    await_until("the rewrite", DEADLINE, done).unwrap();
    run(&mut client, "DEBUG LOADAOF");
    assert_eq!(digest(&mut client, "k"), before, "the AOF rewritten");
}

#[test]
fn a_plan_with_a_budget_that_is_spent_tells_so_once() {
    let (server, mut client) = start();
    call!(client, "CONFIG", "SET", "notify-keyspace-events", "Ed" => ());
    let mut listener = server.connect().unwrap();
    let mut listener = listener.as_pubsub();
    listener.psubscribe("__keyevent@0__:*").unwrap();
    listener.set_read_timeout(Some(DEADLINE)).unwrap();
    run(&mut client, "GW.ADDCOST k 11");
    put(&mut client, &format!("k {}", document(&[MONTH])));
    put(&mut client, &format!("k {}", document(&[MONTH, RPM])));
    run(&mut client, "PUBLISH __keyevent@0__:end x");
    let mut events = Vec::new();
    while events.last().is_none_or(|event| event != "end") {
        let channel = listener.get_message().unwrap().get_channel_name().to_owned();
        events.push(channel.rsplit(':').next().unwrap().to_owned());
    }
    assert_eq!(events, ["gw.addcost", "gw.policyput", "gw.softbudget", "gw.policyput", "end"]);
}

/// A primary with an append-only file, and its replica.
struct Pair {
    primary: Server,
    client: Connection,
    reader: Connection,
    _replica: Server,
}

impl Pair {
    fn start() -> Self {
        let primary = Server::options().aof().start().unwrap();
        let replica = Server::options().replica_of(&primary).start().unwrap();
        let (mut client, mut reader) = (primary.connect().unwrap(), replica.connect().unwrap());
        await_in_sync(&mut client, &mut reader);
        Self { primary, client, reader, _replica: replica }
    }

    /// The type, the value with its time to live, and the end of the key are the same on both, and after a restart.
    fn is_equal(&mut self, key: &str, what: &str) {
        await_in_sync(&mut self.client, &mut self.reader);
        let state = |client: &mut Connection| {
            let words = ["TYPE", "PEXPIRETIME"].map(|word| run(client, &format!("{word} {key}")));
            (words, digest(client, key))
        };
        let on_primary = state(&mut self.client);
        assert_eq!(state(&mut self.reader), on_primary, "{what}, on the replica");
        run(&mut self.client, "DEBUG LOADAOF");
        assert_eq!(state(&mut self.client), on_primary, "{what}, from the AOF");
    }
}

#[test]
fn a_refused_plan_leaves_a_ledger_a_ledger() {
    let mut pair = Pair::start();
    run(&mut pair.client, "GW.ADDCOST l 5");
    let budgets: Vec<String> = (0..9)
        .map(|i| format!(r#"{{"name":"b{i}","kind":"budget","amount":"1","period":"day","meter":"m{i}"}}"#))
        .collect();
    let all = document(&budgets.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(put(&mut pair.client, &format!("l {all}")), "ERR budgets of more than 9 meters: account");
    assert_eq!(run(&mut pair.client, "TYPE l"), "gw-ledger");
    assert_eq!(run(&mut pair.client, "GW.SPENT l"), "\"5\"");
    pair.is_equal("l", "a plan of too many meters");
    assert!(pair.primary.is_running());
}

#[test]
fn an_admission_moves_the_end_of_an_idle_account_on_every_node() {
    let mut pair = Pair::start();
    for (index, change) in ["EXPIRE k 10", "PERSIST k", "EXPIRE k 1000000"].into_iter().enumerate() {
        run(&mut pair.client, "DEL k");
        put(&mut pair.client, &format!("k {} IDLE 100000", document(&[RPM])));
        assert_eq!(run(&mut pair.client, change), "1");
        run(&mut pair.client, &format!("GW.ADMIT k LEASE a{index} TTL 50 ROWS NONE"));
        let left_ms: i64 = call!(pair.client, "PTTL", "k");
        assert!((90_000..=125_000).contains(&left_ms), "{change}: {left_ms}");
        pair.is_equal("k", change);
        run(&mut pair.client, &format!("GW.ADMIT k LEASE b{index} TTL 60000 ROWS NONE"));
        assert_eq!(run(&mut pair.client, change), "1");
        assert_eq!(run(&mut pair.client, &format!("GW.KEEPALIVE k LEASE b{index} TTL 70000")), "1");
        let left_ms: i64 = call!(pair.client, "PTTL", "k");
        assert!((70_000..=125_000).contains(&left_ms), "{change}: {left_ms}");
        pair.is_equal("k", "GW.KEEPALIVE");
    }
}

#[test]
fn a_refused_credit_lets_an_idle_account_expire() {
    let mut pair = Pair::start();
    let budgets: Vec<String> = (0..8)
        .map(|i| format!(r#"{{"name":"b{i}","kind":"budget","amount":"1","period":"day","meter":"m{i}"}}"#))
        .collect();
    let all = document(&budgets.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(put(&mut pair.client, &format!("k {all}")), "1");
    assert_eq!(put(&mut pair.client, &format!("k {} IDLE 100000", document(&[RPM]))), "1");
    let refused = run(&mut pair.client, "GW.CREDIT k DAY 5 METER m99");
    assert_eq!(refused, "ERR budgets of more than 9 meters: account");
    assert!(call!(pair.client, "PTTL", "k" => i64) > 0);
    pair.is_equal("k", "a credit of one meter too many");
}

/// A long document is read in a time that grows with its length, not with its square.
#[test]
fn many_unknown_words_are_one_mistake() {
    let (_server, mut client) = start();
    let members: Vec<String> = (0..6_000).map(|i| format!("\"{i:x}\":0")).collect();
    let json = format!(r#"{{"policies":[{{{}}}]}}"#, members.join(","));
    assert_eq!(reply!(client, "GW.POLICYPUT", "k", json), "ERR missing word: name (policies[0])");
    assert_eq!(run(&mut client, "EXISTS k"), "0");
}
