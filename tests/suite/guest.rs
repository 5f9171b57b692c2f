//! For keys and commands of others, the server behaves the same with the module as without it.

use crate::support::{command, run};
use gw_testkit::redis::Connection;
use gw_testkit::{Flavour, Server, await_until, call, info};
use std::time::Duration;

/// A server with the module and one without it, which get the same commands.
struct Twins {
    server: Server,
    _without: Server,
    clients: [Connection; 2],
}

impl Twins {
    fn start(policy: &str) -> Self {
        let options = Server::options().config(format!("maxmemory-policy {policy}"));
        // Each use is counted, and none decays.
        let options = options.config("lfu-log-factor 0").config("lfu-decay-time 0");
        let (server, without) = (options.clone().start().unwrap(), options.without_module().start().unwrap());
        let clients = [&server, &without].map(|server| server.connect().unwrap());
        Self { server, _without: without, clients }
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
    // A worker that follows changes of ledgers, and a client that waits for an answer, make the module watch keys.
    run(&mut twins.clients[0], "GW.COSTCHANGES");
    await_until("the first scan", Duration::from_secs(30), || {
        run(&mut twins.clients[0], "GW.COSTCHANGES") == "[0, []]"
    })
    .unwrap();
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
    run(&mut twins.clients[0], "GW.COSTCHANGES");
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
