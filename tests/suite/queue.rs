//! GW.LOGPUSH, GW.LOGPOP, GW.LOGPEEK and GW.LOGLEN.

use crate::support::{run, start};
use gw_testkit::{Server, call, reply};

#[test]
fn records_come_out_in_the_order_they_went_in() {
    let (_server, mut client) = start();
    assert_eq!(run(&mut client, "GW.LOGPUSH q a b"), "[2, 0]");
    assert_eq!(run(&mut client, "GW.LOGPUSH q c"), "[3, 0]");
    assert_eq!(run(&mut client, "GW.LOGLEN q"), "3");
    assert_eq!(run(&mut client, "GW.LOGPEEK q"), r#"["a"]"#);
    assert_eq!(run(&mut client, "GW.LOGPEEK q COUNT 2"), r#"["a", "b"]"#);
    assert_eq!(run(&mut client, "GW.LOGPOP q"), r#"["a"]"#);
    assert_eq!(run(&mut client, "GW.LOGPOP q count 10000"), r#"["b", "c"]"#);
    assert_eq!(run(&mut client, "GW.LOGPOP q COUNT 5"), "[]");
    assert_eq!(run(&mut client, "GW.LOGLEN q"), "0");
}

#[test]
fn an_emptied_queue_stays_until_it_is_deleted() {
    let (_server, mut client) = start();
    run(&mut client, "GW.LOGPUSH q a");
    run(&mut client, "GW.LOGPOP q");
    assert_eq!(run(&mut client, "TYPE q"), "gw-queues");
    assert_eq!(run(&mut client, "PTTL q"), "-1");
    assert_eq!(run(&mut client, "DEL q"), "1");
    for words in ["GW.LOGPOP q", "GW.LOGPEEK q COUNT 3"] {
        assert_eq!(run(&mut client, words), "[]");
    }
    assert_eq!(run(&mut client, "GW.LOGLEN q"), "0");
    assert_eq!(run(&mut client, "EXISTS q"), "0");
}

#[test]
fn a_full_queue_drops_its_oldest_and_counts_them() {
    let (_server, mut client) = start();
    assert_eq!(run(&mut client, "GW.LOGPUSH q MAXLEN 3 a b c d e"), "[3, 2]");
    assert_eq!(run(&mut client, "GW.LOGPUSH q MAXLEN 3 f"), "[3, 1]");
    assert_eq!(run(&mut client, "GW.LOGPEEK q COUNT 9"), r#"["d", "e", "f"]"#);
    assert_eq!(run(&mut client, "GW.LOGPUSH q MAXBYTES 4 ggg"), "[2, 2]");
    assert_eq!(run(&mut client, "GW.LOGPEEK q COUNT 9"), r#"["f", "ggg"]"#);
}

#[test]
fn a_full_queue_rejects_a_batch_as_a_whole() {
    let (_server, mut client) = start();
    run(&mut client, "GW.LOGPUSH q a b");
    for words in ["GW.LOGPUSH q MAXLEN 3 REJECT c d", "GW.LOGPUSH q reject maxbytes 3 cc"] {
        let error = run(&mut client, words);
        assert!(error.starts_with("QUEUEFULL "), "{error}");
    }
    assert_eq!(run(&mut client, "GW.LOGPEEK q COUNT 9"), r#"["a", "b"]"#);
    assert_eq!(run(&mut client, "GW.LOGPUSH q MAXLEN 3 REJECT c"), "[3, 0]");
    // A rejected push does not create a queue.
    assert!(run(&mut client, "GW.LOGPUSH none MAXLEN 1 REJECT a b").starts_with("QUEUEFULL "));
    assert_eq!(run(&mut client, "EXISTS none"), "0");
}

#[test]
fn the_configured_bounds_hold_where_none_are_given() {
    let server = Server::options().config("gw.log-max-records 3").config("gw.log-max-bytes 10").start().unwrap();
    let mut client = server.connect().unwrap();
    assert_eq!(run(&mut client, "GW.LOGPUSH q a b c d"), "[3, 1]");
    assert_eq!(run(&mut client, "GW.LOGPUSH q 123456789"), "[2, 2]");
    assert_eq!(run(&mut client, "GW.LOGPUSH wide MAXLEN 5 a b c d"), "[4, 0]");
}

#[test]
fn records_are_bytes() {
    let (_server, mut client) = start();
    let records: [&[u8]; 4] = [b"", b"\0\xff\r\n", b"RECORDS", &[0xc3; 70_000]];
    assert_eq!(reply!(client, "GW.LOGPUSH", "q", "RECORDS", &records), "[4, 0]");
    let popped: Vec<Vec<u8>> = call!(client, "GW.LOGPOP", "q", "COUNT", 4);
    assert_eq!(popped, records);
}

#[test]
fn what_reads_like_an_option_is_a_record_behind_records() {
    let (_server, mut client) = start();
    assert_eq!(run(&mut client, "GW.LOGPUSH q MAXLEN 9 RECORDS JSON MAXLEN RECORDS"), "[3, 0]");
    assert_eq!(run(&mut client, "GW.LOGPOP q COUNT 9"), r#"["JSON", "MAXLEN", "RECORDS"]"#);
    // Options end at the first argument that is not an option word.
    assert_eq!(run(&mut client, "GW.LOGPUSH q a MAXLEN 1"), "[3, 0]");
    assert_eq!(run(&mut client, "GW.LOGPUSH q RECORDS"), "ERR missing value: record");
    assert_eq!(run(&mut client, "GW.LOGPUSH q JSON"), "ERR missing value: record");
}

#[test]
fn malformed_json_is_refused_with_its_place_and_nothing_is_stored() {
    let (_server, mut client) = start();
    assert_eq!(reply!(client, "GW.LOGPUSH", "q", "JSON", r#"{"a": [1, null]}"#, "3", " \"x\" "), "[3, 0]");
    for (record, at) in [(r#"{"a": [1, tru]}"#, 13), ("", 0), (r#"{"a":1"#, 6), ("{} {}", 3), ("NaN", 0)] {
        let error = reply!(client, "GW.LOGPUSH", "q", "JSON", "{}", "[]", record);
        assert_eq!(error, format!("ERR not valid JSON: record 2 at byte {at}"), "{record}");
    }
    let error = reply!(client, "GW.LOGPUSH", "q", "JSON", b"\"\xff\"");
    assert_eq!(error, "ERR not valid JSON: record 0 at byte 1");
    assert_eq!(run(&mut client, "GW.LOGLEN q"), "3");
}

#[test]
fn counts_and_bounds_are_checked() {
    let (_server, mut client) = start();
    run(&mut client, "GW.LOGPUSH q a");
    for command in ["GW.LOGPOP", "GW.LOGPEEK"] {
        for count in ["0", "-1", "10001", "x", "1.0", "9223372036854775807"] {
            let error = run(&mut client, &format!("{command} q COUNT {count}"));
            assert_eq!(error, "ERR not an integer from 1 to 10000: COUNT", "{command} {count}");
        }
    }
    for option in ["MAXLEN", "MAXBYTES"] {
        for bound in ["-1", "x", "9223372036854775808"] {
            let error = run(&mut client, &format!("GW.LOGPUSH q {option} {bound} b"));
            assert!(
                error.starts_with("ERR not an integer from ") && error.ends_with(&format!(": {option}")),
                "{error}"
            );
        }
    }
    assert_eq!(run(&mut client, "GW.LOGPOP q COUNT 9"), r#"["a"]"#);
}

#[test]
fn one_call_replies_a_mebibyte_and_at_least_one_record() {
    let (_server, mut client) = start();
    let sizes = [600_000, 448_576, 1, 3_000_000, 0, 1_048_576, 1];
    for size in sizes {
        call!(client, "GW.LOGPUSH", "q", "RECORDS", vec![7_u8; size] => Vec<u64>);
    }
    for expected in [&sizes[..2], &sizes[2..3], &sizes[3..4], &sizes[4..6], &sizes[6..]] {
        let mut sizes_of = |name: &str| -> Vec<usize> {
            let records: Vec<Vec<u8>> = call!(client, name, "q", "COUNT", 100);
            records.iter().map(Vec::len).collect()
        };
        assert_eq!(sizes_of("GW.LOGPEEK"), expected);
        assert_eq!(sizes_of("GW.LOGPOP"), expected);
    }
    assert_eq!(run(&mut client, "GW.LOGPOP q"), "[]");
}

#[test]
fn a_push_that_is_sent_again_stores_nothing() {
    let primary = Server::options().aof().start().unwrap();
    let mut client = primary.connect().unwrap();
    assert_eq!(run(&mut client, "GW.LOGPUSH q ID one RECORDS a b"), "[2, 0]");
    assert_eq!(run(&mut client, "GW.LOGPUSH q ID two RECORDS c"), "[3, 0]");
    run(&mut client, "GW.LOGPOP q COUNT 9");
    let before = crate::support::state(&mut client);
    // The records do not matter, nor whether the queue is full.
    for words in ["ID one RECORDS a b", "MAXLEN 1 REJECT ID one a b c", "JSON ID two 1"] {
        assert_eq!(run(&mut client, &format!("GW.LOGPUSH q {words}")), "[0, 0]", "{words}");
    }
    assert_eq!(before, crate::support::state(&mut client));
    let stats: std::collections::HashMap<String, u64> = call!(client, "GW.LOGSTATS", "q");
    assert_eq!((stats["repeated"], stats["pushed"]), (6, 3));
    run(&mut client, "DEBUG RELOAD");
    assert_eq!(before, crate::support::state(&mut client));
    assert_eq!(run(&mut client, "GW.LOGPUSH q ID one RECORDS a b"), "[0, 0]");
    // Ids belong to one queue, and the id of a refused push is not remembered.
    assert_eq!(run(&mut client, "GW.LOGPUSH other ID one a"), "[1, 0]");
    assert!(run(&mut client, "GW.LOGPUSH other MAXLEN 1 REJECT ID three b").starts_with("QUEUEFULL "));
    assert_eq!(run(&mut client, "GW.LOGPUSH other ID three b"), "[2, 0]");
    let long = "x".repeat(513);
    for id in ["", &long] {
        assert_eq!(reply!(client, "GW.LOGPUSH", "q", "ID", id, "a"), "ERR not a name of 1 to 512 bytes: ID");
    }
}

#[test]
fn an_id_is_forgotten_after_its_time() {
    let server = Server::options().config("gw.log-id-ms 1").start().unwrap();
    let mut client = server.connect().unwrap();
    run(&mut client, "GW.LOGPUSH q ID one a");
    gw_testkit::await_until("the id to be forgotten", crate::support::DEADLINE, || {
        run(&mut client, "GW.LOGPUSH q ID one a") == "[2, 0]"
    })
    .unwrap();
}
