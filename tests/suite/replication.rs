//! Replicas and the append-only file get one effect for each change, and nothing if nothing changed.

use crate::support::{DEADLINE, aof_commands, command, run, server_time_ms, start, verdict};
use gw_testkit::{Server, await_in_sync, await_until, call, redis::Connection, replication_offset, reply};

/// Makes exhausted limiters, a spent budget, a full queue and a cached answer.
fn exhaust(client: &mut Connection) {
    for words in [
        "GW.ALLOW w 1 WINDOW 3600000",
        "GW.TOKENS b 1 5 PER 3600000 COST 4",
        "GW.ACQUIRE s 1 a TTL 3600000",
        "GW.ADDCOST l 10 ID once",
        "GW.CREDIT l DAY 2 ID given",
        "GW.RESERVE l 5 1000 TTL 3600000 ID held",
        "GW.RESERVE l 5 1000 TTL 3600000 ID gone",
        "GW.CANCEL l gone",
        "GW.LOGPUSH q x y",
        "GW.LOGPUSH empty x",
        "GW.LOGPOP empty",
        "GW.LOGPUSH out x y",
        "GW.LOGPOP out LEASE 3600000 COUNT 2",
        "GW.CACHESET c value",
        "GW.SEMSET sem id aaaazzzz value",
        "GW.SEMSET sem other zzzzaaaa value",
        "GW.SEMREJECT sem other 0.5",
        "SET text value",
        "GW.POLICYSET k rpm WINDOW 2 PER 3600000",
        "GW.POLICYSET k usd BUDGET 10 MONTH",
        "GW.POLICYSET k2 inflight INFLIGHT 5 SHADOW",
        "GW.ADMIT k WITH 1 k2 LEASE settled TTL 3600000 usd 1",
        "GW.SETTLE k WITH 1 k2 LEASE settled",
        "GW.ADMIT k LEASE live TTL 3600000 usd 1",
        "GW.ADMIT k2 LEASE flying TTL 3600000",
        "GW.POLICYSET down up BREAKER 1 PER 3600000 OPEN 3600000",
        "GW.ADMIT down LEASE failed TTL 3600000",
        "GW.SETTLE down LEASE failed FAILED",
        // Told already.
        "GW.POLICYSET told usd BUDGET 10 MONTH SOFT 10",
        "GW.ADDCOST told 1",
    ] {
        run(client, words);
    }
}

/// Calls that change nothing after [`exhaust`], with the key that each looks at.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("GW.ALLOW w 1 WINDOW 3600000", "w"),
    ("GW.ALLOW w 9 WINDOW 3600000 PEEK", "w"),
    ("GW.ALLOW w 9 WINDOW 3600000 COST 0", "w"),
    ("GW.ALLOW w 9 WINDOW 3600000 COST 10", "w"),
    ("GW.ALLOW none 0", "none"),
    ("GW.ALLOW none 5 PEEK", "none"),
    ("GW.ALLOW none 5 NONSENSE", "none"),
    ("GW.TOKENS b 1 5 PER 3600000 COST 2", "b"),
    ("GW.TOKENS b 1 5 PER 3600000 PEEK", "b"),
    ("GW.TOKENS b 1 5 PER 3600000 COST 0", "b"),
    ("GW.TOKENS none 1 0", "none"),
    ("GW.TOKENS none 1 5 PEEK", "none"),
    ("GW.ACQUIRE s 1 b TTL 3600000", "s"),
    ("GW.ACQUIRE none 0 a TTL 5", "none"),
    ("GW.RENEW s b TTL 3600000", "s"),
    ("GW.RENEW none a TTL 5", "none"),
    ("GW.RELEASE s b", "s"),
    ("GW.RELEASE none a", "none"),
    ("GW.ADDCOST l nan", "l"),
    ("GW.ADDCOST l 3 ID once", "l"),
    ("GW.ADDCOST l 3 ID held", "l"),
    ("GW.ADDCOST none 0", "none"),
    ("GW.CREDIT l DAY 3 ID given", "l"),
    ("GW.CREDIT l DAY 3 ID once", "l"),
    ("GW.CREDIT l DAY -3", "l"),
    ("GW.CREDIT l DAY 0", "l"),
    ("GW.CREDIT l DAY 0 METER tokens", "l"),
    ("GW.CREDIT none DAY 0", "none"),
    ("GW.CREDIT none DAY -1 METER tokens", "none"),
    ("GW.RESERVE l 5 15", "l"),
    ("GW.RESERVE l 5 15 ID held", "l"),
    ("GW.RESERVE l 5 1000 ID gone", "l"),
    ("GW.RESERVE none 1 0", "none"),
    ("GW.COMMIT l gone 5", "l"),
    ("GW.COMMIT l nobodys 5", "l"),
    ("GW.COMMIT none held 5", "none"),
    ("GW.CANCEL l gone", "l"),
    ("GW.COSTCHANGES", "l"),
    ("GW.COSTACK l 1 none 1", "l"),
    ("GW.COSTACK l 9000000000000000", "l"),
    ("GW.COSTRESTORE l 5 ROWS SPEND TOTAL 0001-01-01 0", "l"),
    ("GW.COSTRESTORE none 5 ROWS SPEND WEEK 2024-01-29 3", "none"),
    ("GW.COSTRESTORE none 5 ROWS CREDIT TOTAL 0001-01-01 3", "none"),
    ("GW.COSTSYNC none 5", "none"),
    ("GW.COSTSYNC l 9000000000000000", "l"),
    ("GW.WITHINBUDGET l 10", "l"),
    ("GW.WITHINBUDGET l 100 COST 5", "l"),
    ("GW.WITHINBUDGET none 1", "none"),
    ("GW.SPENT l", "l"),
    ("GW.SPENT l DAY", "l"),
    ("GW.SPENT none", "none"),
    ("GW.LOGPUSH q MAXLEN 2 REJECT z", "q"),
    ("GW.LOGPUSH q JSON {", "q"),
    ("GW.LOGPUSH none MAXLEN 1 REJECT y z", "none"),
    ("GW.LOGPOP empty COUNT 5", "empty"),
    ("GW.LOGPOP none", "none"),
    ("GW.LOGPOP empty LEASE 5", "empty"),
    ("GW.LOGPOP none LEASE 5", "none"),
    ("GW.LOGPOP out LEASE 5", "out"),
    ("GW.LOGPOP out COUNT 5", "out"),
    ("GW.LOGACK out 000649ce3d40a00000000007", "out"),
    ("GW.LOGACK none 000649ce3d40a00000000007", "none"),
    ("GW.LOGNACK out 000649ce3d40a00000000007 DEAD", "out"),
    ("GW.LOGEXTEND out 000649ce3d40a00000000007 LEASE 5", "out"),
    ("GW.LOGDEAD out LIST", "out"),
    ("GW.LOGDEAD out REQUEUE ALL", "out"),
    ("GW.LOGDEAD out DROP 000649ce3d40a00000000007", "out"),
    ("GW.LOGDEAD none DROP ALL", "none"),
    ("GW.LOGSTATS out", "out"),
    ("GW.LOGSTATS none", "none"),
    ("GW.LOGPEEK q COUNT 5", "q"),
    ("GW.LOGLEN q", "q"),
    ("GW.CACHEGET c", "c"),
    ("GW.CACHEGET none", "none"),
    ("GW.CACHEFETCH c META", "c"),
    ("GW.CACHEFETCH none TOUCH", "none"),
    ("GW.CACHEFETCH none LEASE 5 HOLDER a", "none"),
    ("GW.CACHERELEASE none 5", "none"),
    ("GW.CACHELIST 0 CATEGORY chat", "c"),
    ("GW.CACHEDEL none", "none"),
    ("GW.CACHEDEL c text", "c"),
    ("GW.CACHESET c v EX 0", "c"),
    ("GW.CACHESTATS", "c"),
    ("GW.SEMGET sem aaaazzzz META", "sem"),
    ("GW.SEMGET sem zzzzzzzz", "sem"),
    ("GW.SEMGET none aaaazzzz", "none"),
    ("GW.SEMSET sem id aaaa value", "sem"),
    ("GW.SEMSET sem id aaaazzzz value EX 0", "sem"),
    ("GW.SEMDEL sem none", "sem"),
    ("GW.SEMDEL none id", "none"),
    ("GW.SEMREJECT sem none 0.5", "sem"),
    ("GW.SEMREJECT sem other 0.5", "sem"),
    ("GW.SEMREJECT sem other 0.4", "sem"),
    ("GW.POLICYSET k rpm WINDOW 2 PER 3600000", "k"),
    ("GW.POLICYSET k rpm WINDOW 2", "k"),
    (r#"GW.POLICYPUT k {"policies":[]} NX"#, "k"),
    (r#"GW.POLICYPUT k {"policies":[]} IDLE 5"#, "k"),
    (r#"GW.POLICYPUT k {"policies":[{}]}"#, "k"),
    (r#"GW.POLICYPUT k2 {"policies":[{"name":"inflight","kind":"inflight","max":5,"shadow":true}]}"#, "k2"),
    ("GW.POLICYLIST k JSON", "k"),
    ("GW.POLICYDEL k none", "k"),
    ("GW.POLICYRESET k none", "k"),
    ("GW.POLICYRESET k usd", "k"),
    ("GW.POLICYLIST k", "k"),
    ("GW.ADMIT k LEASE refused TTL 3600000", "k"),
    ("GW.ADMIT k WITH 1 k2 LEASE refused TTL 3600000", "k2"),
    ("GW.ADMIT k LEASE live TTL 3600000 usd 1", "k"),
    ("GW.ADMIT k LEASE settled TTL 3600000", "k"),
    ("GW.ADMIT k2 LEASE asked TTL 3600000 SHADOW", "k2"),
    ("GW.ADMIT none LEASE id TTL 3600000", "none"),
    ("GW.SETTLE k LEASE settled usd 5", "k"),
    ("GW.SETTLE k LEASE settled FAILED COOLDOWN 5 TOOK 5", "k"),
    ("GW.ROUTE k WITH 1 down LEASE refused TTL 3600000 ROWS ALL", "k"),
    ("GW.ROUTE k WITH 1 k2 LEASE live TTL 3600000", "k"),
    ("GW.ROUTE k LEASE settled TTL 3600000", "k"),
    ("GW.ROUTE down LEASE refused TTL 3600000 PICK FAST", "down"),
    ("GW.ROUTE none LEASE refused TTL 3600000", "none"),
    ("GW.SETTLE k LEASE unknown", "k"),
    ("GW.KEEPALIVE k LEASE settled TTL 5", "k"),
    ("GW.DESCRIBE w", "w"),
    ("GW.DESCRIBE q", "q"),
    ("GW.STATS", "w"),
    ("GW.TOP DENIED", "w"),
    ("GW.TOP METER usd", "l"),
    ("GW.ALLOW text 5", "text"),
    ("GW.LOGPUSH text x", "text"),
];

/// Calls that change something after [`exhaust`], with the key.
const WITH_EFFECT: &[(&str, &str)] = &[
    ("GW.ALLOW w 9 WINDOW 3600000", "w"),
    ("GW.TOKENS b 1 5 PER 3600000", "b"),
    ("GW.ALLOW w 1 WINDOW 3600000 FORCE", "w"),
    ("GW.TOKENS b 1 5 PER 3600000 COST -1 FORCE", "b"),
    ("GW.ACQUIRE s 2 b TTL 3600000", "s"),
    ("GW.RENEW s a TTL 7200000", "s"),
    ("GW.RELEASE s a", "s"),
    ("GW.ADDCOST l 0.5", "l"),
    ("GW.ADDCOST l 0.5 ID twice", "l"),
    ("GW.ADDCOST l -0.5 REFUND", "l"),
    ("GW.CREDIT l WEEK 5", "l"),
    ("GW.CREDIT l DAY -2 ID back", "l"),
    ("GW.CREDIT k DAY 5 METER tokens", "k"),
    ("GW.ADDCOST told 1", "told"),
    ("GW.RESERVE l 5 1000 TTL 3600000", "l"),
    ("GW.RESERVE l 5 1000 TTL 3600000 ID other", "l"),
    ("GW.COMMIT l held 4", "l"),
    ("GW.COSTSYNC l 5", "l"),
    ("GW.COSTRESTORE new 5 ROWS SPEND TOTAL 0001-01-01 0", "new"),
    ("GW.COSTRESTORE k 5 METER pages ROWS SPEND TOTAL 0001-01-01 0 CREDIT DAY 2024-01-31 1", "k"),
    ("GW.LOGPUSH q z", "q"),
    ("GW.LOGPOP q", "q"),
    ("GW.LOGPOP q LEASE 1000", "q"),
    ("GW.CACHESET c other", "c"),
    ("GW.CACHEDEL c", "c"),
    ("GW.SEMSET sem id zzzzzzzz other TAG t TEXT question", "sem"),
    ("GW.SEMREJECT sem id 0.9", "sem"),
    ("GW.SEMREJECT sem id 0.95", "sem"),
    ("GW.SEMDEL sem id", "sem"),
    ("GW.SEMDEL sem other", "sem"),
    ("GW.POLICYSET k rpm WINDOW 9 PER 3600000", "k"),
    ("GW.ADMIT k WITH 2 k2 none LEASE new TTL 3600000 requests 0 usd 1", "k"),
    ("GW.KEEPALIVE k WITH 1 k2 LEASE live TTL 7200000", "k"),
    ("GW.SETTLE k WITH 1 k2 LEASE live usd 0.5", "k"),
    ("GW.POLICYRESET k rpm", "k"),
    ("GW.POLICYDEL k rpm", "k"),
    ("GW.POLICYSET k off BLOCK FOR 3600000", "k"),
    ("GW.POLICYSET k up BREAKER 5 PER 60000 OPEN 1000", "k"),
    ("GW.ROUTE down WITH 2 k2 none LEASE routed TTL 3600000 PICK ROOM ROWS ALL", "k2"),
    ("GW.SETTLE k2 LEASE flying FAILED COOLDOWN 3600000 TOOK 5", "k2"),
    (r#"GW.POLICYPUT k {"policies":[]}"#, "k"),
    (r#"GW.POLICYPUT none {"policies":[]} NX IDLE 3600000"#, "none"),
];

#[test]
fn calls_that_change_nothing_replicate_nothing() {
    let (primary, mut client) = start();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let mut reader = replica.connect().unwrap();
    await_in_sync(&mut client, &mut reader);
    exhaust(&mut client);
    await_in_sync(&mut client, &mut reader);
    for (words, _) in WITHOUT_EFFECT {
        let before = replication_offset(&mut client);
        run(&mut client, words);
        assert_eq!(replication_offset(&mut client), before, "{words}");
    }
    for (words, _) in WITH_EFFECT {
        let before = replication_offset(&mut client);
        run(&mut client, words);
        assert!(replication_offset(&mut client) > before, "{words}");
    }
}

/// Whether a transaction goes through although `words` ran after its WATCH.
fn watch_holds(client: &mut Connection, other: &mut Connection, words: &str, key: &str) -> bool {
    run(client, &format!("WATCH {key}"));
    run(other, words);
    run(client, "MULTI");
    run(client, "PING");
    match run(client, "EXEC").as_str() {
        "[PONG]" => true,
        "nil" => false,
        other => panic!("{words}: {other}"),
    }
}

#[test]
fn calls_that_change_nothing_touch_no_watched_key() {
    let (server, mut client) = start();
    let mut other = server.connect().unwrap();
    exhaust(&mut client);
    for (words, key) in WITHOUT_EFFECT {
        assert!(watch_holds(&mut client, &mut other, words, key), "{words}");
    }
    for (words, key) in WITH_EFFECT {
        assert!(!watch_holds(&mut client, &mut other, words, key), "{words}");
    }
}

/// The commands that `words` wrote to the append-only file: names and arguments, as text.
fn written_by(words: &[&str], inside: Option<(&str, &str)>) -> Vec<String> {
    let server = Server::options().aof().start().unwrap();
    let mut client = server.connect().unwrap();
    exhaust(&mut client);
    let before = aof_commands(&server).len();
    for words in inside.map(|(first, _)| first).iter().chain(words).chain(inside.map(|(_, last)| last).iter()) {
        run(&mut client, words);
    }
    let written = aof_commands(&server).split_off(before);
    written.iter().map(|words| words.join(&b' ').escape_ascii().to_string()).collect()
}

#[test]
fn each_change_is_one_effect_and_never_the_request() {
    for (words, _) in WITH_EFFECT {
        let written = written_by(&[words], None);
        assert_eq!(written.len(), 1, "{words}: {written:?}");
        // A deletion is replicated by one of the server's own commands.
        let effect = &written[0];
        let key = words.split(' ').nth(1).unwrap();
        assert!(
            effect.starts_with(&format!("GW._{}", family(words))) || *effect == format!("UNLINK {key}"),
            "{words}: {effect}"
        );
    }
}

fn family(words: &str) -> &'static str {
    match words.split(' ').next().unwrap() {
        "GW.ALLOW" | "GW.TOKENS" | "GW.ACQUIRE" | "GW.RENEW" | "GW.RELEASE" => "LIMIT",
        "GW.ADDCOST" | "GW.CREDIT" | "GW.RESERVE" | "GW.COMMIT" | "GW.CANCEL" => "BUDGET",
        "GW.COSTSYNC" | "GW.COSTRESTORE" => "BUDGET",
        "GW.LOGPUSH" | "GW.LOGPOP" => "QUEUE",
        "GW.ADMIT" | "GW.ROUTE" | "GW.SETTLE" | "GW.KEEPALIVE" => "ADMIT",
        "GW.POLICYSET" | "GW.POLICYPUT" | "GW.POLICYDEL" | "GW.POLICYRESET" => "ADMIT",
        "GW.SEMSET" | "GW.SEMREJECT" | "GW.SEMDEL" => "SEM",
        _ => "CACHE",
    }
}

#[test]
fn effects_stay_together_in_transactions_and_scripts() {
    let changes = ["GW.ALLOW w 9 WINDOW 3600000", "GW.ADDCOST l 0.5"];
    let written = written_by(&changes, Some(("MULTI", "EXEC")));
    let names: Vec<_> = written.iter().map(|command| command.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["MULTI", "GW._LIMIT", "GW._BUDGET", "EXEC"]);

    let server = Server::options().aof().start().unwrap();
    let mut client = server.connect().unwrap();
    let script = "redis.call('GW.ALLOW', KEYS[1], 5) return redis.call('GW.LOGPUSH', KEYS[2], 'x')";
    assert_eq!(reply!(client, "EVAL", script, 2, "w", "q"), "[1, 0]");
    let names: Vec<_> = aof_commands(&server).into_iter().map(|mut command| command.swap_remove(0)).collect();
    // Servers write SELECT before MULTI or after it.
    let names: Vec<_> = names.into_iter().filter(|name| name != b"SELECT").collect();
    assert_eq!(names, ["MULTI", "GW._LIMIT", "GW._QUEUE", "EXEC"].map(str::as_bytes));
}

/// Few strings are passed to the server one by one, and many as vectors.
#[test]
fn an_effect_names_all_accounts_and_amounts_however_many_they_are() {
    let server = Server::options().aof().start().unwrap();
    let mut client = server.connect().unwrap();
    let names: Vec<_> = (0..16).map(|number| format!("{{a}}{number}")).collect();
    for name in &names {
        assert_eq!(reply!(client, "GW.POLICYSET", name, "rpm", "WINDOW", 100_000, "PER", 60_000), "1");
    }
    let mut wanted = Vec::new();
    for count in 1..=names.len() {
        for meters in 0..5 {
            let (accounts, lease) = (&names[..count], format!("{count}-{meters}"));
            let amounts: Vec<_> = (0..meters).flat_map(|meter| [format!("meter{meter}"), "1".to_owned()]).collect();
            let mut admit = redis::cmd("GW.ADMIT");
            admit.arg(&accounts[0]);
            if count > 1 {
                admit.arg("WITH").arg(count - 1).arg(&accounts[1..]);
            }
            admit.arg("LEASE").arg(&lease).arg("TTL").arg(60_000).arg(&amounts).arg("ROWS").arg("NONE");
            let (admitted, _, _): (u8, i64, Vec<redis::Value>) = admit.query(&mut client).unwrap();
            assert_eq!(admitted, 1);
            let strings: [&[String]; 4] = [&[count.to_string()], accounts, &[lease], &amounts];
            wanted.push(strings.concat());
        }
    }
    let is_admission = |command: &Vec<Vec<u8>>| command[0] == b"GW._ADMIT" && command[1].starts_with(b"A ");
    let written = aof_commands(&server).into_iter().filter(is_admission);
    let strings =
        |command: Vec<Vec<u8>>| command[2..].iter().map(|word| String::from_utf8_lossy(word).into()).collect();
    assert_eq!(written.map(strings).collect::<Vec<Vec<String>>>(), wanted);
}

#[test]
fn effects_carry_absolute_times() {
    let server = Server::options().aof().start().unwrap();
    let mut client = server.connect().unwrap();
    let before_ms = server_time_ms(&mut client);
    for (words, offset_ms) in [
        ("GW.ALLOW w 5 WINDOW 1000", 0),
        ("GW.TOKENS b 5 5 PER 1000", 0),
        ("GW.ACQUIRE s 5 a TTL 1000", 0),
        ("GW.RESERVE l 5 1000 TTL 7000 ID a", 7_000),
        // With durations that count from that time.
        ("GW.CACHESET c value EX 100", 0),
        ("GW.CACHESET c value PX 600000 STALE 70", 0),
        ("GW.CACHEFETCH c TOUCH", 600_000),
    ] {
        // A touch in the millisecond of the set would change nothing.
        let last_ms = server_time_ms(&mut client);
        await_until("time to pass", DEADLINE, || server_time_ms(&mut client) > last_ms).unwrap();
        run(&mut client, words);
        let after_ms = server_time_ms(&mut client);
        let effect = aof_commands(&server).pop().unwrap().join(&b' ');
        let effect = effect.escape_ascii().to_string();
        let expected = before_ms + offset_ms - 5..=after_ms + offset_ms + 5;
        let times = effect.split(' ').filter_map(|word| word.parse::<i64>().ok());
        assert!(times.into_iter().any(|number| expected.contains(&number)), "{words}: {effect}");
    }
}

#[test]
fn effects_reach_the_database_they_were_made_in() {
    let (primary, mut client) = start();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let mut reader = replica.connect().unwrap();
    await_in_sync(&mut client, &mut reader);
    for words in ["SELECT 3", "GW.LOGPUSH q a b", "GW.CACHESET c v", "SWAPDB 3 4"] {
        run(&mut client, words);
    }
    await_in_sync(&mut client, &mut reader);
    assert_eq!(run(&mut reader, "DBSIZE"), "0");
    run(&mut reader, "SELECT 4");
    assert_eq!(run(&mut reader, "GW.LOGPEEK q COUNT 9"), r#"["a", "b"]"#);
    assert_eq!(run(&mut reader, "GW.CACHEGET c"), "\"v\"");
}

#[test]
fn replicas_serve_reads_and_refuse_writes() {
    let (primary, mut client) = start();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let mut reader = replica.connect().unwrap();
    exhaust(&mut client);
    await_in_sync(&mut client, &mut reader);
    for words in ["GW.SPENT l", "GW.LOGPEEK q COUNT 9", "GW.LOGLEN q", "GW.CACHEGET c", "GW.SEMGET sem aaaazzzz"] {
        assert_eq!(run(&mut reader, words), run(&mut client, words), "{words}");
    }
    assert!(run(&mut reader, "GW.WITHINBUDGET l 20").starts_with(r#"[1, "MONTH", "20", "10""#));
    for key in ["w", "b", "s", "l", "q", "c"] {
        assert!(run(&mut reader, &format!("GW.DESCRIBE {key}")).starts_with("[\"type\", "), "{key}");
    }
    for (words, _) in WITH_EFFECT {
        let refused = run(&mut reader, words);
        assert!(refused.starts_with("READONLY "), "{words}: {refused}");
    }
}

#[test]
fn a_replicas_state_does_not_depend_on_what_it_is_asked() {
    let (primary, mut client) = start();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let mut reader = replica.connect().unwrap();
    await_in_sync(&mut client, &mut reader);
    // The window moves on while both are read: a read must not remove units that have left it.
    let mut pipe = gw_testkit::redis::pipe();
    for _ in 0..300 {
        pipe.add_command(command("GW.ALLOW w 100000 WINDOW 20"));
    }
    for _ in 0..20 {
        pipe.exec(&mut client).unwrap();
        run(&mut reader, "GW.DESCRIBE w");
        verdict(&mut client, "GW.ALLOW w 1 WINDOW 20 PEEK");
    }
    await_in_sync(&mut client, &mut reader);
    let keys: i64 = call!(client, "EXISTS", "w");
    assert_eq!(keys, 1);
    assert_eq!(gw_testkit::digest(&mut client, "w"), gw_testkit::digest(&mut reader, "w"));
}
