//! Requests that are routed to one of several targets: a call whose reply was lost gets the same target again, no target
//! has more requests than it has room for, and each has counted what was sent to it.

use crate::load::{Game, Round, ask, insist, settle, text, think};
use gw_testkit::redis::Value;
use gw_testkit::{Caller, Random};
use std::sync::Mutex;

/// The requests that each target has room for at the same time.
const ROOM: [usize; 3] = [3, 4, 5];

const PLAYERS: usize = 3;

/// The most requests that a player has in flight: all players together fill all targets.
const IN_FLIGHT: usize = 4;

const FAILURES: u64 = 1_000_000;

/// Targets, and what was certainly sent to each of them.
pub struct Targets {
    tag: String,
    sent: Mutex<[Sent; ROOM.len()]>,
}

#[derive(Default)]
struct Sent {
    /// Those whose player knows of their target, and has not begun to settle them.
    in_flight: usize,
    requests: u64,
    failures: u64,
}

impl Targets {
    pub fn new(tag: &str) -> Self {
        Self { tag: tag.into(), sent: Mutex::default() }
    }

    fn target(&self, index: usize) -> String {
        format!("{{{}}}:target:{index}", self.tag)
    }

    /// The target that a request is routed to.
    fn route(&self, caller: &mut Caller, lease: &str, pick: &str) -> usize {
        let targets: Vec<String> = (0..ROOM.len()).map(|index| self.target(index)).collect();
        let (first, others) = (&targets[0], targets[1..].join(" "));
        let words = format!("GW.ROUTE {first} WITH {} {others} LEASE {lease} TTL 600000 PICK {pick}", ROOM.len() - 1);
        let (picked, ..): (Option<String>, i64, Vec<Value>) = insist(caller, first, &words).read(&words);
        // The players have no more requests in flight than there is room.
        let picked = picked.unwrap_or_else(|| panic!("{words}: no target"));
        targets.iter().position(|target| *target == picked).unwrap()
    }

    fn settle(&self, caller: &mut Caller, (lease, index): &(String, usize), random: &mut Random) {
        let failed = random.below(4) == 0;
        {
            let sent = &mut self.sent.lock().unwrap()[*index];
            sent.in_flight -= 1;
            sent.requests += 1;
            sent.failures += u64::from(failed);
        }
        let target = self.target(*index);
        let how = if failed { "FAILED" } else { "" };
        let words = format!("GW.SETTLE {target} LEASE {lease} {how} TOOK {}", random.below(500));
        settle(caller, &target, &words);
    }
}

impl Game for Targets {
    fn set_up(&self, caller: &mut Caller) {
        for (index, room) in ROOM.iter().enumerate() {
            let target = self.target(index);
            let breaker = format!("failures BREAKER {FAILURES} PER 3600000 OPEN 1000");
            for policy in [&format!("slots INFLIGHT {room}"), "rpm WINDOW 1000000 PER 3600000", &breaker] {
                insist(caller, &target, &format!("GW.POLICYSET {target} {policy}"));
            }
        }
    }

    fn players(&self) -> usize {
        PLAYERS
    }

    fn play(&self, player: usize, caller: &mut Caller, random: &mut Random, round: &Round) {
        let mut live: Vec<(String, usize)> = Vec::new();
        for call in 0.. {
            if round.is_over() {
                break;
            }
            if live.len() < IN_FLIGHT && random.below(5) < 3 {
                let lease = format!("{player}:{call}");
                let index = self.route(caller, &lease, ["FIRST", "ROOM", "FAST"][random.below(3)]);
                let sent = &mut self.sent.lock().unwrap()[index];
                sent.in_flight += 1;
                assert!(sent.in_flight <= ROOM[index], "{lease} is one too many for target {index}");
                live.push((lease, index));
            } else if !live.is_empty() {
                let routed = live.swap_remove(random.below(live.len()));
                self.settle(caller, &routed, random);
            }
            think();
        }
        for routed in live {
            self.settle(caller, &routed, random);
        }
    }

    fn check(&self, caller: &mut Caller) {
        for (index, sent) in self.sent.lock().unwrap().iter().enumerate() {
            let target = self.target(index);
            assert!(sent.requests > 0, "{target} has had no request");
            let words = format!("GW.ADMIT {target} LEASE ask TTL 1000 SHADOW ROWS DETAIL");
            let (_, _, rows): (i64, i64, Vec<Vec<Value>>) = ask(caller, &target, &words);
            let row = |policy: &str| rows.iter().find(|row| text(&row[1]) == policy).unwrap();
            let (used, left) = (|policy| text(&row(policy)[10]), |policy| text(&row(policy)[4]));
            let counted = (used("slots"), used("rpm"), left("failures"));
            let expected = ("0".into(), sent.requests.to_string(), (FAILURES - sent.failures).to_string());
            assert_eq!(counted, expected, "in flight, requests and failures left of {target}");
        }
    }
}
