//! The series of what a node has answered.

use redis_gateway_client::commands::{AdmissionRow, CacheFigures, LogStats, Quantity};

use super::node::Answer;
use super::samples::{Samples, label_of};
use super::settings::Metrics;
use super::table::{self as t, Family};
use crate::members::{Role, pair};

/// Adds all of a node's series.
pub fn add(samples: &mut Samples, node: &str, answer: &Answer, bounds: &Metrics, shipped: &[String]) {
    let of = [node, answer.info.role().name()];
    let mut series = Series { samples, of };
    series.add(&t::UP, &[], 1.0);
    series.add(&t::SCRAPE_DURATION, &[], answer.took.as_secs_f64());
    for (command, count) in &answer.refused {
        series.add(&t::SCRAPE_ERRORS, &[command], *count as f64);
    }
    series.server(answer);
    series.commands(answer);
    for (name, &value) in &answer.stats {
        match name.as_str().and_then(t::stat) {
            Some(family) => series.add(family, &[], value as f64),
            None => tracing::debug!(name = label_of(name), "a counter that is newer than this companion"),
        }
    }
    series.categories(answer, *bounds.categories.as_ref());
    for (queue, figures) in &answer.queues {
        series.queue(queue, figures);
        if shipped.contains(queue) {
            series.samples.add(&t::SHIP_LAG, &[queue], seconds(figures.oldest_age_ms));
            series.samples.add(&t::SHIP_WAITING, &[queue], (figures.length + figures.leased) as f64);
        }
    }
    for (account, admission, seen) in &answer.accounts {
        admission.rows.iter().for_each(|row| series.policy(account, row));
        for policy in seen {
            series.add(&t::POLICY_DENIED, &[account, &label_of(&policy.name)], policy.seen.denied as f64);
        }
    }
    series.top(answer, bounds);
    if let Some(version) = answer.feed {
        // Versions are the server's time of the change in microseconds, and so is this.
        let now = answer.info.number("server_time_usec").unwrap_or_default();
        let lag = if version == 0 { 0.0 } else { (now - version as f64).max(0.0) / 1e6 };
        series.add(&t::FEED_LAG, &[], lag);
    }
}

/// The series of one node.
struct Series<'a> {
    samples: &'a mut Samples,
    of: [&'a str; 2],
}

impl Series<'_> {
    fn add(&mut self, family: &Family, labels: &[&str], value: f64) {
        self.samples.add(family, &[&self.of, labels].concat(), value);
    }

    /// What INFO tells of the server.
    fn server(&mut self, answer: &Answer) {
        let info = &answer.info;
        let (server, version) = info.server();
        self.add(&t::NODE_INFO, &[server, version, &info.module_version().unwrap_or_default()], 1.0);
        for (family, field) in [
            (&t::NODE_UPTIME, "uptime_in_seconds"),
            (&t::NODE_CLIENTS, "connected_clients"),
            (&t::NODE_MEMORY, "used_memory"),
            (&t::NODE_MEMORY_MAX, "maxmemory"),
            (&t::NODE_EVICTED, "evicted_keys"),
        ] {
            if let Some(value) = info.number(field) {
                self.add(family, &[], value);
            }
        }
        for (family, field) in [(&t::NODE_AOF_OK, "aof_last_write_status"), (&t::NODE_RDB_OK, "rdb_last_bgsave_status")]
        {
            self.add(family, &[], flag(info.text(field) == "ok"));
        }
        if info.role() == Role::Replica {
            self.add(&t::NODE_LINK_UP, &[], flag(info.text("master_link_status") == "up"));
            if let Some(age) = info.number("master_last_io_seconds_ago").filter(|age| *age >= 0.0) {
                self.add(&t::NODE_LINK_AGE, &[], age);
            }
        } else if let Some(replicas) = info.number("connected_slaves") {
            self.add(&t::NODE_REPLICAS, &[], replicas);
        }
        let offset = if info.role() == Role::Replica { "slave_repl_offset" } else { "master_repl_offset" };
        if let Some(offset) = info.number(offset) {
            self.add(&t::NODE_OFFSET, &[], offset);
        }
    }

    /// The module's commands that clients call, without those that carry effects to replicas.
    fn commands(&mut self, answer: &Answer) {
        let public = answer.info.with_prefix("cmdstat_gw.").filter(|(name, _)| !name.starts_with('_'));
        for (name, figures) in public {
            let command = format!("GW.{}", name.to_uppercase());
            for (family, field, unit) in [
                (&t::COMMAND_CALLS, "calls", 1.0),
                (&t::COMMAND_SECONDS, "usec", 1e6),
                (&t::COMMAND_REJECTED, "rejected_calls", 1.0),
                (&t::COMMAND_FAILED, "failed_calls", 1.0),
            ] {
                if let Some(value) = pair(figures, field).and_then(|value| value.parse::<f64>().ok()) {
                    self.add(family, &[&command], value / unit);
                }
            }
        }
    }

    /// Those that are asked most, if there are too many.
    fn categories(&mut self, answer: &Answer, most: usize) {
        let mut categories: Vec<_> = answer.categories.iter().collect();
        categories.sort_by_key(|(_, figures)| std::cmp::Reverse(figures.hits + figures.stale_hits + figures.misses));
        for (name, figures) in categories.iter().take(most) {
            for (family, value) in category(figures) {
                self.add(family, &[&label_of(name)], value);
            }
        }
        for (_, figures) in categories.iter().skip(most) {
            category(figures).iter().for_each(|(family, _)| self.samples.drop(family, 1));
        }
    }

    fn queue(&mut self, queue: &str, figures: &LogStats) {
        for (family, value) in [
            (&t::QUEUE_LENGTH, figures.length),
            (&t::QUEUE_LEASED, figures.leased),
            (&t::QUEUE_LEASED_BATCHES, figures.leased_batches),
            (&t::QUEUE_DEAD, figures.dead),
            (&t::QUEUE_DEAD_BATCHES, figures.dead_batches),
            (&t::QUEUE_BYTES, figures.record_bytes),
            (&t::QUEUE_DEAD_BYTES, figures.dead_bytes),
            (&t::QUEUE_MEMORY, figures.memory_bytes),
            (&t::QUEUE_PUSHED, figures.pushed),
            (&t::QUEUE_POPPED, figures.popped),
            (&t::QUEUE_ACKED, figures.acked),
            (&t::QUEUE_REDELIVERED, figures.redelivered),
            (&t::QUEUE_DROPPED, figures.dropped),
            (&t::QUEUE_DEAD_LETTERED, figures.dead_lettered),
            (&t::QUEUE_DEAD_DROPPED, figures.dead_dropped),
            (&t::QUEUE_REJECTED, figures.rejected),
            (&t::QUEUE_REPEATED, figures.repeated),
        ] {
            self.add(family, &[queue], value as f64);
        }
        self.add(&t::QUEUE_AGE, &[queue], seconds(figures.oldest_age_ms));
    }

    fn policy(&mut self, account: &str, row: &AdmissionRow) {
        let kind = row.kind.as_deref().map(label_of).unwrap_or_default();
        let (policy, meter) = (label_of(&row.policy), row.meter.as_deref().map(label_of).unwrap_or_default());
        let labels = [account, &policy, &kind.to_lowercase(), &meter];
        self.add(&t::POLICY_ALLOWS, &labels, flag(row.allowed));
        if row.reset_after_ms >= 0 {
            self.add(&t::POLICY_RESET, &labels, seconds(row.reset_after_ms));
        }
        // Blocks and cooldowns limit nothing that is counted.
        let Some(used) = row.used.as_ref().map(number).filter(|_| !matches!(&*kind, "BLOCK" | "COOLDOWN")) else {
            return;
        };
        let limit = number(&row.limit);
        self.add(&t::POLICY_LIMIT, &labels, limit);
        self.add(&t::POLICY_USED, &labels, used);
        if kind == "BUDGET" && limit > 0.0 {
            let labels = [account, &policy, &meter];
            self.add(&t::BUDGET_USED, &labels, used / limit);
            if let Some(period) = row.period_ms.filter(|&period| period > 0) {
                let left = row.reset_after_ms as f64 / period as f64;
                self.add(&t::BUDGET_ELAPSED, &labels, (1.0 - left).clamp(0.0, 1.0));
            }
        }
    }

    /// The heaviest of the keys that may be shown.
    fn top(&mut self, answer: &Answer, bounds: &Metrics) {
        let most = *bounds.top_count.as_ref();
        let shown: Vec<_> = answer.denied.iter().filter(|row| bounds.may_show(&row.key)).take(most).collect();
        self.samples.drop(&t::TOP_DENIED, answer.denied.len() - shown.len());
        for row in shown {
            let (key, by) = (label_of(&row.key), label_of(&row.by));
            for (window, value) in [("minute", row.last_minute), ("hour", row.last_hour)] {
                self.add(&t::TOP_DENIED, &[&key, &by, window], value as f64);
            }
            self.add(&t::TOP_DENIED_ERROR, &[&key, &by], row.error_bound as f64);
        }
        for meter in bounds.top_meters.as_ref() {
            let rows: Vec<_> = answer.used.iter().filter(|row| *row.meter == *meter.as_bytes()).collect();
            let shown: Vec<_> = rows.iter().filter(|row| bounds.may_show(&row.key)).take(most).collect();
            self.samples.drop(&t::TOP_USED, rows.len() - shown.len());
            for row in shown {
                let key = label_of(&row.key);
                for (window, value) in [("minute", row.last_minute), ("hour", row.last_hour)] {
                    self.add(&t::TOP_USED, &[&key, meter, window], value.to_f64());
                }
                self.add(&t::TOP_USED_ERROR, &[&key, meter], row.error_bound.to_f64());
            }
        }
    }
}

fn category(figures: &CacheFigures) -> [(&'static Family, f64); 15] {
    let count = |value: i64| value as f64;
    [
        (&t::CATEGORY_HITS, count(figures.hits)),
        (&t::CATEGORY_STALE_HITS, count(figures.stale_hits)),
        (&t::CATEGORY_MISSES, count(figures.misses)),
        (&t::CATEGORY_PENDING, count(figures.pending)),
        (&t::CATEGORY_LEADER_GRANTS, count(figures.leader_grants)),
        (&t::CATEGORY_RELEASES, count(figures.releases)),
        (&t::CATEGORY_WAIT_TIMEOUTS, count(figures.wait_timeouts)),
        (&t::CATEGORY_SETS, count(figures.sets)),
        (&t::CATEGORY_CLEARS, count(figures.clears)),
        (&t::CATEGORY_EXPIRED, count(figures.expired)),
        (&t::CATEGORY_ERRORS, count(figures.errors)),
        (&t::CATEGORY_ENTRIES, count(figures.entries)),
        (&t::CATEGORY_BYTES, count(figures.bytes)),
        (&t::CATEGORY_RAW_BYTES, count(figures.raw_bytes)),
        (&t::CATEGORY_SAVED, figures.saved.to_f64()),
    ]
}

fn number(quantity: &Quantity) -> f64 {
    match quantity {
        Quantity::Whole(units) => *units as f64,
        Quantity::Decimal(amount) => amount.to_f64(),
    }
}

fn flag(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}
