//! A server that has lost its ledgers gets them back from the database.

use gw_testkit::redis::Connection;
use gw_testkit::{Server, call};

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

/// Without periods in which nothing was spent: nobody can tell them from those that are not there.
fn spent(mut rows: Rows) -> Rows {
    rows.retain(|_, amount| amount != "0");
    rows
}

fn rebuild(server: &Server, client: &mut Connection, database: &Database) {
    let companion = Companion::new(server.dir(), &address(server), &database.address());
    // Days of summer time, and a zone in which noon is another day in UTC.
    call!(*client, "CONFIG", "SET", "gw.timezone", "Pacific/Auckland" => ());
    Traffic::new(5).changes(client, 5_000);
    assert_in_step(&companion, client, database);
    let (before, stored) = (spent(ledger_rows(client)), database.rows());
    // Those that were deleted come back, too: the database does not know that they were.
    let wanted = spent(stored.clone());

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
    let mut after = spent(ledger_rows(client));
    assert_equal(&after, &wanted);
    after.retain(|row, _| before.contains_key(row));
    assert_equal(&after, &before);
    // It can be repeated.
    let told = restore(&companion, &["--json"]);
    assert!(told.contains("\"set\":0") && told.contains("\"left\":[]"), "{told}");

    // The companion goes on from there, and the database loses nothing.
    companion.catch_up();
    assert_equal(&spent(database.rows()), &spent(stored));
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
