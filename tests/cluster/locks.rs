//! Slots of GW.ACQUIRE: never more holders than slots, and fencing tokens that grow with every grant.

use crate::load::{Game, Round, ask, insist, think};
use gw_testkit::{Caller, Random};
use std::sync::Mutex;

/// Slots that players take and free.
pub struct Slots {
    key: String,
    max: usize,
    granted: Mutex<Granted>,
}

#[derive(Default)]
struct Granted {
    /// Those that know of their grant, and have not begun to free it.
    holders: usize,
    last_token: i64,
    grants: u64,
}

impl Granted {
    /// A holder knows of its grant.
    fn take(&mut self, token: i64, max: usize) {
        self.holders += 1;
        self.grants += 1;
        assert!(self.holders <= max, "{} holders of {max} slots", self.holders);
        // Replies to grants at the same time can arrive in another order. A lock is freed before its next grant.
        assert!(max > 1 || token > self.last_token, "{token} after {}", self.last_token);
        self.last_token = self.last_token.max(token);
    }
}

const PLAYERS: usize = 3;

impl Slots {
    pub fn new(tag: &str, max: usize) -> Self {
        Self { key: format!("{{{tag}}}:slots:{max}"), max, granted: Mutex::default() }
    }

    /// The slot's fencing token; `None` if all slots are taken.
    fn acquire(&self, caller: &mut Caller, holder: &str, random: &mut Random) -> Option<i64> {
        let block = ["", " BLOCK 150"][random.below(2)];
        let words = format!("GW.ACQUIRE {} {} {holder} TTL 3000000{block}", self.key, self.max);
        let answer = insist(caller, &self.key, &words);
        let repeated = answer.repeated;
        let [acquired, in_use, max, _, token]: [i64; 5] = answer.read(&words);
        assert!(in_use <= max, "{words}: {in_use} slots are taken");
        if acquired == 0 && repeated {
            // The attempt that was lost may have waited on, and have got a slot after this denial.
            insist(caller, &self.key, &format!("GW.RELEASE {} {holder}", self.key));
        }
        (acquired == 1).then_some(token)
    }
}

impl Game for Slots {
    fn players(&self) -> usize {
        PLAYERS
    }

    fn play(&self, player: usize, caller: &mut Caller, random: &mut Random, round: &Round) {
        for call in 0.. {
            if round.is_over() {
                return;
            }
            let holder = format!("{player}:{call}");
            if let Some(token) = self.acquire(caller, &holder, random) {
                self.granted.lock().unwrap().take(token, self.max);
                think();
                self.granted.lock().unwrap().holders -= 1;
                let words = format!("GW.RELEASE {} {holder}", self.key);
                let answer = insist(caller, &self.key, &words);
                let repeated = answer.repeated;
                assert!(answer.read::<i64>(&words) == 1 || repeated, "{words}: nothing to free");
            }
            think();
        }
    }

    fn check(&self, caller: &mut Caller) {
        // Every holder has freed its slot.
        let words = format!("GW.ACQUIRE {} {} last TTL 1000", self.key, self.max);
        let [acquired, in_use, .., token]: [i64; 5] = ask(caller, &self.key, &words);
        let granted = self.granted.lock().unwrap();
        assert_eq!((acquired, in_use), (1, 1), "{}: slots of nobody are taken", self.key);
        assert!(token > granted.last_token, "{token} after {}", granted.last_token);
        assert!(granted.grants > 5, "{}: {} grants are hardly a test", self.key, granted.grants);
    }
}
