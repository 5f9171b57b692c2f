//! GW.COSTRESTORE: a ledger that was lost is made again of the rows of a database.

use crate::support::{run, server_time_ms, start};
use gw_testkit::redis::{self, Connection, Value};
use gw_testkit::{DEADLINE, Server, await_in_sync, await_until, call, digest, reply_line};

type Row = (String, String, String);

/// A ledger as the feed lists it: key, version, since, rows, credits.
fn listed(client: &mut Connection) -> (String, u64, u64, Vec<Row>, Vec<Row>) {
    let mut ledgers = Vec::new();
    await_until("the feed's scan to end", DEADLINE, || {
        let (more, listed): (i64, Vec<_>) = call!(*client, "GW.COSTCHANGES");
        ledgers = listed;
        more == 0
    })
    .unwrap();
    assert_eq!(ledgers.len(), 1);
    ledgers.remove(0)
}

/// The call that makes a ledger again of what was listed of it.
fn restoration(key: &str, version: u64, rows: &[Row], credits: &[Row]) -> redis::Cmd {
    let mut call = redis::cmd("GW.COSTRESTORE");
    call.arg(key).arg(version).arg("ROWS");
    for (kind, rows) in [("SPEND", rows), ("CREDIT", credits)] {
        for (period, first_day, amount) in rows {
            call.arg(kind).arg(period).arg(first_day).arg(amount);
        }
    }
    call
}

#[test]
fn a_lost_ledger_is_made_again_of_what_was_listed() {
    let (_server, mut client) = start();
    let now_ms = server_time_ms(&mut client);
    for days in [0, 1, 3, 40, 400] {
        run(&mut client, &format!("GW.ADDCOST k 1.{days} AT {}", now_ms - days * 86_400_000));
    }
    for period in ["DAY", "WEEK", "MONTH", "TOTAL"] {
        run(&mut client, &format!("GW.CREDIT k {period} 7.000000000001"));
    }
    let (key, version, _, rows, credits) = listed(&mut client);
    let described = |client: &mut Connection| -> Vec<String> {
        let fields: std::collections::BTreeMap<String, Value> = call!(*client, "GW.DESCRIBE", "k");
        ["total", "months", "days", "credits", "version"].map(|name| reply_line(Ok(fields[name].clone()))).into()
    };
    let before = described(&mut client);
    run(&mut client, "FLUSHALL");
    assert_eq!(restoration(&key, version, &rows, &credits).query::<i64>(&mut client), Ok(1));
    assert_eq!(described(&mut client), before);
    // A database of another version has all of it listed, under the version and as a ledger of its own.
    assert_eq!(listed(&mut client), (key.clone(), version, version, rows.clone(), credits.clone()));
    // The one that it came from is in step.
    assert_eq!(run(&mut client, &format!("GW.COSTSYNC k {version}")), "[1]");
    assert_eq!(run(&mut client, "GW.COSTCHANGES"), "[0, []]");
    // Again, it is there; and after a charge it is newer.
    assert_eq!(restoration(&key, version, &rows, &[]).query::<i64>(&mut client), Ok(0));
    assert_eq!(described(&mut client), before);
    run(&mut client, "GW.ADDCOST k 1");
    assert_eq!(restoration(&key, version, &rows, &[]).query::<i64>(&mut client), Ok(-1));
}

#[test]
fn an_older_ledger_is_replaced_and_its_holds_stay() {
    let (_server, mut client) = start();
    let future = server_time_ms(&mut client) * 1_000 + 3_600_000_000;
    run(&mut client, "GW.ADDCOST k 5 ID once");
    run(&mut client, "GW.RESERVE k 2 100 TTL 3600000 ID h");
    run(&mut client, "GW.POLICYSET k spend BUDGET 10 TOTAL");
    let rows = "ROWS SPEND TOTAL 0001-01-01 8 SPEND MONTH 2024-01-01 8 SPEND DAY 2024-01-31 8";
    assert_eq!(run(&mut client, &format!("GW.COSTRESTORE k {future} {rows}")), "1");
    assert_eq!(run(&mut client, "GW.SPENT k TOTAL"), "\"8\"");
    assert_eq!(run(&mut client, "GW.SPENT k"), "\"0\"");
    assert_eq!(run(&mut client, "GW.ADDCOST k 5 ID once"), "\"0\"", "the id is remembered");
    assert!(run(&mut client, "GW.ADMIT k LEASE a TTL 1000 usd 0.5").starts_with("[0, "), "8 and a hold of 2 of 10");
    assert!(run(&mut client, "GW.CANCEL k h").starts_with("[1, "));
    assert!(run(&mut client, "GW.ADMIT k LEASE b TTL 1000 usd 2").starts_with("[1, "));
    // Later versions are above the restored one, although it is ahead of the clock.
    run(&mut client, "GW.ADDCOST other 1");
    let described = run(&mut client, "GW.DESCRIBE other");
    let version: u64 = described.split("\"version\", ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    assert!(version > u64::try_from(future).unwrap(), "{described}");
    // A meter of its own.
    assert_eq!(run(&mut client, &format!("GW.COSTRESTORE k 5 METER tokens {rows} CREDIT DAY 2024-01-31 3")), "1");
    assert_eq!(run(&mut client, "GW.SPENT k TOTAL"), "\"8\"");
}

#[test]
fn rows_that_are_not_a_ledgers_are_refused() {
    let (_server, mut client) = start();
    let total = "SPEND TOTAL 0001-01-01 0";
    for (rows, error) in [
        ("CREDIT TOTAL 0001-01-01 3", "ERR no SPEND TOTAL: ROWS"),
        ("SPEND TOTAL 2024-01-01 3", "ERR not the first day of the period: first-day"),
        ("HELD TOTAL 0001-01-01 3", "ERR not SPEND or CREDIT: HELD"),
        ("SPEND YEAR 0001-01-01 3", "ERR not DAY, WEEK, MONTH or TOTAL: YEAR"),
        ("SPEND TOTAL 0001-01 3", "ERR not a date as yyyy-mm-dd: first-day"),
        ("SPEND TOTAL 0001-01-01 3x", "ERR not an amount: amount"),
        ("SPEND TOTAL 0001-01-01 3", "ERR a total that was never charged: ROWS"),
    ] {
        assert_eq!(run(&mut client, &format!("GW.COSTRESTORE k 5 ROWS {rows}")), error);
    }
    for (row, error) in [
        ("SPEND TOTAL 0001-01-01 3", "ERR repeated period: ROWS"),
        ("SPEND DAY 2024-01-31 3", "ERR a day whose month is missing: ROWS"),
        ("SPEND MONTH 2024-01-01 3", "ERR a newest month that is not the newest day's: ROWS"),
        ("SPEND WEEK 2024-01-29 3", "ERR a week of spend, which is the sum of its days: period"),
        ("CREDIT WEEK 2024-01-30 3", "ERR not the first day of the period: first-day"),
        ("SPEND MONTH 2024-01-02 3", "ERR not the first day of the period: first-day"),
        ("CREDIT DAY 2024-01-30 -3", "ERR negative credit: amount"),
        ("CREDIT DAY 2024-02-30 3", "ERR not a date as yyyy-mm-dd: first-day"),
    ] {
        assert_eq!(run(&mut client, &format!("GW.COSTRESTORE k 5 ROWS {total} {row}")), error);
    }
    assert_eq!(
        run(&mut client, &format!("GW.COSTRESTORE k 0 ROWS {total}")),
        "ERR not an integer from 1 to 9007199254740992: version"
    );
    assert_eq!(
        run(&mut client, &format!("GW.COSTRESTORE k 9007199254740992 ROWS {total}")),
        "ERR version from the future: version"
    );
    let mut many = redis::cmd("GW.COSTRESTORE");
    many.arg("k").arg(5).arg("ROWS");
    for _ in 0..8_001 {
        many.arg(total.split(' ').collect::<Vec<_>>());
    }
    assert_eq!(reply_line(many.query(&mut client)), "ERR more than 8000 rows: ROWS");
    assert_eq!(run(&mut client, "DBSIZE"), "0");
}

#[test]
fn replicas_the_aof_and_transactions_have_the_same_ledger() {
    let server = Server::options().aof().start().unwrap();
    let replica = Server::options().replica_of(&server).start().unwrap();
    let (mut client, mut reader) = (server.connect().unwrap(), replica.connect().unwrap());
    run(&mut client, "CONFIG SET gw.ledger-days 32");
    let day = |number: i64| gateway_core::calendar::Day::from_number(19_000 + i32::try_from(number).unwrap()).unwrap();
    let rows: Vec<Row> =
        (0..50).map(|number| ("DAY".to_owned(), day(number).to_string(), number.to_string())).collect();
    let [total, january, february] = [("TOTAL", "0001-01-01"), ("MONTH", "2022-01-01"), ("MONTH", "2022-02-01")]
        .map(|(period, first_day)| (period.to_owned(), first_day.to_owned(), "612.5".to_owned()));
    let mut transaction = redis::pipe();
    transaction.atomic().add_command(restoration("k", 7, &[vec![total, january, february], rows].concat(), &[]));
    let made: Vec<i64> = transaction.query(&mut client).unwrap();
    assert_eq!(made, [1]);
    run(&mut client, "GW.COSTRESTORE a 7 METER tokens ROWS SPEND TOTAL 0001-01-01 0 CREDIT WEEK 2024-01-29 1");
    // The replica keeps as many days as the primary decided.
    await_in_sync(&mut client, &mut reader);
    for key in ["k", "a"] {
        assert_eq!(digest(&mut client, key), digest(&mut reader, key));
    }
    let (kept, dropped) = (day(18), day(17));
    assert_eq!(run(&mut client, &format!("GW.SPENT k DAY DATE {kept}")), "\"18\"");
    assert_eq!(run(&mut client, &format!("GW.SPENT k DAY DATE {dropped}")), "\"0\"");
    let before = ["k", "a"].map(|key| digest(&mut client, key));
    run(&mut client, "DEBUG LOADAOF");
    assert_eq!(["k", "a"].map(|key| digest(&mut client, key)), before);
}
