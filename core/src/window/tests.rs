use super::*;
use crate::codec::{Decoder, Encoded, Writer as _};
use crate::limit::{NEVER, Verdict};
use crate::memory::allocated_bytes;
use crate::stored::Stored as _;
use crate::{PERIOD_MAX_MS, TIME_MAX_MS, UNITS_MAX};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

const NOW: i64 = 1_700_000_000_000;

fn sliding(limit: u64, window_ms: u64) -> Rule {
    Rule { limit, window_ms, fixed: false }
}

impl SlidingWindow {
    /// What a server does with a request.
    fn admit(&mut self, now_ms: i64, rule: Rule, cost: u64) -> Verdict {
        let verdict = self.decide(now_ms, rule, cost);
        if verdict.allowed && cost > 0 {
            self.record(now_ms, rule, cost);
            assert_eq!(self.decide(now_ms, rule, 0).reset_after_ms, self.reset_after_ms(now_ms));
        } else if !verdict.allowed {
            self.rewind(now_ms);
        }
        Verdict { retry_after_ms: verdict.retry_after_ms, allowed: verdict.allowed, ..self.decide(now_ms, rule, 0) }
    }
}

/// The window by its definition: every admitted unit with its time.
#[derive(Default)]
struct Model {
    admitted: Vec<(i64, u64)>,
    newest_ms: i64,
    /// As of the last change: what it had let go stays gone.
    window_ms: u64,
}

impl Model {
    /// Times as the clock sees them: where it stepped back, the whole history moves with it.
    fn behind_ms(&self, now_ms: i64) -> i64 {
        if self.admitted.is_empty() { 0 } else { (self.newest_ms - now_ms).max(0) }
    }

    fn in_window(&self, now_ms: i64, window_ms: u64) -> Vec<(i64, u64)> {
        let behind_ms = self.behind_ms(now_ms);
        let moved = self.admitted.iter().map(|&(at_ms, units)| (at_ms - behind_ms, units));
        moved.filter(|&(at_ms, _)| at_ms > now_ms - window_ms as i64).collect()
    }

    fn decide(&self, now_ms: i64, rule: Rule, cost: u64) -> Verdict {
        let Rule { limit, window_ms, .. } = rule;
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

    fn record(&mut self, now_ms: i64, rule: Rule, cost: u64) {
        self.window_ms = rule.window_ms;
        self.admitted = self.in_window(now_ms, rule.window_ms);
        let at_ms = self.admitted.last().filter(|_| rule.fixed).map_or(now_ms, |&(at_ms, _)| at_ms);
        self.admitted.push((at_ms, cost));
        self.newest_ms = at_ms;
    }

    fn give_back(&mut self, now_ms: i64, rule: Rule, units: u64) {
        self.window_ms = rule.window_ms;
        self.admitted = self.in_window(now_ms, rule.window_ms);
        self.newest_ms = self.newest_ms.min(now_ms);
        let mut left = units;
        while let Some((at_ms, newest)) = self.admitted.pop() {
            if newest > left {
                self.admitted.push((at_ms, newest - left));
                break;
            }
            left -= newest;
        }
        self.newest_ms = self.admitted.last().map_or(self.newest_ms, |&(at_ms, _)| at_ms);
    }

    fn adjust(&mut self, now_ms: i64, rule: Rule, at_ms: i64, more: i64) {
        if self.behind_ms(now_ms) > 0 {
            self.admitted = self.in_window(now_ms, i64::MAX as u64 / 2);
            self.newest_ms = now_ms;
        }
        if at_ms <= now_ms - rule.window_ms as i64 || at_ms <= self.newest_ms - self.window_ms as i64 || more == 0 {
            return;
        }
        self.window_ms = rule.window_ms;
        self.admitted = self.in_window(now_ms, rule.window_ms);
        for _ in 0..more {
            let place = self.admitted.partition_point(|&(other_ms, _)| other_ms <= at_ms);
            self.admitted.insert(place, (at_ms, 1));
        }
        for _ in more..0 {
            if let Some(place) = self.admitted.iter().position(|&(other_ms, _)| other_ms == at_ms) {
                self.admitted[place].1 -= 1;
                self.admitted.retain(|&(_, units)| units > 0);
            }
        }
        self.newest_ms = self.admitted.last().map_or(self.newest_ms, |&(at_ms, _)| at_ms);
    }

    fn admit(&mut self, now_ms: i64, rule: Rule, cost: u64) -> Verdict {
        let verdict = self.decide(now_ms, rule, cost);
        if verdict.allowed && cost > 0 {
            self.record(now_ms, rule, cost);
        } else if !verdict.allowed {
            // Refused, and the clock had stepped back: the history goes back with it.
            self.admitted = self.in_window(now_ms, i64::MAX as u64 / 2);
            self.newest_ms = self.newest_ms.min(now_ms);
        }
        Verdict { retry_after_ms: verdict.retry_after_ms, allowed: verdict.allowed, ..self.decide(now_ms, rule, 0) }
    }
}

#[derive(Debug, Clone)]
struct Step {
    advance_ms: i64,
    cost: u64,
    limit: u64,
    window_ms: u64,
    fixed: bool,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Admit,
    Peek,
    Force,
    GiveBack,
    /// At so many milliseconds ago, or where there are units.
    Adjust {
        ago_ms: i64,
        unit: usize,
        more: i64,
    },
    /// Saved and loaded before it admits.
    Reload,
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
    let kind = prop_oneof![
        80 => Just(Kind::Admit), 10 => Just(Kind::Peek), 5 => Just(Kind::Force), 5 => Just(Kind::GiveBack),
        10 => (0i64..70_000, 0usize..400, -9i64..9).prop_map(|(ago_ms, unit, more)| Kind::Adjust { ago_ms, unit, more }),
        1 => Just(Kind::Reload),
    ];
    let fixed = prop_oneof![Just(0.0), Just(1.0), Just(0.1)];
    (fixed, Just((advance, cost, one_of(limits), one_of(windows), kind))).prop_flat_map(|(fixed, rest)| {
        let step =
            (rest, prop::bool::weighted(fixed)).prop_map(|((advance_ms, cost, limit, window_ms, kind), fixed)| Step {
                advance_ms,
                cost,
                limit,
                window_ms,
                fixed,
                kind,
            });
        prop::collection::vec(step, 1..1_000)
    })
}

fn saved(window: &SlidingWindow) -> Vec<u8> {
    let mut out = Encoded::default();
    window.save(&mut out);
    out.0
}

fn reloaded(window: &SlidingWindow) -> SlidingWindow {
    SlidingWindow::load(&mut Decoder::new(&saved(window)), 0).expect("what was saved loads")
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
            // Corrections are for those whose clock never goes back, as an account's does not.
            let mut has_gone_back = false;
            total.set(total.get() + steps.len());
            for Step { advance_ms, cost, limit, window_ms, fixed, kind } in steps {
                now_ms += advance_ms;
                has_gone_back |= advance_ms < 0;
                let rule = Rule { limit, window_ms, fixed };
                match kind {
                    Kind::Reload => window = reloaded(&window),
                    Kind::Force => {
                        window.record(now_ms, rule, cost + 1);
                        model.record(now_ms, rule, cost + 1);
                        replica.record(now_ms, rule, cost + 1);
                    }
                    Kind::GiveBack => {
                        window.give_back(now_ms, rule, cost + 1);
                        model.give_back(now_ms, rule, cost + 1);
                        replica.give_back(now_ms, rule, cost + 1);
                    }
                    Kind::Adjust { ago_ms, unit, more } => {
                        let live = model.in_window(now_ms, window_ms);
                        let at_ms = live.get(unit).map_or(now_ms - ago_ms % 1_500, |&(at_ms, _)| at_ms);
                        if !has_gone_back && (!fixed || !live.is_empty()) {
                            window.adjust(now_ms, rule, at_ms, more);
                            model.adjust(now_ms, rule, at_ms, more);
                            replica.adjust(now_ms, rule, at_ms, more);
                        }
                    }
                    Kind::Admit | Kind::Peek => {}
                }
                let before = saved(&window);
                let expected = model.decide(now_ms, rule, cost);
                prop_assert_eq!(window.decide(now_ms, rule, cost), expected);
                prop_assert_eq!(saved(&window), before, "a decision changes nothing");
                if kind == Kind::Peek {
                    continue;
                }
                let verdict = window.admit(now_ms, rule, cost);
                prop_assert_eq!(verdict, model.admit(now_ms, rule, cost));
                if !verdict.allowed {
                    replica.rewind(now_ms);
                } else if cost > 0 {
                    replica.record(now_ms, rule, cost);
                    prop_assert!(window.expires_at_ms() >= now_ms + verdict.reset_after_ms);
                }
                if verdict.retry_after_ms > 0 {
                    let retry_ms = now_ms + verdict.retry_after_ms;
                    prop_assert!(window.decide(retry_ms, rule, cost).allowed);
                    prop_assert!(!window.decide(retry_ms - 1, rule, cost).allowed);
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
    let tick = sliding(6, window_ms).tick_ms() as i64;
    assert!(tick > 1);
    let mut window = SlidingWindow::default();
    for offset_ms in [0, 1, tick / 2, tick - 1, tick, 5 * tick + 3] {
        let now_ms = NOW + offset_ms;
        assert!(window.admit(now_ms, sliding(6, window_ms), 1).allowed);
        assert_eq!(saved(&reloaded(&window)), saved(&window));
    }
    let denied = window.admit(NOW + 6 * tick, sliding(6, window_ms), 1);
    assert!(!denied.allowed);
    let retry_ms = NOW + 6 * tick + denied.retry_after_ms;
    let exact_ms = NOW + window_ms as i64;
    assert!(retry_ms >= exact_ms && retry_ms < exact_ms + tick, "{}", retry_ms - exact_ms);
    assert!(!window.decide(retry_ms - 1, sliding(6, window_ms), 1).allowed);
    assert!(window.decide(retry_ms, sliding(6, window_ms), 1).allowed);
}

#[test]
fn a_long_window_saves_the_same_however_its_pairs_lie_in_chunks() {
    // A tick of two milliseconds, and always a pair that is exactly one window old: gone, but above the floor.
    let step_ms = 2_146;
    let rule = sliding(1 << 40, 490 * step_ms);
    assert_eq!(rule.tick_ms(), 2);
    let (mut window, mut replica) = (SlidingWindow::default(), SlidingWindow::default());
    for step in 0..5_000u64 {
        let now_ms = NOW + (step * step_ms) as i64;
        window.record(now_ms, rule, 1 + step % 3);
        replica.record(now_ms, rule, 1 + step % 3);
        assert_eq!(saved(&window), saved(&replica), "step {step}");
        let longer = Rule { window_ms: PERIOD_MAX_MS, ..rule };
        assert_eq!(window.decide(now_ms, longer, 1), replica.decide(now_ms, longer, 1), "step {step}");
        if step % 97 == 0 {
            replica = reloaded(&replica);
        }
    }
}

#[test]
fn a_clock_that_steps_back_locks_nobody_out_for_longer_than_a_window() {
    let mut window = SlidingWindow::default();
    let year_ms = 31_536_000_000;
    let one = sliding(1, 60_000);
    assert!(window.admit(NOW + year_ms, one, 1).allowed);
    let denied = window.admit(NOW, one, 1);
    assert_eq!((denied.allowed, denied.retry_after_ms, denied.reset_after_ms), (false, 60_000, 60_000));
    // The denial took note of the step: the window does not stand still while everyone is denied.
    for second in 1..60 {
        assert!(!window.admit(NOW + second * 1_000, one, 1).allowed);
    }
    assert!(!window.admit(NOW + 59_999, one, 1).allowed);
    assert!(window.admit(NOW + 60_000, one, 1).allowed);
}

#[test]
fn a_fixed_window_ends_as_a_whole() {
    let mut window = SlidingWindow::default();
    let rule = Rule { fixed: true, ..sliding(3, 1_000) };
    for offset_ms in [0, 500, 999] {
        assert!(window.admit(NOW + offset_ms, rule, 1).allowed);
    }
    let denied = window.admit(NOW + 999, rule, 2);
    assert_eq!((denied.allowed, denied.retry_after_ms, denied.reset_after_ms), (false, 1, 1));
    assert!(window.admit(NOW + 1_000, rule, 3).allowed);
    assert!(!window.admit(NOW + 1_001, rule, 1).allowed);
}

#[test]
fn sizes_stay_within_the_promised_bytes() {
    assert!(allocated_bytes(size_of::<SlidingWindow>()) <= 160);
    // Events spread over a minute, as (events, bytes for the value without the server's own about 70 a key).
    for (events, bytes_max) in [(60, 300), (600, 2_300), (6_000, 19_900)] {
        let mut window = SlidingWindow::default();
        for event in 0..events {
            let at_ms = NOW + event * 60_000 / events + (event * 7) % 5;
            window.record(at_ms, sliding(10_000, 60_000), 1);
        }
        let bytes = allocated_bytes(size_of::<SlidingWindow>()) + window.memory_bytes();
        assert!(bytes <= bytes_max, "{events} events take {bytes} bytes");
    }
}

#[test]
fn a_steady_small_window_does_not_grow() {
    let mut window = SlidingWindow::default();
    for second in 0..100_000 {
        window.record(NOW + second * 1_000, sliding(100, 60_000), 1);
    }
    let bytes = allocated_bytes(size_of::<SlidingWindow>()) + window.memory_bytes();
    assert!(bytes <= 420, "{bytes} bytes");
}

#[test]
fn a_million_units_are_bounded_in_time_and_memory() {
    let mut window = SlidingWindow::default();
    let rule = sliding(1_000_000, 1 << 20);
    for unit in 0..1_000_000i64 {
        // Every tick of a window that is just exact, then on past it.
        window.admit(NOW + unit, rule, 1);
    }
    assert!(window.memory_bytes() < 2_500_000, "{}", window.memory_bytes());
    assert_eq!(window.decide(NOW + 1_000_000, rule, 1).retry_after_ms, (1 << 20) - 1_000_000);
    // Half a window later, half of it leaves at once.
    let verdict = window.admit(NOW + 1_500_000, rule, 1);
    assert_eq!(verdict.remaining, 1_500_000 - (1 << 20));
}

#[test]
fn forced_units_never_overflow() {
    let mut window = SlidingWindow::default();
    for step in 0..3_000 {
        window.record(NOW + step, sliding(UNITS_MAX, PERIOD_MAX_MS), UNITS_MAX);
    }
    assert!(!window.decide(NOW + 3_000, sliding(UNITS_MAX, PERIOD_MAX_MS), 1).allowed);
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
        crafted.uint(limit % 3);
        crafted.int(newest_ms % TIME_MAX_MS);
        crafted.int(0);
        crafted.bytes(&pairs);
        let mut real = SlidingWindow::default();
        for step in 0..40 {
            real.record(NOW + step * 300, sliding(50, 60_000), 1 + step as u64 % 3);
        }
        let mut mutated = saved(&real);
        let index = flip.index(mutated.len());
        mutated[index] = to;
        for bytes in [&bytes, &crafted.0, &mutated] {
            if let Ok(mut window) = SlidingWindow::load(&mut Decoder::new(bytes), 0) {
                window.admit(NOW, sliding(100, 60_000), 1);
                window.give_back(NOW, sliding(100, 1_000), 2);
                window.record(NOW, sliding(100, PERIOD_MAX_MS), UNITS_MAX);
                window.state(NOW);
                prop_assert_eq!(saved(&reloaded(&window)), saved(&window));
            }
        }
    }
}
