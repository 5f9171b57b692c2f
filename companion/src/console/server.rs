//! What the pages ask the server, as JSON.

use std::sync::{Mutex, MutexGuard, PoisonError};

use redis_gateway_client::Error;
use redis_gateway_client::commands::{
    AccountState, AdmissionRow, AdmitOptions, CreditOptions, Description, HistoryPeriod, LedgerState,
    LogDeadListOptions, LogPeekOptions, Period, PolicyPutOptions, Quantity, Rows, admit, cache_clear_category,
    cache_stats, credit, describe, log_dead_drop, log_dead_drop_all, log_dead_list, log_dead_requeue,
    log_dead_requeue_all, log_peek, policy_document, policy_put, spent_history,
};
use redis_gateway_client::{Amount, Text};
use serde_json::{Map, Value, json};

use crate::caller::Caller;
use crate::fleet::Fleet;
use crate::nodes::Seed;

/// Connections that all visitors share: what they ask takes the server microseconds.
pub struct Server {
    caller: Mutex<Caller>,
    fleet: Mutex<Fleet>,
}

/// How many records and dead letters are shown.
const SHOWN: i64 = 20;
/// How many bytes of a record are shown.
const RECORD_BYTES: usize = 4_096;
/// How many calls of `ALL`, each for 100 batches, an action takes at most.
const ROUNDS: usize = 1_000;

impl Server {
    pub fn new(seed: &Seed) -> Self {
        let caller = Caller::new(seed.clone(), std::time::Duration::ZERO);
        Self { caller: Mutex::new(caller), fleet: Mutex::new(Fleet::new(seed.clone())) }
    }

    fn caller(&self) -> MutexGuard<'_, Caller> {
        self.caller.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An account or a ledger, with its spend by day.
    pub fn account(&self, key: &str) -> Result<Value, Error> {
        let mut caller = self.caller();
        let mut found = match caller.ask(&describe(key))? {
            None => return Ok(Value::Null),
            Some(Description::Account(state)) => {
                let rows = rows(&mut caller, key)?;
                let document = caller.ask(&policy_document(key))?.map(|document| document.to_string());
                let mut found = account(&state, &rows);
                found.insert("document".into(), document.into());
                found
            }
            Some(Description::Ledger(state)) => ledger(&state),
            Some(_) => return Ok(json!({ "type": "other" })),
        };
        let days = caller.ask(&spent_history(key, HistoryPeriod::Day, 30))?;
        let days = days.into_iter().map(|day| json!([day.first_day.to_string(), day.amount.to_string()]));
        found.insert("days".into(), days.collect());
        Ok(found.into())
    }

    /// Gives a credit, or takes it back if the amount is negative; once, whatever is repeated, for an id. Returns the
    /// period's credit.
    pub fn credit(&self, key: &str, period: Period, amount: Amount, meter: &str, id: &str) -> Result<Amount, Error> {
        let [meter, id] = [meter, id].map(|text| Some(Text::from(text)));
        self.caller().ask(&credit(key, period, amount, &CreditOptions { meter, id, ..Default::default() }))
    }

    /// Sets all policies of an account, from a document. Returns whether that changed anything.
    pub fn set_policies(&self, key: &str, document: &str) -> Result<bool, Error> {
        self.caller().ask(&policy_put(key, document, &PolicyPutOptions::default()))
    }

    /// The budgets of an account; empty if it has none, or if the key is not an account.
    pub fn budgets(&self, key: &str) -> Result<Vec<Value>, Error> {
        let mut caller = self.caller();
        let is_account = matches!(caller.ask(&describe(key)), Ok(Some(Description::Account(_))));
        let rows = if is_account { rows(&mut caller, key)? } else { Vec::new() };
        let is_budget = |row: &&AdmissionRow| row.kind.as_deref() == Some(b"BUDGET");
        Ok(rows.iter().filter(is_budget).map(policy).collect())
    }

    /// What waits in a queue, and its dead letters.
    pub fn queue(&self, key: &str) -> Result<Value, Error> {
        let mut caller = self.caller();
        let options = LogPeekOptions { count: Some(SHOWN), ..Default::default() };
        let waiting = caller.ask(&log_peek(key, &options))?;
        let dead = caller.ask(&log_dead_list(key, &LogDeadListOptions { count: Some(SHOWN) }))?;
        let dead = dead.into_iter().map(|batch| {
            let records = batch.records.iter().take(SHOWN as usize).map(|record| shown(record));
            json!({
                "batch": batch.batch_id.to_string(),
                "records": records.collect::<Vec<_>>(),
                "count": batch.records.len(),
                "delivery": batch.delivery,
            })
        });
        let waiting: Vec<_> = waiting.iter().map(|record| shown(record)).collect();
        Ok(json!({ "waiting": waiting, "dead": dead.collect::<Vec<_>>() }))
    }

    /// Has dead letters delivered again, or drops them: one by its id, or `ALL`. Returns how many.
    pub fn dead(&self, key: &str, batch: &str, requeue: bool) -> Result<i64, Error> {
        let mut caller = self.caller();
        if batch != "ALL" {
            let request = if requeue { log_dead_requeue(key, batch) } else { log_dead_drop(key, batch) };
            return caller.ask(&request);
        }
        let mut all = 0;
        for _ in 0..ROUNDS {
            let request = if requeue { log_dead_requeue_all(key) } else { log_dead_drop_all(key) };
            match caller.ask(&request)? {
                0 => break,
                some => all += some,
            }
        }
        Ok(all)
    }

    /// The figures of each category, of all nodes together.
    pub fn cache(&self) -> Result<Value, Error> {
        let nodes = self.fleet().each(|primary| cache_stats().query(&mut primary.connection))?;
        let mut categories = std::collections::BTreeMap::new();
        for (name, figures) in nodes.into_iter().flatten() {
            let sum: &mut ([i64; 4], redis_gateway_client::Amount) = categories.entry(name).or_default();
            let counts = [figures.hits + figures.stale_hits, figures.misses, figures.entries, figures.bytes];
            sum.0.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            sum.1 += figures.saved;
        }
        let rows = categories.into_iter().map(|(name, ([hits, misses, entries, bytes], saved))| {
            json!({
                "category": name.to_string(), "hits": hits, "misses": misses, "entries": entries, "bytes": bytes,
                "saved": saved.to_string(),
            })
        });
        Ok(rows.collect())
    }

    /// Clears a category on every primary. Returns how many entries that were.
    pub fn clear(&self, category: &str) -> Result<i64, Error> {
        let cleared = self.fleet().each(|primary| cache_clear_category(category).query(&mut primary.connection))?;
        Ok(cleared.into_iter().sum())
    }

    /// Each primary with its replicas, and how many bytes these are behind.
    pub fn nodes(&self) -> Result<Value, Error> {
        let nodes = self.fleet().each(|primary| {
            let info = redis::cmd("INFO").arg("replication").query::<String>(&mut primary.connection);
            let info = match info {
                // The user may not: that is said on the page.
                Err(error) if error.code() == Some("NOPERM") => None,
                info => Some(info?),
            };
            Ok(json!({ "address": primary.address.to_string(), "replicas": info.map(|info| replicas(&info)) }))
        })?;
        Ok(nodes.into())
    }
}

/// Lines such as `slave0:ip=127.0.0.1,port=6380,state=online,offset=14,lag=0`.
fn replicas(info: &str) -> Vec<Value> {
    let lines = || info.lines().filter_map(|line| line.split_once(':'));
    let head: i64 = lines().find(|(name, _)| *name == "master_repl_offset").map_or(0, |(_, n)| n.parse().unwrap_or(0));
    let is_replica = |name: &str| name.strip_prefix("slave").is_some_and(|rest| rest.parse::<u32>().is_ok());
    let replicas = lines().filter(|(name, _)| is_replica(name)).map(|(_, fields)| {
        let field = |name| fields.split(',').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name);
        let text = |name| field(name).map_or("", |(_, value)| value);
        let behind = head - text("offset").parse::<i64>().unwrap_or(0);
        json!({
            "address": format!("{}:{}", text("ip"), text("port")), "state": text("state"), "behind_bytes": behind,
            "lag_s": text("lag").parse::<i64>().ok(),
        })
    });
    replicas.collect()
}

/// What each policy would say to a request now: limits with their credits, what is used and left. Nothing is charged.
fn rows(caller: &mut Caller, key: &str) -> Result<Vec<AdmissionRow>, Error> {
    let options = AdmitOptions { shadow: true, rows: Some(Rows::Detail), ..Default::default() };
    Ok(caller.ask(&admit(&[key], "gw-console", 1, &options))?.rows)
}

fn quantity(quantity: &Quantity) -> String {
    match quantity {
        Quantity::Whole(number) => number.to_string(),
        Quantity::Decimal(amount) => amount.to_string(),
    }
}

fn policy(row: &AdmissionRow) -> Value {
    json!({
        "name": row.policy.to_string(),
        "kind": row.kind.as_ref().map(ToString::to_string),
        "meter": row.meter.as_ref().map(ToString::to_string),
        "allowed": row.allowed,
        "limit": quantity(&row.limit),
        "used": row.used.as_ref().map(quantity),
        "remaining": quantity(&row.remaining),
        "period_ms": row.period_ms,
        "retry_after_ms": row.retry_after_ms,
        "reset_after_ms": row.reset_after_ms,
    })
}

fn account(state: &AccountState, rows: &[AdmissionRow]) -> Map<String, Value> {
    let leases = state.leases.iter().map(|lease| json!([lease.lease_id.to_string(), lease.ttl_ms]));
    let ledgers = state.ledgers.iter().map(|(meter, ledger)| {
        let [day, week, month, total, held] = [ledger.day, ledger.week, ledger.month, ledger.total, ledger.held];
        let meter = meter.to_string();
        json!({
            "meter": meter, "day": day.to_string(), "week": week.to_string(), "month": month.to_string(),
            "total": total.to_string(), "held": held.to_string(),
        })
    });
    let words = state.policies.iter().map(|policy| {
        let words = policy.words.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        json!([policy.name.to_string(), words])
    });
    let fields = json!({
        "type": "account",
        "policies": rows.iter().map(policy).collect::<Vec<_>>(),
        "words": words.collect::<Vec<_>>(),
        "ledgers": ledgers.collect::<Vec<_>>(),
        "in_flight": state.in_flight,
        "leases": leases.take(100).collect::<Vec<_>>(),
        "cooldown_ms": state.cooldown_ms,
        "bytes": state.bytes,
    });
    fields.as_object().cloned().unwrap_or_default()
}

fn ledger(state: &LedgerState) -> Map<String, Value> {
    let holds =
        state.holds.iter().map(|hold| json!([hold.hold_id.to_string(), hold.estimate.to_string(), hold.ttl_ms]));
    let [day, week, month, total, held] = [state.day, state.week, state.month, state.total, state.held];
    let fields = json!({
        "type": "ledger",
        "ledgers": [{
            "meter": "usd", "day": day.to_string(), "week": week.to_string(), "month": month.to_string(),
            "total": total.to_string(), "held": held.to_string(),
        }],
        "holds": holds.take(100).collect::<Vec<_>>(),
        "bytes": state.bytes,
    });
    fields.as_object().cloned().unwrap_or_default()
}

/// The beginning of a record, as text.
fn shown(record: &[u8]) -> String {
    let cut = &record[..record.len().min(RECORD_BYTES)];
    let more = if cut.len() < record.len() { " …" } else { "" };
    String::from_utf8_lossy(cut).into_owned() + more
}
