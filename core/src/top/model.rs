//! The naive model: every name of every span, counted exactly.

use std::collections::HashMap;

use super::horizons::SPAN_MS;

pub type Counts = HashMap<(Vec<u8>, Vec<u8>), u128>;

/// All spans of the last hour, and the one under way.
#[derive(Default)]
pub struct Model {
    begin_ms: i64,
    /// The number of the span under way, and what each span has counted.
    now: i64,
    spans: HashMap<i64, Counts>,
}

impl Model {
    pub fn new(now_ms: i64) -> Self {
        Self { begin_ms: now_ms - now_ms.rem_euclid(SPAN_MS), ..Self::default() }
    }

    pub fn advance(&mut self, now_ms: i64) {
        let begin_ms = now_ms - now_ms.rem_euclid(SPAN_MS);
        self.now += ((begin_ms - self.begin_ms) / SPAN_MS).clamp(0, 13 * 60);
        self.begin_ms = begin_ms;
        let first = self.first_of_hour();
        self.spans.retain(|&span, _| span >= first);
    }

    pub fn add(&mut self, now_ms: i64, key: &[u8], label: &[u8], weight: u128) {
        self.advance(now_ms);
        *self.spans.entry(self.now).or_default().entry((key.to_vec(), label.to_vec())).or_default() += weight;
    }

    /// Spans of five minutes begin with a multiple of sixty.
    fn first_of_hour(&self) -> i64 {
        (self.now / 60 - 12) * 60
    }

    pub fn minute(&self) -> Counts {
        self.since(self.now - 12)
    }

    pub fn hour(&self) -> Counts {
        self.since(self.first_of_hour())
    }

    fn since(&self, first: i64) -> Counts {
        let mut counts = Counts::new();
        for (_, span) in self.spans.iter().filter(|&(&span, _)| span >= first) {
            span.iter().for_each(|(name, count)| *counts.entry(name.clone()).or_default() += count);
        }
        counts
    }
}

/// A sequence of numbers that looks random: SplitMix64, by Sebastiano Vigna.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// From 0 to 1.
    pub fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Zipf's law: the k-th of `names` names comes up with a probability that is proportional to 1 / k^exponent.
pub struct Zipf(Vec<f64>);

impl Zipf {
    pub fn new(names: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let cumulated = (1..=names).map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        });
        Self(cumulated.collect())
    }

    /// A rank, from 0 on.
    pub fn next(&self, random: &mut Random) -> usize {
        let all = self.0.last().copied().unwrap_or_default();
        let at = random.fraction() * all;
        self.0.partition_point(|&sum| sum <= at).min(self.0.len() - 1)
    }
}
