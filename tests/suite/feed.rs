//! GW.COSTCHANGES, GW.COSTACK and GW.COSTSYNC: a worker that uses them has the same amounts as the ledgers.

use crate::support::{DEADLINE, command, pipeline, run, server_time_ms, start};
use gw_testkit::redis::{self, Connection, FromRedisValue, Value};
use gw_testkit::{Server, await_in_sync, await_until, call, reply};
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq)]
struct Listed {
    key: String,
    version: i64,
    since: i64,
    rows: Vec<(String, String, String)>,
}

fn changes(client: &mut Connection, words: &str) -> (bool, Vec<Listed>) {
    let (more, ledgers): (i64, Vec<Value>) = command(words).query(client).unwrap();
    let listed = ledgers.into_iter().map(|ledger| {
        let (key, version, since, rows, _): (_, _, _, _, Vec<Value>) =
            FromRedisValue::from_redis_value(ledger).unwrap();
        Listed { key, version, since, rows }
    });
    (more == 1, listed.collect())
}

/// Everything listed after the keys have been scanned. Does not acknowledge it.
fn all_changes(client: &mut Connection) -> Vec<Listed> {
    let mut listed = Vec::new();
    await_until("all changes to be listed", DEADLINE, || {
        let (more, now) = changes(client, "GW.COSTCHANGES COUNT 200");
        listed = now;
        !more
    })
    .unwrap();
    listed
}

fn keys(listed: &[Listed]) -> Vec<&str> {
    let mut keys: Vec<_> = listed.iter().map(|ledger| ledger.key.as_str()).collect();
    keys.sort();
    keys
}

fn acknowledge(client: &mut Connection, ledger: &Listed) -> i64 {
    let [standing]: [i64; 1] = call!(*client, "GW.COSTACK", &ledger.key, ledger.version);
    standing
}

fn version(client: &mut Connection, key: &str) -> i64 {
    let description: BTreeMap<String, Value> = call!(*client, "GW.DESCRIBE", key);
    i64::from_redis_value(description["version"].clone()).unwrap()
}

#[test]
fn what_changed_is_listed_until_it_is_acknowledged() {
    let (_server, mut client) = start();
    assert_eq!(changes(&mut client, "GW.COSTCHANGES"), (false, vec![]));
    let now_ms = server_time_ms(&mut client);
    run(&mut client, "GW.ADDCOST k 2");
    run(&mut client, "GW.ADDCOST k 1 AT 1706731200000");
    let listed = all_changes(&mut client);
    assert_eq!(listed, all_changes(&mut client), "listing takes nothing away");
    let [ledger] = &listed[..] else { panic!("{listed:?}") };
    assert!(ledger.version >= now_ms * 1_000 && ledger.since <= ledger.version, "{ledger:?}");
    let rows: Vec<_> = ledger.rows.iter().map(|(period, day, amount)| format!("{period} {day} {amount}")).collect();
    assert_eq!(rows[0], "TOTAL 0001-01-01 3");
    assert_eq!(rows[1], "MONTH 2024-01-01 1");
    assert_eq!(rows[3], "DAY 2024-01-31 1");
    assert_eq!(rows.len(), 5);

    // A ledger changes after it was listed: acknowledging the version that was read leaves it listed, with the new
    // change.
    run(&mut client, "GW.ADDCOST k 0.5");
    assert_eq!(acknowledge(&mut client, ledger), 0);
    let newer = all_changes(&mut client);
    assert!(newer[0].version > ledger.version);
    assert_eq!(acknowledge(&mut client, &newer[0]), 1);
    assert_eq!(all_changes(&mut client), []);
    // An old version is acknowledged again, which changes nothing.
    assert_eq!(acknowledge(&mut client, ledger), 1);
    assert_eq!(all_changes(&mut client), []);

    // A late charge lists its own periods, and the total.
    run(&mut client, "GW.ADDCOST k 4 AT 1706731200000");
    let late = all_changes(&mut client);
    let rows: Vec<_> = late[0].rows.iter().map(|(period, day, amount)| format!("{period} {day} {amount}")).collect();
    assert_eq!(rows, ["TOTAL 0001-01-01 7.5", "MONTH 2024-01-01 5", "DAY 2024-01-31 5"]);
    // Holds are not spend.
    acknowledge(&mut client, &late[0]);
    run(&mut client, "GW.RESERVE k 1 100 ID a");
    run(&mut client, "GW.CANCEL k a");
    run(&mut client, "GW.RESERVE only-held 1 100 ID a");
    assert_eq!(all_changes(&mut client), []);
    run(&mut client, "GW.RESERVE k 1 100 ID b");
    run(&mut client, "GW.COMMIT k b 1");
    assert_eq!(keys(&all_changes(&mut client)), ["k"]);
}

#[test]
fn a_ledger_that_is_made_again_is_another() {
    let (_server, mut client) = start();
    run(&mut client, "GW.ADDCOST k 2");
    let first = all_changes(&mut client).remove(0);
    run(&mut client, "DEL k");
    assert_eq!(all_changes(&mut client), []);
    assert_eq!(call!(client, "GW.COSTACK", "k", first.version => Vec<i64>), [-1]);
    run(&mut client, "GW.ADDCOST k 1");
    let second = all_changes(&mut client).remove(0);
    assert!(second.since > first.version);
    // A version of the first ledger does not acknowledge the second.
    assert_eq!(acknowledge(&mut client, &first), 0);
    assert_eq!(all_changes(&mut client), [second]);
}

/// Rows by period and first day: version and amount.
type Rows = BTreeMap<(String, String), (i64, String)>;

/// A worker's database: accounts with their versions and rows.
#[derive(Default)]
struct Database(BTreeMap<String, (i64, Rows)>);

impl Database {
    fn store(&mut self, ledger: &Listed) {
        let (version, rows) = self.0.entry(ledger.key.clone()).or_default();
        *version = ledger.version.max(*version);
        rows.retain(|_, row| row.0 >= ledger.since);
        for (period, day, amount) in &ledger.rows {
            let row = rows.entry((period.clone(), day.clone())).or_default();
            if row.0 <= ledger.version {
                *row = (ledger.version, amount.clone());
            }
        }
    }

    /// Reads and acknowledges until nothing is listed.
    fn follow(&mut self, client: &mut Connection) {
        await_until("nothing to be listed", DEADLINE, || {
            let (more, listed) = changes(client, "GW.COSTCHANGES COUNT 7");
            for ledger in &listed {
                self.store(ledger);
                acknowledge(client, ledger);
            }
            !more && listed.is_empty()
        })
        .unwrap();
    }

    /// The first call of a worker on a new connection.
    fn connect(&mut self, client: &mut Connection) {
        for (key, (version, _)) in &self.0 {
            call!(*client, "GW.COSTSYNC", key, *version => Vec<i64>);
        }
        self.follow(client);
    }

    fn assert_has(&self, client: &mut Connection, key: &str) {
        let rows = self.0.get(key).map(|(_, rows)| rows.clone()).unwrap_or_default();
        let rows: BTreeMap<_, _> = rows.into_iter().map(|(place, (_, amount))| (place, amount)).collect();
        let description: BTreeMap<String, Value> = call!(*client, "GW.DESCRIBE", key);
        let text = |name: &str| String::from_redis_value(description[name].clone()).unwrap();
        let pairs = |name: &str| <Vec<(String, String)>>::from_redis_value(description[name].clone()).unwrap();
        let mut expected = BTreeMap::from([(("TOTAL".into(), "0001-01-01".into()), text("total"))]);
        expected
            .extend(pairs("months").into_iter().map(|(month, spent)| (("MONTH".into(), format!("{month}-01")), spent)));
        expected.extend(pairs("days").into_iter().map(|(day, spent)| (("DAY".into(), day), spent)));
        assert_eq!(rows, expected, "{key}");
    }
}

#[test]
fn versions_stay_and_ledgers_that_move_are_followed() {
    let (_server, mut client) = start();
    let mut database = Database::default();
    for words in ["GW.ADDCOST a 1", "GW.ADDCOST a 2 AT 1706731200000", "GW.ADDCOST b 4 AT 1806731200", "GW.ADDCOST b 8"]
    {
        run(&mut client, words);
    }
    database.follow(&mut client);
    let a = version(&mut client, "a");
    let dump: Vec<u8> = call!(client, "DUMP", "a");

    run(&mut client, "COPY a copy");
    assert_eq!(version(&mut client, "copy"), a);
    run(&mut client, "RENAME a b");
    assert_eq!(version(&mut client, "b"), a);
    reply!(client, "RESTORE", "restored", 0, &dump);
    assert_eq!(version(&mut client, "restored"), a);
    assert_eq!(keys(&all_changes(&mut client)), ["b", "copy", "restored"]);
    database.follow(&mut client);
    for key in ["b", "copy", "restored"] {
        database.assert_has(&mut client, key);
    }

    // An earlier state is restored at the same place.
    run(&mut client, "GW.ADDCOST restored 16 AT 1506731200");
    database.follow(&mut client);
    reply!(client, "RESTORE", "restored", 0, &dump, "REPLACE");
    assert_eq!(keys(&all_changes(&mut client)), ["restored"]);
    database.follow(&mut client);
    database.assert_has(&mut client, "restored");

    // Moved to another database, and swapped together with all other keys.
    run(&mut client, "MOVE copy 3");
    // Valkey 8.1 leaves the client there, with any module that listens to keys (valkey-io/valkey#4024).
    run(&mut client, "SELECT 0");
    let b = version(&mut client, "b");
    run(&mut client, "SWAPDB 0 3");
    assert_eq!(keys(&all_changes(&mut client)), ["copy"]);
    run(&mut client, "SELECT 3");
    assert_eq!(version(&mut client, "b"), b);
    assert_eq!(keys(&all_changes(&mut client)), ["b", "restored"]);
    let mut other = Database::default();
    other.follow(&mut client);
    other.assert_has(&mut client, "b");
    // Back in the database in which they were acknowledged.
    run(&mut client, "SWAPDB 0 3");
    run(&mut client, "SELECT 0");
    assert_eq!(keys(&all_changes(&mut client)), ["b", "restored"]);
    run(&mut client, "FLUSHDB");
    assert_eq!(all_changes(&mut client), []);
}

#[test]
fn swapped_databases_are_followed() {
    // Whether the other database was followed, and whether the worker had read something without acknowledging it.
    for (both, read) in [(false, false), (true, false), (false, true), (true, true)] {
        let (_server, mut client) = start();
        let mut database = Database::default();
        run(&mut client, "SELECT 3");
        // Charged first, under versions below those of the same names in the other database; nobody has read these.
        for words in ["GW.ADDCOST k 7", "GW.ADDCOST l 1", "GW.ADDCOST m 1"] {
            run(&mut client, words);
        }
        if both {
            all_changes(&mut client);
        }
        run(&mut client, "SELECT 0");
        run(&mut client, "GW.ADDCOST k 100 AT 1706731200000");
        run(&mut client, "GW.ADDCOST l 50");
        database.follow(&mut client);
        run(&mut client, "GW.ADDCOST k 1");
        let listed = if read { all_changes(&mut client) } else { vec![] };
        // One ledger is charged in between, so that the version that was read lies among its versions.
        run(&mut client, "SELECT 3");
        run(&mut client, "GW.ADDCOST l 3");
        run(&mut client, "SWAPDB 0 3");
        run(&mut client, "SELECT 0");
        for ledger in &listed {
            database.store(ledger);
            assert_eq!(acknowledge(&mut client, ledger), 0);
        }
        database.follow(&mut client);
        for key in ["k", "l", "m"] {
            database.assert_has(&mut client, key);
        }
        run(&mut client, "GW.ADDCOST k 1");
        database.follow(&mut client);
        database.assert_has(&mut client, "k");
        // And back, to keys under which everything of other ledgers was acknowledged.
        run(&mut client, "SWAPDB 0 3");
        database.follow(&mut client);
        for key in ["k", "l"] {
            database.assert_has(&mut client, key);
        }
        assert_eq!(changes(&mut client, "GW.COSTCHANGES"), (false, vec![]), "it ends");
    }
}

#[test]
fn names_of_keys_that_are_gone_are_dropped() {
    let (_server, mut client) = start();
    changes(&mut client, "GW.COSTCHANGES");
    for gone in ["DEL k", "UNLINK k", "PEXPIRE k -1", "RENAME k other", "MOVE k 3"] {
        run(&mut client, "GW.ADDCOST k 1");
        run(&mut client, "GW.ADDCOST other 1");
        run(&mut client, gone);
        // One candidate at a time; if there were another one, the reply would say that there is more.
        let (more, listed) = changes(&mut client, "GW.COSTCHANGES COUNT 1");
        assert_eq!((more, keys(&listed)), (false, vec!["other"]), "{gone}");
        run(&mut client, "DEL other");
    }
    let used = |client: &mut Connection| gw_testkit::info(client, "memory")["used_memory"].parse::<i64>().unwrap();
    let before = used(&mut client);
    pipeline(&mut client, (0..20_000).map(|number| command(&format!("GW.ADDCOST session:{number} 1"))));
    run(&mut client, "FLUSHALL");
    await_until("the names to be dropped", DEADLINE, || used(&mut client) < before + 500_000).unwrap();
}

#[test]
fn a_key_of_another_type_is_no_ledger() {
    let (_server, mut client) = start();
    for words in ["GW.ADDCOST a 1", "GW.ADDCOST b 1"] {
        run(&mut client, words);
    }
    let listed = all_changes(&mut client);
    let [a, b] = ["a", "b"].map(|key| listed.iter().find(|ledger| ledger.key == key).unwrap().version);
    run(&mut client, "DEL b");
    run(&mut client, "SET b x");
    assert_eq!(reply!(client, "GW.COSTSYNC", "b", b, "a", a), "[-1, 1]");
    assert_eq!(reply!(client, "GW.COSTACK", "a", a, "b", b), "[1, -1]");
    assert_eq!(changes(&mut client, "GW.COSTCHANGES"), (false, vec![]));
}

#[test]
fn what_was_read_of_another_ledger_is_not_acknowledged() {
    for between in
        [&[][..], &["DEBUG RELOAD"], &["SWAPDB 0 3", "SWAPDB 0 3"], &["SWAPDB 0 3", "GW.COSTCHANGES", "SWAPDB 0 3"]]
    {
        let (_server, mut client) = start();
        let mut database = Database::default();
        run(&mut client, "GW.ADDCOST a 1");
        run(&mut client, "GW.ADDCOST b 2 AT 1706731200000");
        let listed = all_changes(&mut client);
        listed.iter().for_each(|ledger| database.store(ledger));
        // Nobody has acknowledged `a`. The version under which `b` was read lies among its versions.
        run(&mut client, "GW.ADDCOST a 1");
        run(&mut client, "RENAME a b");
        between.iter().for_each(|words| drop(run(&mut client, words)));
        let read = listed.iter().find(|ledger| ledger.key == "b").unwrap();
        assert_eq!(acknowledge(&mut client, read), 0, "{between:?}");
        database.follow(&mut client);
        database.assert_has(&mut client, "b");
    }
}

#[test]
fn a_restart_and_a_failover_lose_no_change() {
    let mut primary = Server::options().aof().start().unwrap();
    let mut client = primary.connect().unwrap();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let mut reader = replica.connect().unwrap();
    await_in_sync(&mut client, &mut reader);
    let mut database = Database::default();
    for number in 0..300 {
        run(&mut client, &format!("GW.ADDCOST k{number} 0.{number}"));
    }
    database.follow(&mut client);
    for number in 0..9 {
        run(&mut client, &format!("GW.ADDCOST k{number} 1"));
    }
    // Read, but not acknowledged.
    let listed = all_changes(&mut client);
    assert_eq!(listed.len(), 9);
    await_in_sync(&mut client, &mut reader);
    primary.crash_and_restart().unwrap();
    let mut client = primary.connect().unwrap();
    assert_eq!(keys(&all_changes(&mut client)), keys(&listed), "rebuilt from the file");
    assert_eq!(run(&mut client, "DEBUG RELOAD"), "OK");
    assert_eq!(keys(&all_changes(&mut client)), keys(&listed), "rebuilt from the image");

    // Changes that only the old primary had, and that the worker has stored.
    await_in_sync(&mut client, &mut reader);
    reply!(reader, "REPLICAOF", "NO", "ONE");
    assert_eq!(keys(&all_changes(&mut reader)), keys(&listed));
    run(&mut client, "GW.ADDCOST k1 100");
    run(&mut client, "GW.ADDCOST k200 100 AT 1706731200000");
    run(&mut client, "GW.ADDCOST k201 100 AT 1706731200000");
    database.follow(&mut client);
    // And changes on the new primary since then.
    run(&mut reader, "GW.ADDCOST k201 5");
    database.connect(&mut reader);
    for number in 0..300 {
        database.assert_has(&mut reader, &format!("k{number}"));
    }
    assert_eq!(changes(&mut reader, "GW.COSTCHANGES"), (false, vec![]));
}

#[test]
fn replies_are_bounded_and_everybody_gets_a_turn() {
    let (_server, mut client) = start();
    changes(&mut client, "GW.COSTCHANGES");
    pipeline(&mut client, (0..25).map(|number| command(&format!("GW.ADDCOST k{number:02} 1"))));
    let (more, first) = changes(&mut client, "GW.COSTCHANGES COUNT 10");
    assert!(more);
    assert_eq!(first.len(), 10);
    // Ledgers that were listed keep changing, but the others come first.
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (_, listed) = changes(&mut client, "GW.COSTCHANGES COUNT 10");
        for ledger in &listed {
            run(&mut client, &format!("GW.ADDCOST {} 1", ledger.key));
            assert_eq!(acknowledge(&mut client, ledger), 0);
        }
        seen.extend(listed.into_iter().map(|ledger| ledger.key));
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 25);

    // Rows are bounded, too, for ledgers with many rows.
    let now_ms = server_time_ms(&mut client);
    for key in 0..30 {
        let charge = |day: i64| command(&format!("GW.ADDCOST many{key} 1 AT {}", now_ms - day * 86_400_000));
        pipeline(&mut client, (0..60).map(charge));
    }
    let (more, listed) = changes(&mut client, "GW.COSTCHANGES COUNT 200");
    let rows: usize = listed.iter().map(|ledger| ledger.rows.len()).sum();
    assert!(more && rows < 1_100, "{rows}");
    let mut database = Database::default();
    database.follow(&mut client);
    for key in 0..30 {
        database.assert_has(&mut client, &format!("many{key}"));
    }
}

#[test]
fn listing_costs_what_has_changed_however_many_keys_there_are() {
    const KEYS: usize = 30_000;
    let (_server, mut client) = start();
    pipeline(&mut client, (0..KEYS).map(|number| command(&format!("GW.ADDCOST k{number} 1"))));
    pipeline(&mut client, (0..KEYS).map(|number| command(&format!("SET other{number} x"))));
    let mut seen = 0;
    await_until("all to be acknowledged", DEADLINE, || {
        let (more, listed) = changes(&mut client, "GW.COSTCHANGES COUNT 200");
        if !listed.is_empty() {
            let mut ack = redis::cmd("GW.COSTACK");
            for ledger in &listed {
                ack.arg(&ledger.key).arg(ledger.version);
            }
            ack.exec(&mut client).unwrap();
        }
        seen += listed.len();
        !more && listed.is_empty()
    })
    .unwrap();
    assert_eq!(seen, KEYS);
    run(&mut client, "CONFIG RESETSTAT");
    for number in 0..500 {
        run(&mut client, &format!("GW.ADDCOST k{} 1", number * 7));
        let listed = all_changes(&mut client);
        assert_eq!(listed.len(), 1);
        acknowledge(&mut client, &listed[0]);
    }
    let stats = gw_testkit::info(&mut client, "commandstats");
    let line = &stats["cmdstat_gw.costchanges"];
    let usec: f64 = line.split("usec_per_call=").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    assert!(usec < 100.0, "{line}");
}

#[test]
fn transactions_and_scripts_may_follow() {
    let (_server, mut client) = start();
    changes(&mut client, "GW.COSTCHANGES");
    run(&mut client, "MULTI");
    for words in ["GW.ADDCOST k 1", "RENAME k l", "GW.COSTCHANGES"] {
        run(&mut client, words);
    }
    let replies = run(&mut client, "EXEC");
    assert!(replies.contains(r#"[0, [["l", "#), "{replies}");
    let script = "local l = redis.call('GW.COSTCHANGES')[2][1] return redis.call('GW.COSTACK', l[1], l[2])";
    assert_eq!(reply!(client, "EVAL", script, 1, "l"), "[1]");
    assert_eq!(all_changes(&mut client), []);
}

#[test]
fn a_version_from_the_future_takes_nobody_along() {
    let (_server, mut client) = start();
    run(&mut client, "GW.ADDCOST k 1");
    assert_eq!(run(&mut client, "GW.COSTSYNC k 9007199254740992"), "ERR version from the future: version");
    // A version from a clock that was an hour ahead, before a failover.
    let ahead = (server_time_ms(&mut client) + 3_600_000) * 1_000;
    assert_eq!(reply!(client, "GW.COSTSYNC", "k", ahead), "[0]");
    let listed = all_changes(&mut client);
    assert!(listed[0].version > ahead && listed[0].since == listed[0].version, "{listed:?}");
    // A version of a deleted ledger: the worker learns that the ledger is gone.
    assert_eq!(reply!(client, "GW.COSTSYNC", "gone", ahead), "[-1]");
}
