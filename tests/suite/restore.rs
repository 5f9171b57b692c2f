//! Corrupt RESTORE payloads: a loader makes a valid value of any payload, or refuses it.
//!
//! RESTORE checks a checksum first. It is computed anew after each mutation, so that the payload reaches the loader.

use crate::commands::PUBLIC;
use crate::hostile::assert_healthy;
use crate::support::{Random, command, fill_window, pipeline, run, server_time_ms};
use gw_testkit::redis::{self, Cmd, Connection};
use gw_testkit::{Server, call, info, reply_line};

/// The number of mutated payloads for each type, and how many of them are sent at once.
const MUTATIONS: usize = 20_000;
const BATCH: usize = 500;

/// One in this many payloads is used by every command that there is, not only by those of its type.
const USED_BY_ALL: usize = 20;

/// The end of a payload: two bytes of RDB version, eight of CRC-64.
const CRC_BYTES: usize = 8;
const FOOTER_BYTES: usize = 2 + CRC_BYTES;
/// The start of a payload: a byte that says "a module's value", then the module type's id. The first is not mutated:
/// another byte means a value of one of the server's own types, whose loaders are not tested here (Redis 7.0 spends
/// minutes on some).
const KIND_BYTES: usize = 1;
const HEADER_BYTES: usize = KIND_BYTES + 9;

/// CRC-64 as Redis has it: Jones' polynomial, bits reflected, no initial or final inversion.
/// Source: `crc64.c`, with its check value.
fn crc64(bytes: &[u8]) -> u64 {
    const POLYNOMIAL_REFLECTED: u64 = 0x95ac_9329_ac4b_c9b5;
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ u64::from(byte), |crc, _| (crc >> 1) ^ (POLYNOMIAL_REFLECTED * (crc & 1)))
    })
}

#[test]
fn the_checksum_is_the_servers() {
    assert_eq!(crc64(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
}

/// A payload with a few of its bytes changed, moved, removed or added, and a valid checksum.
fn mutated(payload: &[u8], random: &mut Random) -> Vec<u8> {
    let mut body = payload[..payload.len() - FOOTER_BYTES].to_vec();
    for _ in 0..=random.below(3) {
        // Mostly after the header: with a wrong one no loader of the module is called.
        let start = if random.below(20) == 0 { KIND_BYTES } else { HEADER_BYTES }.min(body.len() - 1);
        let at = start + random.below(body.len() - start);
        let len = 1 + random.below(12);
        let end = (at + len).min(body.len());
        match random.below(7) {
            0 => body[at] ^= 1 << random.below(8),
            1 => body[at] = [0x00, 0x01, 0x7f, 0x80, 0x81, 0xff][random.below(6)],
            2 => body[at] = random.next() as u8,
            3 => drop(body.drain(at..end)),
            4 => drop(body.splice(at..at, random.bytes(len))),
            // The largest number that the format can write, in a place that may be a length or a count.
            5 => drop(body.splice(at..end, [&[0x81][..], &[0xff; 8]].concat())),
            _ => {
                let from = start + random.below(body.len() - start);
                let piece = body[from..(from + len).min(body.len())].to_vec();
                body.splice(at..end, piece);
            }
        }
        if body.len() <= KIND_BYTES + 1 {
            break;
        }
    }
    if random.below(20) == 0 {
        body.truncate(1 + random.below(body.len()));
    }
    body.extend_from_slice(&payload[payload.len() - FOOTER_BYTES..payload.len() - CRC_BYTES]);
    let crc = crc64(&body);
    body.extend_from_slice(&crc.to_le_bytes());
    body
}

/// Mutates the value that `fill` leaves at the key `k`, and runs `uses` on every mutation that the server accepts.
fn survives(fill: impl FnOnce(&mut Connection), uses: &[&str]) {
    // Not compressed, so that a mutation changes what the loader reads.
    let mut server = Server::options().config("rdbcompression no").start().unwrap();
    let mut client = server.connect().unwrap();
    fill(&mut client);
    let payload: Vec<u8> = call!(client, "DUMP", "k");
    assert!(payload.len() < 8_000, "a payload of {} bytes makes the test slow", payload.len());
    let mut random = Random(0x0c0f_fee0 + payload.len() as u64);
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..MUTATIONS / BATCH {
        run(&mut client, "FLUSHALL");
        // The places of the RESTOREs among the calls.
        let (mut calls, mut restores) = (Vec::<Cmd>::new(), Vec::new());
        for index in 0..BATCH {
            let mut restore = redis::cmd("RESTORE");
            restore.arg("k").arg(0).arg(mutated(&payload, &mut random)).arg("REPLACE");
            restores.push(calls.len());
            calls.push(restore);
            calls.extend(uses.iter().map(|words| command(words)));
            if index % USED_BY_ALL == 0 {
                // Nobody would end a wait.
                calls.extend(PUBLIC.iter().map(|public| command(&public.call.replace(" WAIT 5", ""))));
            }
            calls.extend(["DUMP k", "DEBUG DIGEST-VALUE k"].map(command));
        }
        let mut replies: Vec<_> = pipeline(&mut client, calls).into_iter().map(Some).collect();
        for at in restores {
            match replies[at].take().map(reply_line).unwrap_or_default().as_str() {
                "OK" => taken += 1,
                "ERR Bad data format" => refused += 1,
                other => panic!("RESTORE: {other}"),
            }
        }
        assert!(server.is_running());
        // Accepted values can be saved and loaded again.
        assert_eq!(run(&mut client, "DEBUG RELOAD"), "OK");
    }
    assert_eq!(taken + refused, MUTATIONS);
    assert!(taken > MUTATIONS / 1_000 && refused > MUTATIONS / 10, "{taken} taken, {refused} refused");
    assert_memory(&mut client);
    assert_healthy(&server);
}

/// Checks that no length was used before it was checked.
fn assert_memory(client: &mut Connection) {
    let peak: u64 = info(client, "memory")["used_memory_peak"].parse().unwrap();
    assert!(peak < 256 << 20, "{peak} bytes");
}

#[test]
fn a_window_survives() {
    survives(
        |client| fill_window(client, "k", 1_500),
        &[
            "GW.DESCRIBE k",
            "GW.ALLOW k 10",
            "GW.ALLOW k 9007199254740992 COST 5",
            "COPY k k2 REPLACE",
            "MEMORY USAGE k",
        ],
    );
}

#[test]
fn a_bucket_survives() {
    survives(
        |client| assert!(run(client, "GW.TOKENS k 10 1000 COST 500").starts_with("[1, ")),
        &[
            "GW.DESCRIBE k",
            "GW.TOKENS k 10 1000",
            "GW.TOKENS k 9007199254740992 9007199254740992 PER 31622400000 COST 5",
            "COPY k k2 REPLACE",
            "MEMORY USAGE k",
        ],
    );
}

#[test]
fn leases_survive() {
    survives(
        |client| {
            for holder in 0..60 {
                let acquire = format!("GW.ACQUIRE k 50 holder{holder} TTL {}", 1_000_000 + holder);
                assert!(run(client, &acquire).starts_with('['));
            }
        },
        &[
            "GW.DESCRIBE k",
            "GW.ACQUIRE k 9007199254740992 other TTL 31622400000",
            "GW.RENEW k holder5 TTL 5",
            "GW.RELEASE k holder6",
            "COPY k k2 REPLACE",
            "MEMORY USAGE k",
        ],
    );
}

#[test]
fn a_ledger_survives() {
    survives(
        |client| {
            let now_ms = server_time_ms(client);
            for step in 0..40 {
                let at_ms = now_ms - step * 5 * 86_400_000;
                assert!(run(client, &format!("GW.ADDCOST k 1.23456789{step} AT {at_ms}")).starts_with('"'));
                run(client, &format!("GW.ADDCOST k 0.5 ID charge{step}"));
                run(client, &format!("GW.RESERVE k 2 1000000 TTL 3600000 ID hold{step}"));
            }
            run(client, "GW.COMMIT k hold1 3");
            run(client, "GW.CANCEL k hold2");
            run(client, "GW.COSTSYNC k 1");
        },
        &[
            "GW.DESCRIBE k",
            "GW.ADDCOST k 0.5",
            "GW.SPENT k TOTAL",
            "GW.SPENT k WEEK",
            "GW.WITHINBUDGET k 5 DAY 5 MONTH",
            "GW.ADDCOST k 0.5 ID charge3",
            "GW.RESERVE k 1 1e18",
            "GW.COMMIT k hold3 2",
            "GW.CANCEL k hold4",
            "GW.COSTCHANGES",
            "GW.COSTSYNC k 5",
            "GW.COSTRESTORE k 1750000000000000 ROWS SPEND TOTAL 0001-01-01 0 CREDIT DAY 2024-01-31 1",
            "COPY k k2 REPLACE",
            "MEMORY USAGE k",
        ],
    );
}

#[test]
fn a_queue_survives() {
    survives(
        |client| {
            for step in 0..60 {
                let record = "r".repeat(1 + step * 2);
                assert!(run(client, &format!("GW.LOGPUSH k MAXLEN 50 RECORDS {record}")).starts_with('['));
            }
            assert!(run(client, "GW.LOGPOP k COUNT 3").starts_with("[\"r"));
            assert!(run(client, "GW.LOGPOP k COUNT 3 LEASE 1").starts_with("[\"0"));
            assert!(run(client, "GW.LOGPOP k COUNT 3 LEASE 1000 MAXDELIVERIES 1").starts_with("[\"0"));
        },
        &[
            "GW.DESCRIBE k",
            "GW.LOGPEEK k COUNT 100",
            "GW.LOGPOP k COUNT 2",
            "GW.LOGPOP k COUNT 2 LEASE 1",
            "GW.LOGPUSH k MAXLEN 5 a b c",
            "GW.LOGDEAD k LIST",
            "GW.LOGDEAD k REQUEUE ALL",
            "GW.LOGSTATS k",
            "GW.LOGLEN k",
            "COPY k k2 REPLACE",
            "MEMORY USAGE k",
        ],
    );
}

#[test]
fn an_account_survives() {
    survives(
        |client| {
            for policy in [
                "rpm WINDOW 1000 PER 3600000",
                "tpm BUCKET 7 1000 PER 1100 METER tokens GIVEBACK",
                "inflight INFLIGHT 50",
                "spend BUDGET 100 MONTH SOFT 80",
                "tokens BUDGET 1e6 DAY METER tokens SHADOW",
                "hour WINDOW 100 PER 3600000 DECIMAL METER usd",
                "cycle WINDOW 100 PER 2592000000 FIXED ANCHOR 1700000000000 DECIMAL METER usd",
                "flow BUCKET 0.5 1000 PER 1000 DECIMAL METER usd",
                "off BLOCK UNTIL 1700000000000",
                "up BREAKER 1000 PER 60000 OPEN 5",
                "down BREAKER 1 PER 60000 OPEN 1000000",
            ] {
                assert_eq!(run(client, &format!("GW.POLICYSET k {policy}")), "1");
            }
            for lease in 0..20 {
                let ttl_ms = if lease % 5 == 0 { 1 } else { 1_000_000 + lease };
                run(client, &format!("GW.ADMIT k LEASE l{lease} TTL {ttl_ms} tokens {lease} usd 0.{lease}"));
                if lease % 3 == 0 {
                    run(client, &format!("GW.SETTLE k LEASE l{lease} tokens 3"));
                }
            }
            run(client, "GW.SETTLE k LEASE l19 FAILED COOLDOWN 100000 TOOK 900");
        },
        &[
            "GW.DESCRIBE k",
            "GW.POLICYLIST k",
            "GW.POLICYLIST k JSON",
            "GW.ADDCOST k 5",
            "GW.ADDCOST k -7 REFUND",
            r#"GW.POLICYPUT k {"policies":[]} IDLE 5"#,
            "GW.ADMIT k LEASE new TTL 5 tokens 9007199254740992 usd 1e18",
            "GW.ADMIT k LEASE small TTL 5 tokens 1 usd 0.1",
            "GW.SETTLE k LEASE l1 tokens 9007199254740992 usd 5",
            "GW.ROUTE k LEASE routed TTL 5 PICK FAST ROWS ALL",
            "GW.SETTLE k LEASE l5",
            "GW.SETTLE k LEASE l7 FAILED COOLDOWN 31622400000 TOOK 31622400000",
            "GW.POLICYSET k down BREAKER 1 PER 60000 OPEN 1 SHADOW",
            "GW.KEEPALIVE k LEASE l2 TTL 31622400000",
            "GW.POLICYRESET k inflight",
            "GW.POLICYSET k rpm WINDOW 5 PER 31622400000",
            "COPY k k2 REPLACE",
            "MEMORY USAGE k",
        ],
    );
}

#[test]
fn an_index_survives() {
    survives(
        |client| {
            for set in [
                "GW.SEMSET k one aaaazzzz some-value EX 1000 TAG t SAVED 0.1 TEXT question DEFAULT 0.5",
                "GW.SEMSET k two zzzzaaaa other-value EX 1000",
            ] {
                assert_eq!(run(client, set), "OK");
            }
            assert_eq!(run(client, "GW.SEMREJECT k two 0.5"), "1");
        },
        &[
            "GW.DESCRIBE k",
            "GW.SEMGET k aaaazzzz META TEXT question GUARD digits",
            "GW.SEMGET k aaaazzzz THRESHOLD -1 COUNT 5",
            "GW.SEMSET k three zzzzzzzz value DEFAULT 0.1",
            "GW.SEMREJECT k one 1",
            "GW.CACHESTATS CATEGORY default",
            "COPY k k2 REPLACE",
            "MEMORY USAGE k",
            "GW.SEMDEL k one two",
        ],
    );
}

#[test]
fn a_cache_entry_survives() {
    survives(
        |client| assert_eq!(run(client, "GW.CACHESET k some-value CATEGORY chat EX 1000"), "OK"),
        &[
            "GW.DESCRIBE k",
            "GW.CACHEGET k",
            "GW.CACHESTATS CATEGORY chat",
            "GW.CACHELIST 0 CATEGORY chat",
            "COPY k k2 REPLACE",
            "MEMORY USAGE k",
        ],
    );
}
