//! What the ledgers of a server have: with what the database is compared.

use std::collections::BTreeMap;

use gw_testkit::call;
use gw_testkit::redis::{Connection, FromRedisValue, Value};
use jiff::ToSpan;
use jiff::civil::Date;
use redis_gateway_client::Amount;

use crate::companion::Companion;
use crate::database::{Database, Rows};

pub fn ledger_rows(client: &mut Connection) -> Rows {
    let mut rows = Rows::new();
    for key in call!(*client, "KEYS", "*" => Vec<String>) {
        let ledger: BTreeMap<String, Value> = call!(*client, "GW.DESCRIBE", &key);
        let total = String::from_redis_value(ledger["total"].clone()).unwrap();
        let pairs = |name: &str| <Vec<(String, String)>>::from_redis_value(ledger[name].clone()).unwrap();
        let mut weeks = BTreeMap::<Date, Amount>::new();
        for (day, spent) in pairs("days") {
            let day: Date = day.parse().unwrap();
            let monday = day - i64::from(day.weekday().to_monday_zero_offset()).days();
            *weeks.entry(monday).or_default() += spent.parse::<Amount>().unwrap();
        }
        let mut row = |table: &str, period: &str, first_day: String, amount| {
            rows.insert((key.clone(), table.into(), period.into(), first_day), amount);
        };
        row("spend", "TOTAL", "0001-01-01".into(), total);
        pairs("months").into_iter().for_each(|(month, spent)| row("spend", "MONTH", format!("{month}-01"), spent));
        weeks.into_iter().for_each(|(monday, spent)| row("spend", "WEEK", monday.to_string(), spent.to_string()));
        pairs("days").into_iter().for_each(|(day, spent)| row("spend", "DAY", day, spent));
        let credits = <Vec<(String, String, String)>>::from_redis_value(ledger["credits"].clone()).unwrap();
        credits.into_iter().for_each(|(period, first_day, credit)| row("credit", &period, first_day, credit));
    }
    rows
}

/// Brings the database up to date, and compares. What was deleted stays in the database: that is not compared.
pub fn assert_in_step(companion: &Companion, client: &mut Connection, database: &Database) {
    companion.catch_up();
    let (ledgers, mut rows) = (ledger_rows(client), database.rows());
    let there: Vec<String> = call!(*client, "KEYS", "*");
    rows.retain(|(account, ..), _| there.contains(account));
    assert!(ledgers.len() > 500, "{} rows: hardly a test", ledgers.len());
    assert_equal(&rows, &ledgers);
}

pub fn assert_equal(found: &Rows, expected: &Rows) {
    let differences = differences(found, expected);
    assert!(differences.is_empty(), "{} differences: {differences:#?}", differences.len());
}

/// What is in one and not in the other.
pub fn differences(found: &Rows, expected: &Rows) -> Vec<String> {
    let keys = expected.keys().chain(found.keys()).filter(|row| found.get(*row) != expected.get(*row));
    keys.map(|row| format!("{row:?}: {:?}, not {:?}", found.get(row), expected.get(row))).collect()
}
