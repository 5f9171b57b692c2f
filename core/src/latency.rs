//! How long calls take, as a peak-sensitive average that follows the time: what routing by latency compares.
//!
//! The rule is that of the "Peak EWMA" balancer of Finagle
//! (<https://github.com/twitter/finagle/blob/develop/finagle-core/src/main/scala/com/twitter/finagle/loadbalancer/PeakEwma.scala>):
//! a call that takes longer than the average is the average at once; a shorter one moves it by as much as the average
//! has aged since the last call. So a target that becomes slow is noticed with its first slow call, and one that
//! becomes fast is trusted step by step.
//!
//! It differs in two things. The weight of the past halves every [`HALF_LIFE_MS`]. And the average decays only while
//! nothing is in flight: a target that waits for long calls does not look faster for it, and a burst does not run to a
//! target that was idle for long, since its second request sees the whole average again.
//!
//! Everything is in integers, with a table in place of the exponential function, so that every node has the same value.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use crate::codec::{Corrupt, Reader, Writer};
use crate::stored::Stored;
use crate::{PERIOD_MAX_MS, TIME_MAX_MS};

/// The time in which the weight of what was measured halves, in milliseconds.
pub const HALF_LIFE_MS: u64 = 10_000;

/// What a target without data counts as while requests to it are in flight, in milliseconds: so long that it gets a
/// second request only if all others are loaded more than that. With none in flight it counts as 0, and is tried first.
pub const PENALTY_MS: u64 = 60_000;

/// Fractional bits of an average: 1/65,536 ms.
const FRACTION_BITS: u32 = 16;

const AVERAGE_MAX: u64 = PERIOD_MAX_MS << FRACTION_BITS;

/// Steps of the table in one half-life.
const STEPS: usize = 64;

/// Fractional bits of the table's entries.
const WEIGHT_BITS: u32 = 31;

/// `2^(-step/64)`, from 1 down to 1/2.
const WEIGHTS: [u64; STEPS + 1] = weights();

const fn weights() -> [u64; STEPS + 1] {
    // 2^(-1/64) is the sixth square root in turn of 1/2.
    const BITS: u32 = 60;
    let mut step: u128 = 1 << (BITS - 1);
    let mut roots = 0;
    while roots < 6 {
        step = (step << BITS).isqrt();
        roots += 1;
    }
    let mut weights = [0; STEPS + 1];
    let (mut at, mut weight) = (0, 1_u128 << BITS);
    while at <= STEPS {
        // At most 2^31.
        #[allow(clippy::cast_possible_truncation)]
        let rounded = ((weight + (1 << (BITS - WEIGHT_BITS - 1))) >> (BITS - WEIGHT_BITS)) as u64;
        weights[at] = rounded;
        weight = (weight * step) >> BITS;
        at += 1;
    }
    weights
}

/// What is left of the weight 2^31 after `passed_ms`: halved once each [`HALF_LIFE_MS`], and interpolated in between.
fn weight(passed_ms: u64) -> u64 {
    let halvings = passed_ms / HALF_LIFE_MS;
    if halvings > u64::from(WEIGHT_BITS) {
        return 0;
    }
    let (steps, rest) = {
        let parts = passed_ms % HALF_LIFE_MS * STEPS as u64;
        (usize::try_from(parts / HALF_LIFE_MS).unwrap_or(0), parts % HALF_LIFE_MS)
    };
    let [from, to] = [steps, steps + 1].map(|at| WEIGHTS.get(at).copied().unwrap_or(0));
    (from - (from - to) * rest / HALF_LIFE_MS) >> halvings
}

fn scaled(average: u64, weight: u64) -> u64 {
    u64::try_from((u128::from(average) * u128::from(weight)) >> WEIGHT_BITS).unwrap_or(average)
}

/// The average time of calls. The default has no data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latency {
    /// In 1/65,536 ms, and not 0 if there are data.
    average: u64,
    /// The time of the last call.
    at_ms: i64,
}

impl Latency {
    /// Takes in a call that took `took_ms` (at most 366 days) and ended at `at_ms`, which must not go back.
    pub fn feed(&mut self, at_ms: i64, took_ms: u64) {
        let took = (took_ms.min(PERIOD_MAX_MS) << FRACTION_BITS).max(1);
        self.average = if took >= self.average {
            took
        } else {
            let kept = scaled(self.average - took, weight(self.passed_ms(at_ms)));
            took + kept
        };
        self.at_ms = at_ms;
    }

    fn passed_ms(&self, at_ms: i64) -> u64 {
        at_ms.saturating_sub(self.at_ms).max(0).unsigned_abs()
    }

    /// The average in milliseconds, rounded; `None` without data.
    pub fn average_ms(&self) -> Option<u64> {
        (self.average > 0).then(|| (self.average + (1 << (FRACTION_BITS - 1))) >> FRACTION_BITS)
    }

    /// What one more request would meet, with `live` requests in flight: the average times their number with it. Of
    /// two targets, the one with the smaller load is to be taken.
    pub fn load(&self, at_ms: i64, live: u64) -> u128 {
        let average = match (self.average, live) {
            (0, 0) => 0,
            (0, _) => PENALTY_MS << FRACTION_BITS,
            (average, 0) => scaled(average, weight(self.passed_ms(at_ms))),
            (average, _) => average,
        };
        u128::from(average) * (u128::from(live) + 1)
    }
}

impl Stored for Latency {
    const ENCODING: u32 = 0;

    fn save(&self, out: &mut dyn Writer) {
        out.uint(self.average);
        out.int(self.at_ms);
    }

    fn load(from: &mut dyn Reader, _encoding: u32) -> Result<Self, Corrupt> {
        let (average, at_ms) = (from.uint_max(AVERAGE_MAX, "latency")?, from.time_ms("time of a latency")?);
        Ok(Self { average, at_ms: at_ms.min(TIME_MAX_MS) })
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_table_is_the_exponential_function() {
        for passed_ms in (0..=40 * HALF_LIFE_MS).step_by(7) {
            let exact = (-(passed_ms as f64) / HALF_LIFE_MS as f64).exp2();
            let table = weight(passed_ms) as f64 / (1_u64 << WEIGHT_BITS) as f64;
            assert!((table - exact).abs() <= exact * 2e-5 + 1e-9, "{passed_ms}: {table} for {exact}");
        }
        assert_eq!((weight(0), weight(HALF_LIFE_MS)), (1 << WEIGHT_BITS, 1 << (WEIGHT_BITS - 1)));
        assert_eq!(weight(u64::MAX), 0);
    }

    #[test]
    fn a_target_is_tried_and_then_trusted_step_by_step() {
        let mut latency = Latency::default();
        assert_eq!((latency.average_ms(), latency.load(5, 0)), (None, 0), "without data it is tried first");
        assert_eq!(latency.load(5, 1), u128::from(PENALTY_MS << FRACTION_BITS) * 2, "but by one request");
        latency.feed(1_000, 4_000);
        assert_eq!(latency.average_ms(), Some(4_000));
        latency.feed(1_000, 2_000);
        assert_eq!(latency.average_ms(), Some(4_000), "no time has passed");
        latency.feed(11_000, 2_000);
        assert_eq!(latency.average_ms(), Some(3_000), "a half-life has passed");
        latency.feed(11_001, 9_000);
        assert_eq!(latency.average_ms(), Some(9_000), "a slow call counts at once");
        assert_eq!(latency.load(21_001, 0), u128::from(4_500_u64 << FRACTION_BITS), "an idle target is tried again");
        assert_eq!(latency.load(21_001, 1), u128::from(18_000_u64 << FRACTION_BITS), "by one request");
        latency.feed(500_000, 0);
        assert_eq!(latency.average_ms(), Some(0), "calls that take no time are data");
        assert!(latency.load(500_000, 1) > 0);
    }

    proptest! {
        /// The same rule in floating point.
        #[test]
        fn agrees_with_floating_point(calls in prop::collection::vec((0_u64..60_000, 0_u64..200_000), 1..50)) {
            let (mut latency, mut average, mut at_ms) = (Latency::default(), 0.0_f64, 1_700_000_000_000);
            for (passed_ms, took_ms) in calls {
                at_ms += passed_ms.cast_signed();
                let weight = (-(passed_ms as f64) / HALF_LIFE_MS as f64).exp2();
                let took = took_ms as f64;
                average = if took >= average { took } else { average * weight + took * (1.0 - weight) };
                latency.feed(at_ms, took_ms);
                let fed = latency.average as f64 / f64::from(1 << FRACTION_BITS);
                prop_assert!((fed - average).abs() < 10.0, "{fed} for {average}");
            }
        }
    }
}
