//! GW.ROUTE, breakers, cooldowns, and what GW.SETTLE says of a call.

use crate::support::{DEADLINE, command, run, start, state};
use gw_testkit::redis::{self, Connection, Value};
use gw_testkit::{Server, await_in_sync, await_until, call, reply_line};
use std::collections::{BTreeMap, BTreeSet};

/// The target, the wait, and the names of accounts and policies in the rows.
fn route(client: &mut Connection, words: &str) -> (Option<String>, i64, Vec<(String, String)>) {
    let (target, wait_ms, rows): (Option<String>, i64, Vec<Vec<Value>>) =
        command(&format!("GW.ROUTE {words}")).query(client).unwrap();
    let text = |value: &Value| reply_line(Ok(value.clone())).trim_matches('"').to_owned();
    (target, wait_ms, rows.iter().map(|row| (text(&row[0]), text(&row[1]))).collect())
}

fn target(client: &mut Connection, words: &str) -> Option<String> {
    route(client, words).0
}

fn set(client: &mut Connection, policies: &[&str]) {
    for policy in policies {
        assert_eq!(run(client, &format!("GW.POLICYSET {policy}")), "1", "{policy}");
    }
}

fn stats(client: &mut Connection) -> BTreeMap<String, u64> {
    call!(*client, "GW.STATS")
}

/// The state of a breaker, and its probe.
fn breaker(client: &mut Connection, account: &str, name: &str) -> (String, Option<String>) {
    let described: BTreeMap<String, Value> = call!(*client, "GW.DESCRIBE", account);
    let breakers: BTreeMap<String, (String, u64, i64, Option<String>)> =
        redis::from_redis_value(described["breakers"].clone()).unwrap();
    let (state, _, _, probe) = breakers[name].clone();
    (state, probe)
}

#[test]
fn the_first_that_admits_is_picked_and_charged_alone() {
    let (_server, mut client) = start();
    set(
        &mut client,
        &["a rpm WINDOW 1 PER 3600000", "b tpm BUCKET 1 100 PER 3600000 METER tokens", "c rpm WINDOW 9 PER 3600000"],
    );
    let targets = "a WITH 3 none b c";
    assert_eq!(
        route(&mut client, &format!("{targets} LEASE 1 TTL 3600000 tokens 50")),
        (Some("a".into()), 0, Vec::new())
    );
    let (picked, wait_ms, rows) = route(&mut client, &format!("{targets} LEASE 2 TTL 3600000 tokens 50 ROWS REFUSED"));
    let refused = [("a", "rpm"), ("none", "NOACCOUNT")].map(|(account, policy)| (account.into(), policy.into()));
    assert_eq!((picked.as_deref(), wait_ms, rows), (Some("b"), 0, refused.to_vec()));
    assert_eq!(
        target(&mut client, &format!("{targets} LEASE 3 TTL 3600000 tokens 500")).as_deref(),
        Some("c"),
        "too small"
    );
    // The same attempt is the same target, even if another one has room by now.
    assert_eq!(run(&mut client, "GW.POLICYRESET a rpm"), "1");
    for (lease, picked) in [("1", "a"), ("2", "b"), ("3", "c")] {
        assert_eq!(target(&mut client, &format!("{targets} LEASE {lease} TTL 9 tokens 1")).as_deref(), Some(picked));
    }
    assert_eq!(run(&mut client, "GW.SETTLE b LEASE 2 tokens 50"), "\"SETTLED\"");
    assert_eq!(run(&mut client, &format!("GW.ROUTE {targets} LEASE 2 TTL 9")), "LEASEENDED lease has ended: 2");
    assert_eq!(run(&mut client, "GW.ROUTE none WITH 1 never LEASE 4 TTL 9"), "NOACCOUNT no such account: none");
    let stats = stats(&mut client);
    let names = ["route_picked", "route_refused", "route_repeated", "route_lease_ended", "route_no_account"];
    assert_eq!(names.map(|name| stats[name]), [3, 0, 3, 1, 8]);
}

#[test]
fn a_refusal_has_the_shortest_wait_and_the_reasons() {
    let (_server, mut client) = start();
    set(&mut client, &["a rpm WINDOW 1 PER 3600000", "b rpm WINDOW 1 PER 900000", "c never INFLIGHT 0"]);
    for lease in ["1", "2"] {
        assert!(target(&mut client, &format!("a WITH 2 b c LEASE {lease} TTL 3600000")).is_some());
    }
    for pick in ["FIRST", "ROOM", "FAST"] {
        let (picked, wait_ms, rows) = route(&mut client, &format!("a WITH 2 b c LEASE 3 TTL 9 PICK {pick} ROWS ALL"));
        assert_eq!((picked, rows.len()), (None, 3), "{pick}");
        assert!((1..=900_000).contains(&wait_ms), "{pick}: {wait_ms}");
        assert_eq!(route(&mut client, &format!("c LEASE 3 TTL 9 PICK {pick}")), (None, -1, Vec::new()));
    }
    assert_eq!(stats(&mut client)["route_refused"], 6);
}

#[test]
fn room_and_speed_spread_requests() {
    let (_server, mut client) = start();
    set(&mut client, &["big rpm WINDOW 300 PER 3600000", "small rpm WINDOW 100 PER 3600000"]);
    for request in 0..400 {
        assert!(target(&mut client, &format!("big WITH 1 small LEASE {request} TTL 3600000 PICK ROOM")).is_some());
        if request == 199 {
            let used = in_flight(&mut client, "small");
            assert!((40..=60).contains(&used), "a quarter of 200 goes to the smaller one: {used}");
        }
    }
    assert_eq!(target(&mut client, "big WITH 1 small LEASE more TTL 9 PICK ROOM"), None, "every unit was used");

    set(&mut client, &["quick rpm WINDOW 9999 PER 3600000", "slow rpm WINDOW 9999 PER 3600000"]);
    for (account, took_ms) in [("quick", 100), ("slow", 300)] {
        assert_eq!(target(&mut client, &format!("{account} LEASE first TTL 3600000")).as_deref(), Some(account));
        assert_eq!(run(&mut client, &format!("GW.SETTLE {account} LEASE first TOOK {took_ms}")), "\"SETTLED\"");
    }
    // Each keeps one request in flight, so that its average does not decay.
    for account in ["quick", "slow"] {
        assert_eq!(target(&mut client, &format!("{account} LEASE held TTL 3600000")).as_deref(), Some(account));
    }
    for request in 0..200 {
        assert!(target(&mut client, &format!("quick WITH 1 slow LEASE n{request} TTL 3600000 PICK FAST")).is_some());
    }
    let (quick, slow) = (in_flight(&mut client, "quick"), in_flight(&mut client, "slow"));
    assert!((140..=164).contains(&quick), "three times as fast, three times the requests: {quick} and {slow}");
}

fn in_flight(client: &mut Connection, account: &str) -> u64 {
    let described: BTreeMap<String, Value> = call!(*client, "GW.DESCRIBE", account);
    redis::from_redis_value(described["in_flight"].clone()).unwrap()
}

#[test]
fn a_breaker_opens_and_closes_by_its_probe_alone() {
    let (_server, mut client) = start();
    set(&mut client, &["a up BREAKER 2 PER 3600000 OPEN 1", "b rpm WINDOW 999 PER 3600000"]);
    for lease in ["1", "2", "3"] {
        assert_eq!(target(&mut client, &format!("a WITH 1 b LEASE {lease} TTL 3600000")).as_deref(), Some("a"));
    }
    assert_eq!(run(&mut client, "GW.SETTLE a LEASE 1 FAILED"), "\"SETTLED\"");
    assert_eq!(run(&mut client, "GW.SETTLE a LEASE 1 FAILED"), "\"REPEATED\"", "counted once");
    assert_eq!(breaker(&mut client, "a", "up").0, "closed");
    assert_eq!(run(&mut client, "GW.SETTLE a LEASE 2 requests 0 FAILED"), "\"SETTLED\"");
    await_until("the breaker to be half-open", DEADLINE, || breaker(&mut client, "a", "up").0 == "half-open").unwrap();
    assert_eq!(run(&mut client, "GW.SETTLE a LEASE 3"), "\"SETTLED\"", "says nothing of the time after");
    assert_eq!(target(&mut client, "a WITH 1 b LEASE probe TTL 3600000").as_deref(), Some("a"));
    assert_eq!(breaker(&mut client, "a", "up"), ("half-open".into(), Some("probe".into())));
    assert_eq!(target(&mut client, "a WITH 1 b LEASE other TTL 3600000").as_deref(), Some("b"), "one probe at a time");
    assert_eq!(run(&mut client, "GW.SETTLE a LEASE probe requests 0"), "\"SETTLED\"");
    assert_eq!(breaker(&mut client, "a", "up"), ("half-open".into(), None), "undone");
    assert_eq!(run(&mut client, "GW.ADMIT a LEASE dies TTL 1 ROWS NONE"), "[1, 0, []]");
    let mut tries = 0;
    await_until("the next probe", DEADLINE, || {
        tries += 1;
        target(&mut client, &format!("a LEASE next-{tries} TTL 3600000")).is_some()
    })
    .unwrap();
    assert_eq!(breaker(&mut client, "a", "up"), ("half-open".into(), Some(format!("next-{tries}"))));
    assert_eq!(run(&mut client, &format!("GW.SETTLE a LEASE next-{tries} TOOK 5")), "\"SETTLED\"");
    assert_eq!(breaker(&mut client, "a", "up"), ("closed".into(), None));
    let stats = stats(&mut client);
    assert_eq!(["breaker_opened", "breaker_closed", "cooldowns"].map(|name| stats[name]), [1, 1, 0]);
    assert_eq!(stats["breaker_probes"], 3);
}

#[test]
fn a_cooldown_is_of_the_account_and_is_in_the_rows() {
    let (_server, mut client) = start();
    assert_eq!(run(&mut client, r#"GW.POLICYPUT a {"policies":[]}"#), "1");
    assert_eq!(run(&mut client, "GW.ADMIT a LEASE 1 TTL 3600000"), "[1, 0, []]");
    assert_eq!(run(&mut client, "GW.SETTLE a LEASE 1 FAILED COOLDOWN 3600000"), "\"SETTLED\"");
    let (admitted, wait_ms, rows): (i64, i64, Vec<Vec<Value>>) =
        command("GW.ADMIT a LEASE 2 TTL 9 ROWS DETAIL").query(&mut client).unwrap();
    assert_eq!((admitted, rows.len(), rows[0].len()), (0, 1, 11));
    assert!((1..=3_600_000).contains(&wait_ms));
    let texts: Vec<String> = rows[0].iter().map(|field| reply_line(Ok(field.clone()))).collect();
    assert_eq!([1, 7, 8].map(|at| texts[at].as_str()), ["\"COOLDOWN\"", "\"COOLDOWN\"", "\"\""]);
    assert_eq!(stats(&mut client)["cooldowns"], 1);
}

/// Hundreds of targets with all policies that they can have: the reply has a bound.
#[test]
fn rows_have_a_bound() {
    let (_server, mut client) = start();
    let policies: Vec<String> =
        (0..32).map(|policy| format!(r#"{{"name":"p{policy}","kind":"inflight","max":0}}"#)).collect();
    let document = format!(r#"{{"policies":[{}]}}"#, policies.join(","));
    let targets: Vec<String> = (0..64).map(|target| format!("t{target}")).collect();
    for target in &targets {
        assert_eq!(run(&mut client, &format!("GW.POLICYPUT {target} {document}")), "1");
    }
    let words = format!("{} WITH 63 {} LEASE a TTL 9 ROWS REFUSED", targets[0], targets[1..].join(" "));
    let (picked, wait_ms, rows) = route(&mut client, &words);
    assert_eq!((picked, wait_ms, rows.len()), (None, -1, 1_024));
    let asked: BTreeSet<String> = rows.into_iter().map(|(target, _)| target).collect();
    assert_eq!(asked.len(), 32);
}

/// A replica, a restart with an AOF, and a reload have the same targets, with everything that is due by time.
#[test]
fn every_node_has_the_same_targets() {
    let primary = Server::options().aof().start().unwrap();
    let mut client = primary.connect().unwrap();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let mut reader = replica.connect().unwrap();
    for target in ["a", "b", "c"] {
        set(
            &mut client,
            &[
                &format!("{target} up BREAKER 2 PER 60000 OPEN 20"),
                &format!("{target} watch BREAKER 1 PER 9 OPEN 9 SHADOW"),
            ],
        );
        set(&mut client, &[&format!("{target} tpm BUCKET 1000 90000 PER 1000 METER tokens GIVEBACK")]);
    }
    let mut requests = 0..;
    // On a fast machine the first six hundred are over before a breaker is half-open.
    await_until("breakers to open and to be probed", DEADLINE, || {
        for request in requests.by_ref().take(600) {
            let pick = ["FIRST", "ROOM", "FAST"][request % 3];
            let ttl_ms = if request % 7 == 0 { 1 } else { 3_600_000 };
            let words = format!("a WITH 2 b c LEASE {request} TTL {ttl_ms} tokens 10 PICK {pick}");
            let Some(picked) = target(&mut client, &words) else { continue };
            let how = ["FAILED TOOK 30", "TOOK 5", "", "requests 0 FAILED COOLDOWN 3", "TOOK 900", "requests 0"];
            run(&mut client, &format!("GW.SETTLE {picked} LEASE {request} tokens 3 {}", how[request % 6]));
        }
        let stats = stats(&mut client);
        stats["breaker_opened"] > 0 && stats["breaker_probes"] > 0 && stats["cooldowns"] > 0
    })
    .unwrap();
    await_in_sync(&mut client, &mut reader);
    let before = state(&mut client);
    assert_eq!(state(&mut reader), before, "the replica");
    run(&mut client, "DEBUG RELOAD");
    assert_eq!(state(&mut client), before, "reloaded");
    run(&mut client, "DEBUG LOADAOF");
    assert_eq!(state(&mut client), before, "the effects replayed");
}
