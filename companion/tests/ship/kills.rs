//! Companions and servers that are killed at any moment: every record is stored, and none twice.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use gw_testkit::redis;
use gw_testkit::{Server, live};

use crate::postgres_server::Postgres;
use crate::support::{Companion, await_empty, config, figures, objects};

const PRODUCERS: u64 = 8;
const COMPANIONS: u64 = 4;

/// Pushes numbered records until `deadline`, over crashes of the server; the numbers of those it acknowledged.
fn produce(port: u16, producer: u64, deadline: Instant) -> Vec<u64> {
    let client = redis::Client::open(("127.0.0.1", port)).unwrap();
    let (mut connection, mut stored) = (None, Vec::new());
    let mut numbers = 0_u64..;
    while Instant::now() < deadline {
        let Some(mut open) = connection.take().or_else(|| client.get_connection().ok()) else {
            thread::sleep(Duration::from_millis(20));
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

/// Produces, kills companions all the time and the server twice, and drains what is left. Returns what each producer was
/// acknowledged, and how many companions were killed.
fn storm(server: &mut Server, config: &str, mut at_each_third: impl FnMut()) -> (Vec<Vec<u64>>, u64) {
    // 300 kills in the long run.
    let seconds = live(6, 40);
    let (port, folder) = (server.port(), server.dir().to_owned());
    let start = Instant::now();
    let deadline = start + Duration::from_secs(seconds);
    let done = thread::scope(|scope| {
        let producers: Vec<_> =
            (0..PRODUCERS).map(|producer| scope.spawn(move || produce(port, producer, deadline))).collect();
        let killers: Vec<_> = (0..COMPANIONS)
            .map(|index| {
                let folder = &folder;
                scope.spawn(move || {
                    // Long enough to do something, and ended at whatever moment that hits.
                    let lives_ms = (0..).map(|life| 150 + (life * 7_919 + index * 104_729) % 500);
                    let lives = lives_ms.take_while(|_| Instant::now() < deadline);
                    lives.fold(0, |kills, life_ms| {
                        let companion = Companion::start(folder, &format!("gw{index}"), config);
                        thread::sleep(Duration::from_millis(life_ms));
                        drop(companion);
                        kills + 1
                    })
                })
            })
            .collect();
        for third in 1..=2 {
            let at = start + Duration::from_secs(seconds) * third / 3;
            thread::sleep(at.saturating_duration_since(Instant::now()));
            server.crash_and_restart().unwrap();
            at_each_third();
        }
        let stored: Vec<Vec<u64>> = producers.into_iter().map(|producer| producer.join().unwrap()).collect();
        (stored, killers.into_iter().map(|killer| killer.join().unwrap()).sum::<u64>())
    });
    let companion = Companion::start(&folder, "last", config);
    await_empty(&mut server.connect().unwrap(), "q");
    let (status, log) = companion.stop();
    assert!(status.success(), "{log}");
    let figures = figures(&mut server.connect().unwrap(), "q");
    assert_eq!((figures["dead"], figures["dropped"]), (0, 0));
    done
}

/// A producer and its number, of a record.
fn parse(record: &str) -> (u64, u64) {
    let record: HashMap<String, u64> = serde_json::from_str(record).unwrap();
    (record["producer"], record["number"])
}

/// What was shipped, in the order of the batches, is what was acknowledged, and what was stored without an answer.
fn check(shipped: impl Iterator<Item = (u64, u64)>, (stored, kills): &(Vec<Vec<u64>>, u64)) {
    let mut numbers = vec![Vec::new(); PRODUCERS as usize];
    shipped.for_each(|(producer, number)| numbers[producer as usize].push(number));
    for (numbers, stored) in numbers.iter().zip(stored) {
        // Each producer's records in its order, and none twice.
        assert!(numbers.is_sorted_by(|number, next| number < next));
        let missing = stored.iter().filter(|number| numbers.binary_search(number).is_err()).count();
        assert_eq!(missing, 0, "of {}", stored.len());
    }
    let count = |lists: &[Vec<u64>]| lists.iter().map(Vec::len).sum::<usize>();
    println!("{} records acknowledged, {} stored; {kills} companions killed", count(stored), count(&numbers));
    assert!(count(stored) > 0 && *kills > 0);
}

fn server() -> Server {
    // With room for all that is produced, however slow the companions are.
    let options = Server::options().config("gw.log-max-records 10000000").config("gw.log-max-bytes 1073741824");
    options.config("appendonly yes").config("appendfsync always").start().unwrap()
}

#[test]
fn every_record_ends_up_in_exactly_one_object() {
    let mut server = server();
    let store = server.dir().join("shipped");
    let more = "key = \"{batch}-{queue}\"\nrecords = 50";
    let config = config(server.port(), &["q"], store.to_str().unwrap(), more).replace("10s", "1s");
    let done = storm(&mut server, &config, || {});
    check(objects(&store).values().flatten().map(|record| parse(record)), &done);
}

#[test]
fn every_record_ends_up_in_exactly_one_row() {
    let Some(mut postgres) = Postgres::start() else { return };
    let mut server = server();
    let config = config(server.port(), &["q"], &postgres.url(), "table = \"logs\"\nrecords = 50").replace("10s", "1s");
    // The database dies with the server.
    let done = storm(&mut server, &config, || {
        postgres.kill();
        postgres.start_again();
    });
    let rows = postgres.connect().query("SELECT record::text FROM logs ORDER BY batch, number", &[]).unwrap();
    check(rows.iter().map(|row| parse(row.get(0))), &done);
}
