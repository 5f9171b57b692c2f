//! GW.TOP: which keys are refused most, or use most of a meter.

use crate::support::{DEADLINE, at_once, command, pipeline, run, start, state};
use gw_testkit::redis::Connection;
use gw_testkit::{Clock, Server, await_in_sync, await_until, call};
use std::collections::HashMap;

fn denied(client: &mut Connection) -> String {
    run(client, "GW.TOP DENIED BY HOUR")
}

fn meter(client: &mut Connection, meter: &str) -> String {
    run(client, &format!("GW.TOP METER {meter} BY HOUR"))
}

fn stat(client: &mut Connection, name: &str) -> u64 {
    let stats: HashMap<String, u64> = call!(*client, "GW.STATS");
    stats[name]
}

#[test]
fn every_refusal_counts_with_what_has_refused() {
    let (_server, mut client) = start();
    assert_eq!(denied(&mut client), "[]");
    for words in [
        "GW.ALLOW a 1",
        "GW.ALLOW a 1",
        "GW.ALLOW a 1",
        "GW.ALLOW a 1",
        "GW.ALLOW a 1",
        "GW.ALLOW a 1",
        "GW.TOKENS b 1 1 COST 2 PER 86400000",
        "GW.TOKENS b 1 1 COST 2 PER 86400000",
        "GW.TOKENS b 1 1 COST 2 PER 86400000",
        "GW.TOKENS b 1 1 COST 2 PER 86400000",
        "GW.ACQUIRE c 0 holder TTL 1000",
        "GW.ACQUIRE c 0 holder TTL 1000",
        "GW.ACQUIRE c 0 holder TTL 1000",
        "GW.RESERVE d 2 1",
        "GW.RESERVE d 2 1",
        // Neither of these refuses anything.
        "GW.ALLOW a 0 PEEK",
        "GW.ALLOW a 0 FORCE",
        "GW.TOKENS b 1 1 COST 2 PEEK",
        "GW.WITHINBUDGET d 1 COST 2",
        "GW.ALLOW a x",
        "GW.ALLOW d 1",
    ] {
        run(&mut client, words);
    }
    let expected = r#"[["a", "GW.ALLOW", 5, 5, 0], ["b", "GW.TOKENS", 4, 4, 0], ["c", "GW.ACQUIRE", 3, 3, 0], ["d", "GW.RESERVE", 2, 2, 0]]"#;
    assert_eq!(denied(&mut client), expected);
    assert_eq!(run(&mut client, "GW.TOP COUNT 1 BY MINUTE DENIED"), r#"[["a", "GW.ALLOW", 5, 5, 0]]"#);
}

#[test]
fn an_admission_counts_the_policies_that_refuse_it() {
    let (_server, mut client) = start();
    for words in [
        "GW.POLICYSET {t} month BUDGET 1 MONTH",
        "GW.POLICYSET {t} seen WINDOW 0 PER 60000 SHADOW",
        "GW.POLICYSET {t}:k rpm WINDOW 0 PER 60000",
        "GW.POLICYSET {t}:k off BLOCK",
        "GW.ADMIT {t}:k WITH 1 {t} LEASE a TTL 1000",
        "GW.ADMIT {t}:k WITH 2 {t} none LEASE b TTL 1000 usd 2",
        // Only asked.
        "GW.ADMIT {t}:k LEASE c TTL 1000 SHADOW",
        // Admitted, although a shadow policy would refuse it, and repeated.
        "GW.ADMIT {t} LEASE d TTL 1000",
        "GW.ADMIT {t} LEASE d TTL 1000",
    ] {
        let reply = run(&mut client, words);
        assert!(!reply.starts_with("ERR"), "{words}: {reply}");
    }
    let rows = r#"[["{t}:k", "off", 2, 2, 0], ["{t}:k", "rpm", 2, 2, 0], ["{t}", "month", 1, 1, 0]]"#;
    assert_eq!(denied(&mut client), rows);
}

/// Once for each target, whatever else of it refuses.
#[test]
fn a_refused_routing_counts_what_refuses_first_of_each_target() {
    for rows in ["NONE", "REFUSED", "ALL"] {
        let (_server, mut client) = start();
        for words in [
            "GW.POLICYSET {m}:a rpm WINDOW 9 PER 60000",
            "GW.POLICYSET {m}:a seen WINDOW 0 PER 60000 SHADOW",
            "GW.POLICYSET {m}:a off BLOCK",
            "GW.POLICYSET {m}:a max INFLIGHT 0",
            "GW.POLICYSET {m}:b max INFLIGHT 1",
            "GW.POLICYSET {m}:c rpm WINDOW 9 PER 60000",
            // Once {m}:b admits it; once it has it already.
            "GW.ROUTE {m}:a WITH 2 {m}:none {m}:b LEASE a TTL 60000",
            "GW.ROUTE {m}:a WITH 2 {m}:none {m}:b LEASE a TTL 60000",
            "GW.ADMIT {m}:c LEASE b TTL 60000",
            "GW.SETTLE {m}:c LEASE b FAILED COOLDOWN 60000",
        ] {
            let reply = run(&mut client, words);
            assert!(!reply.starts_with("ERR"), "{words}: {reply}");
        }
        assert_eq!(denied(&mut client), "[]", "{rows}");
        for (pick, lease) in [("FIRST", "c"), ("ROOM", "d"), ("FAST", "e")] {
            let targets = "{m}:a WITH 3 {m}:none {m}:b {m}:c";
            let reply = run(&mut client, &format!("GW.ROUTE {targets} LEASE {lease} TTL 1000 PICK {pick} ROWS {rows}"));
            assert!(reply.starts_with("[nil, "), "{pick} {rows}: {reply}");
        }
        let expected = r#"[["{m}:a", "off", 3, 3, 0], ["{m}:b", "max", 3, 3, 0], ["{m}:c", "COOLDOWN", 3, 3, 0]]"#;
        assert_eq!(denied(&mut client), expected, "{rows}");
    }
}

#[test]
fn a_wait_counts_once_and_only_if_it_ends_without_a_slot() {
    let (server, mut client) = start();
    run(&mut client, "GW.ACQUIRE s 1 a TTL 60000");
    assert!(run(&mut client, "GW.ACQUIRE s 1 b TTL 60000 BLOCK 1").starts_with("[0, "));
    assert_eq!(denied(&mut client), r#"[["s", "GW.ACQUIRE", 1, 1, 0]]"#);
    let mut waiting = server.connect().unwrap();
    let waits = std::thread::spawn(move || run(&mut waiting, "GW.ACQUIRE s 1 b TTL 60000 BLOCK 0"));
    await_until("the wait", DEADLINE, || stat(&mut client, "leases_waited") == 2).unwrap();
    run(&mut client, "GW.RELEASE s a");
    assert!(waits.join().unwrap().starts_with("[1, "));
    assert_eq!(denied(&mut client), r#"[["s", "GW.ACQUIRE", 1, 1, 0]]"#);
}

#[test]
fn meters_count_what_was_used() {
    let (_server, mut client) = start();
    for words in [
        "GW.ALLOW a 10 COST 3",
        "GW.ALLOW a 10 COST -2 FORCE",
        "GW.ALLOW a 10 PEEK",
        "GW.ALLOW a 10 COST 0",
        "GW.ALLOW b 1 COST 4 FORCE",
        "GW.TOKENS t 10 10",
        "GW.TOKENS t 10 10 COST 9007199254740992 FORCE",
        "GW.ADDCOST l 0.000000000001",
        "GW.ADDCOST l 0.25 ID once",
        "GW.ADDCOST l 0.25 ID once",
        "GW.ADDCOST l -0.1 REFUND",
        "GW.RESERVE l 5 100 ID h",
        "GW.COMMIT l h 1.5",
        "GW.COMMIT l h 1.5",
        "GW.RESERVE l 5 100 ID gone",
        "GW.CANCEL l gone",
        "GW.POLICYSET {k} rpm WINDOW 10 PER 60000",
        "GW.POLICYSET {k}2 rpm WINDOW 10 PER 60000",
        "GW.ADMIT {k} WITH 1 {k}2 LEASE one TTL 60000 tokens 100 usd 1",
        "GW.SETTLE {k} WITH 1 {k}2 LEASE one tokens 70 usd 0.5 images 2",
        "GW.SETTLE {k} WITH 1 {k}2 LEASE one tokens 70",
        "GW.SETTLE {k} LEASE unknown tokens 70",
        "GW.ADMIT {k} LEASE two TTL 60000",
        "GW.SETTLE {k} LEASE two requests 0",
        "GW.ADMIT {k} LEASE three TTL 60000 requests 5",
        "GW.SETTLE {k} LEASE three requests 6",
    ] {
        let reply = run(&mut client, words);
        assert!(!reply.starts_with("ERR"), "{words}: {reply}");
    }
    for (name, rows) in [
        (
            "requests",
            r#"[["{k}", "requests", "7", "7", "0"], ["b", "requests", "4", "4", "0"], ["a", "requests", "3", "3", "0"], ["{k}2", "requests", "1", "1", "0"]]"#,
        ),
        (
            "tokens",
            r#"[["t", "tokens", "9007199254740993", "9007199254740993", "0"], ["{k}", "tokens", "70", "70", "0"], ["{k}2", "tokens", "70", "70", "0"]]"#,
        ),
        (
            "usd",
            r#"[["l", "usd", "1.750000000001", "1.750000000001", "0"], ["{k}", "usd", "0.5", "0.5", "0"], ["{k}2", "usd", "0.5", "0.5", "0"]]"#,
        ),
        ("images", r#"[["{k}", "images", "2", "2", "0"], ["{k}2", "images", "2", "2", "0"]]"#),
        ("unknown", "[]"),
    ] {
        assert_eq!(meter(&mut client, name), rows);
    }
}

/// Each reply line is the same in both protocols, in a transaction and in a script.
#[test]
fn replies_are_the_same_everywhere() {
    let (server, mut client) = start();
    run(&mut client, "GW.ALLOW a 0");
    run(&mut client, "GW.ADDCOST l 1.5");
    let mut resp3 = server.connect_resp3().unwrap();
    for words in ["GW.TOP DENIED", "GW.TOP METER usd"] {
        assert_eq!(run(&mut resp3, words), run(&mut client, words));
    }
    let rows = (vec![("a".to_owned(), "GW.ALLOW".to_owned(), 1, 1, 0)],);
    type Rows = Vec<(String, String, i64, i64, i64)>;
    let in_transaction: (Rows,) = at_once(&mut client, &["GW.TOP DENIED"]);
    assert_eq!(in_transaction, rows);
    for eval in ["EVAL", "EVAL_RO"] {
        let in_script: Rows = call!(client, eval, "return redis.call('GW.TOP', 'DENIED')", 0);
        assert_eq!(in_script, rows.0, "{eval}");
    }
}

#[test]
fn wrong_calls_are_refused() {
    let (_server, mut client) = start();
    for (words, error) in [
        ("GW.TOP COUNT 5", "ERR missing option: DENIED or METER"),
        ("GW.TOP DENIED METER usd", "ERR conflicting option: DENIED with METER"),
        ("GW.TOP METER usd DENIED", "ERR conflicting option: DENIED with METER"),
        ("GW.TOP METER", "ERR missing value: METER"),
        ("GW.TOP DENIED BY DAY", "ERR not MINUTE or HOUR: DAY"),
        ("GW.TOP DENIED BY", "ERR missing value: BY"),
        ("GW.TOP DENIED COUNT 0", "ERR not an integer from 1 to 512: COUNT"),
        ("GW.TOP DENIED COUNT 513", "ERR not an integer from 1 to 512: COUNT"),
        ("GW.TOP DENIED DENIED", "ERR repeated option: DENIED"),
        ("GW.TOP DENIED 5", "ERR unknown option: 5"),
        ("GW.TOP usd", "ERR unknown option: usd"),
    ] {
        assert_eq!(run(&mut client, words), error, "{words}");
    }
    let too_long = "m".repeat(65);
    assert_eq!(run(&mut client, &format!("GW.TOP METER {too_long}")), "ERR not a name of 1 to 64 bytes: METER");
}

/// Far more keys than a list keeps: the heavy one is found, its bounds hold, and the memory stays bounded.
#[test]
fn a_heavy_key_is_found_among_many() {
    let (_server, mut client) = start();
    for round in 0..20 {
        let others = (0..1_000).map(|key| command(&format!("GW.ALLOW rpm:user:{round}:{key} 0")));
        let heavy = (0..100).map(|_| command("GW.ALLOW rpm:user:heavy 0"));
        pipeline(&mut client, others.chain(heavy));
    }
    let rows: Vec<(String, String, u64, u64, u64)> = call!(client, "GW.TOP", "DENIED", "BY", "HOUR", "COUNT", 512);
    let (key, policy, _, hour, error) = &rows[0];
    assert_eq!((&**key, &**policy), ("rpm:user:heavy", "GW.ALLOW"), "{:?}", &rows[..3]);
    assert!((hour - error..=*hour).contains(&2_000), "{hour} and {error}");
    assert!(rows.iter().all(|row| row.4 <= 22_000 / 129), "{rows:?}");
    let bytes = stat(&mut client, "top_bytes");
    assert!((1..1_000_000).contains(&bytes), "{bytes}");
}

#[test]
fn zero_switches_it_off_and_frees_its_memory() {
    let (_server, mut client) = start();
    run(&mut client, "GW.ALLOW a 0");
    assert!(stat(&mut client, "top_bytes") > 0);
    assert_eq!(run(&mut client, "CONFIG SET gw.top-keys 0"), "OK");
    assert_eq!(stat(&mut client, "top_bytes"), 0);
    run(&mut client, "GW.ALLOW a 0");
    run(&mut client, "GW.ADDCOST l 1");
    assert_eq!(stat(&mut client, "top_bytes"), 0);
    let off = "ERR nothing is counted with 0: gw.top-keys";
    assert_eq!((denied(&mut client), meter(&mut client, "usd")), (off.into(), off.into()));
    assert_eq!(run(&mut client, "CONFIG SET gw.top-keys 1"), "OK");
    assert_eq!(denied(&mut client), "[]");
    run(&mut client, "GW.ALLOW a 0");
    assert_eq!(denied(&mut client), r#"[["a", "GW.ALLOW", 1, 1, 0]]"#);
    // The same number again changes nothing.
    assert_eq!(run(&mut client, "CONFIG SET gw.top-keys 1"), "OK");
    assert_eq!(denied(&mut client), r#"[["a", "GW.ALLOW", 1, 1, 0]]"#);
    for bad in ["-1", "513", "many"] {
        assert!(run(&mut client, &format!("CONFIG SET gw.top-keys {bad}")).starts_with("ERR"), "{bad}");
    }
}

#[test]
fn the_lists_belong_to_the_process_and_to_no_key() {
    let mut server = Server::options().aof().start().unwrap();
    let replica = Server::options().replica_of(&server).start().unwrap();
    let (mut client, mut reader) = (server.connect().unwrap(), replica.connect().unwrap());
    await_in_sync(&mut client, &mut reader);
    run(&mut client, "GW.ALLOW a 1");
    let before = state(&mut client);
    run(&mut client, "GW.ALLOW a 1");
    run(&mut client, "GW.ADDCOST l 2");
    await_in_sync(&mut client, &mut reader);
    assert_eq!(state(&mut client).iter().find(|(key, ..)| key == "a"), before.iter().find(|(key, ..)| key == "a"));
    assert_eq!(
        (denied(&mut reader), meter(&mut reader, "usd")),
        ("[]".into(), "[]".into()),
        "a replica does not decide, so it counts nothing"
    );
    let (rows, spent) = (r#"[["a", "GW.ALLOW", 1, 1, 0]]"#, r#"[["l", "usd", "2", "2", "0"]]"#);
    for words in ["DEL a", "FLUSHALL", "GW.TOP DENIED"] {
        run(&mut client, words);
        assert_eq!((denied(&mut client), meter(&mut client, "usd")), (rows.into(), spent.into()), "{words}");
    }
    // A replica that has become a primary counts its own.
    run(&mut reader, "REPLICAOF NO ONE");
    run(&mut reader, "GW.ALLOW b 0");
    assert_eq!(denied(&mut reader), r#"[["b", "GW.ALLOW", 1, 1, 0]]"#);

    assert_eq!(run(&mut client, "GW.STATSRESET"), "OK");
    assert_eq!((denied(&mut client), stat(&mut client, "top_bytes")), ("[]".into(), 0));
    run(&mut client, "GW.ALLOW a 0");
    drop(client);
    server.restart().unwrap();
    assert_eq!(denied(&mut server.connect().unwrap()), "[]", "it is not saved");
}

#[test]
fn counts_leave_the_minute_and_the_hour_by_the_servers_clock() {
    let clock = Clock::new().unwrap();
    let server = Server::options().clock(&clock).start().unwrap();
    let mut client = server.connect().unwrap();
    run(&mut client, "GW.ALLOW a 0");
    assert_eq!(run(&mut client, "GW.TOP DENIED"), r#"[["a", "GW.ALLOW", 1, 1, 0]]"#);
    let mut at = |ms: i64, rows: &str| {
        clock.set(ms).unwrap();
        // The server reads its clock some ten times a second, and before each command that it waits for.
        await_until(&format!("{rows} after {ms} ms"), DEADLINE, || run(&mut client, "GW.TOP DENIED") == rows).unwrap();
    };
    // Back by an hour: the count stays, in the minute, too.
    at(-3_600_000, r#"[["a", "GW.ALLOW", 1, 1, 0]]"#);
    at(-3_600_000 + 90_000, r#"[["a", "GW.ALLOW", 0, 1, 0]]"#);
    at(-3_600_000 + 3_400_000, r#"[["a", "GW.ALLOW", 0, 1, 0]]"#);
    at(500_000, "[]");
}

#[test]
fn only_users_who_may_see_all_keys_may_call_it() {
    let (server, mut client) = start();
    let mut grant = "ACL SETUSER tenant on >pass ~tenant:* +@read +@write +@connection".to_owned();
    let categories: Vec<String> = call!(client, "ACL", "CAT");
    if categories.contains(&"gw".into()) {
        grant += " +@gw";
    }
    assert_eq!(run(&mut client, &grant), "OK");
    let mut tenant = server.connect_as("tenant", "pass").unwrap();
    assert!(run(&mut tenant, "GW.TOP DENIED").starts_with("NOPERM"));
    assert_eq!(run(&mut client, "ACL SETUSER tenant +gw.top"), "OK");
    assert_eq!(run(&mut tenant, "GW.TOP DENIED"), "[]", "it has no key, so a user needs none");
}

#[test]
fn meters_without_room_are_counted_and_the_usual_ones_always_have_it() {
    let (_server, mut client) = start();
    run(&mut client, "GW.POLICYSET k inflight INFLIGHT 100");
    for number in 0..7 {
        run(&mut client, &format!("GW.ADMIT k LEASE l{number} TTL 60000"));
        run(&mut client, &format!("GW.SETTLE k LEASE l{number} made-up-{number} 5"));
    }
    assert_eq!(stat(&mut client, "top_ignored"), 2);
    assert_eq!(meter(&mut client, "made-up-4"), r#"[["k", "made-up-4", "5", "5", "0"]]"#);
    assert_eq!(meter(&mut client, "made-up-5"), "[]");
    run(&mut client, "GW.ADDCOST l 1");
    assert_eq!(meter(&mut client, "usd"), r#"[["l", "usd", "1", "1", "0"]]"#);
    assert_eq!(meter(&mut client, "requests"), r#"[["k", "requests", "7", "7", "0"]]"#);
}
