//! Batches in a table of PostgreSQL.

use gw_testkit::{DEADLINE, Server, await_until, call};

use crate::postgres_server::Postgres;
use crate::support::{Companion, await_empty, config, figures};

#[test]
fn a_batch_is_stored_once_and_what_postgres_refuses_is_given_up() {
    let Some(mut postgres) = Postgres::start() else { return };
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    let good: Vec<String> = (0..20)
        .map(|number| format!("{{\"number\": {number}, \"text\": \"a\\\\b\\n\\tü{}\"}}", "x".repeat(500)))
        .collect();
    // JSON, but none for PostgreSQL.
    let bad = ["{\"a\":\"\\u0000\"}", "\"\\ud800\""];
    call!(client, "GW.LOGPUSH", "q", "JSON", "RECORDS", bad[0], &good[..10], bad[1], &good[10..] => Vec<u64>);
    call!(client, "GW.LOGPUSH", "q", "RECORDS", "no JSON" => Vec<u64>);
    let config = config(server.port(), &["q"], &postgres.url(), "table = \"logs\"");
    let companion = Companion::start(server.dir(), "gw", &config);
    await_empty(&mut client, "q");
    let mut database = postgres.connect();
    let query = "SELECT record->>'text', (record->>'number')::bigint, queue, l.batch, l.at = b.at, b.records
                 FROM logs l JOIN logs_batches b USING (batch, queue) ORDER BY l.batch, l.number";
    let rows = database.query(query, &[]).unwrap();
    assert_eq!(rows.len(), 20, "{}", companion.log());
    for (number, row) in rows.iter().enumerate() {
        assert_eq!(row.get::<_, String>(0), format!("a\\b\n\tü{}", "x".repeat(500)));
        assert_eq!(row.get::<_, i64>(1), number as i64);
        assert_eq!((row.get::<_, &str>(2), row.get::<_, bool>(4), row.get::<_, i32>(5)), ("q", true, 20));
    }
    assert_eq!(figures(&mut client, "q")["dead"], 3);
    assert!(companion.log().contains("to the dead letters: record 0: "), "{}", companion.log());

    // Stored, but not acknowledged: by somebody who died in between.
    assert!(companion.stop().0.success());
    call!(client, "GW.LOGPUSH", "q", "JSON", "RECORDS", "[1]", "[2]" => Vec<u64>);
    let (id, ..): (String, Vec<String>, u64) = call!(client, "GW.LOGPOP", "q", "COUNT", 2, "LEASE", 1);
    let insert = "INSERT INTO logs_batches (batch, queue, at, records) VALUES ($1, 'q', now(), 2)";
    database.execute(insert, &[&id]).unwrap();
    let companion = Companion::start(server.dir(), "gw", &config);
    await_empty(&mut client, "q");
    let rows = database.query_one("SELECT count(*) FROM logs", &[]).unwrap();
    assert_eq!(rows.get::<_, i64>(0), 20);

    // The database is away for a while.
    drop(database);
    postgres.kill();
    call!(client, "GW.LOGPUSH", "q", "JSON", "RECORDS", "[3]" => Vec<u64>);
    await_until("the trouble to be told", DEADLINE, || companion.log().contains("cannot be stored")).unwrap();
    postgres.start_again();
    await_empty(&mut client, "q");
    let last = postgres.connect().query_one("SELECT count(*) FROM logs WHERE record = '[3]'", &[]).unwrap();
    assert_eq!(last.get::<_, i64>(0), 1);
    assert!(companion.stop().0.success());
}

#[test]
fn the_address_of_a_database_is_not_told() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    call!(client, "GW.LOGPUSH", "q", "1" => Vec<u64>);
    let to = "postgres://user:hidden@127.0.0.1:1/none";
    let companion = Companion::start(server.dir(), "gw", &config(server.port(), &["q"], to, "table = \"logs\""));
    await_until("the trouble to be told", DEADLINE, || companion.log().contains("cannot be stored")).unwrap();
    let (status, log) = companion.stop();
    assert!(status.success() && !log.contains("hidden"), "{log}");
}
