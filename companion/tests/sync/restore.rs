//! A server that has lost its ledgers gets them back from the database.

use std::collections::BTreeMap;
use std::fs;

use gw_testkit::redis::{Connection, Value, from_redis_value};
use gw_testkit::{Layout, Server, call, project_root, slot_of};

use crate::companion::Companion;
use crate::database::{Database, Rows};
use crate::ledgers::{assert_equal, assert_in_step, ledger_rows};
use crate::traffic::Traffic;

fn address(server: &Server) -> String {
    format!("redis://127.0.0.1:{}", server.port())
}

/// What was printed by `gw restore` with these arguments.
fn restore(companion: &Companion, arguments: &[&str]) -> String {
    let done = companion.command(&["restore"]).args(arguments).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// The versions of all ledgers alone, by key.
fn versions(client: &mut Connection) -> BTreeMap<Vec<u8>, i64> {
    let keys: Vec<Vec<u8>> = call!(*client, "KEYS", "*");
    let version = |key: Vec<u8>| {
        let described: BTreeMap<String, Value> = call!(*client, "GW.DESCRIBE", &key);
        let version = described.get("version").map(|version| from_redis_value::<i64>(version.clone()).unwrap());
        Some((key, version?))
    };
    keys.into_iter().filter_map(version).collect()
}

fn rebuild(server: &Server, client: &mut Connection, database: &Database) {
    let companion = Companion::new(server.dir(), &address(server), &database.address());
    // Days of summer time, and a zone in which noon is another day in UTC.
    call!(*client, "CONFIG", "SET", "gw.timezone", "Pacific/Auckland" => ());
    Traffic::new(5).changes(client, 5_000);
    assert_in_step(&companion, client, database);
    let (before, versions_before, stored) = (ledger_rows(client), versions(client), database.rows());

    call!(*client, "FLUSHALL" => ());
    // The companion does not follow a server that has lost everything.
    let refused = companion.command(&["sync"]).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("`gw restore` brings them back"), "{refused:?}");
    assert_eq!(database.rows(), stored);
    let told = restore(&companion, &["--dry-run", "--json"]);
    assert!(told.contains("\"left\":[]") && !told.contains("\"set\":0"), "{told}");
    assert_eq!(call!(*client, "DBSIZE" => u64), 0);
    let told = restore(&companion, &[]);
    assert!(told.contains("left: 0 accounts"), "{told}");
    // Those that were deleted come back, too: the database does not know that they were.
    let mut after = ledger_rows(client);
    assert_equal(&after, &stored);
    after.retain(|row, _| before.contains_key(row));
    assert_equal(&after, &before);
    let mut versions_after = versions(client);
    versions_after.retain(|key, _| versions_before.contains_key(key));
    assert_eq!(versions_after, versions_before);
    // It can be repeated.
    let told = restore(&companion, &["--json"]);
    assert!(told.contains("\"set\":0") && told.contains("\"left\":[]"), "{told}");

    // The companion goes on from there: nothing is listed that the database has.
    companion.catch_up();
    assert_equal(&database.rows(), &stored);
    assert_eq!(call!(*client, "GW.COSTCHANGES" => (i64, Vec<Value>)).1, []);
    Traffic::new(6).changes(client, 500);
    assert_in_step(&companion, client, database);
    call!(*client, "FLUSHALL" => ());
}

#[test]
fn an_emptied_server_gets_equal_ledgers() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    rebuild(&server, &mut client, &Database::sqlite(server.dir()));
    if let Some(database) = Database::postgres() {
        rebuild(&server, &mut client, &database);
    }
}

#[test]
fn an_older_state_is_brought_up_and_a_newer_one_is_left() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    let database = Database::sqlite(server.dir());
    let companion = Companion::new(server.dir(), &address(&server), &database.address());
    for key in ["older", "newer", "same", "gone", "account", "text"] {
        call!(client, "GW.ADDCOST", key, "2.5" => ());
        call!(client, "GW.CREDIT", key, "MONTH", "5" => ());
    }
    let backup: Vec<u8> = call!(client, "DUMP", "older");
    call!(client, "GW.ADDCOST", "older", "0.000000000001" => ());
    call!(client, "GW.CREDIT", "older", "MONTH", "-1" => ());
    companion.catch_up();
    let wanted = ledger_rows(&mut client);

    call!(client, "RESTORE", "older", 0, backup, "REPLACE" => ());
    call!(client, "GW.ADDCOST", "newer", "1" => ());
    call!(client, "DEL", "gone", "account", "text" => ());
    call!(client, "GW.POLICYSET", "account", "month", "BUDGET", 20, "MONTH" => ());
    call!(client, "SET", "text", "x" => ());
    let told = restore(&companion, &[]);
    for line in [
        "set: 3 accounts",
        "in step: 1 accounts",
        "left: 2 accounts",
        "newer: it is newer at the server",
        "text: its key has a value of another type",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    call!(client, "DEL", "text" => ());
    let policy: String = call!(client, "GW.SPENT", "account", "TOTAL");
    assert_eq!(policy, "2.5");
    call!(client, "GW.POLICYDEL", "account", "month" => ());
    call!(client, "DEL", "account" => ());
    let mut found = ledger_rows(&mut client);
    let mut expected = wanted;
    expected.retain(|row, _| ["older", "same", "gone"].contains(&&*row.0));
    found.retain(|row, _| row.0 != "newer");
    assert_equal(&found, &expected);
}

/// With the rights of the role in redis.conf, from one address, after slots have moved.
#[test]
fn the_ledgers_of_a_cluster_are_restored_wherever_their_slots_are() {
    let cluster = Layout::new(&Server::options(), 3, 1).start().unwrap();
    let database = Database::sqlite(cluster.nodes()[0].dir());
    let url = |user: &str, port: u16| format!("redis://{user}127.0.0.1:{port}");
    let companion = Companion::new(cluster.nodes()[0].dir(), &url("", cluster.ports()[0]), &database.address());
    let charge = |number: u32| {
        let key = format!("account:{number}");
        let mut client = cluster.primary_of(&key).unwrap().connect().unwrap();
        call!(client, "GW.ADDCOST", &key, "0.000000000001", "AT", u64::from(number) * 86_400_000 * 100 => ());
        call!(client, "GW.CREDIT", &key, "TOTAL", number => ());
    };
    (1..=60).for_each(charge);
    companion.catch_up();
    let rows =
        || -> Rows { cluster.primaries().iter().flat_map(|node| ledger_rows(&mut node.connect().unwrap())).collect() };
    let before = rows();
    assert_eq!(before.len(), 60 * 5);
    for node in cluster.primaries() {
        call!(node.connect().unwrap(), "FLUSHALL" => ());
    }

    let role = fs::read_to_string(project_root().join("redis.conf")).unwrap();
    let role = role.lines().find_map(|line| line.strip_prefix("#user operator ")).unwrap().to_owned();
    for node in cluster.nodes() {
        let words: Vec<&str> = role.split(' ').collect();
        call!(node.connect().unwrap(), "ACL", "SETUSER", "operator", words => ());
    }
    let operator =
        Companion::new(cluster.nodes()[1].dir(), &url("operator:CHANGE-ME@", cluster.ports()[1]), &database.address());
    // Slots are where they were not before.
    let of = |key: &str| slot_of(&mut cluster.nodes()[0].connect().unwrap(), key).unwrap();
    for number in 1..10 {
        let key = format!("account:{number}");
        let from = cluster.primary_of(&key).unwrap();
        let to = cluster.primaries().into_iter().find(|node| node.port() != from.port()).unwrap();
        cluster.move_slot(of(&key), from, to).unwrap();
    }
    let told = restore(&operator, &["--json"]);
    assert!(told.contains("\"set\":60") && told.contains("\"left\":[]"), "{told}");
    assert_equal(&rows(), &before);
    let told = restore(&operator, &["--dry-run", "--json"]);
    assert!(told.contains("\"in_step\":60"), "{told}");
    companion.catch_up();
    assert_equal(&database.rows(), &before);
}
