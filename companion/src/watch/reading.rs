//! What all primaries tell at one moment.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;
use redis_gateway_client::commands::{
    Denials, LogStats, TopDeniedOptions, TopMeterOptions, Usage, cache_stats_total, stats, top_denied, top_meter,
};
use redis_gateway_client::{Amount, Error};

use super::queues::Queues;
use crate::fleet::{Fleet, Primary};

/// The most rows that GW.TOP replies: all that it knows.
const ROWS: i64 = 512;

pub struct Reading {
    pub at: Instant,
    pub nodes: Vec<String>,
    /// The counters of GW.STATS, of all nodes together.
    pub counters: BTreeMap<String, i64>,
    pub denied: Vec<Denials>,
    pub spent: Vec<Usage>,
    pub saved: Amount,
    pub queues: Vec<(Vec<u8>, LogStats)>,
}

struct OfNode {
    address: String,
    counters: BTreeMap<String, i64>,
    denied: Vec<Denials>,
    spent: Vec<Usage>,
    saved: Amount,
    queues: Vec<(Vec<u8>, LogStats)>,
}

impl Reading {
    /// # Errors
    /// If a node cannot be asked, or the user may not ask.
    pub fn take(fleet: &mut Fleet, queues: &mut Queues) -> Result<Self> {
        let nodes = fleet.each(|primary| of_node(primary, queues))?;
        let mut reading = Self {
            at: Instant::now(),
            nodes: Vec::new(),
            counters: BTreeMap::new(),
            denied: Vec::new(),
            spent: Vec::new(),
            saved: Amount::default(),
            queues: Vec::new(),
        };
        for node in nodes {
            reading.nodes.push(node.address);
            for (name, count) in node.counters {
                *reading.counters.entry(name).or_default() += count;
            }
            reading.denied.extend(node.denied);
            reading.spent.extend(node.spent);
            reading.saved += node.saved;
            reading.queues.extend(node.queues);
        }
        Ok(reading)
    }

    pub fn count(&self, names: &[&str]) -> i64 {
        names.iter().filter_map(|&name| self.counters.get(name)).sum()
    }
}

fn of_node(primary: &mut Primary, queues: &mut Queues) -> Result<OfNode, Error> {
    let address = primary.address.to_string();
    let counters = stats().query(&mut primary.connection)?;
    let counters = counters.into_iter().map(|(name, count)| (name.to_string(), count)).collect();
    let count = Some(ROWS);
    let denied = top_denied(&TopDeniedOptions { count, ..Default::default() }).query(&mut primary.connection);
    let spent = top_meter("usd", &TopMeterOptions { count, ..Default::default() }).query(&mut primary.connection);
    let saved = cache_stats_total().query(&mut primary.connection)?.saved;
    let queues = queues.read(primary)?;
    Ok(OfNode { address, counters, denied: if_counted(denied)?, spent: if_counted(spent)?, saved, queues })
}

/// With `gw.top-keys 0` nothing is counted by key, which is told as an error.
fn if_counted<T>(rows: Result<Vec<T>, Error>) -> Result<Vec<T>, Error> {
    match rows {
        Err(Error::Reply(reply)) if reply.text.ends_with("gw.top-keys") => Ok(Vec::new()),
        rows => rows,
    }
}
