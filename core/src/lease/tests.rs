use super::leases::TOKEN_KEPT_MS;
use super::table;
use super::*;
use crate::codec::{Decoder, Encoded};
use crate::limit::NEVER;
use crate::memory::allocated_bytes;
use crate::stored::Stored as _;
use crate::{PERIOD_MAX_MS, UNITS_MAX};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

const NOW: i64 = 1_700_000_000_000;

/// Leases by their definition: a list of holders with their ends, as the clock sees them.
#[derive(Default)]
struct Model {
    held: Vec<(u8, i64, u64)>,
    at_ms: i64,
    tokens: Vec<u64>,
}

impl Model {
    /// If the clock has stepped back, every end moves back with it.
    fn live(&self, now_ms: i64) -> Vec<(u8, i64, u64)> {
        let behind_ms = (self.at_ms - now_ms).max(0);
        let moved = self.held.iter().map(|&(holder, end_ms, token)| (holder, end_ms - behind_ms, token));
        moved.filter(|&(_, end_ms, _)| end_ms > now_ms).collect()
    }

    fn settle(&mut self, now_ms: i64) {
        (self.held, self.at_ms) = (self.live(now_ms), now_ms);
    }

    fn retry_after_ms(&self, now_ms: i64, max: u64) -> i64 {
        let mut ends: Vec<_> = self.live(now_ms).iter().map(|&(_, end_ms, _)| end_ms).collect();
        ends.sort();
        match max {
            0 => NEVER,
            _ => ends[ends.len() - max as usize] - now_ms,
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Acquire { max: u64, ttl_ms: u64 },
    Renew { ttl_ms: u64 },
    Release,
    Reload,
}

fn steps(holders: u8, max: u64) -> impl Strategy<Value = Vec<(i64, u8, Op)>> {
    let advance = prop_oneof![8 => 0i64..30, 2 => 0i64..2_000, 1 => -20i64..0, 1 => -500_000i64..0];
    let ttl = prop_oneof![3 => 1u64..2_000, 1 => 1u64..100_000];
    let max = prop_oneof![8 => Just(max), 1 => 0..=max];
    let op = prop_oneof![
        12 => (max, ttl.clone()).prop_map(|(max, ttl_ms)| Op::Acquire { max, ttl_ms }),
        3 => ttl.prop_map(|ttl_ms| Op::Renew { ttl_ms }),
        5 => Just(Op::Release),
        1 => Just(Op::Reload),
    ];
    prop::collection::vec((advance, 0..holders, op), 1..1_000)
}

fn saved(leases: &Leases) -> Vec<u8> {
    let mut out = Encoded::default();
    leases.save(&mut out);
    out.0
}

fn reloaded(leases: &Leases) -> Leases {
    Leases::load(&mut Decoder::new(&saved(leases)), Leases::ENCODING).expect("what was saved loads")
}

#[test]
fn agrees_with_a_naive_model_over_a_million_steps() {
    let config = ProptestConfig { cases: 2_300, failure_persistence: None, ..ProptestConfig::default() };
    let sizes = prop::sample::select(vec![(3u8, 1u64), (10, 4), (100, 60), (250, 200)]);
    let total = std::cell::Cell::new(0);
    TestRunner::new(config)
        .run(&sizes.prop_flat_map(|(holders, max)| steps(holders, max)), |steps| {
            let mut now_ms = NOW;
            let (mut leases, mut replica, mut model) = (Leases::default(), Leases::default(), Model::default());
            total.set(total.get() + steps.len());
            for (advance_ms, holder, op) in steps {
                now_ms += advance_ms;
                let name = [holder];
                let live = model.live(now_ms);
                let own = live.iter().find(|held| held.0 == holder).copied();
                prop_assert_eq!(leases.in_use(now_ms), live.len() as u64);
                prop_assert_eq!(leases.token_of(now_ms, &name), own.map(|(.., token)| token));
                match op {
                    Op::Acquire { max, ttl_ms } => {
                        let before = saved(&leases);
                        let grant = leases.decide(now_ms, max, &name);
                        prop_assert_eq!(saved(&leases), before, "a decision changes nothing");
                        prop_assert_eq!(grant.acquired, own.is_some() || (live.len() as u64) < max);
                        if !grant.acquired {
                            prop_assert_eq!(grant.retry_after_ms, model.retry_after_ms(now_ms, max));
                            prop_assert_eq!(leases.rewind(now_ms), replica.rewind(now_ms));
                            if now_ms < model.at_ms {
                                model.settle(now_ms);
                            }
                            continue;
                        }
                        leases.grant(now_ms, max, &name, ttl_ms, grant.token);
                        replica.grant(now_ms, max, &name, ttl_ms, grant.token);
                        model.settle(now_ms);
                        model.held.retain(|held| held.0 != holder);
                        model.held.push((holder, now_ms + ttl_ms as i64, grant.token));
                        match own {
                            Some((.., token)) => prop_assert_eq!(grant.token, token),
                            None => {
                                prop_assert!(model.tokens.last().is_none_or(|&last| last < grant.token));
                                model.tokens.push(grant.token);
                            }
                        }
                        prop_assert_eq!(grant.in_use, model.held.len() as u64);
                        prop_assert!(leases.expires_at_ms() >= now_ms + ttl_ms as i64 + TOKEN_KEPT_MS);
                    }
                    Op::Renew { ttl_ms } => {
                        if own.is_some() {
                            leases.grant(now_ms, leases.max(), &name, ttl_ms, 0);
                            replica.grant(now_ms, replica.max(), &name, ttl_ms, 0);
                            model.settle(now_ms);
                            let held = model.held.iter_mut().find(|held| held.0 == holder);
                            held.unwrap().1 = now_ms + ttl_ms as i64;
                        }
                    }
                    Op::Release => {
                        if own.is_some() {
                            leases.release(now_ms, &name);
                            replica.release(now_ms, &name);
                            model.settle(now_ms);
                            model.held.retain(|held| held.0 != holder);
                        }
                    }
                    Op::Reload => leases = reloaded(&leases),
                }
            }
            let mut held: Vec<_> =
                leases.holders(now_ms).map(|(name, left_ms, _)| (name[0], now_ms + left_ms)).collect();
            let mut expected: Vec<_> = model.live(now_ms).iter().map(|&(holder, end_ms, _)| (holder, end_ms)).collect();
            held.sort();
            expected.sort();
            prop_assert_eq!(held, expected);
            prop_assert_eq!(saved(&leases), saved(&replica), "the effects alone give the same value");
            Ok(())
        })
        .unwrap();
    assert!(total.get() > 1_000_000, "{} steps", total.get());
}

#[test]
fn tokens_never_go_back_when_a_key_is_deleted_and_made_again() {
    let mut first = Leases::default();
    for holder in 0..100u8 {
        let token = first.decide(NOW, 1_000, &[holder]).token;
        first.grant(NOW, 1_000, &[holder], 1_000, token);
    }
    let next = Leases::default().decide(NOW + 1, 1_000, b"later");
    assert!(next.token > first.last_token(), "{} after {}", next.token, first.last_token());
    assert!(next.token < UNITS_MAX);
}

#[test]
fn ten_thousand_holders_and_back_to_one() {
    let mut leases = Leases::default();
    for holder in 0..10_000u32 {
        let name = holder.to_be_bytes();
        assert!(leases.decide(NOW, 10_000, &name).acquired);
        leases.grant(NOW, 10_000, &name, 1_000 + u64::from(holder), 0);
    }
    let denied = leases.decide(NOW, 10_000, b"one more");
    assert_eq!((denied.acquired, denied.in_use, denied.retry_after_ms), (false, 10_000, 1_000));
    assert_eq!(leases.decide(NOW, 9_000, b"one more").retry_after_ms, 2_000);
    let at_ms = NOW + 10_998;
    assert_eq!(leases.in_use(at_ms), 1);
    let last = 9_998u32.to_be_bytes();
    for change in 1..=10_000 / table::DROPPED_MAX + 1 {
        leases.release(at_ms, &1u32.to_be_bytes());
        assert_eq!((leases.in_use(at_ms), leases.token_of(at_ms, &last)), (1, None), "after {change}");
    }
    assert_eq!(leases.len(), 1);
    assert!(leases.memory_bytes() < 600, "{}", leases.memory_bytes());
}

#[test]
fn one_holder_is_small() {
    let mut leases = Leases::default();
    leases.grant(NOW, 1, b"gateway-7f9c4d/worker-3", 30_000, 1);
    let bytes = allocated_bytes(size_of::<Leases>()) + leases.memory_bytes();
    assert!(bytes <= 180, "{bytes} bytes");
}

#[test]
fn a_clock_that_steps_back_keeps_no_lease_longer_than_granted() {
    let mut leases = Leases::default();
    leases.grant(NOW + 600_000, 1, b"a", 1_000, 1);
    assert_eq!(leases.decide(NOW, 1, b"b").retry_after_ms, 1_000);
    assert!(leases.rewind(NOW));
    assert!(!leases.decide(NOW + 999, 1, b"b").acquired);
    assert!(leases.decide(NOW + 1_000, 1, b"b").acquired);
}

proptest! {
    #[test]
    fn any_saved_bytes_load_or_fail_and_then_work(bytes: Vec<u8>, flip: prop::sample::Index, to: u8) {
        let mut real = Leases::default();
        for holder in 0..5u8 {
            real.grant(NOW, 5, &[holder], 1_000, 1);
        }
        let mut mutated = saved(&real);
        let index = flip.index(mutated.len());
        mutated[index] = to;
        for bytes in [&bytes, &mutated] {
            if let Ok(mut leases) = Leases::load(&mut Decoder::new(bytes), Leases::ENCODING) {
                leases.decide(NOW, 1, b"x");
                leases.grant(NOW, 1, b"x", PERIOD_MAX_MS, u64::MAX);
                leases.release(0, b"y");
                leases.grant(0, 1, b"x", PERIOD_MAX_MS, 0);
                prop_assert_eq!(saved(&reloaded(&leases)), saved(&leases));
            }
        }
    }
}
