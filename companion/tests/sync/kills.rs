//! Companions are killed in the middle, many times, and so are the server and the database.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gw_testkit::{DEADLINE, Random, Server, await_in_sync, await_until, call};

use crate::companion::Companion;
use crate::database::Database;
use crate::ledgers::{assert_equal, assert_in_step};
use crate::traffic::Traffic;

fn address(server: &Server) -> String {
    format!("redis://127.0.0.1:{}", server.port())
}

fn kill_everything(server: &mut Server, mut database: Database, kills: u64) {
    let companion = Companion::new(server.dir(), &address(server), &database.address());
    let mut random = Random(0x00c0_ffee);
    // However slow the machine is, there is something to compare.
    Traffic::new(1).changes(&mut server.connect().unwrap(), 3_000);
    for round in 0..kills {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for writer in 0..2 {
                let (mut client, stop) = (server.connect().unwrap(), &stop);
                let mut traffic = Traffic::new(round * 2 + writer + 2);
                scope.spawn(move || while !stop.load(Ordering::Relaxed) && traffic.change(&mut client).is_ok() {});
            }
            let (first, second) = (companion.run(), (random.below(2) == 0).then(|| companion.run()));
            // Wherever they are by then: before they have connected, or deep in the feed.
            std::thread::sleep(Duration::from_millis(10 + random.below(120) as u64));
            if random.below(6) == 0 {
                database.crash();
            }
            first.kill();
            // The other one takes over, and is killed in turn.
            if let Some(second) = second {
                std::thread::sleep(Duration::from_millis(random.below(120) as u64));
                second.kill();
            }
            if random.below(4) == 0 {
                server.kill();
            }
            stop.store(true, Ordering::Relaxed);
        });
        if server.pid().is_none() {
            server.crash_and_restart().unwrap();
        }
        if round % 10 == 9 {
            assert_in_step(&companion, &mut server.connect().unwrap(), &database);
        }
    }
    assert_in_step(&companion, &mut server.connect().unwrap(), &database);
}

#[test]
fn whatever_is_killed_sqlite_is_exact() {
    let mut server = Server::options().aof().start().unwrap();
    let database = Database::sqlite(server.dir());
    kill_everything(&mut server, database, gw_testkit::live(6, 300));
}

#[test]
fn whatever_is_killed_postgresql_is_exact() {
    let Some(database) = Database::postgres() else { return };
    let mut server = Server::options().aof().start().unwrap();
    kill_everything(&mut server, database, gw_testkit::live(6, 300));
}

fn fail_over(database: &Database) {
    let primary = Server::start().unwrap();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let (mut client, mut reader) = (primary.connect().unwrap(), replica.connect().unwrap());
    await_in_sync(&mut client, &mut reader);
    let mut traffic = Traffic::new(0xfa11_0ce5);
    traffic.changes(&mut client, 3_000);
    let companion = Companion::new(primary.dir(), &address(&primary), &database.address());
    assert_in_step(&companion, &mut client, database);
    await_in_sync(&mut client, &mut reader);
    // The replica hears no more: what follows is stored, and lost.
    call!(reader, "REPLICAOF", "NO", "ONE" => ());
    traffic.changes(&mut client, 1_000);
    assert_in_step(&companion, &mut client, database);
    traffic.changes(&mut reader, 100);
    let companion = Companion::new(replica.dir(), &address(&replica), &database.address());
    assert_in_step(&companion, &mut reader, database);
}

#[test]
fn a_failover_that_loses_changes_is_followed() {
    let folder = Server::start().unwrap();
    for database in [Some(Database::sqlite(folder.dir())), Database::postgres()].into_iter().flatten() {
        fail_over(&database);
    }
}

/// What one database has acknowledged is listed for another one, if that is asked for.
#[test]
fn a_new_database_gets_what_another_one_has_acknowledged() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    Traffic::new(8).changes(&mut client, 3_000);
    call!(client, "GW.POLICYSET", "with:policy", "month", "BUDGET", 20, "MONTH" => ());
    call!(client, "GW.ADDCOST", "with:policy", "3" => ());
    call!(client, "SET", "text", "x" => ());
    let databases = [Some(Database::sqlite(server.dir())), Database::postgres()];
    let mut rows = databases.into_iter().flatten().map(|database| {
        let companion = Companion::new(server.dir(), &address(&server), &database.address());
        assert!(companion.command(&["sync", "--whole"]).status().unwrap().success());
        database.rows()
    });
    let first = rows.next().unwrap();
    let of_policy = first.keys().filter(|row| row.0 == "with:policy").count();
    assert!(first.len() > 500 && of_policy == 4, "{} rows, {of_policy}", first.len());
    for other in rows {
        assert_equal(&other, &first);
    }
}

#[test]
fn another_companion_takes_over() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    for database in [Some(Database::sqlite(server.dir())), Database::postgres()].into_iter().flatten() {
        let companion = Companion::new(server.dir(), &address(&server), &database.address());
        let has = |account: &str| database.rows().keys().any(|row| row.0 == account);
        let first = companion.run();
        call!(client, "GW.ADDCOST", "first", 1 => ());
        await_until("the first companion to store", DEADLINE, || has("first")).unwrap();
        let mut second = companion.run();
        call!(client, "GW.ADDCOST", "first:again", 1 => ());
        await_until("one of them to store", DEADLINE, || has("first:again")).unwrap();
        first.kill();
        call!(client, "GW.ADDCOST", "second", 1 => ());
        await_until("the second companion to store", DEADLINE, || has("second")).unwrap();
        assert!(!second.has_ended());
        call!(client, "FLUSHALL" => ());
    }
}

/// Keys are any bytes, amounts as large and as small as they can be.
#[test]
fn any_key_and_any_amount_is_stored() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    for database in [Some(Database::sqlite(server.dir())), Database::postgres()].into_iter().flatten() {
        let companion = Companion::new(server.dir(), &address(&server), &database.address());
        let keys = [&b""[..], b"a\\b", b"a\0b", b"\xff\xfe", "Zoë 🦀".as_bytes(), b"'); DROP TABLE gw_spend; --"];
        for key in keys {
            call!(client, "GW.ADDCOST", key, "1000000000000000000" => ());
            call!(client, "GW.ADDCOST", key, "-0.000000000001", "REFUND" => ());
            call!(client, "GW.CREDIT", key, "TOTAL", "0.000000000001" => ());
        }
        companion.catch_up();
        let rows = database.rows();
        for name in ["", "a\\\\b", "a\\x00b", "\\xff\\xfe", "Zoë 🦀", "'); DROP TABLE gw_spend; --"] {
            let row = |table: &str| {
                let row = (name.to_owned(), table.to_owned(), "TOTAL".to_owned(), "0001-01-01".to_owned());
                rows.get(&row).map(String::as_str)
            };
            assert_eq!(row("spend"), Some("999999999999999999.999999999999"), "{name}");
            assert_eq!(row("credit"), Some("0.000000000001"), "{name}");
        }
        // The names lead back to the keys: nothing is left to store.
        companion.catch_up();
        assert_eq!(database.rows(), rows);
        call!(client, "FLUSHALL" => ());
    }
}

#[test]
fn a_database_of_a_newer_version_is_refused() {
    let server = Server::start().unwrap();
    for database in [Some(Database::sqlite(server.dir())), Database::postgres()].into_iter().flatten() {
        let companion = Companion::new(server.dir(), &address(&server), &database.address());
        companion.catch_up();
        database.execute("INSERT INTO gw_migration (number) VALUES (1000)");
        let refused = companion.command(&["sync"]).output().unwrap();
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && told.contains("newer version"), "{told}");
    }
}
