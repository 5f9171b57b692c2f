//! For keys and commands of others, the server behaves the same with the module as without it.

use crate::support::{Random, command, run};
use gw_testkit::redis::{Connection, PubSub};
use gw_testkit::{Flavour, Options, Server, await_until, call, info};
use std::collections::BTreeMap;
use std::time::Duration;

/// A server with the module and one without it, which get the same commands.
struct Twins {
    server: Server,
    without: Server,
    clients: [Connection; 2],
}

impl Twins {
    fn start(policy: &str) -> Self {
        Self::start_with(Server::options(), policy)
    }

    fn start_with(options: Options, policy: &str) -> Self {
        let options = options.config(format!("maxmemory-policy {policy}"));
        // Each use is counted, and none decays.
        let options = options.config("lfu-log-factor 0").config("lfu-decay-time 0");
        let (server, without) = (options.clone().start().unwrap(), options.without_module().start().unwrap());
        let clients = [&server, &without].map(|server| server.connect().unwrap());
        Self { server, without, clients }
    }

    /// Runs a command on both, which must reply the same.
    fn run(&mut self, words: &str) -> String {
        let [with, without] = self.clients.each_mut().map(|client| run(client, words));
        assert_eq!(with, without, "{words}");
        with
    }

    /// Gives the key the same payload, and so the same use, on both.
    fn restore(&mut self, key: &str, from: &str, options: &[&str]) {
        for client in &mut self.clients {
            let payload: Vec<u8> = call!(*client, "DUMP", from);
            let mut restore = command("RESTORE");
            restore.arg(key).arg(0).arg(payload.as_slice()).arg(options).exec(client).unwrap();
        }
    }

    /// Makes the module follow the keys of database 0: a worker asks for changes of ledgers.
    fn follow_keys(&mut self) {
        await_until("the first scan", Duration::from_secs(30), || {
            run(&mut self.clients[0], "GW.COSTCHANGES") == "[0, []]"
        })
        .unwrap();
    }

    /// Runs a query on both, and compares what it finds.
    fn compare<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, query: impl Fn(&mut Connection) -> T) {
        let [with, without] = self.clients.each_mut().map(query);
        assert_eq!(with, without, "{what}");
    }

    /// Hits and misses of all keys so far, which must be the same on both.
    fn lookups(&mut self) -> [String; 2] {
        let [with, without] = self.clients.each_mut().map(|client| {
            let stats = info(client, "stats");
            ["keyspace_hits", "keyspace_misses"].map(|name| stats[name].clone())
        });
        assert_eq!(with, without);
        with
    }
}

/// How long a key has not been used, in seconds (IDLETIME), or how often it was used (FREQ).
fn use_of(client: &mut Connection, kind: &str, key: &str) -> u64 {
    call!(*client, "OBJECT", kind, key)
}

/// Creates and moves keys by each command that the module listens to.
fn move_keys(twins: &mut Twins, options: &[&str]) -> [&'static str; 4] {
    twins.run("SET model v");
    for key in ["restored", "copied:from", "renamed:from", "moved"] {
        twins.restore(key, "model", options);
    }
    twins.run("COPY copied:from copied");
    twins.run("RENAME renamed:from renamed");
    twins.run("MOVE moved 1");
    // Valkey 8.1 leaves the client in the other database if any module listens (docs/src/operating/supported-servers.md).
    let is_faulty = twins.server.binary().flavour == Flavour::Valkey && twins.server.binary().version < (9, 0, 0);
    if !is_faulty {
        twins.run("COPY copied:from copied DB 2");
    }
    ["restored", "copied:from", "copied", "renamed"]
}

#[test]
fn keys_that_come_and_move_are_not_used() {
    let mut twins = Twins::start("allkeys-lru");
    twins.follow_keys();
    let keys = move_keys(&mut twins, &["IDLETIME", "1000"]);
    run(&mut twins.clients[0], "GW.COSTCHANGES");
    for key in keys {
        let [with, without] = twins.clients.each_mut().map(|client| use_of(client, "IDLETIME", key));
        // The commands reach the two servers at different times.
        assert!(with.abs_diff(without) <= 30, "{key} was idle for {with} s with the module, {without} s without");
    }
    twins.lookups();
}

#[test]
fn keys_that_come_and_move_are_not_counted() {
    let mut twins = Twins::start("allkeys-lfu");
    twins.follow_keys();
    for key in move_keys(&mut twins, &["FREQ", "5"]) {
        let [with, without] = twins.clients.each_mut().map(|client| use_of(client, "FREQ", key));
        assert_eq!(with, without, "{key}");
    }
    twins.run("GET restored");
    twins.run("GET none");
    twins.run("EXPIRE copied 1000");
    twins.run("PERSIST copied");
    twins.run("DEL copied");
    twins.run("FLUSHALL");
    twins.lookups();
}

#[test]
fn no_key_is_followed_without_need() {
    let mut twins = Twins::start("noeviction");
    for words in [
        "GW.ALLOW own:window 10",
        "GW.TOKENS own:bucket 10 10",
        "GW.ACQUIRE own:slots 2 holder TTL 60000",
        "GW.ADDCOST own:ledger 1",
        "GW.LOGPUSH own:queue RECORDS {}",
        "GW.CACHESET own:entry v",
        "GW.CACHEGET own:entry",
        "GW.POLICYSET own:account rpm WINDOW 60 PER 60000",
        "GW.ADMIT own:account LEASE a TTL 60000",
        "FLUSHALL",
    ] {
        let reply = run(&mut twins.clients[0], words);
        assert!(!reply.starts_with("ERR"), "{words}: {reply}");
    }
    // On Valkey 8.1 a client would be left in the other database if anybody listened.
    for words in ["SET model v", "COPY model copied DB 2", "MOVE model 1", "SET here v", "KEYS *"] {
        twins.run(words);
    }
    assert_eq!(twins.run("KEYS *"), "[\"here\"]");
}

/// Commands on keys of every type of the server's own; `#` stands for a key's number, `%` for any other.
const COMMANDS: [&str; 62] = [
    "SET k# v%",
    "SET k# v% EXAT 4000000001",
    "SET n# %",
    "SETNX k# v%",
    "GETSET k# v%",
    "GETDEL k#",
    "GETEX k# PERSIST",
    "GET k#",
    "GET n#",
    "MGET k# n#",
    "APPEND k# x",
    "STRLEN k#",
    "SETRANGE k# % y",
    "SETBIT b# % 1",
    "BITCOUNT b#",
    "INCR n#",
    "INCRBY n# %",
    "PFADD p# %",
    "PFCOUNT p#",
    "DEL k#",
    "DEL h# n#",
    "UNLINK k# l#",
    "EXISTS k# n#",
    "TOUCH k# h#",
    "TYPE k#",
    "EXPIREAT k# 4000000000",
    "PEXPIREAT h# 4000000000000",
    "EXPIRE n# -1",
    "PERSIST k#",
    "EXPIRETIME k#",
    "RENAME k# k#",
    "RENAMENX k# n#",
    "COPY k# k# REPLACE",
    "COPY h# h#",
    "MOVE k# 1",
    "SWAPDB 1 2",
    "HSET h# f% v",
    "HGET h# f%",
    "HINCRBY h# c %",
    "HDEL h# f%",
    "LPUSH l# v%",
    "RPOP l#",
    "LRANGE l# 0 -1",
    "LMOVE l# l# LEFT RIGHT",
    "SORT l# ALPHA STORE l#",
    "SADD s# %",
    "SREM s# %",
    "SISMEMBER s# %",
    "SUNIONSTORE s# s# s#",
    "ZADD z# % m%",
    "ZINCRBY z# 1 m%",
    "ZRANGE z# 0 -1",
    "ZPOPMIN z#",
    "XADD x# 1-% f v",
    "XLEN x#",
    "XTRIM x# MAXLEN 5",
    "DUMP k#",
    "OBJECT FREQ k#",
    "OBJECT ENCODING k#",
    "PUBLISH channel %",
    "DBSIZE",
    "EVAL return{redis.call('GET',KEYS[1]),redis.call('DEL',KEYS[2])} 2 k# n#",
];

fn generated(random: &mut Random) -> String {
    let mut command = COMMANDS[random.below(COMMANDS.len())].to_owned();
    for (sign, end) in [("#", 6), ("%", 30)] {
        while command.contains(sign) {
            command = command.replacen(sign, &random.below(end).to_string(), 1);
        }
    }
    command
}

/// All messages about keys up to the last one, which is told to everybody.
fn key_events(subscriber: &mut PubSub) -> Vec<(String, String)> {
    let mut events = Vec::new();
    loop {
        let message = subscriber.get_message().unwrap();
        let event = (message.get_channel_name().to_owned(), message.get_payload::<String>().unwrap());
        if event.0 == LAST_EVENT {
            return events;
        }
        events.push(event);
    }
}

const LAST_EVENT: &str = "__keylast@0__:";

/// Everything that the server tells of a database's keys, without using them.
fn described(client: &mut Connection, database: i32) -> BTreeMap<String, String> {
    run(client, &format!("SELECT {database}"));
    let keys: Vec<String> = call!(*client, "KEYS", "*");
    let described = keys.into_iter().map(|key| {
        let told = ["TYPE", "OBJECT FREQ", "OBJECT ENCODING", "PEXPIRETIME", "DEBUG DIGEST-VALUE"]
            .map(|words| run(client, &format!("{words} {key}")));
        (key, told.join(" "))
    });
    described.collect()
}

/// Calls, errors and refusals of each of the server's own commands.
fn command_counts(client: &mut Connection) -> BTreeMap<String, String> {
    let counts = info(client, "commandstats").into_iter().filter(|(name, _)| !name.contains("gw."));
    let counts = counts.map(|(name, counts)| {
        let fields: Vec<&str> = counts.split(',').filter(|field| !field.starts_with("usec")).collect();
        (name, fields.join(","))
    });
    counts.collect()
}

/// Bytes that were appended to the AOF.
fn appended(client: &mut Connection) -> u64 {
    let fields = info(client, "persistence");
    let [now, base]: [u64; 2] = ["aof_current_size", "aof_base_size"].map(|name| fields[name].parse().unwrap());
    now - base
}

/// What each of a database's keys takes, in bytes.
fn memory(client: &mut Connection, database: i32) -> BTreeMap<String, u64> {
    run(client, &format!("SELECT {database}"));
    let keys: Vec<String> = call!(*client, "KEYS", "*");
    keys.into_iter()
        .map(|key| {
            let bytes = call!(*client, "MEMORY", "USAGE", &key, "SAMPLES", 0);
            (key, bytes)
        })
        .collect()
}

#[test]
fn every_command_on_others_keys_does_the_same() {
    let options = Server::options().aof().config("notify-keyspace-events KEA");
    let mut twins = Twins::start_with(options, "allkeys-lfu");
    let mut connections = [&twins.server, &twins.without].map(|server| server.connect().unwrap());
    let mut subscribers = connections.each_mut().map(|connection| {
        let mut subscriber = connection.as_pubsub();
        subscriber.psubscribe("__key*@*__:*").unwrap();
        subscriber
    });
    let mut random = Random(0x9e57);
    for step in 0..6_000 {
        // From now on the module follows keys.
        if step == 2_000 {
            twins.follow_keys();
        }
        let command = generated(&mut random);
        twins.run(&command);
    }
    twins.lookups();
    twins.compare("commands", command_counts);
    twins.compare("errors", |client| info(client, "errorstats").into_iter().collect::<BTreeMap<_, _>>());
    twins.compare("appended", appended);
    twins.run(&format!("PUBLISH {LAST_EVENT} end"));
    let [with, without] = subscribers.each_mut().map(key_events);
    assert!(with == without, "the keyspace events differ");
    assert!(with.len() > 1_000, "{} keyspace events", with.len());
    for database in 0..3 {
        twins.compare("keys", |client| described(client, database));
        let [with, without] = twins.clients.each_mut().map(|client| memory(client, database));
        for (key, bytes) in with {
            // libc's allocator, which Valkey's builds may use, gives a few bytes more where a smaller gap would be left.
            let allowed = if twins.server.binary().flavour == Flavour::Valkey { 64 } else { 0 };
            assert!(bytes.abs_diff(without[&key]) <= allowed, "{key}: {bytes} bytes, {} without", without[&key]);
        }
    }
}
