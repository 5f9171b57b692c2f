//! What is shown: made from two readings, so that it has rates.

use std::collections::BTreeMap;

use redis_gateway_client::Amount;
use serde::Serialize;

use super::reading::Reading;

/// How many keys are shown.
const ROWS: usize = 20;
/// How many queues are shown.
const QUEUES: usize = 1_000;

#[derive(Debug, Serialize)]
pub struct Sample {
    /// The addresses of the primaries.
    pub nodes: Vec<String>,
    /// Over how much time the rates are taken.
    pub seconds: f64,
    /// By what was asked: requests, windows, buckets, slots, budgets.
    pub rates: Vec<Rate>,
    /// Refusals in the last minute, by the policy or command that refused; those that most refuse first.
    pub refused_by: Vec<(String, i64)>,
    /// Who was refused in the last minute.
    pub refused: Vec<Refused>,
    /// What the heaviest keys were charged in the last minute, together: all that was charged, unless many keys are.
    pub usd_per_minute: String,
    pub spenders: Vec<Spender>,
    /// Hits as a part of hits and misses between the readings; none if nothing was asked for.
    pub hit_rate: Option<f64>,
    /// What the hits have saved since the nodes' start.
    pub usd_saved: String,
    pub queues: Vec<Queue>,
    /// Queues that are not shown, since there are too many.
    pub more_queues: usize,
}

#[derive(Debug, Serialize)]
pub struct Rate {
    pub what: &'static str,
    pub admitted_per_second: f64,
    pub refused_per_second: f64,
}

#[derive(Debug, Serialize)]
pub struct Refused {
    pub key: String,
    pub by: String,
    pub last_minute: i64,
    pub last_hour: i64,
}

#[derive(Debug, Serialize)]
pub struct Spender {
    pub key: String,
    pub last_minute: String,
    pub last_hour: String,
}

#[derive(Debug, Serialize)]
pub struct Queue {
    pub key: String,
    pub length: i64,
    pub leased: i64,
    pub dead: i64,
    pub oldest_age_ms: i64,
    pub pushed_per_minute: i64,
    pub acked_per_minute: i64,
}

/// What is asked, and the counters of what was admitted and refused.
const RATES: [(&str, &str, &str); 5] = [
    ("requests", "admit_admitted", "admit_denied"),
    ("windows", "allow_admitted", "allow_denied"),
    ("buckets", "tokens_admitted", "tokens_denied"),
    ("slots", "leases_acquired", "leases_denied"),
    ("budgets", "budget_within", "budget_exceeded"),
];

impl Sample {
    pub fn new(before: &Reading, now: &Reading) -> Self {
        let seconds = now.at.duration_since(before.at).as_secs_f64();
        // A node that was restarted counts from 0 again.
        let grown = |names: &[&str]| now.count(names).saturating_sub(before.count(names)).max(0) as f64;
        let per_second = |name| if seconds > 0.0 { grown(&[name]) / seconds } else { 0.0 };
        let rates = RATES.map(|(what, admitted, refused)| Rate {
            what,
            admitted_per_second: per_second(admitted),
            refused_per_second: per_second(refused),
        });
        let (hits, misses) = (grown(&["cache_hits", "cache_stale_hits"]), grown(&["cache_misses"]));
        let usd: Amount = now.spent.iter().map(|row| row.last_minute).sum();
        Self {
            nodes: now.nodes.clone(),
            seconds,
            rates: rates.into(),
            refused_by: refused_by(now),
            refused: refused(now),
            usd_per_minute: usd.to_string(),
            spenders: spenders(now),
            hit_rate: (hits + misses > 0.0).then(|| hits / (hits + misses)),
            usd_saved: now.saved.to_string(),
            queues: queues(now),
            more_queues: now.queues.len().saturating_sub(QUEUES),
        }
    }
}

fn refused_by(now: &Reading) -> Vec<(String, i64)> {
    let mut by: BTreeMap<String, i64> = BTreeMap::new();
    for row in &now.denied {
        *by.entry(row.by.to_string()).or_default() += row.last_minute;
    }
    let mut by: Vec<_> = by.into_iter().filter(|(_, count)| *count > 0).collect();
    by.sort_by_key(|(_, count)| -count);
    by.truncate(ROWS);
    by
}

fn refused(now: &Reading) -> Vec<Refused> {
    let mut rows: Vec<_> = now.denied.iter().collect();
    rows.sort_by_key(|row| (-row.last_minute, -row.last_hour));
    let rows = rows.into_iter().take(ROWS).map(|row| Refused {
        key: row.key.to_string(),
        by: row.by.to_string(),
        last_minute: row.last_minute,
        last_hour: row.last_hour,
    });
    rows.collect()
}

fn spenders(now: &Reading) -> Vec<Spender> {
    let mut rows: Vec<_> = now.spent.iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse((row.last_minute, row.last_hour)));
    let rows = rows.into_iter().take(ROWS).map(|row| Spender {
        key: row.key.to_string(),
        last_minute: row.last_minute.to_string(),
        last_hour: row.last_hour.to_string(),
    });
    rows.collect()
}

fn queues(now: &Reading) -> Vec<Queue> {
    let mut rows: Vec<_> = now.queues.iter().collect();
    rows.sort_by_key(|(_, figures)| -(figures.oldest_age_ms));
    let rows = rows.into_iter().take(QUEUES).map(|(key, figures)| Queue {
        key: String::from_utf8_lossy(key).into_owned(),
        length: figures.length,
        leased: figures.leased,
        dead: figures.dead,
        oldest_age_ms: figures.oldest_age_ms,
        pushed_per_minute: figures.pushed_per_minute,
        acked_per_minute: figures.acked_per_minute,
    });
    rows.collect()
}
