//! Charges and holds under ids: each is booked once, however often it was sent.

use crate::load::{Game, Round, amount, ask, cents, insist, think};
use gw_testkit::{Caller, Random};
use std::sync::atomic::{AtomicU64, Ordering};

/// A budget that nothing exceeds.
const BUDGET: u64 = 1_000_000_000;

/// A ledger, and what was charged to it.
pub struct Ledger {
    key: String,
    charged: AtomicU64,
}

impl Ledger {
    /// A ledger in the slot of `tag`.
    pub fn new(tag: &str) -> Self {
        Self { key: format!("{{{tag}}}:ledger"), charged: AtomicU64::new(0) }
    }

    fn charge(&self, caller: &mut Caller, id: &str, cents: u64) {
        insist(caller, &self.key, &format!("GW.ADDCOST {} {} ID {id}", self.key, amount(cents)));
        self.charged.fetch_add(cents, Ordering::Relaxed);
    }

    fn hold(&self, caller: &mut Caller, id: &str, estimate: u64) {
        let (key, estimate) = (&self.key, amount(estimate));
        let words = format!("GW.RESERVE {key} {estimate} {BUDGET} TOTAL TTL 600000 ID {id}");
        let (granted, hold, ..): Hold = insist(caller, key, &words).read(&words);
        assert_eq!((granted, hold.as_deref()), (1, Some(id)), "{words}");
    }

    /// Ends a hold, by what it cost or without a charge.
    fn end(&self, caller: &mut Caller, id: &str, actual: Option<u64>) {
        let key = &self.key;
        let (words, state, actual) = match actual {
            Some(actual) => (format!("GW.COMMIT {key} {id} {}", amount(actual)), "committed", actual),
            None => (format!("GW.CANCEL {key} {id}"), "cancelled", 0),
        };
        let answer = insist(caller, key, &words);
        let repeated = answer.repeated;
        let (changed, was, charged, ..): (i64, String, String, i64, String) = answer.read(&words);
        assert_eq!((&*was, cents(&charged)), (state, actual), "{words}");
        // Only an attempt whose reply was lost can have ended it before.
        assert!(changed == 1 || repeated, "{words}: ended before");
        self.charged.fetch_add(actual, Ordering::Relaxed);
    }
}

type Hold = (i64, Option<String>, String, String, String, String, String, i64);
type Standing = (i64, String, String, String, String, String, i64);

impl Game for Ledger {
    fn play(&self, player: usize, caller: &mut Caller, random: &mut Random, round: &Round) {
        let mut held = Vec::new();
        for call in 0.. {
            if round.is_over() {
                break;
            }
            let id = format!("{player}:{call}");
            match random.below(4) {
                0 => self.charge(caller, &id, random.below(1_000) as u64),
                1 => {
                    self.hold(caller, &id, 1 + random.below(1_000) as u64);
                    held.push(id);
                }
                // More than was set aside, too.
                2 if !held.is_empty() => {
                    let id = held.swap_remove(random.below(held.len()));
                    self.end(caller, &id, Some(random.below(1_500) as u64));
                }
                3 if !held.is_empty() => {
                    let id = held.swap_remove(random.below(held.len()));
                    self.end(caller, &id, None);
                }
                _ => {}
            }
            think();
        }
        for id in held {
            self.end(caller, &id, Some(1));
        }
    }

    fn check(&self, caller: &mut Caller) {
        let words = format!("GW.WITHINBUDGET {} {BUDGET} TOTAL", self.key);
        let (_, _, _, spent, held, ..): Standing = ask(caller, &self.key, &words);
        let charged = self.charged.load(Ordering::Relaxed);
        assert_eq!((cents(&spent), &*held), (charged, "0"), "{}", self.key);
        assert!(charged > 0, "{}: nothing was charged", self.key);
    }
}
