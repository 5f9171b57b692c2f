//! GW.ACQUIRE, GW.RENEW and GW.RELEASE.

use crate::support::{DEADLINE, SOON_MS, aof_commands, command, run, start};
use gw_testkit::redis::Connection;
use gw_testkit::{Server, await_in_sync, await_until, call, digest};

/// acquired, in_use, max, retry_after_ms, fencing_token
fn acquire(client: &mut Connection, words: &str) -> [i64; 5] {
    command(&format!("GW.ACQUIRE {words}")).query(client).unwrap()
}

#[test]
fn at_most_max_holders_hold_a_slot_at_once() {
    let (_server, mut client) = start();
    let [acquired, in_use, max, retry_after_ms, first] = acquire(&mut client, "k 2 a TTL 60000");
    assert_eq!((acquired, in_use, max, retry_after_ms), (1, 1, 2, 0));
    let [acquired, in_use, .., second] = acquire(&mut client, "k 2 b TTL 60000");
    assert_eq!((acquired, in_use), (1, 2));
    assert!(second > first && first > 0);
    let [acquired, in_use, max, retry_after_ms, token] = acquire(&mut client, "k 2 c TTL 60000");
    assert_eq!((acquired, in_use, max, token), (0, 2, 2, 0));
    assert!((1..=60_000).contains(&retry_after_ms), "{retry_after_ms}");

    // Asking again is the same holder with the same token, not another slot.
    assert_eq!(acquire(&mut client, "k 2 a TTL 60000"), [1, 2, 2, 0, first]);
    assert_eq!(run(&mut client, "GW.RELEASE k a"), "1");
    assert_eq!(run(&mut client, "GW.RELEASE k a"), "0", "it holds none any more");
    assert_eq!(run(&mut client, "GW.RELEASE k nobody"), "0");
    assert_eq!(run(&mut client, "GW.RELEASE missing a"), "0");
    let [acquired, .., token] = acquire(&mut client, "k 2 c TTL 60000");
    assert!(acquired == 1 && token > second);
    assert_eq!(acquire(&mut client, "none 0 a TTL 1"), [0, 0, 0, -1, 0]);
}

#[test]
fn every_holder_has_its_own_expiry() {
    let (_server, mut client) = start();
    acquire(&mut client, "k 2 long TTL 600000");
    acquire(&mut client, &format!("k 2 short TTL {SOON_MS}"));
    let retry_after_ms = acquire(&mut client, "k 2 next TTL 600000")[3];
    assert!((1..=SOON_MS).contains(&retry_after_ms), "{retry_after_ms}");
    let freed = || acquire(&mut client, "k 2 next TTL 600000")[0] == 1;
    await_until("the short lease to expire", DEADLINE, freed).unwrap();
    assert_eq!(run(&mut client, "GW.RENEW k short TTL 1000"), "0", "it expired");
    assert_eq!(run(&mut client, "GW.RELEASE k short"), "0", "it expired");
    assert_eq!(run(&mut client, "GW.RENEW k long TTL 1"), "1");
    let freed = || acquire(&mut client, "k 2 third TTL 600000")[0] == 1;
    await_until("the shortened lease to expire", DEADLINE, freed).unwrap();
}

#[test]
fn a_lock_has_one_holder_and_its_token_only_grows() {
    let (mut server, mut client) = (Server::options().aof().config("appendfsync always").start().unwrap(), None);
    let mut last = 0;
    for round in 0..6 {
        let connection = client.get_or_insert_with(|| server.connect().unwrap());
        let [acquired, .., token] = acquire(connection, &format!("lock 1 h{round} TTL 600000"));
        assert!(acquired == 1 && token > last, "{token} after {last}");
        assert_eq!(acquire(connection, "lock 1 other TTL 1000")[0], 0);
        last = token;
        match round {
            // Released, deleted, crashed while held: whoever is next has a larger token.
            0 | 1 => assert_eq!(run(connection, &format!("GW.RELEASE lock h{round}")), "1"),
            2 | 3 => assert_eq!(run(connection, "DEL lock"), "1"),
            _ => {
                client = None;
                server.crash_and_restart().unwrap();
                let mut connection = server.connect().unwrap();
                assert_eq!(acquire(&mut connection, "lock 1 other TTL 1000")[0], 0, "still held after the crash");
                assert_eq!(acquire(&mut connection, &format!("lock 1 h{round} TTL 600000"))[4], token);
                assert_eq!(run(&mut connection, &format!("GW.RELEASE lock h{round}")), "1");
            }
        }
    }
}

#[test]
fn ten_thousand_holders_in_one_key() {
    let (_server, mut client) = start();
    let acquire_all = (0..10_000).map(|holder| command(&format!("GW.ACQUIRE k 10000 h{holder} TTL 600000")));
    for reply in crate::support::pipeline(&mut client, acquire_all) {
        reply.unwrap();
    }
    assert_eq!(acquire(&mut client, "k 10000 more TTL 1000")[..3], [0, 10_000, 10_000]);
    let release_all = (0..9_999).map(|holder| command(&format!("GW.RELEASE k h{holder}")));
    for reply in crate::support::pipeline(&mut client, release_all) {
        reply.unwrap();
    }
    let [acquired, in_use, ..] = acquire(&mut client, "k 10000 more TTL 1000");
    assert_eq!((acquired, in_use), (1, 2));
}

#[test]
fn leases_are_the_same_on_a_replica_and_after_a_failover() {
    let primary = Server::options().aof().start().unwrap();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let (mut client, mut replica_client) = (primary.connect().unwrap(), replica.connect().unwrap());
    await_in_sync(&mut client, &mut replica_client);
    for holder in 0..100 {
        acquire(&mut client, &format!("k 80 h{holder} TTL {}", 50 + holder * 40));
        if holder % 3 == 0 {
            run(&mut client, &format!("GW.RELEASE k h{}", holder / 2));
            run(&mut client, &format!("GW.RENEW k h{holder} TTL 100000"));
        }
    }
    await_in_sync(&mut client, &mut replica_client);
    assert_eq!(digest(&mut replica_client, "k"), digest(&mut client, "k"));
    let last = acquire(&mut client, "k 1000 last TTL 100000")[4];
    await_in_sync(&mut client, &mut replica_client);
    call!(replica_client, "REPLICAOF", "NO", "ONE" => String);
    assert_eq!(acquire(&mut replica_client, "k 1000 last TTL 100000")[4], last);
    assert!(acquire(&mut replica_client, "k 1000 after TTL 100000")[4] > last);

    // A denial is no effect.
    let effects = aof_commands(&primary).len();
    assert_eq!(acquire(&mut client, "k 1 denied TTL 1000")[0], 0);
    assert_eq!(run(&mut client, "GW.RELEASE k denied"), "0");
    assert_eq!(run(&mut client, "GW.RENEW k denied TTL 5"), "0");
    assert_eq!(aof_commands(&primary).len(), effects);
}

#[test]
fn mistakes_are_named() {
    let (_server, mut client) = start();
    for (words, error) in [
        ("GW.ACQUIRE k -1 a TTL 5", "ERR not an integer from 0 to 9007199254740992: max"),
        ("GW.ACQUIRE k 1 a TTL 0", "ERR not an integer from 1 to 31622400000: TTL"),
        ("GW.ACQUIRE k 1 a FOO 1", "ERR unknown option: FOO"),
        ("GW.RENEW k a TTL x", "ERR not an integer from 1 to 31622400000: TTL"),
        ("GW.ACQUIRE k 1 a TTL 5 BLOCK -1", "ERR not an integer from 0 to 31622400000: BLOCK"),
        ("GW.ACQUIRE k 1 a TTL 5 BLOCK", "ERR missing value: BLOCK"),
        ("GW.ACQUIRE k 1 a TTL 5 TTL 6", "ERR repeated option: TTL"),
        ("GW.ACQUIRE k 1 a BLOCK 5", "ERR missing option: TTL"),
        ("GW.ACQUIRE k 1 a TTL", "ERR wrong number of arguments for 'gw.acquire' command"),
    ] {
        assert_eq!(run(&mut client, words), error, "{words}");
    }
    let long = "h".repeat(513);
    let error = "ERR not a name of 1 to 512 bytes: holder";
    assert_eq!(run(&mut client, &format!("GW.ACQUIRE k 1 {long} TTL 5")), error);
    assert_eq!(run(&mut client, &format!("GW.RELEASE k {long}")), error);
    assert_eq!(run(&mut client, "EXISTS k"), "0");
    run(&mut client, "SET s 1");
    for words in ["GW.ACQUIRE s 1 a TTL 5", "GW.RENEW s a TTL 5", "GW.RELEASE s a"] {
        assert!(run(&mut client, words).starts_with("WRONGTYPE"), "{words}");
    }
}
