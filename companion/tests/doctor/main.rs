//! `gw doctor` as a process, against servers that are set up wrongly on purpose.

use std::collections::BTreeSet;
use std::process::Command;

use gw_testkit::redis::{Connection, cmd};
use gw_testkit::{Clock, DEADLINE, Options, Server, await_until, call, info};

/// The exit code, and the findings: id and severity.
fn doctor(url: &str) -> (i32, BTreeSet<(String, String)>) {
    let output = Command::new(env!("CARGO_BIN_EXE_gw")).args(["doctor", "--json", "--url", url]).output().unwrap();
    let code = output.status.code().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    if text.is_empty() {
        assert!(!output.stderr.is_empty(), "it says why");
        return (code, BTreeSet::new());
    }
    let report: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
    let member = |finding: &serde_json::Value, name: &str| finding[name].as_str().unwrap().to_owned();
    let findings = report["findings"].as_array().unwrap().iter();
    (code, findings.map(|finding| (member(finding, "id"), member(finding, "severity"))).collect())
}

fn ids(url: &str) -> BTreeSet<String> {
    doctor(url).1.into_iter().map(|(id, _)| id).collect()
}

/// What the book advises.
fn advised() -> Options {
    let lines = [
        "maxmemory 200mb",
        "maxmemory-policy volatile-lfu",
        "appendonly yes",
        "appendfsync everysec",
        "rdbcompression no",
        "repl-backlog-size 64mb",
        "cluster-node-timeout 15000",
        "enable-module-command no",
        // So that a test can make a snapshot fail.
        "enable-protected-configs yes",
    ];
    lines.into_iter().fold(Server::options(), |options, line| options.config(line))
}

/// A URL of an administrator, and a connection of one. Nobody else is let in.
fn administered(server: &Server) -> (String, Connection) {
    let mut client = server.connect().unwrap();
    run(&mut client, "ACL SETUSER admin on >word ~* &* +@all");
    let admin = server.connect_as("admin", "word").unwrap();
    run(&mut client, "ACL SETUSER default off");
    (format!("redis://admin:word@127.0.0.1:{}", server.port()), admin)
}

fn run(client: &mut Connection, command: &str) {
    let words: Vec<&str> = command.split(' ').map(|word| word.trim_matches('"')).collect();
    cmd(words[0]).arg(&words[1..]).exec(client).unwrap_or_else(|error| panic!("{command}: {error}"));
}

/// `admin` may call everything, also what is internal: its finding is in all of these.
const ADMIN: &str = "internal-commands";

#[test]
fn a_server_as_the_book_advises_has_no_findings() {
    let server = advised().start().unwrap();
    let mut client = server.connect().unwrap();
    // Whoever looks needs no right of the module.
    run(
        &mut client,
        "ACL SETUSER looker on >word +@all -@all +info +config|get +acl +command|info +time +hello +client",
    );
    run(&mut client, "ACL SETUSER default off");
    let (code, findings) = doctor(&format!("redis://looker:word@127.0.0.1:{}", server.port()));
    // A single server has no replica; that and the version are notes.
    let bad: Vec<_> = findings.iter().filter(|(_, severity)| severity != "note").collect();
    assert_eq!((code, bad), (0, vec![]), "{findings:?}");
    assert!(findings.contains(&("no-replica".to_owned(), "note".to_owned())), "{findings:?}");
}

#[test]
fn each_wrong_setting_is_found() {
    let server = advised().start().unwrap();
    let (url, mut client) = administered(&server);
    let good = ids(&url);
    for (finding, wrong, right) in [
        ("evicts-all", "CONFIG SET maxmemory-policy allkeys-lru", "CONFIG SET maxmemory-policy volatile-lfu"),
        ("evicts-limits", "CONFIG SET maxmemory-policy volatile-ttl", "CONFIG SET maxmemory-policy volatile-lfu"),
        ("no-memory-bound", "CONFIG SET maxmemory 0", "CONFIG SET maxmemory 200mb"),
        ("memory-bound-high", "CONFIG SET maxmemory 4000gb", "CONFIG SET maxmemory 200mb"),
        ("memory-full", "CONFIG SET maxmemory 1kb", "CONFIG SET maxmemory 200mb"),
        ("not-persistent", "CONFIG SET appendonly no", "CONFIG SET appendonly yes"),
        ("snapshots-only", "CONFIG SET appendonly no save \"3600 1\"", "CONFIG SET appendonly yes save \"\""),
        ("no-fsync", "CONFIG SET appendfsync no", "CONFIG SET appendfsync everysec"),
        ("snapshots-compress", "CONFIG SET rdbcompression yes", "CONFIG SET rdbcompression no"),
        ("default-user", "ACL SETUSER default on nopass ~* +@all", "ACL SETUSER default off"),
        ("role-lacks", "ACL SETUSER shipper on >word ~log:* -@all +gw.logpop", "ACL DELUSER shipper"),
        // An address that no machine has, which the server passes over.
        ("no-tls", "CONFIG SET bind \"127.0.0.1 -192.0.2.1\"", "CONFIG SET bind 127.0.0.1"),
        ("writes-stopped", "CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
    ] {
        let words = |command: &str| split(command);
        cmd("CONFIG").arg("GET").arg("port").exec(&mut client).unwrap();
        send(&mut client, &words(wrong));
        let found = ids(&url);
        let new: Vec<_> = found.difference(&good).collect();
        assert_eq!(new, [finding], "{wrong}");
        send(&mut client, &words(right));
    }
    assert_eq!(ids(&url), good, "it is as it was");

    // Two things at once make these.
    for (finding, wrong, right) in [
        (
            "snapshot-errors-pass",
            ["CONFIG SET save \"3600 1\"", "CONFIG SET stop-writes-on-bgsave-error no"],
            ["CONFIG SET save \"\"", "CONFIG SET stop-writes-on-bgsave-error yes"],
        ),
        (
            "open",
            ["ACL SETUSER default on nopass ~* +@all", "CONFIG SET protected-mode no bind \"127.0.0.1 -192.0.2.1\""],
            ["ACL SETUSER default off", "CONFIG SET protected-mode yes bind 127.0.0.1"],
        ),
    ] {
        wrong.iter().for_each(|command| send(&mut client, &split(command)));
        assert!(ids(&url).contains(finding), "{finding}");
        right.iter().for_each(|command| send(&mut client, &split(command)));
    }
    assert_eq!(ids(&url), good, "it is as it was");

    // `admin` is one itself; without the module's internal commands it is none.
    assert!(good.contains(ADMIN), "{good:?}");
    let commands: Vec<String> =
        cmd("COMMAND").arg("LIST").arg("FILTERBY").arg("PATTERN").arg("gw._*").query(&mut client).unwrap();
    assert!(!commands.is_empty());
    commands.iter().for_each(|name| run(&mut client, &format!("ACL SETUSER admin -{name}")));
    assert!(!ids(&url).contains(ADMIN));

    // A snapshot into a folder that takes no files.
    run(&mut client, "CONFIG SET dir /proc/self");
    let _: Result<(), _> = cmd("BGSAVE").exec(&mut client);
    await_until("the snapshot to fail", DEADLINE, || {
        info(&mut client, "persistence")["rdb_last_bgsave_status"] == "err"
    })
    .unwrap();
    assert!(ids(&url).contains("write-failed"));
}

/// Words, of which one may be in quotes.
fn split(command: &str) -> Vec<String> {
    let parts = command.split('"').enumerate().flat_map(|(index, part)| match index % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect(),
        _ => vec![part.to_owned()],
    });
    parts.collect()
}

fn send(client: &mut Connection, words: &[String]) {
    cmd(&words[0]).arg(&words[1..]).exec(client).unwrap_or_else(|error| panic!("{words:?}: {error}"));
}

#[test]
fn what_a_server_lacks_is_found() {
    let bare = advised().without_module().config("enable-module-command yes").start().unwrap();
    let found = ids(&format!("redis://127.0.0.1:{}", bare.port()));
    for id in ["module-missing", "module-command", "default-user"] {
        assert!(found.contains(id), "{id}: {found:?}");
    }
    let mut client = bare.connect().unwrap();
    run(&mut client, "ACL SETUSER guest on >word -@all +info +hello +client");
    let found = ids(&format!("redis://guest:word@127.0.0.1:{}", bare.port()));
    assert!(found.contains("not-allowed") && !found.contains("evicts-all"), "{found:?}");
}

#[test]
fn replicas_are_checked_and_compared() {
    let (clock, other_clock) = (Clock::new().unwrap(), Clock::new().unwrap());
    let primary = advised().clock(&clock).start().unwrap();
    let replica = advised().clock(&other_clock).replica_of(&primary).start().unwrap();
    let (mut client, mut follower) = (primary.connect().unwrap(), replica.connect().unwrap());
    // Each knows of the other, at a time of its own.
    let is_up = || {
        info(&mut client, "replication")["connected_slaves"] == "1"
            && info(&mut follower, "replication")["master_link_status"] == "up"
    };
    await_until("the replica to be connected", DEADLINE, is_up).unwrap();
    let url = format!("redis://127.0.0.1:{}", primary.port());
    let good = ids(&url);
    for id in ["no-replica", "link-down", "settings-differ", "backlog-small", "clocks-differ", "clock-off", "node-away"]
    {
        assert!(!good.contains(id), "{id}: {good:?}");
    }
    assert!(good.contains("cut-off-writes"));
    run(&mut client, "CONFIG SET min-replicas-to-write 1");
    run(&mut client, "CONFIG SET repl-backlog-size 1mb");
    run(&mut follower, "CONFIG SET gw.top-keys 64");
    clock.set(3_600_000).unwrap();
    let found = ids(&url);
    assert!(!found.contains("cut-off-writes"), "{found:?}");
    for id in ["settings-differ", "backlog-small", "clocks-differ", "clock-off"] {
        assert!(found.contains(id), "{id}: {found:?}");
    }
    // A primary that is not there.
    run(&mut follower, "REPLICAOF 127.0.0.1 1");
    let found = ids(&format!("redis://127.0.0.1:{}", replica.port()));
    assert!(found.contains("link-down") && found.contains("node-away"), "{found:?}");
}

#[test]
fn a_cluster_with_gaps_is_found() {
    let node = advised().cluster().config("cluster-node-timeout 2000").start().unwrap();
    let url = format!("redis://127.0.0.1:{}", node.port());
    let found = ids(&url);
    assert!(found.contains("timeout-short") && !found.contains("slots-unserved"), "{found:?}");
    let mut client = node.connect().unwrap();
    run(&mut client, "CLUSTER DELSLOTS 5");
    run(&mut client, "CONFIG SET cluster-node-timeout 5000");
    let is_found = || {
        let found = ids(&url);
        found.contains("slots-unserved") && !found.contains("timeout-short")
    };
    await_until("the gap to be found", DEADLINE, is_found).unwrap();
}

#[test]
fn exit_codes_and_text_are_as_documented() {
    assert_eq!(doctor("redis://127.0.0.1:1"), (2, BTreeSet::new()));
    assert_eq!(doctor("http://host"), (2, BTreeSet::new()));
    let server = Server::start().unwrap();
    let url = format!("redis://127.0.0.1:{}", server.port());
    assert_eq!(doctor(&url).0, 1);
    let output = Command::new(env!("CARGO_BIN_EXE_gw")).args(["doctor", "--url", &url]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("PROBLEM not-persistent at 127.0.0.1:") && text.contains("  advice: CONFIG SET appendonly yes"),
        "{text}"
    );
    let mut client = server.connect().unwrap();
    assert_eq!(call!(client, "DBSIZE" => i64), 0, "it changes nothing");
}
