//! Fill leases of the cache: one caller computes a missing value, and what it stores is what all get.

use crate::load::{Game, Round, ask, command, insist, think};
use gw_testkit::redis::Value;
use gw_testkit::{Caller, Cluster, DEADLINE, Outcome, Random, Server, await_until, key_slot, reply};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// Entries that are missing, one after another, and who fills them.
pub struct Fills {
    tag: String,
    entries: Mutex<BTreeMap<usize, Entry>>,
    tokens: Mutex<BTreeSet<i64>>,
}

#[derive(Default)]
struct Entry {
    /// Of each leader: how often something had been done to the cluster when it got its lease; `None` if that changed
    /// during the call.
    leaders: Vec<Option<u64>>,
    /// What leaders were told is stored.
    stored: Vec<String>,
    /// What leaders may have stored.
    perhaps: Vec<String>,
    /// What others got.
    read: BTreeSet<String>,
    /// Tokens of leases that stayed behind at a node that no longer had the slot. If the slot comes back there, they are in
    /// force again.
    left_behind: Vec<i64>,
    finished: usize,
}

impl Entry {
    fn got(&mut self, value: String) {
        self.read.insert(value);
    }
}

const PLAYERS: usize = 3;

/// Longer than a test takes: no lease ends by time.
const LEASE_MS: u64 = 3_000_000;

impl Fills {
    pub fn new(tag: &str) -> Self {
        Self { tag: tag.into(), entries: Mutex::default(), tokens: Mutex::default() }
    }

    fn key(&self, number: usize) -> String {
        format!("{{{}}}:entry:{number}", self.tag)
    }

    fn note(&self, number: usize, change: impl FnOnce(&mut Entry)) {
        change(self.entries.lock().unwrap().entry(number).or_default());
    }

    /// Gets the value of an entry, by computing it or by waiting for it.
    fn get(&self, player: usize, number: usize, caller: &mut Caller, round: &Round) {
        let key = self.key(number);
        for attempt in 0.. {
            let words = format!("GW.CACHEFETCH {key} LEASE {LEASE_MS} HOLDER {player}:{attempt} WAIT 300");
            let before = round.calm();
            let fetched: (String, Option<String>, i64, i64, i64) = insist(caller, &key, &words).read(&words);
            let after = round.calm().filter(|after| before == Some(*after));
            match fetched {
                (state, Some(value), ..) if state == "HIT" => {
                    return self.note(number, |entry| entry.got(value));
                }
                (state, None, _, _, token @ 1..) if state == "MISS" => {
                    self.lead(player, number, token, after, caller);
                    return;
                }
                // The leader is still busy, or had its lease of a node that has the slot again.
                (state, None, ..) if state == "PENDING" => {
                    let mut left_behind = Vec::new();
                    self.note(number, |entry| left_behind.clone_from(&entry.left_behind));
                    for token in left_behind {
                        insist(caller, &key, &format!("GW.CACHERELEASE {key} {token}"));
                    }
                }
                other => panic!("{words}: {other:?}"),
            }
            assert!(attempt < 100, "{key}: nobody fills it");
        }
    }

    fn lead(&self, player: usize, number: usize, token: i64, calm: Option<u64>, caller: &mut Caller) {
        let (key, value) = (self.key(number), format!("{player}:{token}"));
        assert!(self.tokens.lock().unwrap().insert(token), "{key}: token {token} was given out twice");
        self.note(number, |entry| entry.leaders.push(calm));
        think();
        let set = command(&format!("GW.CACHESET {key} {value} EX 3600 TOKEN {token}"));
        match caller.call(&key, &set).unwrap() {
            Outcome::Replied(Value::Okay) => self.note(number, |entry| entry.stored.push(value)),
            // The slot has moved, or another node has taken over: the lease stayed behind.
            Outcome::Replied(Value::Nil) => self.note(number, |entry| entry.left_behind.push(token)),
            Outcome::Replied(other) => panic!("{key}: {other:?}"),
            Outcome::Refused(error) => panic!("{key}: {error}"),
            Outcome::Lost => {
                // It may be stored, or the lease may still be there. Then the next leader comes while the first one lives.
                self.note(number, |entry| {
                    entry.perhaps.push(value);
                    entry.leaders.clear();
                });
                insist(caller, &key, &format!("GW.CACHERELEASE {key} {token}"));
            }
        }
    }
}

impl Game for Fills {
    fn players(&self) -> usize {
        PLAYERS
    }

    fn play(&self, player: usize, caller: &mut Caller, _random: &mut Random, round: &Round) {
        for number in 0.. {
            // All players are at the same entry, so that they meet there.
            let key = self.key(number);
            self.get(player, number, caller, round);
            self.note(number, |entry| entry.finished += 1);
            if round.is_over() {
                return;
            }
            // Whoever is ahead waits, unless the others have stopped.
            let met = || self.entries.lock().unwrap()[&number].finished == PLAYERS || round.is_over();
            await_until(&format!("all players to have {key}"), DEADLINE, met).unwrap();
        }
    }

    fn check(&self, caller: &mut Caller) {
        let entries = self.entries.lock().unwrap();
        for (&number, entry) in &*entries {
            let key = self.key(number);
            let told = format!("{key}: {} leaders", entry.leaders.len());
            // Two leaders under the same calm sky would have had the lease of one node at once.
            let mut calm: Vec<u64> = entry.leaders.iter().copied().flatten().collect();
            calm.sort_unstable();
            assert!(calm.is_sorted_by(|earlier, later| earlier < later), "{told}, at {calm:?}");
            assert!(entry.stored.len() <= 1, "{told}, of which several have stored: {:?}", entry.stored);
            let value: Option<String> = ask(caller, &key, &format!("GW.CACHEGET {key}"));
            let possible = entry.stored.iter().chain(&entry.perhaps);
            assert!(
                value.iter().chain(&entry.read).all(|value| possible.clone().any(|other| other == value)),
                "{told}: {value:?}"
            );
            if let ([stored], []) = (&entry.stored[..], &entry.perhaps[..]) {
                assert_eq!(value.as_ref(), Some(stored), "{told}");
            }
        }
        assert!(entries.values().filter(|entry| !entry.read.is_empty()).count() > 3, "hardly anybody has waited");
    }
}

/// The slot goes to another node, where somebody else stores a value, and comes back with it.
#[test]
fn a_leader_stores_nothing_over_a_value_that_its_node_got_meanwhile() {
    let cluster = Cluster::start(&Server::options(), 2, 0).unwrap();
    let (home, key) = (cluster.primary_of("{a}").unwrap(), "{a}:entry");
    let away = cluster.nodes().iter().find(|node| node.port() != home.port()).unwrap();
    let slot = key_slot(key);
    let fetch = |server: &Server| -> (String, Option<String>, i64, i64, i64) {
        command(&format!("GW.CACHEFETCH {key} LEASE {LEASE_MS}")).query(&mut server.connect().unwrap()).unwrap()
    };
    let set = |server: &Server, value: &str, token: i64| {
        reply!(server.connect().unwrap(), "GW.CACHESET", key, value, "EX", 3_600, "TOKEN", token)
    };
    let former = fetch(home);
    cluster.move_slot(slot, home, away).unwrap();
    assert!(set(home, "former", former.4).starts_with("MOVED "));
    assert_eq!(set(away, "former", former.4), "nil");
    let leader = fetch(away);
    assert_eq!((&*leader.0, &*set(away, "newer", leader.4)), ("MISS", "OK"));
    cluster.move_slot(slot, away, home).unwrap();
    assert_eq!(set(home, "former", former.4), "nil");
    assert_eq!(fetch(home).1.as_deref(), Some("newer"));
}
