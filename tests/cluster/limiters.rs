//! Windows and buckets, judged by the server's own times: the time right before an admission, and right after it.

use crate::load::{Game, Round, command, think};
use gw_testkit::redis::from_redis_value;
use gw_testkit::{Caller, Outcome, Random};
use std::sync::Mutex;

/// A limiter, and what it has certainly admitted.
pub struct Limiter {
    key: String,
    kind: Kind,
    admitted: Mutex<Vec<Admission>>,
    denied: Mutex<u64>,
}

#[derive(Clone, Copy)]
enum Kind {
    Window,
    Bucket,
}

/// Units, and between which unix milliseconds they were admitted.
#[derive(Clone, Copy)]
struct Admission {
    after_ms: i64,
    before_ms: i64,
    units: i64,
}

const LIMIT: i64 = 30;
const WINDOW_MS: i64 = 1_000;
const RATE_PER_SECOND: i64 = 20;
const BURST: i64 = 30;

impl Limiter {
    pub fn window(tag: &str) -> Self {
        Self::new(format!("{{{tag}}}:window"), Kind::Window)
    }

    pub fn bucket(tag: &str) -> Self {
        Self::new(format!("{{{tag}}}:bucket"), Kind::Bucket)
    }

    fn new(key: String, kind: Kind) -> Self {
        Self { key, kind, admitted: Mutex::default(), denied: Mutex::default() }
    }
}

impl Game for Limiter {
    fn play(&self, _player: usize, caller: &mut Caller, random: &mut Random, round: &Round) {
        while !round.is_over() {
            let (key, units) = (&self.key, 1 + random.below(3) as i64);
            let words = match self.kind {
                Kind::Window => format!("GW.ALLOW {key} {LIMIT} WINDOW {WINDOW_MS} COST {units}"),
                Kind::Bucket => format!("GW.TOKENS {key} {RATE_PER_SECOND} {BURST} PER 1000 COST {units}"),
            };
            let (at_ms, outcome) = caller.timed(key, &command(&words)).unwrap();
            match outcome {
                Outcome::Replied(value) => {
                    let [allowed, ..]: [i64; 5] = from_redis_value(value).unwrap();
                    if allowed == 1 {
                        let admission = Admission { after_ms: *at_ms.start(), before_ms: *at_ms.end(), units };
                        self.admitted.lock().unwrap().push(admission);
                    } else {
                        *self.denied.lock().unwrap() += 1;
                    }
                }
                Outcome::Refused(error) => panic!("{words}: {error}"),
                // It may have taken units, which nobody then has: the limit holds all the more.
                Outcome::Lost => {}
            }
            think();
        }
    }

    fn check(&self, _caller: &mut Caller) {
        let admitted = self.admitted.lock().unwrap();
        let units: i64 = admitted.iter().map(|admission| admission.units).sum();
        let denied = *self.denied.lock().unwrap();
        assert!(units > LIMIT && denied > 0, "{}: {units} units and {denied} denials are hardly a test", self.key);
        let worst = match self.kind {
            Kind::Window => most_in_a_window(&admitted).saturating_sub(LIMIT),
            Kind::Bucket => most_above_the_rate(&admitted),
        };
        assert!(worst <= 0, "{}: {worst} units too many", self.key);
    }
}

/// The most units that certainly fell into one window. Of the windows that could have the most, one ends with an
/// admission.
fn most_in_a_window(admitted: &[Admission]) -> i64 {
    let inside = |end_ms: i64| {
        let certainly =
            |admission: &&Admission| admission.after_ms > end_ms - WINDOW_MS && admission.before_ms <= end_ms;
        admitted.iter().filter(certainly).map(|admission| admission.units).sum()
    };
    admitted.iter().map(|admission| inside(admission.before_ms)).max().unwrap_or(0)
}

/// The most units between two admissions beyond the burst and what can have flowed in, rounded up.
fn most_above_the_rate(admitted: &[Admission]) -> i64 {
    let mut by_end = admitted.to_vec();
    by_end.sort_by_key(|admission| admission.before_ms);
    let mut most = i64::MIN;
    for first in admitted {
        let mut units = 0;
        for last in by_end.iter().filter(|last| last.after_ms >= first.after_ms) {
            units += last.units;
            let flowed = RATE_PER_SECOND * (last.before_ms - first.after_ms) / 1_000 + 1;
            most = most.max(units - BURST - flowed);
        }
    }
    most
}

#[test]
fn the_judge_finds_units_that_are_too_many() {
    let at = |ms: i64, units| Admission { after_ms: ms, before_ms: ms + 1, units };
    assert_eq!(most_in_a_window(&[at(0, 20), at(500, 10), at(1_001, 20)]), 30);
    assert_eq!(most_in_a_window(&[at(0, 20), at(500, 10), at(900, 1)]), 31);
    assert!(most_above_the_rate(&[at(0, 30), at(1_000, 20)]) <= 0);
    assert_eq!(most_above_the_rate(&[at(0, 30), at(1_000, 25)]), 4);
}
