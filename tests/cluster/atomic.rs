//! Slots that move atomically (Valkey's `CLUSTER MIGRATESLOTS`), with changes of all kinds meanwhile.

use crate::support::{command, run, two};
use gw_testkit::redis::{Connection, RedisResult, Value};
use gw_testkit::{
    Cluster, DEADLINE, Server, await_in_sync, await_until, call, digest, info, live, reply_line, slot_of,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Two primaries with a replica each, or `None` if this server does not move slots in this way.
fn start() -> Option<Cluster> {
    Cluster::moves_slots_at_once().unwrap().then(|| Cluster::start(&Server::options(), 2, 1).unwrap())
}

/// A client of a cluster, which follows a slot.
struct Follower<'a> {
    cluster: &'a Cluster,
    clients: BTreeMap<u16, Connection>,
    at: u16,
}

impl<'a> Follower<'a> {
    fn new(cluster: &'a Cluster, key: &str) -> Self {
        let at = cluster.primary_of(key).unwrap().port();
        Self { cluster, clients: BTreeMap::new(), at }
    }

    /// Calls at the node that serves the keys. Besides the error that names that node, there are two that ask for another
    /// try: of a wait that has ended, and while the nodes agree.
    fn call(&mut self, words: &str) -> Value {
        let mut reply = Err(String::new());
        await_until("the call to be served", DEADLINE, || {
            let node = self.cluster.nodes().iter().find(|node| node.port() == self.at).unwrap();
            let client = self.clients.entry(self.at).or_insert_with(|| node.connect().unwrap());
            let replied: RedisResult<Value> = command(words).query(client);
            reply = replied.map_err(|error| reply_line(Err(error)));
            match &reply {
                Err(error) if error.starts_with("MOVED ") => {
                    self.at = error.rsplit_once(':').unwrap().1.parse().unwrap();
                    false
                }
                Err(error) => !error.starts_with("UNBLOCKED ") && !error.starts_with("CLUSTERDOWN "),
                Ok(_) => true,
            }
        })
        .unwrap();
        reply.unwrap_or_else(|error| panic!("{words}: {error}"))
    }

    fn line(&mut self, words: &str) -> String {
        reply_line(Ok(self.call(words)))
    }
}

/// What a worker has been told, added up.
#[derive(Debug, Default)]
struct Told {
    admitted: u64,
    charged: u64,
    settled: u64,
    pushed: u64,
    popped: BTreeSet<String>,
    token: u64,
}

/// Changes keys of each kind until it is told to stop, and counts what it is told.
fn work(cluster: &Cluster, worker: usize, stop: &AtomicBool) -> Told {
    let mut client = Follower::new(cluster, "{a}");
    let mut told = Told::default();
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let id = format!("{worker}-{round}");
        told.admitted += u64::from(client.line("GW.ALLOW {a}:window 1000000 WINDOW 3600000").starts_with("[1, "));
        client.call(&format!("GW.ADDCOST {{a}}:ledger 1 ID {id}"));
        told.charged += 1;
        let lease = format!("{{a}}:key WITH 1 {{a}} LEASE {id} TTL 3600000");
        assert!(client.line(&format!("GW.ADMIT {lease} ROWS NONE usd 0.5")).starts_with("[1, "));
        assert!(client.line(&format!("GW.SETTLE {{a}}:key WITH 1 {{a}} LEASE {id} usd 0.25")).contains("SETTLED"));
        told.settled += 1;
        client.call(&format!("GW.LOGPUSH {{a}}:queue RECORDS {id}"));
        told.pushed += 1;
        if let Value::Array(records) = client.call("GW.LOGPOP {a}:queue COUNT 1 BLOCK 50") {
            for record in records {
                assert!(told.popped.insert(reply_line(Ok(record))), "a record twice");
            }
        }
        client.call(&format!("GW.CACHESET {{a}}:cached:{} {id} TAG {worker}", round % 50));
        if round % 8 > 0 {
            continue;
        }
        // One slot for all workers: it frees itself, so that those who wait are served by timers.
        let acquired = client.call(&format!("GW.ACQUIRE {{a}}:slot 1 {id} TTL 5 BLOCK 10000"));
        let Value::Array(acquired) = acquired else { panic!("{acquired:?}") };
        if acquired[0] == Value::Int(1) {
            let Value::Int(token) = acquired[4] else { panic!("{acquired:?}") };
            assert!(token as u64 > told.token, "a fencing token goes back");
            told.token = token as u64;
        }
    }
    told
}

/// All changes arrive: those of commands and those of timers, before, during and after each move, on primaries and replicas.
#[test]
fn nothing_is_lost_and_nothing_counts_twice_when_slots_move_atomically() {
    const WORKERS: usize = 4;
    let Some(cluster) = start() else { return };
    let mut client = Follower::new(&cluster, "{a}");
    for account in ["{a}:key", "{a}"] {
        client.call(&format!("GW.POLICYSET {account} spend BUDGET 1e9 TOTAL"));
        client.call(&format!("GW.POLICYSET {account} inflight INFLIGHT 100"));
    }
    let slot = slot_of(&mut cluster.nodes()[0].connect().unwrap(), "{a}").unwrap();
    let stop = AtomicBool::new(false);
    let moves = live(6, 40);
    let told = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|worker| (worker, &cluster, &stop)).collect();
        let workers: Vec<_> = workers
            .into_iter()
            .map(|(worker, cluster, stop)| scope.spawn(move || work(cluster, worker, stop)))
            .collect();
        for _ in 0..moves {
            let (from, to) = two(&cluster, "{a}");
            // Among others, which have no keys.
            cluster.move_slots_at_once([slot, slot + 2], from, to).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        workers.into_iter().map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });

    let sum = |of: fn(&Told) -> u64| told.iter().map(of).sum::<u64>();
    assert!(told.iter().all(|told| told.settled > 0), "{told:?}");
    assert_eq!(client.line("GW.SPENT {a}:ledger TOTAL"), format!("\"{}\"", sum(|told| told.charged)));
    let window = client.line("GW.DESCRIBE {a}:window");
    assert!(window.contains(&format!("\"used\", {}", sum(|told| told.admitted))), "{window}");
    for account in ["{a}:key", "{a}"] {
        let quarters = sum(|told| told.settled);
        let spent = format!("\"{}{}\"", quarters / 4, ["", ".25", ".5", ".75"][quarters as usize % 4]);
        assert_eq!(client.line(&format!("GW.SPENT {account} TOTAL")), spent);
        assert!(client.line(&format!("GW.DESCRIBE {account}")).contains("\"in_flight\", 0"));
    }
    let mut popped = BTreeSet::new();
    for record in told.iter().flat_map(|told| &told.popped) {
        assert!(popped.insert(record.clone()), "{record} was delivered twice");
    }
    let left: u64 = client.line("GW.LOGLEN {a}:queue").parse().unwrap();
    assert_eq!(popped.len() as u64 + left, sum(|told| told.pushed));
    compare_replicas(&cluster);
}

/// Each key has the same digest on its primary and on the replica.
fn compare_replicas(cluster: &Cluster) {
    for primary in cluster.nodes() {
        for replica in cluster.replicas_of(primary).unwrap() {
            let (mut client, mut reader) = (primary.connect().unwrap(), replica.connect().unwrap());
            call!(reader, "READONLY" => ());
            await_until("equal keys", DEADLINE, || {
                await_in_sync(&mut client, &mut reader);
                let [mut keys, mut theirs]: [Vec<String>; 2] = [call!(client, "KEYS", "*"), call!(reader, "KEYS", "*")];
                keys.sort();
                theirs.sort();
                keys == theirs && keys.iter().all(|key| digest(&mut client, key) == digest(&mut reader, key))
            })
            .unwrap();
            assert_eq!(info(&mut client, "gw")["gw_internal_errors"], "0");
        }
    }
}

/// A change of each type; the number makes changes differ.
fn change(client: &mut Connection, number: usize) {
    for words in [
        "GW.ALLOW {a}:window 1000 WINDOW 3600000".to_owned(),
        "GW.TOKENS {a}:bucket 1 1000 PER 3600000".to_owned(),
        format!("GW.ACQUIRE {{a}}:leases 1000 h{number} TTL 3600000"),
        format!("GW.ADDCOST {{a}}:ledger 0.5 ID {number}"),
        format!("GW.RESERVE {{a}}:ledger 1 1000 TTL 3600000 ID hold{number}"),
        format!("GW.LOGPUSH {{a}}:log ID {number} RECORDS {} r{number}", "long".repeat(5_000)),
        "GW.LOGPOP {a}:log COUNT 1 LEASE 3600000".to_owned(),
        format!("GW.CACHESET {{a}}:cached v{number} STALE 1000 TAG x TAG y SAVED 0.5"),
        format!("GW.POLICYSET {{a}}:account p{} WINDOW {} PER 3600000", number % 8, number + 100),
        format!("GW.ADMIT {{a}}:account LEASE l{number} TTL 3600000"),
    ] {
        let reply = run(client, &words);
        assert!(!reply.starts_with("ERR"), "{words}: {reply}");
    }
}

/// Changes of commands and of timers that are made after the slot's keys were copied, and before it moves.
#[test]
fn changes_that_are_made_meanwhile_arrive() {
    const KEYS: usize = 40;
    let Some(cluster) = start() else { return };
    let (from, to) = two(&cluster, "{a}");
    let (mut source, mut target) = (from.connect().unwrap(), to.connect().unwrap());
    let slot = slot_of(&mut source, "{a}").unwrap();
    (0..20).for_each(|number| change(&mut source, number));
    let granted = thread::scope(|scope| {
        let mut waiting = Vec::new();
        for key in 0..KEYS {
            run(&mut source, &format!("GW.LOGPUSH {{a}}:queue:{key} RECORDS r"));
            // Timers grant the slot and deliver the batch again.
            for (first, then) in [
                (
                    format!("GW.ACQUIRE {{a}}:slot:{key} 1 first TTL 2000"),
                    format!("GW.ACQUIRE {{a}}:slot:{key} 1 second TTL 3600000 BLOCK 600000"),
                ),
                (
                    format!("GW.LOGPOP {{a}}:queue:{key} LEASE 2000"),
                    format!("GW.LOGPOP {{a}}:queue:{key} LEASE 3600000 BLOCK 600000"),
                ),
            ] {
                run(&mut source, &first);
                let mut client = from.connect().unwrap();
                waiting.push(scope.spawn(move || run(&mut client, &then)));
            }
        }
        call!(source, "DEBUG", "SLOTMIGRATION", "PREVENT-PAUSE", 1 => ());
        cluster.begin_move_at_once([slot, slot], from, to).unwrap();
        await_until("the keys to be copied", DEADLINE, || {
            let moves = run(&mut source, "CLUSTER GETSLOTMIGRATIONS");
            moves.contains("\"replicating\"") || moves.contains("\"waiting-to-pause\"")
        })
        .unwrap();
        (20..40).for_each(|number| change(&mut source, number));
        run(&mut source, "GW.CACHEDEL {a}:cached");
        change(&mut source, 40);
        waiting.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    let mut keys: Vec<String> = call!(source, "KEYS", "*");
    keys.sort();
    let digests = |client: &mut Connection| keys.iter().map(|key| digest(client, key)).collect::<Vec<_>>();
    let before = digests(&mut source);
    call!(source, "DEBUG", "SLOTMIGRATION", "PREVENT-PAUSE", 0 => ());
    cluster.end_move_at_once(from).unwrap();
    assert_eq!(digests(&mut target), before);
    compare_replicas(&cluster);
    for (index, reply) in granted.iter().enumerate() {
        let key = index / 2;
        if index % 2 == 0 {
            // The slot is its holder's, with the token that it was told.
            let again = run(&mut target, &format!("GW.ACQUIRE {{a}}:slot:{key} 1 second TTL 3600000"));
            assert!(again.starts_with("[1, 1, 1, 0, ") && again == *reply, "{again} after {reply}");
        } else {
            let id = reply.split('"').nth(1).unwrap();
            assert_eq!(run(&mut target, &format!("GW.LOGACK {{a}}:queue:{key} {id} DELIVERY 2")), "1", "{reply}");
        }
    }
}

/// Entries that are in the snapshot or in the stream after it, and clears that reach the two nodes at different times.
#[test]
fn entries_that_move_atomically_do_not_escape_a_clear() {
    const ENTRIES: usize = 3_000;
    let Some(cluster) = start() else { return };
    for (round, clear) in ["CATEGORY c", "TAG t", "ALL", "TAG t", "CATEGORY c", "ALL"].into_iter().enumerate() {
        let (from, to) = two(&cluster, "{a}");
        let (mut source, mut target) = (from.connect().unwrap(), to.connect().unwrap());
        let slot = slot_of(&mut source, "{a}").unwrap();
        for entry in 0..ENTRIES {
            run(&mut source, &format!("GW.CACHESET {{a}}:{entry} old CATEGORY c TAG t"));
        }
        let (first, second) = if round % 2 == 0 { (&mut target, &mut source) } else { (&mut source, &mut target) };
        cluster.begin_move_at_once([slot, slot], from, to).unwrap();
        run(first, &format!("GW.CACHECLEAR {clear}"));
        run(second, &format!("GW.CACHECLEAR {clear}"));
        cluster.end_move_at_once(from).unwrap();
        for entry in 0..ENTRIES {
            assert_eq!(run(&mut target, &format!("GW.CACHEGET {{a}}:{entry}")), "nil", "{clear} {entry}");
        }
        await_until("the entries to be deleted", DEADLINE, || run(&mut target, "DBSIZE") == "0").unwrap();
        compare_replicas(&cluster);
    }
}

/// The change feed of the new node lists what has come.
#[test]
fn ledgers_that_move_atomically_are_in_the_feed_of_their_new_node() {
    let Some(cluster) = start() else { return };
    let (from, to) = two(&cluster, "{a}");
    let (mut source, mut target) = (from.connect().unwrap(), to.connect().unwrap());
    let slot = slot_of(&mut source, "{a}").unwrap();
    assert_eq!(run(&mut target, "GW.COSTCHANGES"), "[0, []]");
    for ledger in 0..20 {
        run(&mut source, &format!("GW.ADDCOST {{a}}:{ledger} 1"));
    }
    cluster.move_slots_at_once([slot, slot], from, to).unwrap();
    let listed = run(&mut target, "GW.COSTCHANGES");
    assert_eq!(listed.matches("\"{a}:").count(), 20, "{listed}");
    assert_eq!(run(&mut source, "GW.COSTCHANGES"), "[0, []]");
}

/// On a server that does not send along what timers do, the module does not agree to the move, and nothing changes.
#[test]
fn a_move_that_is_not_supported_is_refused() {
    let cluster = Cluster::start(&Server::options(), 2, 0).unwrap();
    let (from, to) = two(&cluster, "{a}");
    let mut source = from.connect().unwrap();
    run(&mut source, "GW.ALLOW {a} 10");
    let slot = slot_of(&mut source, "{a}").unwrap();
    let moved = cluster.move_slots_at_once([slot, slot], from, to);
    match Cluster::moves_slots_at_once().unwrap() {
        true => moved.unwrap(),
        false => {
            assert!(moved.is_err());
            assert_eq!(run(&mut source, "GW.ALLOW {a} 10 PEEK").split(", ").nth(2), Some("9"));
        }
    }
}
