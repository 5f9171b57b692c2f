use super::*;
use crate::codec::{Decoder, Encoded};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

const NOW: i64 = 1_700_000_000_000;

/// The window by its definition: every admitted unit with its time.
#[derive(Default)]
struct Model {
    admitted: Vec<(i64, u64)>,
    newest_ms: i64,
    window_ms: u64,
}

impl Model {
    /// Times as the clock sees them: where it stepped back, the whole history moves with it.
    fn behind_ms(&self, now_ms: i64) -> i64 {
        if self.admitted.is_empty() {
            0
        } else {
            (self.newest_ms - now_ms).max(0)
        }
    }

    fn in_window(&self, now_ms: i64, window_ms: u64) -> Vec<(i64, u64)> {
        let behind_ms = self.behind_ms(now_ms);
        let moved = self.admitted.iter().map(|&(at_ms, units)| (at_ms - behind_ms, units));
        moved.filter(|&(at_ms, _)| at_ms > now_ms - window_ms as i64).collect()
    }

    fn decide(&self, now_ms: i64, limit: u64, window_ms: u64, cost: u64) -> Verdict {
        let live = self.in_window(now_ms, window_ms);
        let used: u64 = live.iter().map(|&(_, units)| units).sum();
        let allowed = used + cost <= limit;
        let leaves_after_ms = |at_ms: i64| at_ms + window_ms as i64 - now_ms;
        let mut retry_after_ms = if allowed { 0 } else { NEVER };
        if !allowed && cost <= limit {
            let mut left = used;
            for &(at_ms, units) in &live {
                left -= units;
                if left + cost <= limit {
                    retry_after_ms = leaves_after_ms(at_ms);
                    break;
                }
            }
        }
        let reset_after_ms = live.last().map_or(0, |&(at_ms, _)| leaves_after_ms(at_ms));
        Verdict { allowed, limit, remaining: limit.saturating_sub(used), retry_after_ms, reset_after_ms }
    }

    fn admit(&mut self, now_ms: i64, limit: u64, window_ms: u64, cost: u64) -> Verdict {
        let mut verdict = self.decide(now_ms, limit, window_ms, cost);
        if verdict.allowed && cost > 0 {
            self.admitted = self.in_window(now_ms, window_ms);
            self.admitted.push((now_ms, cost));
            (self.newest_ms, self.window_ms) = (now_ms, window_ms);
            verdict.remaining -= cost;
            verdict.reset_after_ms = window_ms as i64;
        }
        verdict
    }
}

#[derive(Debug, Clone)]
struct Step {
    advance_ms: i64,
    cost: u64,
    limit: u64,
    window_ms: u64,
    peek: bool,
    reload: bool,
}

fn steps(limits: Vec<u64>, windows: Vec<u64>) -> impl Strategy<Value = Vec<Step>> {
    let advance = prop_oneof![
        6 => Just(0i64), 8 => 0i64..20, 4 => 0i64..2_000, 1 => 0i64..200_000,
        1 => -3i64..0, 1 => -700_000i64..0, 1 => Just(31_536_000_000i64),
    ];
    let cost = prop_oneof![8 => Just(1u64), 4 => 0u64..4, 1 => 0u64..1_000_000];
    let one_of = |values: Vec<u64>| {
        let usual = values[0];
        prop_oneof![9 => Just(usual), 1 => prop::sample::select(values)]
    };
    let step = (advance, cost, one_of(limits), one_of(windows), prop::bool::weighted(0.1), prop::bool::weighted(0.01));
    let step = step.prop_map(|(advance_ms, cost, limit, window_ms, peek, reload)| Step {
        advance_ms,
        cost,
        limit,
        window_ms,
        peek,
        reload,
    });
    prop::collection::vec(step, 1..1_000)
}

fn saved(window: &SlidingWindow) -> Vec<u8> {
    let mut out = Encoded::default();
    window.save(&mut out);
    out.0
}

fn reloaded(window: &SlidingWindow) -> SlidingWindow {
    SlidingWindow::load(&mut Decoder::new(&saved(window))).expect("what was saved loads")
}

#[test]
fn agrees_with_a_naive_model_over_a_million_steps() {
    let config = ProptestConfig { cases: 2_200, failure_persistence: None, ..ProptestConfig::default() };
    let shapes = prop::sample::select(vec![
        (vec![5u64, 3, 50], vec![1_000u64, 10, 60_000]),
        (vec![300, 10, 1_000_000], vec![60_000, 30_000]),
        (vec![1 << 53, 600], vec![60_000, 1]),
        (vec![1, 0], vec![1, 7]),
    ]);
    let total = std::cell::Cell::new(0);
    TestRunner::new(config)
        .run(&shapes.prop_flat_map(|(limits, windows)| steps(limits, windows)), |steps| {
            let mut now_ms = NOW;
            let mut window = SlidingWindow::default();
            let mut replica = SlidingWindow::default();
            let mut model = Model::default();
            total.set(total.get() + steps.len());
            for Step { advance_ms, cost, limit, window_ms, peek, reload } in steps {
                now_ms += advance_ms;
                if reload {
                    window = reloaded(&window);
                }
                let before = saved(&window);
                let expected = model.decide(now_ms, limit, window_ms, cost);
                prop_assert_eq!(window.decide(now_ms, limit, window_ms, cost), expected);
                prop_assert_eq!(saved(&window), before, "a decision changes nothing");
                if peek {
                    continue;
                }
                let verdict = window.admit(now_ms, limit, window_ms, cost);
                prop_assert_eq!(verdict, model.admit(now_ms, limit, window_ms, cost));
                if verdict.allowed && cost > 0 {
                    replica.record(now_ms, limit, window_ms, cost);
                    prop_assert!(window.expires_at_ms() >= now_ms + window_ms as i64);
                }
                if verdict.retry_after_ms > 0 && advance_ms >= 0 && now_ms >= model.newest_ms {
                    let retry_ms = now_ms + verdict.retry_after_ms;
                    prop_assert!(window.decide(retry_ms, limit, window_ms, cost).allowed);
                    prop_assert!(!window.decide(retry_ms - 1, limit, window_ms, cost).allowed);
                }
            }
            prop_assert_eq!(saved(&window), saved(&replica), "the effects alone give the same value");
            Ok(())
        })
        .unwrap();
    assert!(total.get() > 1_000_000, "{} steps", total.get());
}

#[test]
fn a_long_window_is_late_by_less_than_a_tick_and_never_early() {
    let window_ms = PERIOD_MAX_MS;
    let tick = tick_ms(window_ms) as i64;
    assert!(tick > 1);
    let mut window = SlidingWindow::default();
    for offset_ms in [0, 1, tick / 2, tick - 1, tick, 5 * tick + 3] {
        let now_ms = NOW + offset_ms;
        assert!(window.admit(now_ms, 6, window_ms, 1).allowed);
        assert_eq!(saved(&reloaded(&window)), saved(&window));
    }
    let denied = window.admit(NOW + 6 * tick, 6, window_ms, 1);
    assert!(!denied.allowed);
    let retry_ms = NOW + 6 * tick + denied.retry_after_ms;
    let exact_ms = NOW + window_ms as i64;
    assert!(retry_ms >= exact_ms && retry_ms < exact_ms + tick, "{}", retry_ms - exact_ms);
    assert!(!window.decide(retry_ms - 1, 6, window_ms, 1).allowed);
    assert!(window.decide(retry_ms, 6, window_ms, 1).allowed);
}

#[test]
fn a_clock_that_steps_back_locks_nobody_out_for_longer_than_a_window() {
    let mut window = SlidingWindow::default();
    let year_ms = 31_536_000_000;
    assert!(window.admit(NOW + year_ms, 1, 60_000, 1).allowed);
    let denied = window.admit(NOW, 1, 60_000, 1);
    assert_eq!((denied.allowed, denied.retry_after_ms, denied.reset_after_ms), (false, 60_000, 60_000));
    window.record(NOW, 2, 60_000, 1);
    assert!(!window.decide(NOW + 59_999, 2, 60_000, 1).allowed);
    assert!(window.decide(NOW + 60_000, 2, 60_000, 2).allowed);
}

#[test]
fn sizes_stay_within_the_promised_bytes() {
    assert_eq!(size_of::<SlidingWindow>(), 128);
    // Events spread over a minute, as (events, bytes for the value without the server's own about 70 a key).
    for (events, bytes_max) in [(60, 280), (600, 2_300), (6_000, 19_900)] {
        let mut window = SlidingWindow::default();
        for event in 0..events {
            let at_ms = NOW + event * 60_000 / events + (event * 7) % 5;
            window.record(at_ms, 10_000, 60_000, 1);
        }
        let bytes = allocated_bytes(size_of::<SlidingWindow>()) + window.memory_bytes();
        assert!(bytes <= bytes_max, "{events} events take {bytes} bytes");
    }
}

#[test]
fn a_steady_small_window_does_not_grow() {
    let mut window = SlidingWindow::default();
    for second in 0..100_000 {
        window.record(NOW + second * 1_000, 100, 60_000, 1);
    }
    let bytes = allocated_bytes(size_of::<SlidingWindow>()) + window.memory_bytes();
    assert!(bytes <= 400, "{bytes} bytes");
}

#[test]
fn a_million_units_are_bounded_in_time_and_memory() {
    let mut window = SlidingWindow::default();
    let mut longest = std::time::Duration::ZERO;
    for unit in 0..1_000_000i64 {
        // Every tick of a window that is just exact, then on past it.
        let started = std::time::Instant::now();
        window.admit(NOW + unit, 1_000_000, 1 << 20, 1);
        longest = longest.max(started.elapsed());
    }
    assert!(window.memory_bytes() < 2_500_000, "{}", window.memory_bytes());
    assert_eq!(window.decide(NOW + 1_000_000, 1_000_000, 1 << 20, 1).retry_after_ms, (1 << 20) - 1_000_000);
    // Half a window later, half of it leaves at once.
    let verdict = window.admit(NOW + 1_500_000, 1_000_000, 1 << 20, 1);
    assert_eq!(verdict.remaining, 1_500_000 - (1 << 20));
}

#[test]
fn forced_units_never_overflow() {
    let mut window = SlidingWindow::default();
    for step in 0..3_000 {
        window.record(NOW + step, UNITS_MAX, PERIOD_MAX_MS, UNITS_MAX);
    }
    assert!(!window.decide(NOW + 3_000, UNITS_MAX, PERIOD_MAX_MS, 1).allowed);
    assert_eq!(saved(&reloaded(&window)), saved(&window));
}

proptest! {
    #[test]
    fn any_saved_bytes_load_or_fail_and_then_work(
        bytes: Vec<u8>, window_ms: u64, limit: u64, newest_ms: i64, pairs: Vec<u8>, flip: prop::sample::Index, to: u8,
    ) {
        let mut crafted = Encoded::default();
        crafted.uint(window_ms % (PERIOD_MAX_MS + 2));
        crafted.uint(limit % (UNITS_MAX + 2));
        crafted.int(newest_ms % TIME_MAX_MS);
        crafted.int(0);
        crafted.bytes(&pairs);
        let mut real = SlidingWindow::default();
        for step in 0..40 {
            real.record(NOW + step * 300, 50, 60_000, 1 + step as u64 % 3);
        }
        let mut mutated = saved(&real);
        let index = flip.index(mutated.len());
        mutated[index] = to;
        for bytes in [&bytes, &crafted.0, &mutated] {
            if let Ok(mut window) = SlidingWindow::load(&mut Decoder::new(bytes)) {
                window.admit(NOW, 100, 60_000, 1);
                window.record(NOW, 100, PERIOD_MAX_MS, UNITS_MAX);
                window.state(NOW);
                prop_assert_eq!(saved(&reloaded(&window)), saved(&window));
            }
        }
    }
}
