//! The token bucket: `rate` tokens per period flow in, up to `burst`; a request takes its cost or is refused.
//!
//! The level is an integer count of 1/period tokens: with 100 tokens per 60,000 ms, 100 such parts flow in each
//! millisecond (docs/src/internals/decisions.md, "Buckets count in parts of a token").

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use crate::codec::{Corrupt, Reader, Writer};
use crate::limit::{NEVER, Verdict, extended_expiry_ms, wait_ms};
use crate::stored::Stored;
use crate::{PERIOD_MAX_MS, UNITS_MAX};

/// How fast a bucket fills, and how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Tokens per period: 1 to 2^53.
    pub rate: u64,
    /// The period in milliseconds: 1 to 366 days.
    pub per_ms: u64,
    /// The most tokens the bucket holds: 0 to 2^53.
    pub burst: u64,
}

impl Flow {
    /// `tokens` in parts of 1/period. At most 2^53 × 2^35, far from the ends of i128.
    fn parts(&self, tokens: u64) -> i128 {
        i128::from(tokens) * i128::from(self.per_ms)
    }

    /// Whole tokens in a level, rounded down; 0 in debt.
    fn tokens(&self, parts: i128) -> u64 {
        match u64::try_from(parts) {
            Ok(parts) => parts / self.per_ms,
            Err(_) => u64::try_from(parts.max(0) / i128::from(self.per_ms)).unwrap_or(u64::MAX),
        }
    }

    /// Milliseconds until `parts` have flowed in, rounded up.
    fn wait_ms(&self, parts: i128) -> i64 {
        match (u64::try_from(parts), parts <= 0) {
            (_, true) => 0,
            // One machine division instead of a library call, for all but the largest bursts.
            (Ok(parts), _) => wait_ms(i128::from(parts.div_ceil(self.rate))),
            (Err(_), _) => wait_ms((parts + i128::from(self.rate) - 1) / i128::from(self.rate)),
        }
    }
}

/// A token bucket. A bucket that was never used is full, so the key of one that has filled up again may expire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBucket {
    /// The level at `at_ms` in parts of 1/`flow.per_ms` token. Below zero is debt.
    level: i128,
    at_ms: i64,
    /// As of the last admission.
    flow: Flow,
    /// The key's expiry as last set.
    expires_at_ms: i64,
}

/// A bucket's state at one moment, for `GW.DESCRIBE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketState {
    /// How fast the bucket fills, and how far, as of the last admission.
    pub flow: Flow,
    /// The exact level: `level_parts` / `flow.per_ms` tokens.
    pub level_parts: i128,
    /// Milliseconds until full.
    pub reset_after_ms: i64,
}

impl BucketState {
    /// Whole tokens, rounded down; negative in debt.
    pub fn tokens(&self) -> i64 {
        // Levels are within a hundred times the largest burst.
        let tokens = self.level_parts.div_euclid(i128::from(self.flow.per_ms));
        i64::try_from(tokens).unwrap_or(if tokens < 0 { i64::MIN } else { i64::MAX })
    }

    /// The level's fraction of a token, as `parts/period`.
    pub fn fraction(&self) -> String {
        let per_ms = self.flow.per_ms;
        format!("{}/{per_ms}", self.level_parts.rem_euclid(i128::from(per_ms)))
    }
}

impl TokenBucket {
    /// A full bucket.
    pub fn full(now_ms: i64, flow: Flow) -> Self {
        Self { level: flow.parts(flow.burst), at_ms: now_ms, flow, expires_at_ms: 0 }
    }

    /// The level at `now_ms` in parts of 1/`flow.per_ms` token, as if `flow` had been in force since the last admission.
    ///
    /// If the clock has stepped back, nothing flows in for the time that it repeats, and nothing is taken away. If the
    /// period has changed, the fill level stays, rounded down to a part of the new size.
    fn level_at(&self, now_ms: i64, flow: Flow) -> i128 {
        let kept = if flow.per_ms == self.flow.per_ms {
            self.level
        } else {
            // Whole tokens and the rest are converted apart: the product of a deep debt and a long period would not
            // fit.
            let (old, new) = (i128::from(self.flow.per_ms), i128::from(flow.per_ms));
            self.level.div_euclid(old) * new + self.level.rem_euclid(old) * new / old
        };
        let elapsed_ms = now_ms.saturating_sub(self.at_ms).max(0);
        (kept + i128::from(elapsed_ms) * i128::from(flow.rate)).min(flow.parts(flow.burst))
    }

    /// Decides whether `cost` tokens (at most 2^53) are admitted at `now_ms`, and returns what is left. Changes
    /// nothing: the caller takes the tokens with [`Self::record`].
    pub fn decide(&self, now_ms: i64, flow: Flow, cost: u64) -> Verdict {
        let level = self.level_at(now_ms, flow);
        let allowed = level >= flow.parts(cost);
        let retry_after_ms = match allowed {
            true => 0,
            false if cost > flow.burst => NEVER,
            false => flow.wait_ms(flow.parts(cost) - level),
        };
        let reset_after_ms = flow.wait_ms(flow.parts(flow.burst) - level);
        Verdict { allowed, limit: flow.burst, remaining: flow.tokens(level), retry_after_ms, reset_after_ms }
    }

    /// Takes `cost` tokens (within ±2^53) at `now_ms` whatever the level, into debt if need be; a negative cost gives tokens
    /// back, up to the burst. Depends on the state and the arguments alone, so that a replica ends with the same value.
    pub fn record(&mut self, now_ms: i64, flow: Flow, cost: i64) {
        // The deepest debt a level keeps: a hundred times the largest burst, so that repeated effects cannot overflow.
        let deepest = -100 * flow.parts(UNITS_MAX);
        let level = self.level_at(now_ms, flow) - i128::from(cost) * i128::from(flow.per_ms);
        self.level = level.clamp(deepest, flow.parts(flow.burst));
        self.at_ms = now_ms;
        self.flow = flow;
        let full_at_ms = now_ms.saturating_add(self.reset_after_ms());
        self.expires_at_ms = extended_expiry_ms(self.expires_at_ms, now_ms, full_at_ms);
    }

    /// If the clock has stepped back since the last admission, counts that admission as made now. Returns whether it
    /// has.
    ///
    /// Limiters call this also when they deny: otherwise nothing would flow in until the clock has caught up.
    pub fn rewind(&mut self, now_ms: i64) -> bool {
        let behind = self.at_ms > now_ms;
        self.at_ms = self.at_ms.min(now_ms);
        behind
    }

    /// Milliseconds from the last admission until the bucket is full.
    pub fn reset_after_ms(&self) -> i64 {
        self.flow.wait_ms(self.flow.parts(self.flow.burst) - self.level)
    }

    /// Prefetches what a decision reads; returns a word that depends on it.
    pub fn fetch(&self) -> u64 {
        self.at_ms.unsigned_abs() ^ self.flow.rate
    }

    /// The key's expiry in unix milliseconds: never before the bucket is full again.
    pub fn expires_at_ms(&self) -> i64 {
        self.expires_at_ms
    }

    /// The state at `now_ms`.
    pub fn state(&self, now_ms: i64) -> BucketState {
        let level_parts = self.level_at(now_ms, self.flow);
        let reset_after_ms = self.flow.wait_ms(self.flow.parts(self.flow.burst) - level_parts);
        BucketState { flow: self.flow, level_parts, reset_after_ms }
    }
}

impl Stored for TokenBucket {
    const ENCODING: u32 = 0;

    fn save(&self, out: &mut dyn Writer) {
        out.int128(self.level);
        out.int(self.at_ms);
        out.uint(self.flow.rate);
        out.uint(self.flow.per_ms);
        out.uint(self.flow.burst);
        out.int(self.expires_at_ms);
    }

    fn load(from: &mut dyn Reader, _encoding: u32) -> Result<Self, Corrupt> {
        let level = from.int128()?;
        let at_ms = from.time_ms("time")?;
        let flow = Flow {
            rate: from.uint_max(UNITS_MAX, "rate")?.max(1),
            per_ms: from.uint_max(PERIOD_MAX_MS, "period")?.max(1),
            burst: from.uint_max(UNITS_MAX, "burst")?,
        };
        let expires_at_ms = from.time_ms("expiry")?;
        if level > flow.parts(flow.burst) || level < -100 * flow.parts(UNITS_MAX) {
            return Err(Corrupt("a level out of bounds"));
        }
        Ok(Self { level, at_ms, flow, expires_at_ms })
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

// The tests' numbers are their own.
#[cfg(test)]
#[allow(clippy::cast_possible_wrap)]
#[path = "bucket_tests.rs"]
mod tests;
