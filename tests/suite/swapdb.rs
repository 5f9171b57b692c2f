//! A replica with `repl-diskless-load swapdb` loads its primary's keys beside its own, and serves reads of its own
//! meanwhile.

use crate::support::{DEADLINE, command, fill, full_state, pipeline, run, state};
use gw_testkit::redis::{self, Connection};
use gw_testkit::{Server, await_in_sync, await_until, call, info};

/// Cache entries, so that loading takes a while, and there is more than the network holds.
const ENTRIES: usize = 3_000;

fn entry(number: usize) -> redis::Cmd {
    let mut set = command(&format!("GW.CACHESET beside:{number}"));
    set.arg(format!("{number:1024}")).arg(&["TAG", if number.is_multiple_of(4) { "x" } else { "y" }, "EX", "9000"]);
    set
}

/// A primary and its replica, both with a key of each type and with cache entries. The replica then loads slowly.
fn start() -> (Server, Server) {
    let primary = Server::options().config("repl-diskless-sync yes").config("repl-backlog-size 16384");
    let primary = primary.start().unwrap();
    let mut client = primary.connect().unwrap();
    fill(&mut client);
    for reply in pipeline(&mut client, (0..ENTRIES).map(entry)) {
        reply.unwrap();
    }
    let replica =
        Server::options().config("repl-diskless-load swapdb").config("loading-process-events-interval-bytes 1024");
    let replica = replica.replica_of(&primary).start().unwrap();
    let mut reader = replica.connect().unwrap();
    await_in_sync(&mut client, &mut reader);
    run(&mut reader, "CONFIG SET key-load-delay 3000");
    (primary, replica)
}

/// Cuts the replica off while the primary changes more than its backlog holds, and waits until the replica loads again.
fn begin_loading(client: &mut Connection, reader: &mut Connection, changes: &[&str]) {
    let mut transaction = redis::pipe();
    transaction.atomic().add_command(command("CLIENT KILL TYPE replica"));
    transaction.add_command(command("SET noise").arg("n".repeat(100_000)).take());
    for words in changes {
        transaction.add_command(command(words));
    }
    transaction.query::<redis::Value>(client).unwrap();
    await_until("the replica to load", DEADLINE, || is_loading(reader)).unwrap();
}

fn is_loading(reader: &mut Connection) -> bool {
    info(reader, "persistence")["async_loading"] == "1"
}

/// What clients see of the data.
fn shown(client: &mut Connection) -> Vec<String> {
    let stats = run(client, "GW.CACHESTATS TOTAL");
    let sizes = stats.find("\"entries\"").zip(stats.find("\"hit_rate\"")).map(|(from, to)| stats[from..to].to_owned());
    let mut shown = vec![sizes.unwrap()];
    for words in [
        "GW.SPENT a:ledger TOTAL",
        "GW.LOGLEN a:queue",
        "GW.CACHEGET beside:1 META",
        "GW.CACHEGET beside:4",
        "GW.CACHEGET new:1",
        "GW.POLICYLIST a:account JSON",
        "DBSIZE",
    ] {
        // Ages and times left change by themselves.
        let reply = run(client, words);
        shown.push(if words.ends_with("META") { reply[..20].to_owned() } else { reply });
    }
    shown
}

const CHANGES: [&str; 4] =
    ["GW.CACHECLEAR TAG x", "GW.CACHESET new:1 v TAG x", "GW.ADDCOST a:ledger 3", "GW.LOGPUSH a:queue RECORDS a b c"];

#[test]
fn a_replica_serves_its_own_keys_until_those_of_its_primary_are_complete() {
    let (primary, replica) = start();
    let (mut client, mut reader) = (primary.connect().unwrap(), replica.connect().unwrap());
    let before = shown(&mut reader);
    begin_loading(&mut client, &mut reader, &CHANGES);
    assert_eq!(shown(&mut reader), before);
    for words in ["GW.ALLOW a:window 10", "GW.CACHECLEAR ALL", "GW.LOGPOP a:queue", "GW.CACHEFETCH new:1 LEASE 1000"] {
        assert!(run(&mut reader, words).starts_with("READONLY "), "{words}");
    }
    assert!(is_loading(&mut reader), "the keys were loaded before they were read");
    run(&mut reader, "CONFIG SET key-load-delay 0");
    await_in_sync(&mut client, &mut reader);
    // Cleared entries are deleted on the primary meanwhile.
    await_until("the primary to free what was cleared", DEADLINE, || {
        await_in_sync(&mut client, &mut reader);
        call!(client, "DBSIZE" => usize) == call!(reader, "DBSIZE" => usize)
            && !run(&mut client, "KEYS beside:*").contains("\"beside:4\"")
    })
    .unwrap();
    assert_eq!(shown(&mut reader), shown(&mut client));
    assert_ne!(shown(&mut reader), before);
    assert_eq!(full_state(&mut reader), full_state(&mut client));
    // The groups are those of the keys that were loaded.
    for clear in ["TAG y", "TAG x", "ALL"] {
        run(&mut client, &format!("GW.CACHECLEAR {clear}"));
        // Entries of a tag count until they are deleted.
        await_until("equal figures", DEADLINE, || {
            await_in_sync(&mut client, &mut reader);
            shown(&mut reader)[0] == shown(&mut client)[0]
        })
        .unwrap();
    }
    assert_eq!(shown(&mut reader)[0], r#""entries", 0, "bytes", 0, "raw_bytes", 0, "#);
    assert_eq!(info(&mut reader, "gw")["gw_internal_errors"], "0");
}

#[test]
fn a_replica_keeps_its_own_keys_if_its_primary_fails_meanwhile() {
    let (mut primary, replica) = start();
    let (mut client, mut reader) = (primary.connect().unwrap(), replica.connect().unwrap());
    let (before, state_before) = (shown(&mut reader), full_state(&mut reader));
    run(&mut client, "SAVE");
    // The primary sends slowly, so that there is something left to send when it fails.
    run(&mut client, "CONFIG SET rdb-key-save-delay 3000");
    run(&mut reader, "CONFIG SET key-load-delay 0");
    begin_loading(&mut client, &mut reader, &CHANGES);
    assert_eq!(shown(&mut reader), before);
    assert!(is_loading(&mut reader), "the keys were loaded before they were read");
    primary.kill();
    await_until("loading to fail", DEADLINE, || !is_loading(&mut reader)).unwrap();
    assert_eq!(shown(&mut reader), before);
    assert_eq!(full_state(&mut reader), state_before);
    // It can take the primary's place, and what it has is complete. The entries that were loaded in part are gone.
    run(&mut reader, "REPLICAOF NO ONE");
    assert_eq!(run(&mut reader, "GW.CACHECLEAR CATEGORY beside"), ENTRIES.to_string());
    // The former primary has other keys, and they win. Its history is another one, so reads are refused while it is loaded.
    primary.crash_and_restart().unwrap();
    let mut client = primary.connect().unwrap();
    call!(reader, "REPLICAOF", "127.0.0.1", primary.port() => ());
    await_in_sync(&mut client, &mut reader);
    assert_eq!(shown(&mut reader), shown(&mut client));
    assert_eq!(state(&mut reader), state(&mut client));
    assert_eq!(info(&mut reader, "gw")["gw_internal_errors"], "0");
}
