use super::*;
use fastrand::Rng;
use std::collections::VecDeque;

/// A limiter as simple as possible, in microseconds.
trait Limiter {
    fn allows(&mut self, now_us: i128, units: i128) -> bool;
}

struct Window {
    limit: i128,
    window_us: i128,
    admitted: VecDeque<(i128, i128)>,
}

impl Limiter for Window {
    fn allows(&mut self, now_us: i128, units: i128) -> bool {
        self.admitted.retain(|&(at_us, _)| at_us > now_us - self.window_us);
        let used: i128 = self.admitted.iter().map(|&(_, units)| units).sum();
        let allowed = used + units <= self.limit;
        if allowed {
            self.admitted.push_back((now_us, units));
        }
        allowed
    }
}

struct Bucket {
    rate: i128,
    per_us: i128,
    burst: i128,
    /// The level in parts of 1/per_us.
    level: i128,
    at_us: i128,
}

impl Bucket {
    fn full(rate: i128, per_us: i128, burst: i128) -> Self {
        Self { rate, per_us, burst, level: burst * per_us, at_us: 0 }
    }
}

impl Limiter for Bucket {
    fn allows(&mut self, now_us: i128, units: i128) -> bool {
        self.level = (self.level + (now_us - self.at_us) * self.rate).min(self.burst * self.per_us);
        self.at_us = now_us;
        let allowed = self.level >= units * self.per_us;
        if allowed {
            self.level -= units * self.per_us;
        }
        allowed
    }
}

/// 5,000 requests at random times within 5 s, each decided at a random time in a round trip of up to `trip_us`.
fn decisions(limiter: &mut dyn Limiter, units_max: i128, trip_us: i128) -> Vec<Decision> {
    let mut rng = Rng::with_seed(3);
    let mut decided: Vec<i128> = (0..5_000).map(|_| rng.i128(0..5_000_000)).collect();
    decided.sort_unstable();
    let decide = |decided_us: i128| {
        let units = rng.i128(1..=units_max);
        Decision {
            units,
            sent_us: decided_us - rng.i128(0..=trip_us),
            received_us: decided_us + rng.i128(0..=trip_us),
            allowed: limiter.allows(decided_us, units),
        }
    };
    let mut decisions: Vec<Decision> = decided.into_iter().map(decide).collect();
    // The order in which connections report does not matter.
    rng.shuffle(&mut decisions);
    decisions
}

const TRIPS_US: [i128; 3] = [0, 300, 40_000];

fn window(limit: i128, window_us: i128) -> Window {
    Window { limit, window_us, admitted: VecDeque::new() }
}

#[test]
fn a_correct_window_is_never_accused() {
    for trip_us in TRIPS_US {
        for (limit, units_max) in [(30, 1), (100, 7)] {
            let decisions = decisions(&mut window(limit, 100_000), units_max, trip_us);
            let refused = decisions.iter().filter(|decision| !decision.allowed).count();
            assert!(refused > 500, "{refused}");
            let rule = Rule::Window { limit: limit as u64, window_ms: 100 };
            assert_eq!(judge(rule, &decisions, &[]), Breaches::default(), "{trip_us} {limit}");
        }
    }
}

#[test]
fn a_wrong_window_is_found_out() {
    let rule = Rule::Window { limit: 30, window_ms: 100 };
    for (limit, window_us) in [(31, 100_000), (30, 90_000)] {
        let found = judge(rule, &decisions(&mut window(limit, window_us), 1, 300), &[]);
        assert!(found.needless_admissions > 10, "{limit} {window_us} {found:?}");
    }
    for (limit, window_us) in [(29, 100_000), (30, 110_000)] {
        let found = judge(rule, &decisions(&mut window(limit, window_us), 1, 300), &[]);
        assert!(found.needless_refusals > 10, "{limit} {window_us} {found:?}");
    }
}

#[test]
fn a_correct_bucket_is_never_accused() {
    for trip_us in TRIPS_US {
        for (rate, burst, units_max) in [(30, 60, 1), (1_000, 400, 100), (100, 10_000, 100)] {
            let decisions = decisions(&mut Bucket::full(rate, 100_000, burst), units_max, trip_us);
            let refused = decisions.iter().filter(|decision| !decision.allowed).count();
            assert!(refused > 500, "{refused}");
            let rule = Rule::Bucket { rate: rate as u64, per_ms: 100, burst: burst as u64 };
            assert_eq!(judge(rule, &decisions, &[]), Breaches::default(), "{trip_us} {rate} {burst}");
        }
    }
}

#[test]
fn a_wrong_bucket_is_found_out() {
    let rule = Rule::Bucket { rate: 1_000, per_ms: 100, burst: 400 };
    for (rate, burst) in [(1_100, 400), (1_000, 500)] {
        let found = judge(rule, &decisions(&mut Bucket::full(rate, 100_000, burst), 100, 300), &[]);
        assert!(found.needless_admissions > 10, "{rate} {burst} {found:?}");
    }
    for (rate, burst) in [(900, 400), (1_000, 300)] {
        let found = judge(rule, &decisions(&mut Bucket::full(rate, 100_000, burst), 100, 300), &[]);
        assert!(found.needless_refusals > 10, "{rate} {burst} {found:?}");
    }
}

#[test]
fn a_request_that_never_fits_is_rightly_refused() {
    let refusal = Decision { units: 11, sent_us: 0, received_us: 100, allowed: false };
    for rule in [Rule::Window { limit: 10, window_ms: 100 }, Rule::Bucket { rate: 10, per_ms: 100, burst: 10 }] {
        assert_eq!(judge(rule, &[refusal], &[]), Breaches::default());
        let fits = Decision { units: 5, ..refusal };
        assert_eq!(judge(rule, &[fits], &[]).needless_refusals, 1);
    }
}

/// A bucket or a level whose admissions are estimates, settled up to 50 ms later with less or more.
fn settled(
    capacity: i128,
    rate: i128,
    surplus: i128,
    units_max: i128,
    trip_us: i128,
) -> (Vec<Decision>, Vec<Correction>) {
    let mut rng = Rng::with_seed(4);
    let mut decided: Vec<i128> = (0..5_000).map(|_| rng.i128(0..5_000_000)).collect();
    decided.sort_unstable();
    let mut bucket = Bucket::full(rate, 100_000, capacity);
    let (mut decisions, mut corrections) = (Vec::new(), Vec::new());
    let mut pending: Vec<(i128, i128)> = Vec::new();
    for now_us in decided {
        pending.sort_unstable();
        for (at_us, more) in pending.extract_if(.., |(at_us, _)| *at_us <= now_us) {
            // Brings the level up to date.
            bucket.allows(at_us, 0);
            bucket.level = (bucket.level - more * 100_000).min(capacity * 100_000);
            let (sent_us, received_us) = (at_us - rng.i128(0..=trip_us), at_us + rng.i128(0..=trip_us));
            corrections.push(Correction { units: more, sent_us, received_us });
        }
        let units = rng.i128(1..=units_max);
        let allowed = bucket.allows(now_us, units);
        let (sent_us, received_us) = (now_us - rng.i128(0..=trip_us), now_us + rng.i128(0..=trip_us));
        decisions.push(Decision { units, sent_us, received_us, allowed });
        if allowed {
            // A level gives everything back in the end.
            let more = if rate == 0 { -units } else { rng.i128(-units..=surplus) };
            pending.push((now_us + rng.i128(0..50_000), more));
        }
    }
    (decisions, corrections)
}

#[test]
fn settlements_change_what_is_left() {
    for trip_us in [0, 300, 5_000] {
        let (decisions, corrections) = settled(400, 1_000, 30, 100, trip_us);
        let refused = decisions.iter().filter(|decision| !decision.allowed).count();
        assert!(refused > 500, "{refused}");
        let rule = |rate, burst| Rule::Bucket { rate, per_ms: 100, burst };
        assert_eq!(judge(rule(1_000, 400), &decisions, &corrections), Breaches::default(), "{trip_us}");
        // Without the settlements, refusals would look needless or admissions wrong.
        assert_ne!(judge(rule(1_000, 400), &decisions, &[]), Breaches::default(), "{trip_us}");
        if trip_us <= 300 {
            assert!(judge(rule(1_200, 500), &decisions, &corrections).needless_refusals > 10);
            assert!(judge(rule(700, 300), &decisions, &corrections).needless_admissions > 10);
        }
    }
}

#[test]
fn units_given_back_are_free_again() {
    for trip_us in [0, 300, 5_000] {
        let (decisions, corrections) = settled(20, 0, 0, 1, trip_us);
        let refused = decisions.iter().filter(|decision| !decision.allowed).count();
        assert!(refused > 500, "{refused}");
        assert_eq!(judge(Rule::Level { max: 20 }, &decisions, &corrections), Breaches::default(), "{trip_us}");
        if trip_us <= 300 {
            assert!(judge(Rule::Level { max: 21 }, &decisions, &corrections).needless_refusals > 10);
            assert!(judge(Rule::Level { max: 19 }, &decisions, &corrections).needless_admissions > 10);
        }
    }
}
