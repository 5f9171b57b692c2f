//! Helpers for several files of the suite.

use gw_testkit::redis::{self, Cmd, Connection, FromRedisValue, RedisResult, Value};
pub use gw_testkit::{DEADLINE, Random, live, server_time_ms, state, time_ms};
use gw_testkit::{Server, await_until, call, reply_line};
use std::fs;

/// A period whose end a test waits for. It is long enough for what has to happen before, even on a busy machine.
pub const SOON_MS: i64 = 3_000;

/// A server with every default, and a connection to it.
pub fn start() -> (Server, Connection) {
    let server = Server::start().unwrap();
    let client = server.connect().unwrap();
    (server, client)
}

/// A command from its words: `GW.ALLOW user:1 10 WINDOW 1000`.
pub fn command(words: &str) -> Cmd {
    let mut words = words.split_ascii_whitespace();
    let mut command = redis::cmd(words.next().unwrap());
    for word in words {
        command.arg(word);
    }
    command
}

/// Runs a command given as words, and returns its reply or error as a line (see [`reply_line`]).
pub fn run(client: &mut Connection, words: &str) -> String {
    reply_line(command(words).query(client))
}

/// Runs a limiter command: allowed, limit, remaining, retry_after_ms, reset_after_ms.
pub fn verdict(client: &mut Connection, words: &str) -> [i64; 5] {
    command(words).query(client).unwrap()
}

/// Sends all commands at once, and returns the reply to each.
pub fn pipeline(client: &mut Connection, commands: impl IntoIterator<Item = Cmd>) -> Vec<RedisResult<Value>> {
    let mut pipe = redis::pipe();
    for command in commands {
        pipe.add_command(command);
    }
    pipe.ignore_errors().query(client).unwrap()
}

/// Runs commands in one transaction, so that no time passes between them, and converts all replies.
pub fn at_once<T: FromRedisValue>(client: &mut Connection, commands: &[&str]) -> T {
    let mut transaction = redis::pipe();
    transaction.atomic();
    for words in commands {
        transaction.add_command(command(words));
    }
    transaction.query(client).unwrap()
}

/// Runs a command that sets when `key` expires, and returns the lifetimes that it can have set: from the server's time
/// after the command, and from that before it.
pub fn lifetime_ms(client: &mut Connection, words: &str, key: &str) -> std::ops::RangeInclusive<i64> {
    let before_ms = server_time_ms(client);
    let reply = run(client, words);
    let after_ms = server_time_ms(client);
    let expires_at_ms: i64 = call!(*client, "PEXPIRETIME", key);
    assert!(expires_at_ms > 0, "{words}: {reply}, and {key} does not expire");
    expires_at_ms - after_ms..=expires_at_ms - before_ms
}

/// A key of each of the module's types, and the type's name. Each holds more than fits the type's smallest form.
pub const KEYS: [(&str, &str); 8] = [
    ("a:window", "gw-window"),
    ("a:bucket", "gw-bucket"),
    ("a:leases", "gw-leases"),
    ("a:ledger", "gw-ledger"),
    ("a:queue", "gw-queues"),
    ("a:cached", "gw-cached"),
    ("a:account", "gw-accnts"),
    ("a:index", "gw-semidx"),
];

/// Adds to each of [`KEYS`].
pub fn fill(client: &mut Connection) {
    let now_ms = server_time_ms(client);
    let mut commands = Vec::new();
    for step in 0..1_000 {
        commands.push(command(&format!("GW.ALLOW a:window 100000 WINDOW 3600000 COST {}", step % 7 + 1)));
        commands.push(command(&format!("GW.TOKENS a:bucket 7 100000 PER 1100 COST {}", step % 5 + 1)));
    }
    for holder in 0..100 {
        commands.push(command(&format!("GW.ACQUIRE a:leases 90 holder{holder} TTL {}", 3_600_000 + holder)));
    }
    commands.push(command("GW.RELEASE a:leases holder7"));
    for days_ago in [0, 1, 7, 40, 400, 800] {
        let at_ms = now_ms - days_ago * 86_400_000;
        commands.push(command(&format!("GW.ADDCOST a:ledger 0.00012{days_ago} AT {at_ms}")));
    }
    // Charges under ids; holds open, committed, cancelled; some with a name that is too long for a hold's own bytes.
    for id in 0..60 {
        commands.push(command(&format!("GW.ADDCOST a:ledger 0.5 ID charge:{id}")));
        let hold = format!("hold:{id}{}", "-long".repeat(id % 20));
        commands.push(command(&format!("GW.RESERVE a:ledger 0.25 1000000 TTL {} ID {hold}", 3_600_000 + id)));
        commands.push(command(&format!("GW.RESERVE a:ledger 0.25 1000000 TTL 3600000 ID gone:{id}")));
        commands.push(command(&match id % 2 {
            0 => format!("GW.COMMIT a:ledger gone:{id} 0.3"),
            _ => format!("GW.CANCEL a:ledger gone:{id}"),
        }));
    }
    for period in ["DAY", "WEEK", "MONTH", "TOTAL"] {
        commands.push(command(&format!("GW.CREDIT a:ledger {period} 1.5 ID credit:{period}")));
        commands.push(command(&format!("GW.CREDIT a:ledger {period} 1")));
    }
    // A reader that has followed up to a version, and changes since then.
    commands.push(command("GW.COSTSYNC a:ledger 1"));
    commands.push(command("GW.ADDCOST a:ledger -0.125 REFUND"));
    for record in 0..500 {
        let mut push = command("GW.LOGPUSH a:queue MAXLEN 450 RECORDS");
        // Records from empty to some kilobytes, none of which is text.
        commands.push(push.arg(vec![0xfe_u8; record * 7]).take());
    }
    for id in 0..40 {
        commands.push(command(&format!("GW.LOGPUSH a:queue ID push:{id} RECORDS once:{id}")));
    }
    // Batches that are leased, ready again, given back with a delay, and dead letters.
    for lease in ["COUNT 25 LEASE 3600000", "COUNT 10 LEASE 1", "COUNT 10 LEASE 3600000 MAXDELIVERIES 1"] {
        commands.push(command(&format!("GW.LOGPOP a:queue {lease}")));
    }
    let mut set = command("GW.CACHESET a:cached");
    commands.push(set.arg(vec![0xff_u8; 5_000]).arg("EX").arg(9_000).arg("CATEGORY").arg("chat").take());
    // An entry that is packed, with everything that an entry can have, and touched.
    commands.push(command("CONFIG SET gw.cache-compress-bytes 100"));
    let mut set = command("GW.CACHESET a:rich");
    set.arg("rich value ".repeat(500)).arg(&["STALE", "60000", "TAG", "x", "TAG", "y", "SAVED", "0.002"]);
    commands.push(set);
    commands.push(command("CONFIG SET gw.cache-compress-bytes 0"));
    commands.push(command("GW.CACHEFETCH a:rich TOUCH"));
    // More than one piece of a rewritten AOF, with everything that an entry can have; some are rejected, some removed.
    for id in 0..300_usize {
        let numbers = [1.0, id as f32, (id % 7) as f32 - 3.0, -0.5].map(f32::to_le_bytes).concat();
        let mut set = command(&format!("GW.SEMSET a:index id{id}"));
        set.arg(numbers).arg(vec![0xfe_u8; id * 3]).arg("PX").arg(3_600_000 + id);
        if id % 3 == 0 {
            set.arg(&["TAG", "x", "TAG", "y", "SAVED", "0.002", "TEXT", "a question", "DEFAULT", "0.75"]);
        }
        commands.push(set);
    }
    commands.push(command("GW.SEMREJECT a:index id5 0.9"));
    commands.push(command("GW.SEMDEL a:index id3 id299"));
    for policy in [
        "rpm WINDOW 100000 PER 3600000",
        "tpm BUCKET 7 100000 PER 1100 METER tokens GIVEBACK",
        "inflight INFLIGHT 200",
        "spend BUDGET 1000 MONTH SOFT 80",
        "tokens BUDGET 1e9 DAY METER tokens SHADOW",
        // At its soft limit with the first admission.
        "soft BUDGET 1e9 WEEK METER words SOFT 1 SHADOW",
        "hour WINDOW 1000 PER 3600000 DECIMAL METER usd",
        "cycle WINDOW 1000 PER 2592000000 FIXED ANCHOR 1700000000000 DECIMAL METER usd",
        "fixed WINDOW 1000000 PER 3600000 FIXED METER tokens",
        "flow BUCKET 0.5 1000 PER 1000 DECIMAL METER usd",
        "off BLOCK UNTIL 1700000000000",
    ] {
        commands.push(command(&format!("GW.POLICYSET a:account {policy}")));
    }
    commands.push(command("GW.ADMIT a:account LEASE many TTL 3600000 words 1e8"));
    for credit in ["MONTH 5 ID credit", "DAY 7 METER tokens ID credit", "TOTAL 2 METER characters"] {
        commands.push(command(&format!("GW.CREDIT a:account {credit}")));
    }
    for lease in 0..150 {
        // Some expire at once, and some are settled.
        let ttl_ms = if lease % 10 == 9 { 1 } else { 3_600_000 + lease };
        let amounts = format!("tokens {} usd 0.0{lease}", lease % 7);
        commands.push(command(&format!("GW.ADMIT a:account LEASE l{lease} TTL {ttl_ms} {amounts}")));
        if lease % 3 == 0 {
            commands.push(command(&format!("GW.SETTLE a:account LEASE l{lease} tokens 5 usd 0.01")));
        }
    }
    commands.push(command("GW.KEEPALIVE a:account LEASE l1 TTL 7200000"));
    commands.push(command("GW.ADDCOST a:account 0.5"));
    commands.push(command("GW.ADDCOST a:account 0.25 ID charge"));
    let plan = r#"{"policies":[{"name":"rpm","kind":"window","limit":5,"per_ms":60000}]}"#;
    commands.push(command(&format!("GW.POLICYPUT a:idle {plan} IDLE 7200000")));
    commands.push(command("GW.ADMIT a:idle LEASE many TTL 3600000"));
    // Targets: a breaker that has opened and has a probe by now, one that counts, a cooldown, and latencies.
    for words in [
        "GW.POLICYSET {a:target} up BREAKER 1 PER 3600000 OPEN 1",
        "GW.POLICYSET {a:target} count BREAKER 9 PER 3600000 OPEN 3600000",
        "GW.POLICYSET {a:target} watch BREAKER 1 PER 3600000 OPEN 3600000 SHADOW",
        "GW.POLICYSET {a:target}:spare rpm WINDOW 100000 PER 3600000",
        "GW.ROUTE {a:target} WITH 1 {a:target}:spare LEASE failed TTL 3600000",
        "GW.SETTLE {a:target} LEASE failed FAILED TOOK 700",
        "GW.ROUTE {a:target}:spare WITH 1 {a:target} LEASE cooled TTL 3600000",
        "GW.SETTLE {a:target}:spare LEASE cooled FAILED COOLDOWN 3600000 TOOK 20",
        "GW.ROUTE {a:target} WITH 1 {a:target}:spare LEASE probe TTL 3600000 PICK FAST",
    ] {
        commands.push(command(words));
    }
    for reply in pipeline(client, commands) {
        match reply {
            // When keys are filled a second time, the ended holds and leases are known already.
            Err(error)
                if ["id already used", "lease has ended"].iter().any(|text| error.to_string().contains(text)) => {}
            reply => drop(reply.unwrap()),
        }
    }
    let [given_up, later]: [String; 2] = [(), ()].map(|()| {
        let (id, _, _): (String, Vec<Vec<u8>>, u64) =
            call!(*client, "GW.LOGPOP", "a:queue", "COUNT", 5, "LEASE", 3_600_000);
        id
    });
    call!(*client, "GW.LOGNACK", "a:queue", given_up, "DEAD" => i64);
    call!(*client, "GW.LOGNACK", "a:queue", &later, "DEAD", "RECORD", 1, 3 => i64);
    call!(*client, "GW.LOGNACK", "a:queue", later, "DELAY", 3_600_000 => i64);
    call!(*client, "GW.LOGPOP", "a:queue", "COUNT", 15 => Vec<Vec<u8>>);
}

/// Admits units in many milliseconds to the window `key`, until its payload has `bytes`, so that some chunks are full.
pub fn fill_window(client: &mut Connection, key: &str, bytes: usize) {
    let admit = format!("GW.ALLOW {key} 100000000 WINDOW 1000000 COST");
    let mut cost = 0;
    await_until("the window to fill", DEADLINE, || {
        for _ in 0..20 {
            cost = cost % 300 + 1;
            assert_eq!(verdict(client, &format!("{admit} {cost}"))[0], 1);
        }
        call!(*client, "DUMP", key => Vec<u8>).len() >= bytes
    })
    .unwrap();
}

/// Like [`state`], after checking that all of [`KEYS`] exist, with their types and with digests that differ.
pub fn full_state(client: &mut Connection) -> Vec<(String, String, i64)> {
    for (key, kind) in KEYS {
        assert_eq!(run(client, &format!("TYPE {key}")), kind);
    }
    let state = state(client);
    for (key, digest, _) in &state {
        assert_ne!(*digest, "0".repeat(40), "{key} has no digest");
    }
    let mut digests: Vec<_> = state.iter().map(|(_, digest, _)| digest).collect();
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), state.len(), "values of different types have the same digest: {state:?}");
    state
}

/// The commands in the part of the append-only file that was written command by command, in their order.
pub fn aof_commands(server: &Server) -> Vec<Vec<Vec<u8>>> {
    let mut files: Vec<_> = fs::read_dir(server.dir().join("appendonlydir"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".incr.aof"))
        .collect();
    files.sort();
    files.iter().flat_map(|file| parse_commands(&fs::read(file).unwrap())).collect()
}

/// Commands as the protocol writes them: arrays of bulk strings.
fn parse_commands(mut bytes: &[u8]) -> Vec<Vec<Vec<u8>>> {
    fn number(bytes: &mut &[u8], kind: u8) -> usize {
        let end = bytes.iter().position(|&byte| byte == b'\r').unwrap();
        let (line, rest) = bytes.split_at(end);
        assert_eq!(line[0], kind);
        *bytes = &rest[2..];
        std::str::from_utf8(&line[1..]).unwrap().parse().unwrap()
    }
    let mut commands = Vec::new();
    while !bytes.is_empty() {
        let words = (0..number(&mut bytes, b'*')).map(|_| {
            let len = number(&mut bytes, b'$');
            let (word, rest) = bytes.split_at(len);
            bytes = &rest[2..];
            word.to_vec()
        });
        commands.push(words.collect());
    }
    commands
}
