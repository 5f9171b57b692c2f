//! How much each count has grown in the last minute.

/// The number of a queue's counts: those of its value, and its rejected and repeated records.
pub(super) const COUNTS: usize = 9;

/// The shortest time that a rate covers, in milliseconds; the longest is twice that.
const SPAN_MS: i64 = 30_000;

/// The counts at two times in the last minute. A hint: it is neither saved nor replicated.
#[derive(Debug, Clone, Default)]
pub(super) struct Rates {
    older: Mark,
    newer: Mark,
}

#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    at_ms: i64,
    counts: [u64; COUNTS],
}

impl Rates {
    /// Notes the counts before a change at `now_ms`.
    pub fn mark(&mut self, now_ms: i64, counts: [u64; COUNTS]) {
        let passed_ms = now_ms - self.newer.at_ms;
        if (0..SPAN_MS).contains(&passed_ms) {
            return;
        }
        let now = Mark { at_ms: now_ms, counts };
        // After a pause, or if the clock has stepped back, counting starts again.
        self.older = if (SPAN_MS..2 * SPAN_MS).contains(&passed_ms) { self.newer } else { now };
        self.newer = now;
    }

    /// The increase of each count per minute, over the last 30 to 60 seconds. If counting began later, the increase so
    /// far, because a few moments do not tell the rate of a minute.
    pub fn per_minute(&self, now_ms: i64, counts: [u64; COUNTS]) -> [u64; COUNTS] {
        const MINUTE_MS: u128 = 60_000;
        let mut rates = [0; COUNTS];
        let mut from = self.clone();
        from.mark(now_ms, counts);
        let passed_ms = match now_ms - from.older.at_ms {
            SPAN_MS.. => (now_ms - from.older.at_ms).unsigned_abs().into(),
            _ => MINUTE_MS,
        };
        for ((rate, count), before) in rates.iter_mut().zip(counts).zip(from.older.counts) {
            let increase = u128::from(count.saturating_sub(before));
            *rate = (increase * MINUTE_MS / passed_ms) as u64;
        }
        rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_flow_is_its_rate() {
        let mut rates = Rates::default();
        let counts = |count| [count; COUNTS];
        for second in 0..600u64 {
            let now_ms = 1_000_000 + second as i64 * 1_000;
            rates.mark(now_ms, counts(second * 50));
            let [rate, ..] = rates.per_minute(now_ms + 1_000, counts((second + 1) * 50));
            // The rate is known after half a minute.
            assert_eq!(rate, if second + 1 < 30 { (second + 1) * 50 } else { 3_000 }, "{second}");
        }
        // A minute after the pushes ended, the rate is 0.
        assert_eq!(rates.per_minute(1_000_000 + 700_000, counts(600 * 50)), counts(0));
    }
}
