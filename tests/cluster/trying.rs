//! Calls of several keys while their slot moves.

use crate::support::{run, two};
use gw_testkit::{Cluster, Server, slot_of};

/// While a slot moves, the server takes a key that does not exist for one that is elsewhere: a call that names an account
/// that exists and one that never did has to be tried again until the slot has moved.
#[test]
fn admissions_over_accounts_that_do_not_exist_are_to_be_tried_again_while_their_slot_moves() {
    let cluster = Cluster::start(&Server::options(), 2, 0).unwrap();
    let (from, to) = two(&cluster, "{a}");
    let (mut source, mut target) = (from.connect().unwrap(), to.connect().unwrap());
    let slot = slot_of(&mut source, "{a}").unwrap();
    let admit = |lease: &str| format!("GW.ADMIT {{a}}:key WITH 1 {{a}}:team LEASE {lease} TTL 60000 ROWS NONE");
    assert_eq!(run(&mut source, "GW.POLICYSET {a}:key rpm WINDOW 10 PER 60000"), "1");
    assert_eq!(run(&mut source, &admit("1")), "[1, 0, []]");
    cluster.begin_move(slot, from, to).unwrap();
    for words in [admit("2"), format!("{} REQUIRE", admit("2"))] {
        let mut refused = run(&mut source, &words);
        if refused.starts_with("ASK ") {
            // Some servers leave it to the new node to say so.
            run(&mut target, "ASKING");
            refused = run(&mut target, &words);
        }
        assert!(refused.starts_with("TRYAGAIN "), "{refused}");
    }
    // Single keys, and calls whose keys are all here, go on.
    assert_eq!(run(&mut source, "GW.ADMIT {a}:key LEASE 3 TTL 60000 ROWS NONE"), "[1, 0, []]");
    cluster.move_keys(slot, from, to).unwrap();
    assert!(run(&mut source, &admit("2")).starts_with("ASK "));
    run(&mut target, "ASKING");
    assert!(run(&mut target, &admit("2")).starts_with("TRYAGAIN "));
    cluster.end_move(slot, to).unwrap();
    assert_eq!(run(&mut target, &admit("2")), "[1, 0, []]");
    // What was refused has changed nothing.
    let described = run(&mut target, "GW.DESCRIBE {a}:key");
    assert!(described.contains("\"counts\", [\"rpm\", 3]"), "{described}");
    // With every account in place there is nothing to try again.
    assert_eq!(run(&mut target, "GW.POLICYSET {a}:team rpm WINDOW 10 PER 60000"), "1");
    cluster.begin_move(slot, to, from).unwrap();
    assert_eq!(run(&mut target, &admit("4")), "[1, 0, []]");
}
