//! How well GW.TOP's lists find the heaviest keys of a trace, whose requests are given to 10,000 keys.

use crate::text::grouped;
use crate::trace::Arrival;
use fastrand::Rng;
use gateway_core::top::{By, Horizons, Name, Row};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;

const KEYS: usize = 10_000;

/// How many of the heaviest are looked for.
const LOOKED_FOR: usize = 20;

/// The default of `gw.top-keys`.
const TOP_KEYS: usize = 128;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// How many of the heaviest keys a list has shown among its first.
#[derive(Debug, Default)]
pub struct Recall {
    /// At each full minute: how many of the heaviest of the last minute, and of the last hour.
    pub minute: Vec<usize>,
    pub hour: Vec<usize>,
    /// The largest error bound among the heaviest of the last hour, at the end, as a part of the key's count.
    pub error: f64,
    pub bytes: usize,
}

/// A request of the trace, by a key.
struct Count {
    at_ms: i64,
    key: usize,
    weight: u64,
}

/// Counts the requests, or with `tokens` their tokens, as the module does and exactly. The keys' shares follow Zipf's law:
/// the n-th key sends 1/n of what the first sends. The same seed gives the same keys.
pub fn recall(arrivals: &[Arrival], tokens: bool, seed: u64) -> Recall {
    let (mut rng, shares) = (Rng::with_seed(seed), shares());
    let names: Vec<String> = (0..KEYS).map(|key| format!("{{team:{}}}:key:{key}", key % 100)).collect();
    let (mut list, mut recall) = (Horizons::new(0, TOP_KEYS), Recall::default());
    let mut recent = VecDeque::<Count>::new();
    let mut next_ms = MINUTE_MS;
    for arrival in arrivals {
        let at_ms = arrival.at.as_millis() as i64;
        while next_ms <= at_ms {
            note(&mut recall, &mut list, &mut recent, &names, next_ms - 1);
            next_ms += MINUTE_MS;
        }
        let point = rng.f64();
        let key = shares.partition_point(|&sum| sum <= point).min(KEYS - 1);
        let weight = if tokens { u64::from(arrival.context_tokens) + u64::from(arrival.generated_tokens) } else { 1 };
        list.add(at_ms, &Name::new(seed, names[key].as_bytes()), weight.into());
        recent.push_back(Count { at_ms, key, weight });
    }
    recall
}

/// For each key, the sum of its share and those of all keys before.
fn shares() -> Vec<f64> {
    let all: f64 = (1..=KEYS).map(|rank| 1.0 / rank as f64).sum();
    let mut sum = 0.0;
    let cumulated = (1..=KEYS).map(|rank| {
        sum += 1.0 / rank as f64 / all;
        sum
    });
    cumulated.collect()
}

fn note(recall: &mut Recall, list: &mut Horizons, recent: &mut VecDeque<Count>, names: &[String], now_ms: i64) {
    while recent.front().is_some_and(|count| count.at_ms <= now_ms - HOUR_MS) {
        recent.pop_front();
    }
    let exact = |period_ms| {
        let mut counts = BTreeMap::<usize, u64>::new();
        for count in recent.iter().rev().take_while(|count| count.at_ms > now_ms - period_ms) {
            *counts.entry(count.key).or_default() += count.weight;
        }
        counts
    };
    let rows = list.heaviest(now_ms, By::Minute, LOOKED_FOR);
    recall.minute.push(found(&rows, &exact(MINUTE_MS), names));
    let rows = list.heaviest(now_ms, By::Hour, LOOKED_FOR);
    recall.hour.push(found(&rows, &exact(HOUR_MS), names));
    recall.error = rows.iter().map(|row| row.error as f64 / row.hour as f64).fold(0.0, f64::max);
    recall.bytes = list.memory_bytes();
}

/// How many of the rows are among the heaviest. If the last of these has the count of others, those are among them, too.
fn found(rows: &[Row], exact: &BTreeMap<usize, u64>, names: &[String]) -> usize {
    let mut counts: Vec<u64> = exact.values().copied().collect();
    counts.sort_unstable_by(|one, other| other.cmp(one));
    let least = counts.get(LOOKED_FOR - 1).or(counts.last()).copied().unwrap_or_default();
    let is_heavy = |row: &&Row| exact.iter().any(|(&key, &count)| count >= least && names[key].as_bytes() == &*row.key);
    rows.iter().filter(is_heavy).count()
}

/// Both lists of a trace, as a table.
pub fn table(arrivals: &[Arrival], seed: u64) -> String {
    let mut text = format!(
        "{} requests of {} keys by Zipf's law: how many of the {LOOKED_FOR} heaviest GW.TOP lists first, at each full minute\n\n\
         | meter | last minute: mean | least | last hour: mean | least | largest error bound at the end | bytes |\n\
         |---|---:|---:|---:|---:|---:|---:|\n",
        grouped(arrivals.len()),
        grouped(KEYS)
    );
    for (meter, tokens) in [("requests", false), ("tokens", true)] {
        let Recall { minute, hour, error, bytes } = recall(arrivals, tokens, seed);
        let [(minute, least_minute), (hour, least_hour)] = [minute, hour].map(|found| {
            let mean = found.iter().sum::<usize>() as f64 / found.len().max(1) as f64;
            (mean, found.iter().min().copied().unwrap_or_default())
        });
        let _ = writeln!(
            text,
            "| `{meter}` | {minute:.2} | {least_minute} | {hour:.2} | {least_hour} | {:.1} % | {} |",
            error * 100.0,
            grouped(bytes)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::generate;

    #[test]
    fn the_heaviest_keys_of_an_hour_are_found() {
        for tokens in [false, true] {
            let recall = recall(&generate(20_000, 7), tokens, 7);
            assert!(recall.hour.len() >= 55, "{recall:?}");
            // The list's minute has up to five seconds more than the exact one.
            assert!(recall.minute.iter().sum::<usize>() * 100 >= recall.minute.len() * LOOKED_FOR * 90, "{recall:?}");
            assert!(recall.hour.iter().all(|&found| found >= LOOKED_FOR - 2), "{recall:?}");
        }
    }
}
