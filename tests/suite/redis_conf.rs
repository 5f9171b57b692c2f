//! redis.conf: it loads and shows every setting with its default, and its users can do their work and nothing else.

use std::collections::BTreeMap;
use std::fs;

use crate::docs::{EXPORTER_SCRIPT, settings};
use crate::markdown;
use crate::support::{command, run, start};
use gw_testkit::{Server, call, module_path, project_root};

/// Lines of redis.conf: those in force, and those to uncomment, which begin with '#' without a space.
fn redis_conf() -> (Vec<String>, Vec<String>) {
    let text = fs::read_to_string(project_root().join("redis.conf")).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && *line != "#" && !line.starts_with("# "));
    let (commented, active): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with('#'));
    let owned = |lines: Vec<&str>| lines.into_iter().map(|line| line.trim_start_matches('#').to_owned()).collect();
    (owned(active), owned(commented))
}

/// A server with redis.conf, but in a directory and on a port of its own.
fn server_with_redis_conf() -> Server {
    let mut options = Server::options().without_module();
    for line in redis_conf().0 {
        options = match line.split(' ').next().unwrap() {
            "dir" | "port" | "bind" => options,
            "loadmodule" => options.config(format!("loadmodule {}", module_path().unwrap().display())),
            _ => options.config(line),
        };
    }
    options.start().unwrap()
}

#[test]
fn redis_conf_loads_and_shows_every_setting_with_its_default() {
    let server = server_with_redis_conf();
    let mut client = server.connect().unwrap();
    let (_bare, mut bare_client) = start();
    assert_eq!(settings(&mut client), settings(&mut bare_client));
    let (active, _) = redis_conf();
    for name in settings(&mut client).keys() {
        let lines = active.iter().filter(|line| line.split(' ').next() == Some(name)).count();
        assert_eq!(lines, 1, "{name}");
    }
    // Settings that the documentation promises, and that the file sets.
    for (name, value) in [("appendonly", "yes"), ("appendfsync", "everysec"), ("maxmemory-policy", "volatile-lfu")] {
        let set: BTreeMap<String, String> = call!(client, "CONFIG", "GET", name);
        assert_eq!(set.get(name).map(String::as_str), Some(value));
    }
    assert_eq!(run(&mut client, "GW.ALLOW k 5"), "[1, 5, 4, 0, 60000]");
    // This test replaces these lines, which must fit `make run` from the project's root.
    for line in ["dir ./data", "loadmodule ../target/release/libredis_gateway.so", "port 6379"] {
        assert!(active.iter().any(|other| other == line), "{line}");
    }
}

#[test]
fn lines_of_redis_conf_to_uncomment_are_valid() {
    let server = server_with_redis_conf();
    let mut client = server.connect().unwrap();
    let tls: BTreeMap<String, String> = call!(client, "CONFIG", "GET", "tls-port");
    let has_tls = !tls.is_empty();
    let (_, commented) = redis_conf();
    assert!(commented.len() > 10, "{commented:?}");
    for line in commented {
        let (name, value) = line.split_once(' ').unwrap();
        match name {
            "user" => {
                let set = run(&mut client, &format!("ACL SETUSER {value}"));
                assert_eq!(set, "OK", "{line}");
            }
            "replicaof" => assert_eq!(value.split(' ').count(), 2, "{line}"),
            _ if name.starts_with("tls-") => {
                let known: BTreeMap<String, String> = call!(client, "CONFIG", "GET", name);
                assert_eq!(known.len(), usize::from(has_tls), "{line}");
            }
            _ => assert_eq!(run(&mut client, &format!("CONFIG SET {line}")), "OK"),
        }
    }
}

/// The book shows some of the roles.
#[test]
fn the_books_roles_are_those_of_redis_conf() {
    let (_, commented) = redis_conf();
    let page = fs::read_to_string(project_root().join("docs/src/operating/security.md")).unwrap();
    let shown: Vec<_> = page.lines().filter_map(|line| Some(line.split_once("> ACL SETUSER ")?.1)).collect();
    assert_eq!(shown.len(), 2);
    for user in shown {
        assert!(commented.contains(&format!("user {user}")), "{user}");
    }
}

/// Users of redis.conf, and commands they can and cannot call.
const ROLES: &[(&str, &[&str], &[&str])] = &[
    (
        "gateway",
        &[
            "GW.ALLOW rpm:user:1 5",
            "GW.ROUTE {gpt}:eu WITH 1 {gpt}:us LEASE l TTL 1",
            "GW.ACQUIRE inflight:u 5 r TTL 9",
            "GW.ADDCOST spend:u 1",
            "GW.LOGPUSH log:r x",
            "GW.CACHESET chat:a v",
            "GW.CACHEFETCH chat:a LEASE 5",
            "GW.CACHERELEASE chat:a 5",
            "GW.CACHEDEL chat:a",
            "GW.SEMSET sem:a id aaaa v",
            "GW.SEMGET sem:a aaaa",
            "GW.SEMREJECT sem:a id 0.9",
            "GW.SEMDEL sem:a id",
            "MULTI",
            "PING",
            "CLUSTER SLOTS",
        ],
        &[
            "GW.LOGPOP log:r",
            "GW.ALLOW other 5",
            "GW.CREDIT spend:u DAY 1",
            "GW._LIMIT rpm:user:1 x",
            "DEL rpm:user:1",
            "CONFIG GET *",
            "KEYS *",
        ],
    ),
    (
        "shipper",
        &[
            "GW.LOGPOP log:r LEASE 5",
            "GW.LOGACK log:r 000649ce3d40a00000000007",
            "GW.LOGSTATS log:r",
            "GW.LOGLEN log:r",
            "HELLO",
            "CLUSTER SLOTS",
            "ASKING",
        ],
        &["GW.LOGPUSH log:r x", "GW.LOGPOP rpm:a", "CLUSTER RESET"],
    ),
    (
        "billing",
        &["GW.SPENT spend:u", "GW.WITHINBUDGET spend:u 5", "GW.DESCRIBE spend:u"],
        &["GW.ADDCOST spend:u 1", "GW.SPENT rpm:u"],
    ),
    (
        "accountant",
        &["GW.COSTCHANGES", "GW.COSTSYNC spend:a 5", "GW.COSTACK any 5", "HELLO", "CLUSTER SLOTS", "INFO replication"],
        &[
            "GW.ADDCOST spend:a 1",
            "GW.COSTRESTORE spend:a 5 ROWS SPEND TOTAL 0001-01-01 0",
            "GW.SPENT spend:a",
            "GET k",
            "CLUSTER FAILOVER",
        ],
    ),
    (
        "monitor",
        &["GW.STATS", "GW.CACHESTATS", "GW.TOP DENIED", "INFO", "SLOWLOG GET", "CLUSTER INFO", "CLUSTER SHARDS"],
        &["GW.DESCRIBE k", "GET k", "CONFIG SET a b"],
    ),
    (
        "operator",
        &[
            "DEL rpm:user:1",
            "GW.DESCRIBE any",
            "SCAN 0",
            "GW.ADDCOST k -1 REFUND",
            "GW.CREDIT k DAY 1",
            "GW.COSTRESTORE k 5 ROWS SPEND TOTAL 0001-01-01 0",
            "GW.POLICYPUT k {}",
            "GW.ADMIT k LEASE l TTL 1 SHADOW",
            "GW.SETTLE k LEASE l FAILED COOLDOWN 1",
            "GW.CACHELIST 0 CATEGORY c",
            "GW.STATSRESET",
            "GW.TOP METER usd",
        ],
        &["FLUSHALL", "GW._LOAD k a 0 b", "GW.LOGPOP log:r", "CONFIG SET a b"],
    ),
    ("replica", &["REPLCONF GETACK *"], &["GET k", "GW._LIMIT k x"]),
];

#[test]
fn the_users_of_redis_conf_can_do_their_work_and_nothing_else() {
    let (_server, mut client) = start();
    let (_, commented) = redis_conf();
    let users: Vec<_> = commented.iter().filter_map(|line| line.strip_prefix("user ")).collect();
    for user in &users {
        assert_eq!(run(&mut client, &format!("ACL SETUSER {user}")), "OK");
    }
    let names = users.iter().map(|user| user.split(' ').next().unwrap()).filter(|name| *name != "default");
    assert_eq!(names.collect::<Vec<_>>(), ROLES.iter().map(|(name, ..)| *name).collect::<Vec<_>>());
    for (name, allowed, denied) in ROLES {
        for (words, can) in allowed.iter().map(|words| (words, true)).chain(denied.iter().map(|words| (words, false))) {
            let answer = run(&mut client, &format!("ACL DRYRUN {name} {words}"));
            assert_eq!(answer == "OK", can, "{name}: {words}: {answer}");
        }
    }
    // The metrics' script runs as the user it is meant for.
    let script = markdown::named(EXPORTER_SCRIPT).text();
    command("AUTH monitor CHANGE-ME").exec(&mut client).unwrap();
    let reply: Vec<String> = call!(client, "EVAL", script, 0);
    assert!(!reply.is_empty());
}
