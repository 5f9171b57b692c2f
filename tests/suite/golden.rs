//! Golden files: effects, saved values and whole data files that earlier builds wrote, read by the current build.
//!
//! A folder `tests/golden/<generation>/` has the files that one build wrote on Redis 7.0, the oldest server:
//!
//! | file | what it is |
//! |---|---|
//! | `effects.aof` | each operation of each family's effects, as the commands wrote them to an append-only file |
//! | `dump.rdb` | the values that result from these effects, saved |
//! | `rewritten.aof` | the same values, by BGREWRITEAOF without an RDB preamble |
//! | `<key>.dump` | the same values, each key by DUMP |
//! | `values.json` | types, expiry times, and queries with their answers |
//!
//! The test loads all four forms and compares digests and answers, which must be the same in all of them. Digests
//! themselves are not stored, since a later build may include more in them.
//!
//! `make golden` writes the folder of [`GENERATION`], and refuses if it exists. Before the first release, if an
//! encoding is replaced on purpose, its files are replaced, too: GOLDEN_REPLACE=1. From the first release on, a new
//! encoding, or an effect with new fields, gets a generation of its own in addition to the others.

use crate::support::{DEADLINE, aof_commands, command, pipeline, run, server_time_ms, state};
use gw_testkit::redis::{self, Connection};
use gw_testkit::{Server, await_until, call, project_root, reply, reply_line};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The folder to which the current build writes.
const GENERATION: &str = "1";

/// Every operation of the current effects, by command. The parts of queues and GW._LOAD are written by a rewrite.
const OPERATIONS: [(&str, &str); 7] = [
    ("GW._LIMIT", "BLRUWblw"),
    ("GW._BUDGET", "ACFGHKLORTX"),
    ("GW._QUEUE", "ACDEIJKLNPQRSUXZ"),
    ("GW._ADMIT", "ABDJKPRSX"),
    ("GW._CACHE", "CST"),
    ("GW._CACHECLEAR", "ACFT"),
    ("GW._SEM", "DRS"),
];

/// Keys that expire do so in the year 2200, so that the files can be loaded until then.
const EXPIRES_AT_MS: i64 = 7_258_118_400_000;

const YEAR_MS: i64 = 31_622_400_000;

/// Queries whose answers do not depend on the time.
const QUESTIONS: &[&str] = &[
    "TYPE window",
    "TYPE bucket",
    "TYPE leases",
    "GW.SPENT ledger TOTAL",
    "GW.SPENT ledger-restored DAY DATE 2024-01-31",
    "GW.CREDIT ledger-restored TOTAL 0",
    "GW.SPENT ledger MONTH DATE 2024-01",
    "GW.CREDIT ledger MONTH 0 AT 1704067200000",
    "GW.CREDIT ledger TOTAL 0",
    "GW.SPENT account TOTAL",
    "GW.LOGDEAD queue LIST",
    "GW.POLICYLIST account",
    "GW.POLICYLIST account JSON",
    "GW.POLICYLIST account-idle JSON",
    "GW.POLICYLIST account-small",
    "GW.POLICYLIST account-target JSON",
    "TYPE index",
    "GW.SEMGET index aaaazzzz",
    "GW.SEMGET index zzzzaaaa",
    "GW.SEMGET index zzzzzzzz",
];

fn folder() -> PathBuf {
    project_root().join("tests/golden")
}

#[test]
fn files_of_earlier_builds_are_read_alike() {
    let mut generations: Vec<PathBuf> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    generations.retain(|path| path.is_dir());
    generations.sort();
    assert!(generations.contains(&folder().join(GENERATION)), "no generation {GENERATION}: make golden");
    for generation in &generations {
        let values: Value = serde_json::from_slice(&read(generation, "values.json")).unwrap();
        let (_server, mut client) = load_aof(&read(generation, "effects.aof"));
        let expected = state(&mut client);
        let keys: BTreeSet<&str> = expected.iter().map(|(key, ..)| key.as_str()).collect();
        assert_eq!(keys, values["keys"].as_object().unwrap().keys().map(String::as_str).collect());
        check_answers(&mut client, &values, generation, "effects.aof");

        for (name, (_server, mut client)) in [
            ("rewritten.aof", load_aof(&read(generation, "rewritten.aof"))),
            ("dump.rdb", load_rdb(&read(generation, "dump.rdb"))),
            ("*.dump", restore(generation, &values)),
        ] {
            assert_eq!(state(&mut client), expected, "{} of {}", name, generation.display());
            check_answers(&mut client, &values, generation, name);
            // The same after the current build has saved and loaded it.
            run(&mut client, "DEBUG RELOAD");
            assert_eq!(state(&mut client), expected, "{} of {}, saved anew", name, generation.display());
        }
    }
}

#[test]
fn every_operation_of_todays_effects_is_in_the_golden_file() {
    let (server, _client) = load_aof(&read(&folder().join(GENERATION), "effects.aof"));
    assert_eq!(operations(&server), expected_operations());
}

/// Run by `make golden`.
#[test]
#[ignore = "writes the golden files; does nothing without GW_GOLDEN=write"]
fn write() {
    if std::env::var("GW_GOLDEN").as_deref() != Ok("write") {
        return;
    }
    let folder = folder().join(GENERATION);
    let replace = std::env::var("GOLDEN_REPLACE").as_deref() == Ok("1");
    assert!(
        replace || !folder.exists(),
        "{} exists. An encoding that was replaced on purpose before the first release: GOLDEN_REPLACE=1. A new one: \
         another GENERATION",
        folder.display()
    );
    let effects = record();
    let (server, mut client) = load_aof(&effects);
    assert_eq!(operations(&server), expected_operations());
    // Full blocks are compressed in the background, and saved compressed after that.
    let (mut last, mut same) = (0, 0);
    await_until("the queue to stay as it is", DEADLINE, || {
        let bytes = call!(client, "DUMP", "queue" => Vec<u8>).len();
        same = if bytes == last { same + 1 } else { 0 };
        last = bytes;
        same > 200
    })
    .unwrap();

    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let keep = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).unwrap();
    keep("effects.aof", &effects);
    let mut keys = serde_json::Map::new();
    for (key, _, expires_at_ms) in state(&mut client) {
        keep(&format!("{key}.dump"), &call!(client, "DUMP", &key => Vec<u8>));
        let kind = run(&mut client, &format!("TYPE {key}"));
        keys.insert(key, json!({ "type": kind, "expires_at_ms": expires_at_ms.max(0) }));
    }
    let answers: Vec<Value> = QUESTIONS.iter().map(|question| json!([question, run(&mut client, question)])).collect();
    let values = json!({ "written_by": server.binary().to_string(), "keys": keys, "answers": answers });
    keep("values.json", format!("{values:#}\n").as_bytes());
    assert_eq!(run(&mut client, "SAVE"), "OK");
    keep("dump.rdb", &fs::read(server.dir().join("dump.rdb")).unwrap());
    run(&mut client, "BGREWRITEAOF");
    let is_base = |path: &PathBuf| path.to_string_lossy().ends_with(".2.base.aof");
    let mut base = None;
    await_until("the rewritten file", DEADLINE, || {
        let files = fs::read_dir(server.dir().join("appendonlydir")).unwrap().map(|entry| entry.unwrap().path());
        base = files.into_iter().find(is_base);
        base.is_some()
    })
    .unwrap();
    keep("rewritten.aof", &fs::read(base.unwrap()).unwrap());
}

fn read(generation: &Path, name: &str) -> Vec<u8> {
    let path = generation.join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A server that has loaded an append-only file.
fn load_aof(commands: &[u8]) -> (Server, Connection) {
    let options = Server::options().aof().config("aof-use-rdb-preamble no").config("auto-aof-rewrite-percentage 0");
    let mut server = options.config("gw.cache-compress-bytes 100").start().unwrap();
    server.kill();
    let files = fs::read_dir(server.dir().join("appendonlydir")).unwrap().map(|entry| entry.unwrap().path());
    let incremental = files.into_iter().find(|path| path.to_string_lossy().ends_with(".incr.aof"));
    fs::write(incremental.unwrap(), commands).unwrap();
    server.crash_and_restart().unwrap();
    let client = server.connect().unwrap();
    (server, client)
}

/// A server that has loaded an RDB file.
fn load_rdb(file: &[u8]) -> (Server, Connection) {
    let mut server = Server::start().unwrap();
    server.kill();
    fs::write(server.dir().join("dump.rdb"), file).unwrap();
    server.crash_and_restart().unwrap();
    let client = server.connect().unwrap();
    (server, client)
}

/// A server with every key of a generation, restored from its DUMP payload.
fn restore(generation: &Path, values: &Value) -> (Server, Connection) {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    for (key, value) in values["keys"].as_object().unwrap() {
        let dump = read(generation, &format!("{key}.dump"));
        let expires_at_ms = value["expires_at_ms"].as_i64().unwrap();
        assert_eq!(reply!(client, "RESTORE", key, expires_at_ms, dump, "ABSTTL"), "OK", "{key}");
        assert_eq!(run(&mut client, &format!("TYPE {key}")), value["type"].as_str().unwrap());
    }
    (server, client)
}

fn check_answers(client: &mut Connection, values: &Value, generation: &Path, name: &str) {
    for answer in values["answers"].as_array().unwrap() {
        let (question, expected) = (answer[0].as_str().unwrap(), answer[1].as_str().unwrap());
        assert_eq!(run(client, question), expected, "{question}: {name} of {}", generation.display());
    }
}

type Operations = BTreeSet<(String, char)>;

fn expected_operations() -> Operations {
    OPERATIONS.iter().flat_map(|(name, letters)| letters.chars().map(|letter| (name.to_string(), letter))).collect()
}

/// The operations in a server's append-only file. GW._ADMIT has its effect before the keys, and GW._CACHECLEAR has no
/// key.
fn operations(server: &Server) -> Operations {
    let effects = aof_commands(server).into_iter().filter(|words| words[0].starts_with(b"GW._"));
    let operation = |words: Vec<Vec<u8>>| {
        let name = String::from_utf8(words[0].clone()).unwrap();
        let at = if ["GW._ADMIT", "GW._CACHECLEAR"].contains(&name.as_str()) { 1 } else { 2 };
        (name, char::from(words[at][0]))
    };
    effects.map(operation).collect()
}

/// Runs commands of every family, and returns the append-only file that they wrote.
fn record() -> Vec<u8> {
    let options = Server::options().aof().config("aof-use-rdb-preamble no").config("auto-aof-rewrite-percentage 0");
    let server = options.start().unwrap();
    let mut client = server.connect().unwrap();
    record_limits(&mut client);
    record_ledgers(&mut client);
    record_queues(&mut client);
    record_cache(&mut client);
    record_semantic(&mut client);
    record_accounts(&mut client);
    let files = fs::read_dir(server.dir().join("appendonlydir")).unwrap().map(|entry| entry.unwrap().path());
    let incremental = files.into_iter().find(|path| path.to_string_lossy().ends_with(".incr.aof"));
    fs::read(incremental.unwrap()).unwrap()
}

/// Runs a command that must not fail.
fn must(client: &mut Connection, words: &str) -> String {
    reply_line(Ok(command(words).query(client).unwrap_or_else(|error| panic!("{words}: {error}"))))
}

/// Runs an effect that no command causes here, such as that of a clock that steps back. NOW stands for the time.
fn effect(client: &mut Connection, words: &[&str]) {
    let now = server_time_ms(client).to_string();
    let words: Vec<String> = words.iter().map(|word| word.replace("NOW", &now)).collect();
    let applied: redis::RedisResult<String> = redis::cmd(&words[0]).arg(&words[1..]).query(client);
    assert_eq!(applied.unwrap(), "OK", "{words:?}");
}

fn keep_for_long(client: &mut Connection, key: &str) {
    assert_eq!(run(client, &format!("PEXPIREAT {key} {EXPIRES_AT_MS}")), "1", "{key}");
}

fn record_limits(client: &mut Connection) {
    let earlier = (server_time_ms(client) - 60_000).to_string();
    must(client, "GW.ALLOW window-small 5 WINDOW 60000");
    must(client, "GW.TOKENS bucket-small 5 5");
    must(client, &format!("GW.ACQUIRE leases-small 5 one TTL {YEAR_MS}"));
    // In many ticks of the window, of 4 ms each.
    for tick in 0..60 {
        let allow = |step| command(&format!("GW.ALLOW window 100000 WINDOW 3600000 COST {}", step * tick % 400 + 1));
        pipeline(client, (1..=4).map(allow)).into_iter().for_each(|reply| drop(reply.unwrap()));
        let tick_ms = server_time_ms(client);
        await_until("the next tick", DEADLINE, || server_time_ms(client) > tick_ms + 4).unwrap();
    }
    let mut commands = Vec::new();
    for step in 0..50 {
        commands.push(command(&format!("GW.TOKENS bucket 7 100000 PER 1100 COST {}", step % 5 + 1)));
        commands.push(command(&format!("GW.ACQUIRE leases 90 holder{step} TTL {}", YEAR_MS - step)));
    }
    pipeline(client, commands).into_iter().for_each(|reply| drop(reply.unwrap()));
    must(client, "GW.ALLOW window 100000 WINDOW 3600000 COST -20 FORCE");
    must(client, "GW.TOKENS bucket 7 100000 PER 1100 COST -5 FORCE");
    must(client, "GW.RENEW leases holder3 TTL 100");
    must(client, "GW.RELEASE leases holder7");
    for (key, letter) in [("window-small", "w"), ("bucket-small", "b"), ("leases-small", "l")] {
        effect(client, &["GW._LIMIT", key, &format!("{letter} {earlier}")]);
    }
    for key in ["window", "window-small", "bucket", "bucket-small", "leases", "leases-small"] {
        keep_for_long(client, key);
    }
}

fn record_ledgers(client: &mut Connection) {
    must(client, "GW.ADDCOST ledger-small 0.000000000001");
    must(client, "CONFIG SET gw.idempotency-ms 1000");
    must(client, "GW.ADDCOST ledger 1 ID forgotten");
    let forgotten_ms = server_time_ms(client) + 1_000;
    await_until("the id to be forgotten", DEADLINE, || server_time_ms(client) > forgotten_ms).unwrap();
    must(client, "GW.ADDCOST ledger 2");
    must(client, &format!("CONFIG SET gw.idempotency-ms {YEAR_MS}"));
    for at_ms in [1_704_067_200_000_i64, 1_706_659_200_000, 1_706_745_600_000, 1_719_792_000_000] {
        must(client, &format!("GW.ADDCOST ledger 0.0001234 AT {at_ms}"));
    }
    for id in 0..20 {
        must(client, &format!("GW.ADDCOST ledger 0.5 ID charge:{id}"));
        let hold = format!("hold:{id}{}", "-long".repeat(id % 20));
        must(client, &format!("GW.RESERVE ledger 0.25 1000 TTL {YEAR_MS} ID {hold}"));
        match id % 4 {
            0 => must(client, &format!("GW.COMMIT ledger {hold} 0.3")),
            1 => must(client, &format!("GW.CANCEL ledger {hold}")),
            _ => String::new(),
        };
    }
    for period in ["DAY", "WEEK", "MONTH", "TOTAL"] {
        must(client, &format!("GW.CREDIT ledger {period} 1.5 ID credit:{period}"));
        must(client, &format!("GW.CREDIT ledger {period} 2.25 AT 1704067200000"));
    }
    must(client, "GW.CREDIT ledger TOTAL -0.75");
    must(client, "GW.RESERVE ledger 0.25 1000 TTL 1 ID expired");
    // The clock steps back by a second.
    let back_ms = server_time_ms(client) - 1_000;
    effect(client, &["GW._BUDGET", "ledger", &format!("T {back_ms}")]);
    must(client, "GW.ADDCOST ledger -0.125 REFUND");
    must(client, "GW.COSTSYNC ledger 1");
    let described: BTreeMap<String, redis::Value> = call!(*client, "GW.DESCRIBE", "ledger");
    must(client, &format!("GW.COSTACK ledger {}", reply_line(Ok(described["version"].clone()))));
    must(client, "GW.ADDCOST ledger 0.0625");
    must(
        client,
        "GW.COSTRESTORE ledger-restored 1750000000000000 METER usd ROWS SPEND TOTAL 0001-01-01 3.5 SPEND MONTH 2024-01-01 3 \
         SPEND DAY 2024-01-31 -0.5 CREDIT TOTAL 0001-01-01 20 CREDIT WEEK 2024-01-29 0.000000000001",
    );
}

fn record_queues(client: &mut Connection) {
    must(client, "GW.LOGPUSH queue-small a");
    let lease = |client: &mut Connection, options: &str| -> String {
        let pop = command(&format!("GW.LOGPOP queue {options}"));
        let (id, ..): (String, Vec<Vec<u8>>, u64) = pop.query(client).unwrap();
        id
    };
    for record in 0..170 {
        let text = format!("{{\"id\":{record},\"text\":\"{}\"}}", "the quick brown fox ".repeat(40));
        call!(*client, "GW.LOGPUSH", "queue", "MAXLEN", 168, "RECORDS", text => Vec<u64>);
    }
    call!(*client, "GW.LOGPUSH", "queue", "RECORDS", b"", b"\0\xff\r\n" => Vec<u64>);
    call!(*client, "GW.LOGPOP", "queue", "COUNT", 2 => Vec<Vec<u8>>);
    let out = lease(client, &format!("COUNT 5 LEASE {YEAR_MS}"));
    must(client, &format!("GW.LOGEXTEND queue {out} LEASE {}", YEAR_MS - 1));
    let done = lease(client, &format!("COUNT 5 LEASE {YEAR_MS}"));
    must(client, &format!("GW.LOGACK queue {done}"));
    let again = lease(client, &format!("COUNT 3 LEASE {YEAR_MS}"));
    must(client, &format!("GW.LOGNACK queue {again}"));
    assert_eq!(lease(client, &format!("LEASE {YEAR_MS}")), again);
    must(client, &format!("GW.LOGNACK queue {again} DELAY {YEAR_MS}"));
    let mut dead = Vec::new();
    for count in 1..=7 {
        let id = lease(client, &format!("COUNT {count} LEASE {YEAR_MS}"));
        must(client, &format!("GW.LOGNACK queue {id} DEAD"));
        dead.push(id);
    }
    // Some records of a batch, and a push with an id.
    let part = lease(client, &format!("COUNT 6 LEASE {YEAR_MS}"));
    must(client, &format!("GW.LOGNACK queue {part} DEAD RECORD 1 4"));
    must(client, "GW.LOGPUSH queue ID request:1 RECORDS a b");
    must(client, &format!("GW.LOGDEAD queue REQUEUE {}", dead[3]));
    must(client, &format!("GW.LOGDEAD queue DROP {}", dead[4]));
    // Dead letters are requeued and dropped, oldest first.
    effect(client, &["GW._QUEUE", "queue", "U NOW 1"]);
    effect(client, &["GW._QUEUE", "queue", "Z NOW 1"]);
    // A batch that becomes a dead letter when the lease of its last delivery ends.
    must(client, "GW.LOGPOP queue LEASE 1 MAXDELIVERIES 1");
    let ended_ms = server_time_ms(client) + 10;
    await_until("the lease to end", DEADLINE, || server_time_ms(client) > ended_ms).unwrap();
    effect(client, &["GW._QUEUE", "queue", "S NOW"]);
    // The clock has stepped back.
    effect(client, &["GW._QUEUE", "queue", "C NOW"]);
}

fn record_cache(client: &mut Connection) {
    for words in [
        "GW.CACHESET gone:1 v",
        "GW.CACHECLEAR CATEGORY gone",
        "GW.CACHESET gone:2 v TAG gone",
        "GW.CACHECLEAR TAG gone",
        "GW.CACHESET gone:3 v",
        "GW.CACHECLEAR ALL",
    ] {
        must(client, words);
    }
    await_until("the memory to be reclaimed", DEADLINE, || run(client, "KEYS gone:*") == "[]").unwrap();
    // In a cluster a clear has its time. The last effect is that of a clock that was set back.
    for operation in ["C NOW", "T NOW", "A NOW", "F"] {
        effect(
            client,
            &["GW._CACHECLEAR", operation, if operation.len() == 5 && operation != "A NOW" { "gone" } else { "" }],
        );
    }
    must(client, "GW.CACHESET cached-small v");
    let mut set = command("GW.CACHESET cached");
    set.arg("rich value ".repeat(200)).arg(&["EX", "9000", "STALE", "60000", "TAG", "x", "TAG", "y", "SAVED", "0.002"]);
    assert_eq!(set.arg("CATEGORY").arg("chat").query::<String>(client).unwrap(), "OK");
    let set_ms = server_time_ms(client);
    await_until("time to pass", DEADLINE, || server_time_ms(client) > set_ms + 5).unwrap();
    must(client, "GW.CACHEFETCH cached TOUCH");
    for key in ["cached", "cached-small"] {
        keep_for_long(client, key);
    }
}

fn record_semantic(client: &mut Connection) {
    for words in [
        "GW.SEMSET index one aaaazzzz value TAG x TAG y SAVED 0.002 TEXT question DEFAULT 0.99 EX 31622400",
        "GW.SEMSET index gone zzzzzzzz value EX 31622400",
        "GW.SEMDEL index gone",
        // A set that removes another entry to make room.
        "CONFIG SET gw.sem-max-entries 2",
        "GW.SEMSET index evicted zzzzzzzz value EX 31622400",
        "GW.SEMGET index aaaazzzz",
        "GW.SEMSET index two zzzzaaaa wrong EX 31622400",
        "CONFIG SET gw.sem-max-entries 50000",
        "GW.SEMREJECT index two 1",
    ] {
        must(client, words);
    }
    keep_for_long(client, "index");
}

fn record_accounts(client: &mut Connection) {
    must(client, "GW.POLICYSET account-small p INFLIGHT 0");
    for policy in [
        "rpm WINDOW 100000 PER 3600000",
        "tpm BUCKET 7 100000 PER 1100 METER tokens GIVEBACK",
        "inflight INFLIGHT 200",
        "spend BUDGET 1000 MONTH SOFT 80",
        "tokens BUDGET 1e9 DAY METER tokens SHADOW",
        "reset WINDOW 10 PER 3600000",
        "deleted INFLIGHT 5",
    ] {
        must(client, &format!("GW.POLICYSET account {policy}"));
    }
    must(client, "GW.POLICYDEL account deleted");
    must(client, "GW.CREDIT account DAY 5 METER tokens ID credit");
    must(client, "GW.CREDIT account MONTH 0 METER characters ID nothing");
    // The first admission with a cost takes it to its soft limit.
    must(client, "GW.POLICYSET account told BUDGET 0.000000000001 TOTAL SOFT 1 SHADOW");
    must(client, "GW.POLICYRESET account reset");
    for policy in [
        "hour WINDOW 1000 PER 3600000 DECIMAL METER usd",
        "cycle WINDOW 1000 PER 2592000000 FIXED ANCHOR 1700000000000 DECIMAL METER usd",
        "fixed WINDOW 1000000 PER 3600000 FIXED METER tokens",
        "flow BUCKET 0.5 1000 PER 1000 DECIMAL METER usd",
        "off BLOCK UNTIL 1700000000000",
    ] {
        must(client, &format!("GW.POLICYSET account {policy}"));
    }
    // Money that policies count, too, with each of its effects.
    must(client, "GW.ADDCOST account 0.5");
    must(client, "GW.ADDCOST account 0.25 ID charge");
    must(client, "GW.RESERVE account 0.5 1000 ID hold");
    must(client, "GW.COMMIT account hold 0.125");
    let plan =
        r#"{"policies":[{"name":"rpm","kind":"window","limit":5,"per_ms":60000},{"name":"off","kind":"block"}]}"#;
    must(client, &format!("GW.POLICYPUT account-idle {plan} IDLE {YEAR_MS}"));
    keep_for_long(client, "account-idle");
    for lease in 0..30 {
        // Some leases end at once, and some admissions are settled.
        let ttl_ms = if lease % 10 == 9 { 1 } else { YEAR_MS - lease };
        let amounts = format!("requests 0 tokens {} usd 0.0{lease}", lease % 7);
        must(client, &format!("GW.ADMIT account WITH 1 account-none LEASE l{lease} TTL {ttl_ms} {amounts}"));
        if lease % 3 == 0 {
            must(client, &format!("GW.SETTLE account LEASE l{lease} tokens 5 usd 0.01"));
        }
    }
    must(client, &format!("GW.KEEPALIVE account LEASE l1 TTL {YEAR_MS}"));
    must(client, &format!("GW.POLICYSET account-target up BREAKER 1 PER 60000 OPEN {YEAR_MS}"));
    must(client, &format!("GW.POLICYSET account-target count BREAKER 9 PER {YEAR_MS} OPEN 1000"));
    must(client, "GW.POLICYSET account-target half BREAKER 1 PER 60000 OPEN 1");
    must(client, &format!("GW.ROUTE account-target LEASE failed TTL {YEAR_MS}"));
    must(client, "GW.SETTLE account-target LEASE failed FAILED COOLDOWN 1000 TOOK 250");
    let ended_ms = server_time_ms(client) + 10;
    await_until("the short leases to end", DEADLINE, || server_time_ms(client) > ended_ms).unwrap();
    effect(client, &["GW._ADMIT", "X NOW", "1", "account"]);
    // Of several accounts one alone was charged. The request is the probe of a breaker that is half-open.
    let routed = format!("A NOW 1000 19000 {YEAR_MS} 0");
    effect(client, &["GW._ADMIT", &routed, "2", "account-target", "account-small", "routed"]);
}
