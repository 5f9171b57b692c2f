//! GW.CACHECLEAR while slots move: one call to each primary is enough.

use crate::support::{run, two};
use gw_testkit::redis::Connection;
use gw_testkit::{Cluster, DEADLINE, Server, await_in_sync, await_until, call, digest, server_time_ms, slot_of};

/// What clears entries of category `c` with tag `t`.
const CLEARS: [&str; 3] = ["CATEGORY c", "TAG t", "ALL"];

fn await_gone(client: &mut Connection, key: &str) {
    await_until("the entry to be deleted", DEADLINE, || run(client, &format!("EXISTS {key}")) == "0").unwrap();
}

/// Waits for the next millisecond: an entry that is set in the one of an earlier clear counts as set one later, by which
/// its node's clock is ahead of one that is told of another clear only then.
fn await_next_millisecond(client: &mut Connection) {
    let since_ms = server_time_ms(client);
    await_until("the next millisecond", DEADLINE, || server_time_ms(client) > since_ms).unwrap();
}

/// An entry moves from a node that was not told of a clear yet to one that was told already.
#[test]
fn an_entry_that_moves_does_not_escape_a_clear() {
    let cluster = Cluster::start(&Server::options(), 2, 1).unwrap();
    let (from, to) = two(&cluster, "{a}");
    let (mut source, mut target) = (from.connect().unwrap(), to.connect().unwrap());
    let mut replica = cluster.replicas_of(to).unwrap()[0].connect().unwrap();
    call!(replica, "READONLY" => ());
    let slot = slot_of(&mut source, "{a}").unwrap();
    for clear in CLEARS {
        run(&mut source, "GW.CACHESET {a}:1 old CATEGORY c TAG t TAG s");
        run(&mut source, "GW.CACHESET {a}:2 kept CATEGORY d TAG u");
        cluster.begin_move(slot, from, to).unwrap();
        assert_eq!(run(&mut target, &format!("GW.CACHECLEAR {clear}")), "0");
        cluster.move_keys(slot, from, to).unwrap();
        assert_eq!(run(&mut source, &format!("GW.CACHECLEAR {clear}")), "0");
        cluster.end_move(slot, to).unwrap();
        assert_eq!(run(&mut target, "GW.CACHEGET {a}:1"), "nil", "{clear}");
        await_gone(&mut target, "{a}:1");
        let kept = if clear == "ALL" { "nil" } else { "\"kept\"" };
        assert_eq!(run(&mut target, "GW.CACHEGET {a}:2"), kept, "{clear}");
        await_in_sync(&mut target, &mut replica);
        assert_eq!(digest(&mut replica, "{a}:1"), digest(&mut target, "{a}:1"));
        assert_eq!(run(&mut replica, "GW.CACHEGET {a}:2"), kept);
        // What is set after the clear is newer, also in the same millisecond, and moves as it is.
        for words in ["MULTI", &format!("GW.CACHECLEAR {clear}"), "GW.CACHESET {a}:1 new CATEGORY c TAG t", "EXEC"] {
            run(&mut target, words);
        }
        assert_eq!(run(&mut target, "GW.CACHEGET {a}:1"), "\"new\"");
        let payload: Vec<u8> = call!(target, "DUMP", "{a}:1");
        call!(target, "RESTORE", "{a}:3", 0, payload => ());
        assert_eq!(run(&mut target, "GW.CACHEGET {a}:3"), "\"new\"", "{clear}");
        await_in_sync(&mut target, &mut replica);
        for key in ["{a}:1", "{a}:3"] {
            assert_eq!(digest(&mut replica, key), digest(&mut target, key), "{clear}");
        }
        // Back, with an entry that is newer than all clears.
        cluster.move_slot(slot, to, from).unwrap();
        assert_eq!(run(&mut source, "GW.CACHEGET {a}:1"), "\"new\"", "{clear}");
        for words in ["GW.CACHECLEAR ALL", "DEL {a}:1 {a}:2 {a}:3"] {
            run(&mut source, words);
        }
        await_next_millisecond(&mut source);
    }
}

/// The marks reach replicas: the one that takes over knows them.
#[test]
fn a_node_that_takes_over_knows_what_was_cleared() {
    let cluster = Cluster::start(&Server::options(), 2, 1).unwrap();
    let (from, to) = two(&cluster, "{a}");
    let (mut source, mut target) = (from.connect().unwrap(), to.connect().unwrap());
    let slot = slot_of(&mut source, "{a}").unwrap();
    run(&mut source, "GW.CACHESET {a}:1 old CATEGORY c");
    // Nothing to clear here, and still something to remember.
    assert_eq!(run(&mut target, "GW.CACHECLEAR CATEGORY c"), "0");
    let successor = cluster.fail_over(to).unwrap();
    cluster.move_slot(slot, from, successor).unwrap();
    let mut target = successor.connect().unwrap();
    assert_eq!(run(&mut target, "GW.CACHEGET {a}:1"), "nil");
    await_gone(&mut target, "{a}:1");
}
