//! The shipper as a process, against a server with the module and a local folder.

use gw_testkit::redis::{self, Connection};
use gw_testkit::{DEADLINE, Server, await_until, call, info, reply};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A running shipper. Dropping it is `kill -9`.
struct Shipper(Child);

impl Shipper {
    fn start(port: u16, store: &Path, options: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gw-log-shipper"));
        command.arg("q").args(["--redis", &format!("redis://127.0.0.1:{port}"), "--store"]).arg(store).args(options);
        Self(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Ends it as a service manager would: how it ended, and all that it printed.
    fn stop(mut self) -> (ExitStatus, String) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let mut printed = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        (self.0.wait().unwrap(), printed)
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn store(server: &Server) -> PathBuf {
    server.dir().join("shipped")
}

/// The lines of each object, by name.
fn objects(store: &Path) -> BTreeMap<String, Vec<String>> {
    let Ok(entries) = fs::read_dir(store) else { return BTreeMap::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // A staged upload is no object yet.
    let names = names.filter(|name| name.ends_with(".jsonl.zst"));
    let object = |name: String| {
        let lines = zstd::decode_all(fs::File::open(store.join(&name)).unwrap()).unwrap();
        let lines = String::from_utf8(lines).unwrap();
        (name, lines.lines().map(str::to_owned).collect())
    };
    names.map(object).collect()
}

fn figures(client: &mut Connection) -> HashMap<String, u64> {
    call!(*client, "GW.LOGSTATS", "q")
}

fn await_empty(client: &mut Connection) {
    let is_empty = || {
        let figures = figures(client);
        figures["length"] + figures["leased"] == 0
    };
    await_until("the queue to be empty", DEADLINE, is_empty).unwrap();
}

#[test]
fn batches_become_objects_and_the_run_ends_in_order() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    let records: Vec<String> = (0..25).map(|number| format!("{{\"number\":{number}}}")).collect();
    call!(client, "GW.LOGPUSH", "q", "JSON", "RECORDS", &records => Vec<u64>);
    let shipper = Shipper::start(server.port(), &store(&server), &["--count", "10"]);
    await_empty(&mut client);
    let (status, printed) = shipper.stop();
    assert!(status.success());
    let objects = objects(&store(&server));
    assert_eq!(objects.len(), 3);
    for name in objects.keys() {
        assert!(
            printed.contains(&format!("written: {}/{name}", &store(&server).display().to_string()[1..])),
            "{printed}"
        );
    }
    let last = "in all: 3 objects with 25 records, 0 batches already there, 0 records to the dead letters, \
                0 batches given back, 0 no longer this shipper's\n";
    assert!(printed.ends_with(last), "{printed}");
    // Ids sort by age.
    assert_eq!(objects.into_values().flatten().collect::<Vec<_>>(), records);
}

#[test]
fn what_was_written_before_is_only_acknowledged() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    call!(client, "GW.LOGPUSH", "q", "{}" => Vec<u64>);
    let (id, ..): (String, Vec<String>, u64) = call!(client, "GW.LOGPOP", "q", "LEASE", 1);
    // As by a shipper that died right behind this, and of one that died in the middle.
    let object = store(&server).join(format!("{id}.jsonl.zst"));
    fs::create_dir(store(&server)).unwrap();
    fs::write(&object, "as it is").unwrap();
    fs::write(object.with_extension("zst#1"), "half").unwrap();
    let shipper = Shipper::start(server.port(), &store(&server), &[]);
    await_empty(&mut client);
    assert_eq!(fs::read(&object).unwrap(), b"as it is");
    let (_, printed) = shipper.stop();
    assert!(printed.contains("in all: 0 objects with 0 records, 1 batches already there"), "{printed}");
}

#[test]
fn a_poison_record_goes_to_the_dead_letters_and_the_others_on() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    call!(client, "GW.LOGPUSH", "q", "RECORDS", "1", "{]", "2", "{]", "[" => Vec<u64>);
    let shipper = Shipper::start(server.port(), &store(&server), &["--count", "4"]);
    await_empty(&mut client);
    let (status, printed) = shipper.stop();
    assert!(status.success());
    assert!(printed.contains("to the dead letters: record 1 is not JSON"), "{printed}");
    assert!(printed.contains(", 3 records to the dead letters, "), "{printed}");
    assert_eq!(objects(&store(&server)).into_values().collect::<Vec<_>>(), [["1", "2"]]);
    let dead: Vec<(String, Vec<String>, u64)> = call!(client, "GW.LOGDEAD", "q", "LIST");
    let records: Vec<_> = dead.iter().map(|(_, records, _)| records.join(" ")).collect();
    assert_eq!(records, ["{] {]", "["]);
}

#[test]
fn a_shipper_that_is_paused_past_its_lease_changes_nothing_any_more() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    // The store is away, so that the first shipper keeps its batch.
    fs::write(store(&server), "").unwrap();
    call!(client, "GW.LOGPUSH", "q", "1", "2" => Vec<u64>);
    let first = Shipper::start(server.port(), &store(&server), &["--lease-ms", "1000"]);
    await_until("the batch to be leased", DEADLINE, || figures(&mut client)["leased"] == 2).unwrap();
    let signal = |name: &str| {
        assert!(Command::new("kill").args([name, &first.0.id().to_string()]).status().unwrap().success());
    };
    signal("-STOP");
    await_until("the lease to end", DEADLINE, || figures(&mut client)["length"] == 2).unwrap();
    let second = Shipper::start(server.port(), &store(&server), &["--lease-ms", "600000"]);
    await_until("the second shipper's lease", DEADLINE, || figures(&mut client)["redelivered"] == 2).unwrap();
    signal("-CONT");
    // It wakes up, tries to extend its lease, and learns that the batch is another shipper's.
    let (status, printed) = first.stop();
    assert!(status.success());
    assert!(!printed.contains("written"), "{printed}");
    assert_eq!((figures(&mut client)["leased"], figures(&mut client)["acked"]), (2, 0), "{printed}");
    fs::remove_file(store(&server)).unwrap();
    await_empty(&mut client);
    let (status, printed) = second.stop();
    assert!(status.success());
    assert!(printed.contains("in all: 1 objects with 2 records"), "{printed}");
    assert_eq!(objects(&store(&server)).into_values().collect::<Vec<_>>(), [["1", "2"]]);
}

#[test]
fn a_store_that_is_away_costs_no_delivery() {
    let server = Server::options().config("gw.log-max-deliveries 1").start().unwrap();
    let mut client = server.connect().unwrap();
    call!(client, "GW.LOGPUSH", "q", "{}" => Vec<u64>);
    // A file is in the folder's place.
    fs::write(store(&server), "").unwrap();
    let shipper = Shipper::start(server.port(), &store(&server), &["--lease-ms", "3000"]);
    let extensions = |client: &mut Connection| -> Option<u64> {
        let figures = info(client, "commandstats").remove("cmdstat_gw.logextend")?;
        figures.strip_prefix("calls=")?.split(',').next()?.parse().ok()
    };
    let prolonged = || extensions(&mut client).is_some_and(|calls| calls >= 3);
    await_until("the lease to be prolonged again and again", DEADLINE, prolonged).unwrap();
    assert_eq!(figures(&mut client)["leased"], 1);
    fs::remove_file(store(&server)).unwrap();
    await_empty(&mut client);
    assert_eq!(objects(&store(&server)).len(), 1);
    assert_eq!(figures(&mut client)["dead"], 0);

    fs::remove_dir_all(store(&server)).unwrap();
    fs::write(store(&server), "").unwrap();
    call!(client, "GW.LOGPUSH", "q", "{}" => Vec<u64>);
    await_until("the batch to be leased", DEADLINE, || figures(&mut client)["leased"] == 1).unwrap();
    let (status, printed) = shipper.stop();
    assert!(status.success());
    assert!(printed.contains(", 1 batches given back, "), "{printed}");
}

#[test]
fn a_mistake_ends_it_with_a_reason() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    reply!(client, "SET", "q", "no queue");
    let mut shipper = Shipper::start(server.port(), &store(&server), &[]);
    assert_eq!(shipper.0.wait().unwrap().code(), Some(1));
}

/// Pushes numbered records until `deadline`, over crashes of the server; the numbers of those it acknowledged.
fn produce(port: u16, producer: u64, deadline: Instant) -> Vec<u64> {
    let client = redis::Client::open(("127.0.0.1", port)).unwrap();
    let (mut connection, mut stored) = (None, Vec::new());
    let mut numbers = 0_u64..;
    while Instant::now() < deadline {
        let Some(mut open) = connection.take().or_else(|| client.get_connection().ok()) else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        let batch: Vec<u64> = numbers.by_ref().take(1 + (producer as usize + stored.len()) % 5).collect();
        let records = batch.iter().map(|number| format!("{{\"producer\":{producer},\"number\":{number}}}"));
        let push = redis::cmd("GW.LOGPUSH").arg("q").arg("RECORDS").arg(records.collect::<Vec<_>>()).exec(&mut open);
        // A batch without an answer is stored or not, and is not pushed again.
        if push.is_ok() {
            stored.extend(batch);
            connection = Some(open);
        }
    }
    stored
}

/// A producer and its number, of a record.
fn parse(record: &str) -> (u64, u64) {
    let record: HashMap<String, u64> = serde_json::from_str(record).unwrap();
    (record["producer"], record["number"])
}

#[test]
fn killed_anywhere_it_ends_with_every_record_in_exactly_one_object() {
    const PRODUCERS: u64 = 8;
    const SHIPPERS: usize = 4;
    const LEASE: [&str; 4] = ["--lease-ms", "1000", "--count", "50"];
    let seconds = gw_testkit::live(6, 60);
    let mut server = Server::options().config("appendonly yes").config("appendfsync always").start().unwrap();
    let (port, store) = (server.port(), store(&server));
    let start = Instant::now();
    let deadline = start + Duration::from_secs(seconds);

    let (stored, kills) = std::thread::scope(|scope| {
        let producers: Vec<_> =
            (0..PRODUCERS).map(|producer| scope.spawn(move || produce(port, producer, deadline))).collect();
        let killers: Vec<_> = (0..SHIPPERS as u64)
            .map(|index| {
                let store = &store;
                scope.spawn(move || {
                    // Long enough to do something, and ended at whatever moment that hits.
                    let lives_ms = (0..).map(|life| 150 + (life * 7_919 + index * 104_729) % 500);
                    let lives = lives_ms.take_while(|_| Instant::now() < deadline);
                    lives.fold(0, |kills, life_ms| {
                        let shipper = Shipper::start(port, store, &LEASE);
                        std::thread::sleep(Duration::from_millis(life_ms));
                        drop(shipper);
                        kills + 1
                    })
                })
            })
            .collect();
        for third in 1..=2 {
            let at = start + Duration::from_secs(seconds) * third / 3;
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            server.crash_and_restart().unwrap();
        }
        let stored: Vec<Vec<u64>> = producers.into_iter().map(|producer| producer.join().unwrap()).collect();
        (stored, killers.into_iter().map(|killer| killer.join().unwrap()).sum::<u64>())
    });
    let shipper = Shipper::start(port, &store, &LEASE);
    let mut client = server.connect().unwrap();
    await_empty(&mut client);
    let (status, _) = shipper.stop();
    assert!(status.success());
    assert_eq!(figures(&mut client)["dead"], 0);

    let objects = objects(&store);
    let mut shipped = vec![Vec::new(); PRODUCERS as usize];
    for (producer, number) in objects.values().flatten().map(|record| parse(record)) {
        shipped[producer as usize].push(number);
    }
    for (shipped, stored) in shipped.iter().zip(&stored) {
        // In the order of their names, the objects have each producer's records in its order, and none twice.
        assert!(shipped.is_sorted_by(|number, next| number < next));
        let missing = stored.iter().filter(|number| shipped.binary_search(number).is_err()).count();
        assert_eq!(missing, 0, "of {}", stored.len());
    }
    let count = |lists: &[Vec<u64>]| lists.iter().map(Vec::len).sum::<usize>();
    println!(
        "{seconds} s: {} records acknowledged, {} shipped in {} objects; {kills} shippers and 2 servers killed",
        count(&stored),
        count(&shipped),
        objects.len()
    );
    assert!(count(&stored) > 0 && kills > 0);
}
