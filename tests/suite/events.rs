//! Keyspace events: each change of a key has an event named after the command that made it, on a primary and its
//! replica alike.

use crate::support::{command, run, server_time_ms};
use gw_testkit::redis::{self, Connection, Value};
use gw_testkit::{Options, Server, await_in_sync, await_until, call};
use std::time::Duration;

/// A server that publishes events of modules on any key, and events of strings: a SET marks the end of a command's
/// events.
fn publishing() -> Options {
    Server::options().config("notify-keyspace-events Kdg$")
}

fn subscribe(server: &Server) -> redis::RedisResult<Connection> {
    let mut client = server.connect().unwrap();
    redis::cmd("PSUBSCRIBE").arg("__keyspace@0__:*").exec(&mut client)?;
    Ok(client)
}

/// The events until the next mark, each as its key and its name.
fn events(subscribed: &mut Connection) -> Vec<String> {
    let mut events = Vec::new();
    loop {
        let message: (String, String, String, String) =
            redis::from_redis_value(subscribed.recv_response().unwrap()).unwrap();
        let (_, _, channel, event) = message;
        let key = channel.split_once(':').unwrap().1;
        if key == "mark" {
            return events;
        }
        events.push(format!("{key} {event}"));
    }
}

struct Pair {
    client: Connection,
    reader: Connection,
    subscribed: [Connection; 2],
    _servers: [Server; 2],
}

impl Pair {
    fn start() -> Self {
        let primary = publishing().start().unwrap();
        let replica = publishing().replica_of(&primary).start().unwrap();
        let (mut client, mut reader) = (primary.connect().unwrap(), replica.connect().unwrap());
        await_in_sync(&mut client, &mut reader);
        let subscribed = [&primary, &replica].map(|server| subscribe(server).unwrap());
        Self { client, reader, subscribed, _servers: [primary, replica] }
    }

    /// Runs a command, and checks that it causes these events on both servers.
    fn causes(&mut self, words: &str, expected: &[&str]) -> Value {
        let reply = command(words).query(&mut self.client).unwrap();
        self.caused(words, expected);
        reply
    }

    fn caused(&mut self, what: &str, expected: &[&str]) {
        run(&mut self.client, "SET mark x");
        let [primary, replica] = self.subscribed.each_mut().map(events);
        assert_eq!(primary, expected, "{what}, on the primary");
        assert_eq!(replica, expected, "{what}, on the replica");
    }

    /// Runs a command that is denied, and checks that only the primary has an event.
    fn is_denied(&mut self, words: &str, key: &str) {
        run(&mut self.client, words);
        run(&mut self.client, "SET mark x");
        let [primary, replica] = self.subscribed.each_mut().map(events);
        assert_eq!(primary, [format!("{key} gw.denied")], "{words}, on the primary");
        assert!(replica.is_empty(), "{words}, on the replica: {replica:?}");
    }

    fn lease(&mut self, options: &str) -> String {
        let reply = self.causes(&format!("GW.LOGPOP q LEASE {options}"), &["q gw.logpop"]);
        redis::from_redis_value::<(String, Value, Value)>(reply).unwrap().0
    }

    fn let_time_pass(&mut self, ms: i64) {
        let start_ms = server_time_ms(&mut self.client);
        await_until("time to pass", Duration::from_secs(30), || server_time_ms(&mut self.client) > start_ms + ms)
            .unwrap();
    }
}

#[test]
fn limits_have_the_same_events_everywhere() {
    let mut pair = Pair::start();
    for (words, event) in [
        ("GW.ALLOW w 5", "w gw.allow"),
        ("GW.ALLOW w 5 FIXED", "w gw.allow"),
        ("GW.ALLOW w 5 COST 9 FORCE", "w gw.allow"),
        ("GW.ALLOW w 5 COST -1 FORCE", "w gw.allow"),
        ("GW.TOKENS b 5 5", "b gw.tokens"),
        ("GW.TOKENS b 5 5 COST 9 FORCE", "b gw.tokens"),
        ("GW.ACQUIRE s 2 a TTL 3600000", "s gw.acquire"),
        ("GW.ACQUIRE s 2 a TTL 3600000", "s gw.acquire"),
        ("GW.RENEW s a TTL 7200000", "s gw.renew"),
        ("GW.RELEASE s a", "s gw.release"),
    ] {
        pair.causes(words, &[event]);
    }
    for words in ["GW.ALLOW w 5 PEEK", "GW.TOKENS b 5 5 COST 5 PEEK", "GW.RENEW s a TTL 5", "GW.RELEASE s a"] {
        pair.causes(words, &[]);
    }
    pair.is_denied("GW.ALLOW w 5", "w");
    pair.is_denied("GW.TOKENS b 5 5 PER 3600000 COST 5", "b");
    pair.causes("GW.ACQUIRE s 1 b TTL 3600000", &["s gw.acquire"]);
    pair.is_denied("GW.ACQUIRE s 1 c TTL 3600000", "s");
    // A renewed slot is the same on both: its holder, its expiry and its token.
    pair.causes("GW.RENEW s b TTL 9000000", &["s gw.renew"]);
    await_in_sync(&mut pair.client, &mut pair.reader);
    assert_eq!(gw_testkit::digest(&mut pair.client, "s"), gw_testkit::digest(&mut pair.reader, "s"));
}

#[test]
fn budgets_have_the_same_events_everywhere() {
    let mut pair = Pair::start();
    for (words, event) in [
        ("GW.ADDCOST l 0.5", "l gw.addcost"),
        ("GW.ADDCOST l 0.5 ID once", "l gw.addcost"),
        ("GW.ADDCOST l -0.5 REFUND", "l gw.addcost"),
        ("GW.CREDIT l MONTH 5", "l gw.credit"),
        ("GW.CREDIT l MONTH -5 ID back", "l gw.credit"),
        ("GW.CREDIT l DAY 5 METER tokens", "l gw.credit"),
        ("GW.RESERVE l 5 1000 TTL 3600000 ID a", "l gw.reserve"),
        ("GW.RESERVE l 5 1000 TTL 3600000 ID b", "l gw.reserve"),
        ("GW.COMMIT l a 4", "l gw.commit"),
        ("GW.CANCEL l b", "l gw.cancel"),
        ("GW.COSTRESTORE new 5 ROWS SPEND TOTAL 0001-01-01 0", "new gw.costrestore"),
        ("GW.COSTRESTORE l 5 METER pages ROWS SPEND TOTAL 0001-01-01 0", "l gw.costrestore"),
    ] {
        pair.causes(words, &[event]);
    }
    for words in ["GW.RESERVE l 5 5", "GW.ADDCOST l 0.5 ID once", "GW.CREDIT l MONTH 5 ID back", "GW.CANCEL l b"]
        .into_iter()
        .chain(["GW.COSTRESTORE l 5 ROWS SPEND TOTAL 0001-01-01 0"])
    {
        pair.causes(words, &[]);
    }
}

/// Any change that leaves a budget at its soft limit has an event, once a period, on both servers.
#[test]
fn soft_limits_are_told_everywhere() {
    let mut pair = Pair::start();
    for words in [
        "GW.POLICYSET admit b BUDGET 10 MONTH SOFT 80",
        "GW.POLICYSET settle b BUDGET 10 MONTH SOFT 80",
        "GW.ADMIT settle LEASE l TTL 3600000 usd 1",
        "GW.POLICYSET addcost b BUDGET 10 MONTH SOFT 80",
        "GW.POLICYSET addcost c BUDGET 10 DAY SOFT 90",
        "GW.POLICYSET reserve b BUDGET 10 TOTAL SOFT 80",
        "GW.POLICYSET commit b BUDGET 10 MONTH SOFT 80",
        "GW.RESERVE commit 1 10 TTL 3600000 ID h",
        "GW.POLICYSET credit b BUDGET 10 WEEK SOFT 80",
        "GW.CREDIT credit WEEK 10",
        "GW.ADDCOST credit 9",
        "GW.ADDCOST policyset 9",
        "GW.POLICYSET policyset b BUDGET 100 MONTH SOFT 80",
    ] {
        let event = words.split(' ').next().unwrap().to_lowercase();
        pair.causes(words, &[&format!("{} {event}", words.split(' ').nth(1).unwrap())]);
    }
    for words in [
        "GW.ADMIT admit LEASE l TTL 3600000 usd 8",
        "GW.SETTLE settle LEASE l usd 8",
        "GW.ADDCOST addcost 8",
        "GW.RESERVE reserve 8 10 TTL 3600000",
        "GW.COMMIT commit h 9",
        "GW.CREDIT credit WEEK -10",
        "GW.POLICYSET policyset b BUDGET 10 MONTH SOFT 80",
    ] {
        let key = words.split(' ').nth(1).unwrap();
        pair.causes(words, &[&format!("{key} gw.{key}"), &format!("{key} gw.softbudget")]);
    }
    // The event of the month's budget was sent before. The day's budget has its own event.
    pair.causes("GW.ADDCOST addcost 1", &["addcost gw.addcost", "addcost gw.softbudget"]);
    pair.causes("GW.ADDCOST addcost 1", &["addcost gw.addcost"]);
    pair.causes("GW.ADMIT reserve LEASE l TTL 3600000 usd 0.5", &["reserve gw.admit"]);
    // A budget over another period is another budget.
    pair.causes("GW.POLICYSET reserve b BUDGET 10 MONTH SOFT 80", &["reserve gw.policyset", "reserve gw.softbudget"]);
    for key in ["admit", "settle", "addcost", "reserve", "commit", "credit", "policyset"] {
        assert_eq!(gw_testkit::digest(&mut pair.client, key), gw_testkit::digest(&mut pair.reader, key), "{key}");
    }
}

#[test]
fn log_queues_have_the_same_events_everywhere() {
    let mut pair = Pair::start();
    pair.causes("GW.LOGPUSH q 1 2 3 4 5 6 7 8 9 10 11 12", &["q gw.logpush"]);
    pair.causes("GW.LOGPOP q", &["q gw.logpop"]);
    let batches: [String; 5] = [(); 5].map(|()| pair.lease("3600000"));
    for (words, event) in [
        ("GW.LOGACK q", "q gw.logack"),
        ("GW.LOGNACK q", "q gw.lognack"),
        ("GW.LOGEXTEND q", "q gw.logextend"),
        ("GW.LOGNACK q DEAD", "q gw.lognack"),
        ("GW.LOGNACK q DEAD", "q gw.lognack"),
    ]
    .into_iter()
    .zip(&batches)
    .map(|((words, event), id)| (words.replacen('q', &format!("q {id}"), 1), event))
    {
        let words = if words.contains("EXTEND") { format!("{words} LEASE 3600000") } else { words };
        pair.causes(&words, &[event]);
    }
    pair.causes(&format!("GW.LOGDEAD q REQUEUE {}", batches[3]), &["q gw.logdead"]);
    pair.causes("GW.LOGDEAD q DROP ALL", &["q gw.logdead"]);
    pair.causes("GW.LOGDEAD q LIST", &[]);
    // Two batches that were delivered before, and a new one.
    for _ in 0..3 {
        pair.lease("1 MAXDELIVERIES 1");
    }
    pair.let_time_pass(1);
    pair.causes("GW.LOGDEAD q LIST", &["q gw.logdead"]);
    pair.lease("1 MAXDELIVERIES 1");
    pair.let_time_pass(1);
    pair.causes("GW.LOGPOP q COUNT 100", &["q gw.logpop"]);
    pair.causes("GW.LOGPOP q COUNT 100", &[]);
}

#[test]
fn the_cache_has_the_same_events_everywhere() {
    let mut pair = Pair::start();
    pair.causes("GW.CACHESET c v", &["c gw.cacheset"]);
    pair.causes("GW.CACHESET c v CATEGORY chat TAG t SAVED 0.1", &["c gw.cacheset"]);
    pair.causes("GW.CACHEGET c", &[]);
    pair.causes("GW.CACHEFETCH c LEASE 1000", &[]);
    pair.let_time_pass(1);
    pair.causes("GW.CACHEFETCH c TOUCH", &["c gw.cachetouch"]);
    pair.causes("GW.CACHEDEL c none", &["c del"]);
    pair.causes("GW.CACHESET c v CATEGORY chat", &["c gw.cacheset"]);
    let cleared: i64 = call!(pair.client, "GW.CACHECLEAR", "CATEGORY", "chat");
    assert_eq!(cleared, 1);
    await_until("the entry to be deleted", Duration::from_secs(30), || call!(pair.client, "EXISTS", "c" => i64) == 0)
        .unwrap();
    pair.caused("GW.CACHECLEAR CATEGORY", &["c del"]);
    pair.causes("GW.CACHESET c v", &["c gw.cacheset"]);
    pair.causes("GW.CACHECLEAR PATTERN c*", &["c del"]);
}

#[test]
fn the_semantic_cache_has_the_same_events_everywhere() {
    let mut pair = Pair::start();
    pair.causes("GW.SEMSET i one aaaazzzz v", &["i gw.semset"]);
    pair.causes("GW.SEMSET i two zzzzaaaa v TAG t", &["i gw.semset"]);
    pair.causes("GW.SEMGET i aaaazzzz", &[]);
    pair.causes("GW.SEMREJECT i one 0.9", &["i gw.semreject"]);
    pair.causes("GW.SEMREJECT i one 0.9", &[]);
    pair.causes("GW.SEMDEL i none", &[]);
    // Clearing by a tag removes the entry in the background, and then the last one.
    let clear = |pair: &mut Pair, tag: &str, left: usize| {
        assert_eq!(call!(pair.client, "GW.CACHECLEAR", "TAG", tag => i64), 1);
        let entries = |pair: &mut Pair| run(&mut pair.client, "GW.DESCRIBE i");
        let expected = format!("\"entries\", {left},");
        await_until("the entry to be removed", Duration::from_secs(30), || match left {
            0 => call!(pair.client, "EXISTS", "i" => i64) == 0,
            _ => entries(pair).contains(&expected),
        })
        .unwrap();
    };
    clear(&mut pair, "t", 1);
    pair.caused("GW.CACHECLEAR TAG", &["i gw.semdel"]);
    pair.causes("GW.SEMDEL i one", &["i del"]);
    pair.causes("GW.SEMSET i one aaaazzzz v TAG t", &["i gw.semset"]);
    clear(&mut pair, "t", 0);
    pair.caused("GW.CACHECLEAR TAG", &["i del"]);
}

#[test]
fn admission_has_the_same_events_everywhere() {
    let mut pair = Pair::start();
    for (words, keys, event) in [
        ("GW.POLICYSET k rpm WINDOW 10 PER 3600000", "k", "gw.policyset"),
        ("GW.POLICYSET k2 rpm WINDOW 1 PER 3600000", "k2", "gw.policyset"),
        ("GW.ADMIT k WITH 1 k2 LEASE a TTL 3600000", "k k2", "gw.admit"),
        ("GW.KEEPALIVE k WITH 1 k2 LEASE a TTL 7200000", "k k2", "gw.keepalive"),
        ("GW.SETTLE k WITH 1 k2 LEASE a", "k k2", "gw.settle"),
        ("GW.ROUTE k2 WITH 1 k LEASE r TTL 3600000", "k", "gw.admit"),
        ("GW.POLICYRESET k rpm", "k", "gw.policyreset"),
        ("GW.POLICYDEL k rpm", "k", "gw.policydel"),
        (r#"GW.POLICYPUT k {"policies":[]} NX"#, "", ""),
        (r#"GW.POLICYPUT k3 {"policies":[]} NX IDLE 3600000"#, "k3", "gw.policyput"),
    ] {
        let expected: Vec<String> = keys.split_terminator(' ').map(|key| format!("{key} {event}")).collect();
        pair.causes(words, &expected.iter().map(String::as_str).collect::<Vec<_>>());
    }
    // A refusal is not a change, so only the node that decides has an event.
    run(&mut pair.client, "GW.ADMIT k2 LEASE b TTL 3600000");
    run(&mut pair.client, "SET mark x");
    let [primary, replica] = pair.subscribed.each_mut().map(events);
    assert_eq!((primary, replica), (vec!["k2 gw.denied".to_owned()], Vec::new()));
    pair.causes("GW.ADMIT k2 LEASE b TTL 3600000 SHADOW", &[]);
    run(&mut pair.client, "GW.ROUTE k2 LEASE b TTL 3600000");
    run(&mut pair.client, "SET mark x");
    let [primary, replica] = pair.subscribed.each_mut().map(events);
    assert_eq!((primary, replica), (vec!["k2 gw.denied".to_owned()], Vec::new()));
}
