//! Parquet objects, read back by another implementation.

use std::fs;
use std::process::Command;

use gw_testkit::{Server, call};
use serde_json::{Value, json};

use crate::support::{Companion, await_empty, config, names, python};

/// Prints each row of each file as a JSON array of its columns' names and values, in the order of the files' names.
const READ: &str = r#"
import json, sys
import pyarrow.parquet as parquet
for name in sorted(sys.argv[1:]):
    for row in parquet.read_table(name).to_pylist():
        print(json.dumps({key: value.isoformat() if hasattr(value, "isoformat") else value for key, value in row.items()}))
"#;

/// Ships these records in batches of ten; the rows that pyarrow reads. `None` if there is no pyarrow.
fn round_trip(records: &[Value], more: &str) -> Option<Vec<Value>> {
    let python = python()?;
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    let texts: Vec<String> = records.iter().map(Value::to_string).collect();
    call!(client, "GW.LOGPUSH", "q", "JSON", "RECORDS", &texts => Vec<u64>);
    let store = server.dir().join("shipped");
    let more = format!("format = \"parquet\"\nrecords = 10\nkey = \"{{queue}}-{{batch}}\"\n{more}");
    let companion =
        Companion::start(server.dir(), "gw", &config(server.port(), &["q"], store.to_str().unwrap(), &more));
    await_empty(&mut client, "q");
    let (status, log) = companion.stop();
    assert!(status.success(), "{log}");
    let files = names(&store).into_iter().filter(|name| name.ends_with(".parquet"));
    let read = Command::new(python).args(["-c", READ]).args(files.map(|name| store.join(name))).output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    if fs::read(store.join("_gw-columns.json")).is_ok() == more.contains("columns") {
        panic!("only inferred columns are kept in an object: {:?}", names(&store));
    }
    let rows = String::from_utf8(read.stdout).unwrap();
    Some(rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect())
}

/// The record that a row stands for, if each column has the name of its field.
fn record(row: &Value, json_columns: &[&str]) -> Value {
    let parse = |value: &Value| serde_json::from_str::<Value>(value.as_str().unwrap()).unwrap();
    let mut record = match row["_rest"].as_str().map(|_| parse(&row["_rest"])) {
        None => json!({}),
        Some(Value::Object(rest)) => Value::Object(rest),
        Some(other) => return other,
    };
    for (name, value) in row.as_object().unwrap() {
        if name != "_rest" && !value.is_null() {
            record[name] = if json_columns.contains(&&**name) { parse(value) } else { value.clone() };
        }
    }
    record
}

fn records() -> Vec<Value> {
    let record = |number: u32| match number % 7 {
        0 => json!([number, "an array"]),
        1 => json!({ "model": null, "tokens": "many", "late": number }),
        _ => json!({
            "model": format!("model-{}-ü\n", number % 3),
            "tokens": i64::from(number) - 5,
            "cost": f64::from(number) / 8.0,
            "ok": number.is_multiple_of(2),
            "tags": { "user": format!("u{number}"), "list": [1, 2.5, null] },
            "odd": if number.is_multiple_of(2) { json!(1) } else { json!("1") },
        }),
    };
    (2..47).map(record).collect()
}

#[test]
fn inferred_columns_hold_what_was_pushed() {
    let records = records();
    let Some(rows) = round_trip(&records, "") else { return };
    let read: Vec<Value> = rows.iter().map(|row| record(row, &["tags"])).collect();
    assert_eq!(read, records);
    // The first batch has decided, for the last ones, too.
    let names: Vec<&String> = rows[44].as_object().unwrap().keys().collect();
    assert_eq!(names, ["_rest", "cost", "late", "model", "ok", "tags"]);
}

#[test]
fn configured_columns_hold_what_was_pushed() {
    let records = records();
    let more = r#"columns = [
        { name = "model", type = "string" },
        { name = "tokens", type = "int" },
        { name = "cost", type = "float" },
        { name = "ok", type = "bool" },
        { name = "user", type = "string", path = "tags.user" },
    ]"#;
    let Some(rows) = round_trip(&records, more) else { return };
    for (row, pushed) in rows.iter().zip(&records) {
        assert_eq!(row["user"], pushed["tags"]["user"]);
        let mut row = row.clone();
        row.as_object_mut().unwrap().remove("user");
        assert_eq!(record(&row, &[]), *pushed);
    }
    assert_eq!(rows.len(), records.len());
}

#[test]
fn timestamps_are_of_the_readers_own_type() {
    let more = "columns = [{ name = \"at\", type = \"timestamp\" }]";
    let records = [json!({ "at": "2026-11-30T19:12:06.000001+02:00" }), json!({ "at": "yesterday" })];
    let Some(rows) = round_trip(&records, more) else { return };
    assert_eq!(rows[0], json!({ "at": "2026-11-30T17:12:06.000001+00:00", "_rest": null }));
    assert_eq!(rows[1], json!({ "at": null, "_rest": "{\"at\":\"yesterday\"}" }));
}
