use super::*;
use crate::codec::{Decoder, Encoded};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

const NOW: i64 = 1_700_000_000_000;

fn flow(rate: u64, per_ms: u64, burst: u64) -> Flow {
    Flow { rate, per_ms, burst }
}

impl TokenBucket {
    /// What a server does with a request.
    fn admit(&mut self, now_ms: i64, flow: Flow, cost: u64) -> Verdict {
        let verdict = self.decide(now_ms, flow, cost);
        if verdict.allowed && cost > 0 {
            self.record(now_ms, flow, cost as i64);
        } else if !verdict.allowed {
            self.rewind(now_ms);
        }
        Verdict { retry_after_ms: verdict.retry_after_ms, allowed: verdict.allowed, ..self.decide(now_ms, flow, 0) }
    }
}

/// The bucket by its definition: a level as the fraction `numerator / denominator`, never reduced to the bucket's own parts.
struct Model {
    numerator: i128,
    at_ms: i64,
}

/// One denominator for every period that the generator draws.
const DENOMINATOR: i128 = 1_000 * 60_000 * 86_400;

impl Model {
    fn level(&self, now_ms: i64, flow: Flow) -> i128 {
        let elapsed_ms = i128::from((now_ms - self.at_ms).max(0));
        let inflow = elapsed_ms * i128::from(flow.rate) * (DENOMINATOR / i128::from(flow.per_ms));
        (self.numerator + inflow).min(i128::from(flow.burst) * DENOMINATOR)
    }

    fn admit(&mut self, now_ms: i64, flow: Flow, cost: u64) -> bool {
        let level = self.level(now_ms, flow);
        let after = level - i128::from(cost) * DENOMINATOR;
        if after >= 0 && cost > 0 {
            (self.numerator, self.at_ms) = (after, now_ms);
        } else if after < 0 {
            self.at_ms = self.at_ms.min(now_ms);
        }
        after >= 0
    }

    /// Usage known only afterwards: into debt, or back up to the burst.
    fn force(&mut self, now_ms: i64, flow: Flow, cost: i64) {
        let after = self.level(now_ms, flow) - i128::from(cost) * DENOMINATOR;
        (self.numerator, self.at_ms) = (after.min(i128::from(flow.burst) * DENOMINATOR), now_ms);
    }
}

#[derive(Debug, Clone)]
struct Step {
    advance_ms: i64,
    cost: u64,
    /// Taken whatever the level, instead of asking; negative to give back.
    force: Option<i64>,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let advance = prop_oneof![4 => 0i64..50, 4 => 0i64..5_000, 1 => -10_000i64..0, 1 => 0i64..100_000_000];
    let cost = prop_oneof![5 => 0u64..5, 3 => 0u64..5_000, 1 => 0u64..2_000_000];
    let force = prop_oneof![19 => Just(None), 1 => (-5_000i64..5_000).prop_map(Some)];
    let step = (advance, cost, force).prop_map(|(advance_ms, cost, force)| Step { advance_ms, cost, force });
    prop::collection::vec(step, 1..1_000)
}

#[test]
fn agrees_with_an_exact_rational_model_over_a_million_steps() {
    let config = ProptestConfig { cases: 2_200, failure_persistence: None, ..ProptestConfig::default() };
    let total = std::cell::Cell::new(0);
    TestRunner::new(config)
        .run(
            &(1u64..2_000_000, prop::sample::select(vec![1u64, 1_000, 60_000, 86_400_000]), 0u64..1_000_000, steps()),
            |(rate, per_ms, burst, steps)| {
                let flow = flow(rate, per_ms, burst);
                let mut now_ms = NOW;
                let mut bucket = TokenBucket::full(now_ms, flow);
                let mut replica = bucket.clone();
                let mut model = Model { numerator: i128::from(burst) * DENOMINATOR, at_ms: now_ms };
                total.set(total.get() + steps.len());
                for step in steps {
                    now_ms += step.advance_ms;
                    if let Some(cost) = step.force {
                        bucket.record(now_ms, flow, cost);
                        model.force(now_ms, flow, cost);
                        replica.record(now_ms, flow, cost);
                    }
                    let asked = bucket.decide(now_ms, flow, step.cost);
                    let verdict = bucket.admit(now_ms, flow, step.cost);
                    prop_assert_eq!(verdict.allowed, asked.allowed);
                    prop_assert_eq!(verdict.allowed, model.admit(now_ms, flow, step.cost));
                    if !verdict.allowed {
                        replica.rewind(now_ms);
                    } else if step.cost > 0 {
                        replica.record(now_ms, flow, step.cost as i64);
                    }
                    let level = model.level(now_ms, flow);
                    prop_assert_eq!(i128::from(verdict.remaining), level.max(0) / DENOMINATOR);
                    if verdict.retry_after_ms > 0 {
                        let at_ms = now_ms + verdict.retry_after_ms;
                        prop_assert!(bucket.decide(at_ms, flow, step.cost).allowed);
                        prop_assert!(!bucket.decide(at_ms - 1, flow, step.cost).allowed);
                    }
                    prop_assert!(
                        bucket.expires_at_ms() == 0 || bucket.decide(bucket.expires_at_ms(), flow, burst).allowed
                    );
                }
                prop_assert_eq!(&replica, &bucket, "the effects alone give the same value");
                let mut saved = Encoded::default();
                bucket.save(&mut saved);
                prop_assert_eq!(TokenBucket::load(&mut Decoder::new(&saved.0), 0), Ok(bucket));
                Ok(())
            },
        )
        .unwrap();
    assert!(total.get() > 1_000_000, "{} steps", total.get());
}

#[test]
fn limits_at_token_rates_of_large_models() {
    // 100 million tokens a minute, and a billion a second: rates at which a float or a nanosecond interval gives up.
    for (rate, per_ms) in [(100_000_000, 60_000), (1_000_000_000, 1_000), (1, 86_400_000)] {
        let flow = flow(rate, per_ms, rate);
        let mut bucket = TokenBucket::full(NOW, flow);
        assert!(bucket.admit(NOW, flow, rate).allowed);
        let denied = bucket.admit(NOW, flow, rate);
        assert_eq!((denied.allowed, denied.remaining, denied.retry_after_ms), (false, 0, per_ms as i64));
        assert!(!bucket.admit(NOW + per_ms as i64 - 1, flow, rate).allowed);
        assert!(bucket.admit(NOW + per_ms as i64, flow, rate).allowed);
    }
}

#[test]
fn a_deep_debt_survives_a_change_of_period() {
    let longest = flow(1, PERIOD_MAX_MS, 1);
    let mut bucket = TokenBucket::full(NOW, longest);
    for _ in 0..200 {
        bucket.record(NOW, longest, UNITS_MAX as i64);
    }
    for per_ms in [PERIOD_MAX_MS - 1, 60_000, 1] {
        let changed = flow(1, per_ms, 1);
        assert!(!bucket.decide(NOW, changed, 1).allowed, "{per_ms}");
        bucket.record(NOW, changed, 0);
    }
    bucket.record(NOW, longest, 0);
    assert!(!bucket.decide(NOW, longest, 1).allowed);
}

#[test]
fn a_cost_above_the_burst_can_never_succeed() {
    let flow = flow(10, 1_000, 100);
    let bucket = TokenBucket::full(NOW, flow);
    assert_eq!(bucket.decide(NOW, flow, 101).retry_after_ms, NEVER);
    assert_eq!(bucket.decide(NOW, flow, 101).remaining, 100);
}

#[test]
fn a_changed_rate_burst_or_period_keeps_the_fill_level() {
    let minute = flow(60, 60_000, 100);
    let mut bucket = TokenBucket::full(NOW, minute);
    bucket.admit(NOW, minute, 60);
    assert_eq!(bucket.decide(NOW, flow(1, 1_000, 100), 0).remaining, 40);
    assert_eq!(bucket.decide(NOW, flow(600, 60_000, 100), 0).remaining, 40);
    assert_eq!(bucket.decide(NOW, flow(60, 60_000, 1_000), 0).remaining, 40);
    assert_eq!(bucket.decide(NOW, flow(60, 60_000, 10), 0).remaining, 10);
}

#[test]
fn the_largest_parameters_do_not_overflow() {
    let flow = flow(UNITS_MAX, PERIOD_MAX_MS, UNITS_MAX);
    let mut bucket = TokenBucket::full(0, flow);
    for _ in 0..300 {
        bucket.record(0, flow, UNITS_MAX as i64);
    }
    let verdict = bucket.decide(crate::TIME_MAX_MS, flow, UNITS_MAX);
    assert!(verdict.retry_after_ms >= 0 && verdict.reset_after_ms >= 0);
    let slow = Flow { rate: 1, ..flow };
    assert_eq!(bucket.decide(0, slow, 1).retry_after_ms, UNITS_MAX as i64);
    assert!(bucket.decide(0, Flow { per_ms: 1, ..flow }, 1).retry_after_ms > 0);
}

proptest! {
    #[test]
    fn any_saved_bytes_load_or_fail_and_then_work(bytes: Vec<u8>, level: i128, at_ms: i64, rest: [u64; 3]) {
        let mut crafted = Encoded::default();
        crafted.int128(level);
        crafted.int(at_ms);
        for value in rest {
            crafted.uint(value);
        }
        crafted.int(at_ms);
        for bytes in [&bytes, &crafted.0] {
            if let Ok(mut bucket) = TokenBucket::load(&mut Decoder::new(bytes), 0) {
                bucket.record(NOW, flow(1, PERIOD_MAX_MS, UNITS_MAX), UNITS_MAX as i64);
                bucket.state(NOW);
            }
        }
    }
}
