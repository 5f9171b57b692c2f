//! Many connections at once: nothing is admitted twice, lost or rounded away. Judged by the server's own times, which
//! are in its effects.

use crate::support::{aof_commands, run, verdict};
use gw_testkit::redis::Connection;
use gw_testkit::{Server, call};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 50;

/// Runs `body` on several connections at the same time.
fn at_once<T: Send>(server: &Server, body: impl Fn(usize, Connection) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|index| {
                let (client, body) = (server.connect().unwrap(), &body);
                scope.spawn(move || body(index, client))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Admissions in the append-only file: server time and units, by the letter of the effect.
fn admissions(server: &Server, operation: &str) -> Vec<(i64, i64)> {
    let effects = aof_commands(server).into_iter().filter(|command| command[0] == b"GW._LIMIT");
    let texts = effects.map(|command| String::from_utf8(command[2].clone()).unwrap());
    let admissions = texts.filter_map(|text| {
        let mut words = text.split(' ');
        if words.next() != Some(operation) {
            return None;
        }
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    });
    admissions.collect()
}

#[test]
fn no_window_and_no_bucket_ever_admits_more_than_its_limit() {
    const SECONDS: u64 = 5;
    const LIMIT: i64 = 100;
    const WINDOW_MS: i64 = 1_000;
    const RATE_PER_SECOND: i64 = 200;
    const BURST: i64 = 50;
    let server = Server::options().aof().start().unwrap();
    let start = Instant::now();
    let admitted = at_once(&server, |index, mut client| {
        let cost = index as i64 % 3 + 1;
        let allow = format!("GW.ALLOW w {LIMIT} WINDOW {WINDOW_MS} COST {cost}");
        let tokens = format!("GW.TOKENS b {RATE_PER_SECOND} {BURST} PER 1000 COST {cost}");
        let (mut allowed, mut taken) = (0, 0);
        while start.elapsed() < Duration::from_secs(SECONDS) {
            allowed += cost * verdict(&mut client, &allow)[0];
            taken += cost * verdict(&mut client, &tokens)[0];
        }
        (allowed, taken)
    });
    let allowed: i64 = admitted.iter().map(|(allowed, _)| allowed).sum();
    let taken: i64 = admitted.iter().map(|(_, taken)| taken).sum();

    // The replies to the clients agree with what the server recorded.
    let window = admissions(&server, "W");
    let bucket = admissions(&server, "B");
    assert_eq!(window.iter().map(|(_, units)| units).sum::<i64>(), allowed);
    assert_eq!(bucket.iter().map(|(_, units)| units).sum::<i64>(), taken);
    for admissions in [&window, &bucket] {
        assert!(admissions.is_sorted_by_key(|(at_ms, _)| *at_ms));
    }

    // Among the windows around an admission, the one that ends with it is the fullest.
    for (last, (end_ms, _)) in window.iter().enumerate() {
        let inside = window[..=last].iter().rev().take_while(|(at_ms, _)| *at_ms > end_ms - WINDOW_MS);
        let units: i64 = inside.map(|(_, units)| units).sum();
        assert!(units <= LIMIT, "{units} units in the {WINDOW_MS} ms up to {end_ms}");
    }
    // Between any two admissions, no more was taken than the burst and what flowed in meanwhile.
    for first in 0..bucket.len() {
        let mut units = 0;
        for (at_ms, cost) in &bucket[first..] {
            units += cost;
            let most = BURST * 1_000 + RATE_PER_SECOND * (at_ms - bucket[first].0);
            assert!(units * 1_000 <= most, "{units} tokens from {} to {at_ms}", bucket[first].0);
        }
    }
    // Neither simply denies: units have become free again in both.
    assert!(allowed > LIMIT && taken > BURST, "{allowed} and {taken}");
}

#[test]
fn the_sum_of_all_charges_is_exact_to_the_last_digit() {
    const CHARGES: i128 = 300;
    let server = Server::start().unwrap();
    // Amounts in units of 1e-12, with up to fifteen digits.
    let picos = |writer: i128, charge: i128| (writer * 1_000_003 + charge * 7_919 + 1) * 1_234_567;
    at_once(&server, |writer, mut client| {
        for charge in 0..CHARGES {
            let reply = run(&mut client, &format!("GW.ADDCOST k {}e-12", picos(writer as i128, charge)));
            assert!(reply.starts_with('"'), "{reply}");
        }
    });
    let sum: i128 =
        (0..CONNECTIONS as i128).flat_map(|writer| (0..CHARGES).map(move |charge| picos(writer, charge))).sum();
    let (whole, fraction) = (sum / 1_000_000_000_000, sum % 1_000_000_000_000);
    let expected = format!("{whole}.{fraction:012}").trim_end_matches('0').to_owned();
    let mut client = server.connect().unwrap();
    assert_eq!(run(&mut client, "GW.SPENT k"), format!("\"{expected}\""));
    assert_eq!(run(&mut client, "GW.SPENT k TOTAL"), format!("\"{expected}\""));
}

#[test]
fn every_record_is_popped_once() {
    const RECORDS: usize = 200;
    const READERS: usize = 10;
    const ALL: usize = (CONNECTIONS - READERS) * RECORDS;
    let server = Server::start().unwrap();
    let popped = AtomicUsize::new(0);
    let batches = Mutex::new(Vec::new());
    at_once(&server, |index, mut client| {
        if index >= READERS {
            for record in 0..RECORDS {
                let _: () = call!(client, "GW.LOGPUSH", "q", "RECORDS", format!("{index} {record}"));
            }
            return;
        }
        while popped.load(Ordering::Relaxed) < ALL {
            let batch: Vec<String> = call!(client, "GW.LOGPOP", "q", "COUNT", 7);
            popped.fetch_add(batch.len(), Ordering::Relaxed);
            batches.lock().unwrap().push(batch);
        }
    });
    let mut seen: Vec<String> = batches.into_inner().unwrap().into_iter().flatten().collect();
    assert_eq!(seen.len(), ALL);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), ALL);
    assert_eq!(run(&mut server.connect().unwrap(), "GW.LOGLEN q"), "0");
}

#[test]
fn one_readers_batches_keep_each_writers_order() {
    const RECORDS: usize = 400;
    let server = Server::start().unwrap();
    let seen = at_once(&server, |index, mut client| {
        let mut seen = Vec::new();
        if index > 0 {
            for record in 0..RECORDS {
                let _: () = call!(client, "GW.LOGPUSH", "q", "RECORDS", format!("{index} {record}"));
            }
        } else {
            while seen.len() < (CONNECTIONS - 1) * RECORDS {
                let batch: Vec<String> = call!(client, "GW.LOGPOP", "q", "COUNT", 100);
                seen.extend(batch);
            }
        }
        seen
    });
    let mut next = [0; CONNECTIONS];
    for record in &seen[0] {
        let (writer, number) = record.split_once(' ').unwrap();
        let writer: usize = writer.parse().unwrap();
        assert_eq!(number.parse::<usize>().unwrap(), next[writer], "of writer {writer}");
        next[writer] += 1;
    }
    assert_eq!(next[1..], [RECORDS; CONNECTIONS - 1]);
}
