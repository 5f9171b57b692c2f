//! GW.CREDIT, and budgets at their soft limits: what is given, where it counts, and which events are sent.

use crate::support::{DEADLINE, command, run, server_time_ms, start};
use gw_testkit::redis::{Connection, Value};
use gw_testkit::{Server, await_in_sync, call, digest};

fn all(client: &mut Connection, commands: &[&str]) {
    for words in commands {
        let reply = run(client, words);
        assert!(!reply.starts_with("ERR"), "{words}: {reply}");
    }
}

/// Limit and remaining of the first row of an admission that is only decided.
fn row(client: &mut Connection, words: &str) -> (String, String) {
    type Row = (Value, Value, i64, String, String, i64, i64);
    let (_, _, rows): (i64, i64, Vec<Row>) = command(&format!("GW.ADMIT {words} SHADOW")).query(client).unwrap();
    (rows[0].3.clone(), rows[0].4.clone())
}

#[test]
fn every_budget_over_a_period_is_budget_plus_credit() {
    let (_server, mut client) = start();
    assert_eq!(run(&mut client, "GW.CREDIT l MONTH 5"), "\"5\"");
    assert_eq!(run(&mut client, "GW.CREDIT l MONTH 2.5"), "\"7.5\"");
    assert_eq!(run(&mut client, "GW.CREDIT l DAY 1"), "\"1\"");
    let check = run(&mut client, "GW.WITHINBUDGET l 10 MONTH COST 17.5");
    assert!(check.starts_with(r#"[1, "MONTH", "17.5", "0", "0", "17.5""#), "{check}");
    let check = run(&mut client, "GW.WITHINBUDGET l 10 WEEK COST 10.1");
    assert!(check.starts_with(r#"[0, "WEEK", "10", "#), "{check}");
    let held = run(&mut client, "GW.RESERVE l 17 10 MONTH ID h");
    assert!(held.starts_with(r#"[1, "h", "MONTH", "17.5", "0", "17", "0.5""#), "{held}");
    assert_eq!(run(&mut client, "GW.SPENT l"), "\"0\"", "a credit is no spend");

    all(&mut client, &["GW.POLICYSET k b BUDGET 10 MONTH SOFT 80", "GW.CREDIT k MONTH 5"]);
    assert_eq!(row(&mut client, "k LEASE x TTL 1000 usd 1"), ("15".into(), "15".into()));
    // The credit belongs to the ledger: removing a policy by mistake does not remove it.
    all(&mut client, &["GW.POLICYDEL k b", "GW.POLICYSET k b BUDGET 20 MONTH"]);
    assert_eq!(row(&mut client, "k LEASE x TTL 1000 usd 1").0, "25");

    // A prepaid account.
    all(&mut client, &["GW.POLICYSET p b BUDGET 0 TOTAL", "GW.CREDIT p TOTAL 3"]);
    assert_eq!(row(&mut client, "p LEASE x TTL 1000 usd 1"), ("3".into(), "3".into()));
    assert!(run(&mut client, "GW.ADMIT p LEASE x TTL 1000 usd 3.1").starts_with("[0, -1, "));
}

#[test]
fn a_credit_is_of_a_meter_a_period_and_an_id() {
    let (_server, mut client) = start();
    all(&mut client, &["GW.POLICYSET k t BUDGET 100 DAY METER tokens", "GW.CREDIT k DAY 50 METER tokens"]);
    assert_eq!(row(&mut client, "k LEASE x TTL 1000 tokens 1"), ("150".into(), "150".into()));
    assert_eq!(run(&mut client, "GW.CREDIT k DAY 0"), "\"0\"", "money has none");
    // A ledger alone becomes an account, and keeps its spend and its credits.
    all(&mut client, &["GW.ADDCOST l 3", "GW.CREDIT l TOTAL 7 METER tokens"]);
    assert_eq!(run(&mut client, "GW.SPENT l"), "\"3\"");
    assert_eq!(run(&mut client, "TYPE l"), "gw-accnts");

    let now_ms = server_time_ms(&mut client);
    let (later_ms, long_ago_ms) = (now_ms + 40 * 86_400_000, now_ms - 400 * 86_400_000);
    assert_eq!(run(&mut client, &format!("GW.CREDIT a MONTH 5 AT {later_ms}")), "\"5\"");
    assert_eq!(run(&mut client, &format!("GW.CREDIT a MONTH 4 AT {long_ago_ms}")), "\"4\"");
    assert_eq!(run(&mut client, "GW.CREDIT a MONTH 0"), "\"0\"");

    assert_eq!(run(&mut client, "GW.CREDIT i TOTAL 5 ID top-up:1"), "\"5\"");
    assert_eq!(run(&mut client, "GW.CREDIT i TOTAL 5 ID top-up:2"), "\"10\"");
    assert_eq!(run(&mut client, "GW.CREDIT i TOTAL 5 ID top-up:1"), "\"5\"", "the first result");
    assert_eq!(run(&mut client, "GW.CREDIT i TOTAL -4"), "\"6\"");
    assert_eq!(run(&mut client, "GW.CREDIT i TOTAL -7"), "ERR more than was given: amount");
    assert_eq!(run(&mut client, "GW.CREDIT i TOTAL 0"), "\"6\"");
    all(&mut client, &["GW.ADDCOST i 1 ID charge"]);
    assert_eq!(run(&mut client, "GW.CREDIT i TOTAL 1 ID charge"), "ERR a hold or a charge has this id: ID");
    assert_eq!(run(&mut client, "GW.ADDCOST i 1 ID top-up:1"), "ERR a credit has this id: ID");
    assert_eq!(run(&mut client, "GW.RESERVE i 1 5 ID top-up:1"), "ERR id already used: ID");
}

#[test]
fn what_is_no_credit_is_refused_and_makes_no_key() {
    let (_server, mut client) = start();
    call!(client, "SET", "text", "x" => ());
    for (words, error) in [
        ("GW.CREDIT k MONTH", "ERR wrong number of arguments for 'gw.credit' command"),
        ("GW.CREDIT k YEAR 1", "ERR not DAY, WEEK, MONTH or TOTAL: YEAR"),
        ("GW.CREDIT k MONTH x", "ERR not an amount: amount"),
        ("GW.CREDIT k MONTH 1e19", "ERR amount out of range: amount"),
        ("GW.CREDIT k MONTH -1", "ERR more than was given: amount"),
        ("GW.CREDIT k MONTH 1 METER", "ERR missing value: METER"),
        ("GW.CREDIT k MONTH 1 METER LEASE", "ERR reserved name: LEASE"),
        ("GW.CREDIT k MONTH 1 ID a ID b", "ERR repeated option: ID"),
        ("GW.CREDIT k MONTH 1 NX", "ERR unknown option: NX"),
        ("GW.CREDIT text MONTH 1", "WRONGTYPE Operation against a key holding the wrong kind of value"),
    ] {
        assert_eq!(run(&mut client, words), error, "{words}");
    }
    assert!(run(&mut client, "GW.CREDIT k MONTH 1 AT -1").starts_with("ERR not an integer from 0 to "));
    assert_eq!(run(&mut client, "GW.CREDIT k MONTH 0"), "\"0\"");
    assert_eq!(run(&mut client, "EXISTS k"), "0");
    all(&mut client, &["GW.CREDIT k MONTH 1e18"]);
    assert_eq!(run(&mut client, "GW.CREDIT k MONTH 1"), "ERR sum out of range: amount");
}

/// Checks which changes cause the server event `gw.softbudget`.
fn assert_told(server: &Server, changes: &[(&str, &[&str])]) {
    let mut client = server.connect().unwrap();
    call!(client, "CONFIG", "SET", "notify-keyspace-events", "Ed" => ());
    let mut listener = server.connect().unwrap();
    let mut listener = listener.as_pubsub();
    listener.subscribe("__keyevent@0__:gw.softbudget").unwrap();
    listener.set_read_timeout(Some(DEADLINE)).unwrap();
    for (words, keys) in changes {
        let reply = run(&mut client, words);
        assert!(!reply.starts_with("ERR"), "{words}: {reply}");
        run(&mut client, "PUBLISH __keyevent@0__:gw.softbudget end");
        let mut told = Vec::new();
        loop {
            match listener.get_message().unwrap().get_payload::<String>().unwrap() {
                end if end == "end" => break,
                key => told.push(key),
            }
        }
        assert_eq!(told, *keys, "{words}");
    }
}

#[test]
fn a_soft_limit_is_told_once_by_whatever_change_gets_there() {
    let (server, _) = start();
    assert_told(
        &server,
        &[
            ("GW.POLICYSET a b BUDGET 10 MONTH SOFT 80", &[]),
            ("GW.ADDCOST a 7.9", &[]),
            ("GW.ADDCOST a 0.1", &["a"]),
            ("GW.ADDCOST a 1", &[]),
            // Below the limit and back again: no second event in this period.
            ("GW.ADDCOST a -5 REFUND", &[]),
            ("GW.ADDCOST a 5", &[]),
            ("GW.ADMIT a LEASE l TTL 1000 usd 0.5", &[]),
            // A second budget has an event of its own.
            ("GW.POLICYSET a c BUDGET 5 DAY SOFT 50", &["a"]),
            ("GW.POLICYSET r b BUDGET 10 MONTH SOFT 80", &[]),
            ("GW.RESERVE r 8 10 ID h", &["r"]),
            ("GW.COMMIT r h 9", &[]),
            ("GW.POLICYSET c b BUDGET 10 MONTH SOFT 80", &[]),
            ("GW.RESERVE c 1 10 ID h", &[]),
            ("GW.COMMIT c h 9", &["c"]),
            // A budget is lowered below what is spent.
            ("GW.ADDCOST s 5", &[]),
            ("GW.POLICYSET s b BUDGET 100 MONTH SOFT 80", &[]),
            ("GW.POLICYSET s b BUDGET 5 MONTH SOFT 80", &["s"]),
            // A credit is taken back.
            ("GW.POLICYSET t b BUDGET 10 MONTH SOFT 80", &[]),
            ("GW.CREDIT t MONTH 10", &[]),
            ("GW.ADDCOST t 8", &[]),
            ("GW.CREDIT t MONTH -10", &["t"]),
            ("GW.POLICYSET e b BUDGET 10 MONTH SOFT 80", &[]),
            ("GW.ADMIT e LEASE l TTL 60000 usd 1", &[]),
            ("GW.SETTLE e LEASE l usd 8", &["e"]),
            // Prepaid: there is no limit to approach before the first credit.
            ("GW.POLICYSET p b BUDGET 0 TOTAL SOFT 80", &[]),
            ("GW.CREDIT p TOTAL 10", &[]),
            ("GW.ADMIT p LEASE l TTL 60000 usd 8", &["p"]),
        ],
    );
}

const CHANGES: &[&str] = &[
    "GW.CREDIT l MONTH 5 ID once",
    "GW.CREDIT l WEEK 5",
    "GW.CREDIT l DAY 1",
    "GW.CREDIT l TOTAL 3",
    "GW.CREDIT l TOTAL -3",
    "GW.POLICYSET k b BUDGET 10 MONTH SOFT 80",
    "GW.POLICYSET k t BUDGET 10 DAY METER tokens SOFT 50",
    "GW.CREDIT k MONTH 5 METER tokens ID credit",
    "GW.CREDIT k DAY 2.5",
    "GW.ADMIT k LEASE l TTL 60000 usd 9 tokens 7",
    "GW.ADDCOST k 1",
    "GW.CREDIT fresh MONTH 5 METER tokens",
];

#[test]
fn a_replica_a_reload_and_the_aof_have_the_same() {
    let primary = Server::options().aof().start().unwrap();
    let mut client = primary.connect().unwrap();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let mut reader = replica.connect().unwrap();
    await_in_sync(&mut client, &mut reader);
    all(&mut client, CHANGES);
    let digests = |client: &mut Connection| ["l", "k", "fresh"].map(|key| digest(client, key));
    let before = digests(&mut client);
    await_in_sync(&mut client, &mut reader);
    assert_eq!(digests(&mut reader), before);
    call!(client, "DEBUG", "RELOAD" => ());
    assert_eq!(digests(&mut client), before);
    call!(client, "DEBUG", "LOADAOF" => ());
    assert_eq!(digests(&mut client), before);
    // A replica that becomes the primary does not repeat the event.
    call!(reader, "REPLICAOF", "NO", "ONE" => ());
    assert_told(&replica, &[("GW.ADDCOST k 0.1", &[]), ("GW.ADMIT k LEASE m TTL 60000 tokens 1", &[])]);
}
