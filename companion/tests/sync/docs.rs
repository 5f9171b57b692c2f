//! The pages of the book about the database say what is so.

use gw_testkit::{Server, call, project_root};

use crate::companion::Companion;
use crate::database::Database;

/// A fenced block of the page about the job.
fn block(info: &str) -> String {
    let page = std::fs::read_to_string(project_root().join("docs/src/companion/sync.md")).unwrap();
    let (_, after) = page.split_once(&format!("```{info}\n")).unwrap();
    after.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_configuration_is_one() {
    let server = Server::start().unwrap();
    let file = server.dir().join("gw.toml");
    std::fs::write(&file, block("toml sync-settings")).unwrap();
    let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_gw"));
    assert!(check.args(["run", "--check", "--config"]).arg(file).status().unwrap().success());
}

#[test]
fn the_tables_are_those_that_are_made() {
    assert_eq!(block("sql sync-postgresql"), include_str!("../../src/ledgers/sql/postgresql-1.sql"));
    assert_eq!(block("sql sync-sqlite"), include_str!("../../src/ledgers/sql/sqlite-1.sql"));
}

/// 2026-11-15 12:00 UTC.
const AT_MS: u64 = 1_794_744_000_000;

#[test]
fn the_report_has_the_month_and_a_schema_can_be_chosen() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    let url = format!("redis://127.0.0.1:{}", server.port());
    call!(client, "GW.ADDCOST", "team", "0.25", "AT", AT_MS => ());
    let report = block("sql sync-report");

    let database = Database::sqlite(server.dir());
    Companion::new(server.dir(), &url, &database.address()).catch_up();
    let Database::Sqlite(path) = &database else { unreachable!() };
    let row = rusqlite::Connection::open(path)
        .unwrap()
        .query_row(report.trim_end().trim_end_matches(';'), [], |row| Ok((row.get(0)?, row.get(1)?)));
    assert_eq!(row.unwrap(), ("team".to_owned(), "0.25".to_owned()));

    let Some(database) = Database::postgres() else { return };
    database.execute("CREATE SCHEMA billing");
    let address = format!("{}?options=-csearch_path%3Dbilling", database.address());
    call!(client, "GW.ADDCOST", "team", "0.25", "AT", AT_MS => ());
    Companion::new(server.dir(), &url, &address).catch_up();
    let Database::Postgres(postgres) = &database else { unreachable!() };
    let mut connection = postgres.connect();
    connection.batch_execute("SET search_path = billing").unwrap();
    let row = connection.query_one(&report.replace("amount FROM", "amount::text FROM"), &[]).unwrap();
    assert_eq!((row.get(0), row.get(1)), ("team", "0.500000000000"));
}
