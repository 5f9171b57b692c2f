//! The server that gets its ledgers back.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use gateway_core::slot::slot_of;
use jiff::civil::{Date, time};
use jiff::tz::TimeZone;
use redis::{Connection, Value};
use redis_gateway_client::Error;
use redis_gateway_client::commands::{AddCostOptions, CreditOptions, Description, Period, add_cost, credit, describe};

use super::difference::{Difference, Step, Sums};
use crate::nodes::{self, Address, Seed, Shard};

/// If no reply comes for this long, the server is considered gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a ledger that others change all the time is tried.
const TRIES: u32 = 20;

pub struct Server {
    seed: Seed,
    shards: Vec<Shard>,
    connections: BTreeMap<Address, Connection>,
    zone: TimeZone,
}

/// What was found, and done.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Set {
        rests: usize,
    },
    /// It has what the database has. `version` is newer there if it was set in an earlier run.
    InStep {
        is_newer: bool,
    },
    Left(&'static str),
}

impl Server {
    /// Days are those of the server's time zone, or of the one given.
    pub fn connect(seed: Seed, zone: Option<&str>) -> Result<Self> {
        let address = seed.primary()?;
        let mut connection = seed.connect(&address, PATIENCE)?;
        let shards = nodes::shards(&mut connection, &address)?;
        let zone = match zone {
            Some(zone) => zone.to_owned(),
            None => {
                let asked: redis::RedisResult<BTreeMap<String, String>> =
                    redis::cmd("CONFIG").arg("GET").arg("gw.timezone").query(&mut connection);
                let asked =
                    asked.context("cannot ask for gw.timezone: grant +config|get, or name it with --timezone")?;
                asked.into_values().next().context("the server has no gw.timezone")?
            }
        };
        let zone = TimeZone::get(&zone).with_context(|| format!("not a time zone: {zone}"))?;
        Ok(Self { seed, shards, connections: [(address, connection)].into(), zone })
    }

    /// Brings a ledger to what the database has, or only looks. It is left alone if it has changed after `version`.
    pub fn restore(&mut self, key: &[u8], version: i64, wanted: &Sums, only_look: bool) -> Result<Outcome> {
        let zone = self.zone.clone();
        let connection = self.connection_for(key)?;
        for _ in 0..TRIES {
            redis::cmd("WATCH").arg(key).exec(connection)?;
            let described = match describe(key).query(connection) {
                Err(Error::Reply(error)) if error.code == "WRONGTYPE" => Err(OTHER_TYPE),
                described => Ok(described?),
            };
            let there = match described.and_then(|described| found(described, version, wanted)) {
                Ok(there) => there,
                Err(outcome) => {
                    redis::cmd("UNWATCH").exec(connection)?;
                    return Ok(outcome);
                }
            };
            let difference = wanted.beyond(&there);
            if only_look {
                redis::cmd("UNWATCH").exec(connection)?;
                return Ok(Outcome::Set { rests: difference.rests });
            }
            let done: Option<Vec<Value>> = transaction(key, &difference, &zone)?.query(connection)?;
            if done.is_some() {
                return Ok(Outcome::Set { rests: difference.rests });
            }
        }
        Ok(Outcome::Left("it changes all the time"))
    }

    fn connection_for(&mut self, key: &[u8]) -> Result<&mut Connection> {
        let slot = slot_of(key);
        let shard = self.shards.iter().find(|shard| shard.slots.contains(&slot));
        let Some(shard) = shard else { bail!("no node serves the slot {slot}") };
        let address = shard.primary.clone();
        if !self.connections.contains_key(&address) {
            self.connections.insert(address.clone(), self.seed.connect(&address, PATIENCE)?);
        }
        self.connections.get_mut(&address).context("the connection that was just made")
    }
}

const OTHER_TYPE: Outcome = Outcome::Left("its key has a value of another type");

/// What the server has, if it may be brought to what is wanted.
fn found(described: Option<Description>, version: i64, wanted: &Sums) -> Result<Sums, Outcome> {
    match described {
        None => Ok(Sums::default()),
        Some(Description::Ledger(ledger)) => {
            let Some(there) = Sums::of_server(&ledger) else { return Err(Outcome::Left("its days cannot be read")) };
            if wanted.has_kept(&there) && ledger.version >= version {
                Err(Outcome::InStep { is_newer: ledger.version > version })
            } else if ledger.version >= version {
                Err(Outcome::Left("it is newer at the server"))
            } else {
                Ok(there)
            }
        }
        Some(Description::Account(account)) => {
            let is_untouched = account.ledgers.get(&b"usd"[..]).is_none_or(|ledger| {
                [ledger.total, ledger.day, ledger.month].iter().all(|amount| amount.is_zero())
                    && ledger.credits.is_empty()
            });
            if is_untouched { Ok(Sums::default()) } else { Err(Outcome::Left("an account that has spent since")) }
        }
        Some(_) => Err(OTHER_TYPE),
    }
}

/// All steps, or none.
fn transaction(key: &[u8], difference: &Difference, zone: &TimeZone) -> Result<redis::Pipeline> {
    let at_ms = |day: Date| -> Result<i64> {
        // Noon is on its day whatever summer time does.
        let noon = day.to_datetime(time(12, 0, 0, 0)).to_zoned(zone.clone())?;
        Ok(noon.timestamp().as_millisecond())
    };
    let mut pipe = redis::pipe();
    pipe.atomic();
    for step in &difference.steps {
        match *step {
            Step::Charge { day, amount } => {
                let refund = amount < redis_gateway_client::Amount::ZERO;
                let options = AddCostOptions { at_ms: Some(at_ms(day)?.max(0)), refund, ..Default::default() };
                add_cost(key, amount, &options).add_to(&mut pipe);
            }
            Step::Credit { period, first_day, amount } => {
                let at_ms = if period == Period::Total { None } else { Some(at_ms(first_day)?) };
                let options = CreditOptions { at_ms, ..Default::default() };
                credit(key, period, amount, &options).add_to(&mut pipe);
            }
        }
    }
    Ok(pipe)
}
