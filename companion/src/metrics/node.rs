//! What one node is asked in a scrape.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redis::{Connection, RedisResult};
use redis_gateway_client::Error;
use redis_gateway_client::commands::{
    Admission, AdmitOptions, CacheFigures, CostChangesOptions, Denials, LogStats, PolicyStats, Request, Rows, Text,
    TopDeniedOptions, TopMeterOptions, Usage, admit, cache_stats, cost_changes, log_stats, policy_stats, stats,
    top_denied, top_meter,
};

use crate::members::{self, Info, Role};
use crate::nodes::{Address, Seed};

/// The sections of INFO that are shown.
const SECTIONS: [&str; 9] =
    ["server", "clients", "memory", "persistence", "stats", "replication", "cluster", "commandstats", "modules"];

/// The lease that is asked about, and never made.
const PROBE: &str = "gw-exporter";

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question {
    pub queues: Vec<String>,
    pub accounts: Vec<String>,
    /// Whether GW.TOP is asked at all.
    pub top: bool,
    pub top_meters: Vec<String>,
    pub feed: bool,
}

/// What a node has answered.
#[derive(Default)]
pub struct Answer {
    pub took: Duration,
    pub info: Info,
    pub members: BTreeMap<Address, Role>,
    pub stats: BTreeMap<Text, i64>,
    pub categories: BTreeMap<Text, CacheFigures>,
    pub denied: Vec<Denials>,
    pub used: Vec<Usage>,
    pub queues: Vec<(String, LogStats)>,
    pub accounts: Vec<(String, Admission, Vec<PolicyStats>)>,
    /// The version of the ledger that has waited longest, 0 if none waits.
    pub feed: Option<i64>,
    /// How many calls the node has refused, by command.
    pub refused: BTreeMap<String, u64>,
}

/// Asks a node everything.
///
/// # Errors
/// If it cannot be reached, or no reply comes within `patience`. What it refuses is in the answer.
pub fn ask(seed: &Seed, node: &Address, question: &Question, patience: Duration) -> RedisResult<Answer> {
    let started = Instant::now();
    let mut connection = seed.connect(node, patience)?;
    let info = Info::ask(&mut connection, &SECTIONS)?;
    let members = members::members(&mut connection, node, &info)?;
    let mut asked = Asked { connection, answer: Answer { info, members, ..Answer::default() } };
    asked.module()?;
    if asked.answer.info.role() == Role::Primary {
        asked.data(question)?;
    }
    asked.answer.took = started.elapsed();
    Ok(asked.answer)
}

struct Asked {
    connection: Connection,
    answer: Answer,
}

impl Asked {
    /// A refusal is counted, and is not an error: the other figures are of use.
    fn call<T>(&mut self, request: &Request<T>) -> RedisResult<Option<T>> {
        match request.query(&mut self.connection) {
            Ok(reply) => Ok(Some(reply)),
            Err(Error::Redis(error)) if error.code().is_none() => Err(error),
            Err(_) => {
                *self.answer.refused.entry(request.name().to_owned()).or_default() += 1;
                Ok(None)
            }
        }
    }

    /// What each node has.
    fn module(&mut self) -> RedisResult<()> {
        self.answer.stats = self.call(&stats())?.unwrap_or_default();
        self.answer.categories = self.call(&cache_stats())?.unwrap_or_default();
        Ok(())
    }

    /// What is of the data: primaries alone are asked.
    fn data(&mut self, question: &Question) -> RedisResult<()> {
        let slots = match self.answer.info.text("cluster_enabled") {
            "1" => Some(members::own_slots(&mut self.connection)?),
            _ => None,
        };
        let is_here = |key: &&String| {
            let slot = gateway_core::slot::slot_of(key.as_bytes());
            slots.as_ref().is_none_or(|slots| slots.iter().any(|&(first, last)| (first..=last).contains(&slot)))
        };
        for queue in question.queues.iter().filter(is_here) {
            if let Some(Some(figures)) = self.call(&log_stats(queue))? {
                self.answer.queues.push((queue.clone(), figures));
            }
        }
        for account in question.accounts.iter().filter(is_here) {
            let options = AdmitOptions { shadow: true, rows: Some(Rows::Detail), ..Default::default() };
            let admission = self.call(&admit(&[account], PROBE, 1, &options))?;
            let seen = self.call(&policy_stats(account))?.unwrap_or_default();
            if let Some(admission) = admission {
                self.answer.accounts.push((account.clone(), admission, seen));
            }
        }
        if question.top {
            self.top(question)?;
        }
        if question.feed {
            let options = CostChangesOptions { count: Some(1) };
            let changes = self.call(&cost_changes(&options))?;
            self.answer.feed = changes.map(|changes| changes.ledgers.first().map_or(0, |ledger| ledger.version));
        }
        Ok(())
    }

    /// All rows that a list has: those that may be shown are chosen from them.
    fn top(&mut self, question: &Question) -> RedisResult<()> {
        let options = TopDeniedOptions { count: Some(512), ..Default::default() };
        self.answer.denied = self.call(&top_denied(&options))?.unwrap_or_default();
        for meter in &question.top_meters {
            let options = TopMeterOptions { count: Some(512), ..Default::default() };
            let used = self.call(&top_meter(meter, &options))?.unwrap_or_default();
            self.answer.used.extend(used);
        }
        Ok(())
    }
}
