//! One queue, and a local folder.

use std::fs;
use std::path::PathBuf;

use gw_testkit::redis::Connection;
use gw_testkit::{DEADLINE, Server, await_until, call, info, reply};

use crate::support::{Companion, await_empty, config, figures, names, objects};

const FLAT: &str = "key = \"{queue}-{batch}\"";

fn store(server: &Server) -> PathBuf {
    server.dir().join("shipped")
}

fn start(server: &Server, name: &str, more: &str) -> Companion {
    let config = config(server.port(), &["q"], store(server).to_str().unwrap(), &format!("{FLAT}\n{more}"));
    Companion::start(server.dir(), name, &config)
}

fn records(count: u32) -> Vec<String> {
    (0..count).map(|number| format!("{{\"number\":{number}}}")).collect()
}

#[test]
fn batches_become_objects_and_the_run_ends_in_order() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    let records = records(25);
    call!(client, "GW.LOGPUSH", "q", "JSON", "RECORDS", &records => Vec<u64>);
    let companion = start(&server, "gw", "records = 10");
    await_empty(&mut client, "q");
    let (status, log) = companion.stop();
    assert!(status.success(), "{log}");
    let objects = objects(&store(&server));
    assert_eq!(objects.len(), 3);
    assert_eq!(log.matches("shipped").count(), 3, "{log}");
    // Ids sort by age.
    assert_eq!(objects.into_values().flatten().collect::<Vec<_>>(), records);
}

#[test]
fn objects_have_the_bytes_that_are_allowed_and_gzip_if_wanted() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    call!(client, "GW.LOGPUSH", "q", "JSON", "RECORDS", records(25) => Vec<u64>);
    // A record has 12 or 13 bytes.
    let companion = start(&server, "gw", "bytes = 50\nformat = \"ndjson.gz\"");
    await_empty(&mut client, "q");
    assert!(companion.stop().0.success());
    let names = names(&store(&server));
    assert!(names.len() >= 6 && names.iter().all(|name| name.ends_with(".jsonl.gz")), "{names:?}");
}

#[test]
fn records_linger_until_they_are_worth_an_object() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    let companion = start(&server, "gw", "records = 10\nlinger = \"1h\"");
    let records = records(15);
    for record in &records {
        call!(client, "GW.LOGPUSH", "q", "JSON", "RECORDS", record => Vec<u64>);
    }
    await_until("a full object", DEADLINE, || figures(&mut client, "q")["acked"] == 10).unwrap();
    // The other five would be leased by now, if nothing kept them.
    let asked = || {
        let figures = info(&mut client, "commandstats").remove("cmdstat_gw.logstats")?;
        figures.strip_prefix("calls=")?.split(',').next()?.parse::<u64>().ok()
    };
    let mut asked = asked;
    let before = asked().unwrap_or(0);
    await_until("the queue to be looked at again and again", DEADLINE, || asked().unwrap_or(0) >= before + 5).unwrap();
    assert_eq!(figures(&mut client, "q")["length"], 5);
    assert!(companion.stop().0.success());
    // A batch that came back lingers no longer than others, however small it is.
    let (_, batch, _): (String, Vec<String>, u64) = call!(client, "GW.LOGPOP", "q", "COUNT", 5, "LEASE", 1);
    let companion = start(&server, "gw", "records = 10\nlinger = \"100ms\"");
    await_empty(&mut client, "q");
    assert!(companion.stop().0.success());
    assert_eq!(batch, records[10..]);
    assert_eq!(objects(&store(&server)).into_values().flatten().collect::<Vec<_>>(), records);
}

#[test]
fn what_was_written_before_is_only_acknowledged() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    call!(client, "GW.LOGPUSH", "q", "{}" => Vec<u64>);
    let (id, ..): (String, Vec<String>, u64) = call!(client, "GW.LOGPOP", "q", "LEASE", 1);
    // As by a process that died right behind this, and of one that died in the middle.
    let object = store(&server).join(format!("q-{id}.jsonl.zst"));
    fs::create_dir(store(&server)).unwrap();
    fs::write(&object, "as it is").unwrap();
    fs::write(object.with_extension("zst#1"), "half").unwrap();
    let companion = start(&server, "gw", "");
    await_empty(&mut client, "q");
    assert_eq!(fs::read(&object).unwrap(), b"as it is");
    let (_, log) = companion.stop();
    assert!(log.contains("is_new=false"), "{log}");
}

#[test]
fn a_poison_record_goes_to_the_dead_letters_and_the_others_on() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    call!(client, "GW.LOGPUSH", "q", "RECORDS", "1", "{]", "2", "{]", "[" => Vec<u64>);
    let companion = start(&server, "gw", "records = 4");
    await_empty(&mut client, "q");
    let (status, log) = companion.stop();
    assert!(status.success());
    assert_eq!(log.matches("to the dead letters: record ").count(), 3, "{log}");
    assert_eq!(objects(&store(&server)).into_values().collect::<Vec<_>>(), [["1", "2"]]);
    let dead: Vec<(String, Vec<String>, u64)> = call!(client, "GW.LOGDEAD", "q", "LIST");
    let records: Vec<_> = dead.iter().map(|(_, records, _)| records.join(" ")).collect();
    assert_eq!(records, ["{] {]", "["]);
}

#[test]
fn a_process_that_is_paused_past_its_lease_changes_nothing_any_more() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    // The store is away, so that the first process keeps its batch.
    fs::write(store(&server), "").unwrap();
    call!(client, "GW.LOGPUSH", "q", "1", "2" => Vec<u64>);
    let short = config(server.port(), &["q"], store(&server).to_str().unwrap(), FLAT).replace("10s", "1s");
    let first = Companion::start(server.dir(), "first", &short);
    await_until("the batch to be leased", DEADLINE, || figures(&mut client, "q")["leased"] == 2).unwrap();
    first.signal("-STOP");
    await_until("the lease to end", DEADLINE, || figures(&mut client, "q")["length"] == 2).unwrap();
    let long = short.replace("1s", "10m");
    let second = Companion::start(server.dir(), "second", &long);
    await_until("the second one's lease", DEADLINE, || figures(&mut client, "q")["redelivered"] == 2).unwrap();
    first.signal("-CONT");
    // It wakes up, tries to extend its lease, and learns that the batch is another process's.
    let (status, log) = first.stop();
    assert!(status.success());
    assert!(!log.contains("shipped queue"), "{log}");
    assert_eq!((figures(&mut client, "q")["leased"], figures(&mut client, "q")["acked"]), (2, 0), "{log}");
    fs::remove_file(store(&server)).unwrap();
    await_empty(&mut client, "q");
    assert!(second.stop().0.success());
    assert_eq!(objects(&store(&server)).into_values().collect::<Vec<_>>(), [["1", "2"]]);
}

#[test]
fn a_store_that_is_away_costs_no_delivery() {
    let server = Server::options().config("gw.log-max-deliveries 1").start().unwrap();
    let mut client = server.connect().unwrap();
    call!(client, "GW.LOGPUSH", "q", "{}" => Vec<u64>);
    // A file is in the folder's place.
    fs::write(store(&server), "").unwrap();
    let config = config(server.port(), &["q"], store(&server).to_str().unwrap(), FLAT).replace("10s", "3s");
    let companion = Companion::start(server.dir(), "gw", &config);
    let extensions = |client: &mut Connection| -> Option<u64> {
        let figures = info(client, "commandstats").remove("cmdstat_gw.logextend")?;
        figures.strip_prefix("calls=")?.split(',').next()?.parse().ok()
    };
    let prolonged = || extensions(&mut client).is_some_and(|calls| calls >= 3);
    await_until("the lease to be prolonged again and again", DEADLINE, prolonged).unwrap();
    assert_eq!(figures(&mut client, "q")["leased"], 1);
    fs::remove_file(store(&server)).unwrap();
    await_empty(&mut client, "q");
    assert_eq!(objects(&store(&server)).len(), 1);
    assert_eq!(figures(&mut client, "q")["dead"], 0);

    fs::remove_dir_all(store(&server)).unwrap();
    fs::write(store(&server), "").unwrap();
    call!(client, "GW.LOGPUSH", "q", "{}" => Vec<u64>);
    await_until("the batch to be leased", DEADLINE, || figures(&mut client, "q")["leased"] == 1).unwrap();
    let (status, log) = companion.stop();
    assert!(status.success());
    // Given back at its only delivery, it is a dead letter; nobody waits for its lease.
    assert_eq!(figures(&mut client, "q")["leased"], 0, "{log}");
}

#[test]
fn a_mistake_in_one_queue_holds_up_no_other_one() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    reply!(client, "SET", "q0", "no queue");
    call!(client, "GW.LOGPUSH", "q1", "{}" => Vec<u64>);
    let to = store(&server);
    // One thread has both.
    let config = config(server.port(), &["q0", "q1"], to.to_str().unwrap(), "threads = 1");
    let companion = Companion::start(server.dir(), "gw", &config);
    await_empty(&mut client, "q1");
    await_until("the mistake to be told", DEADLINE, || companion.log().contains("WRONGTYPE")).unwrap();
    call!(client, "DEL", "q0" => u64);
    call!(client, "GW.LOGPUSH", "q0", "{}" => Vec<u64>);
    await_empty(&mut client, "q0");
    assert!(companion.stop().0.success());
    assert_eq!(objects(&to).len(), 2);
}
