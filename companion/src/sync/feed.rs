//! The change feed of one server: a primary of a cluster, or a server outside of one.

use anyhow::{Context, Result};
use redis::{Connection, Value};
use redis_gateway_client::Error;
use redis_gateway_client::commands::{
    CostChangesOptions, KeyVersion, LedgerChange, PeriodAmount, Request, cost_ack, cost_changes, cost_sync,
};

use crate::ledgers::{Ledger, Row, Version, key_of, name_of};
use crate::nodes::{self, Address, PATIENCE, Seed, Shard};
use crate::scan::{self, Scan};

pub struct Feed {
    address: Address,
    connection: Connection,
}

/// What a server said of several ledgers.
#[derive(Debug, Default)]
pub struct Standings {
    /// The number of keys without a ledger.
    pub gone: usize,
    /// Accounts whose slot belongs to another node now.
    pub moved: Vec<String>,
}

/// The ledgers requested in one call, and the commands sent at a time: as many as the server lists in one call. Each
/// command names one ledger, so that the keys of a call are never in two slots, and a key that has moved concerns no other.
const BATCH: usize = 200;

impl Feed {
    pub fn connect(seed: &Seed, address: &Address) -> Result<Feed> {
        Ok(Feed { address: address.clone(), connection: seed.connect(address, PATIENCE)? })
    }

    /// Who serves what, as this node knows it.
    pub fn shards(&mut self) -> Result<Vec<Shard>> {
        Ok(nodes::shards(&mut self.connection, &self.address)?)
    }

    /// Identifies the data of this server. It changes with each failover: what the server has then may be older than what
    /// was read from it before.
    pub fn history(&mut self) -> Result<String> {
        let text: String = redis::cmd("INFO").arg("replication").query(&mut self.connection)?;
        let id = text.lines().find_map(|line| line.strip_prefix("master_replid:"));
        Ok(id.unwrap_or_default().to_owned())
    }

    /// Tells the server which versions the database has.
    pub fn tell_versions(&mut self, versions: &[Version]) -> Result<Standings> {
        self.standings(cost_sync, versions)
    }

    /// Tells the server what the database has stored of that which it listed.
    pub fn acknowledge(&mut self, versions: &[Version]) -> Result<Standings> {
        self.standings(cost_ack, versions)
    }

    /// Returns ledgers with changes, and whether to ask again at once.
    pub fn changes(&mut self) -> Result<(bool, Vec<Ledger>)> {
        let options = CostChangesOptions { count: i64::try_from(BATCH).ok() };
        let changes = cost_changes(&options).query(&mut self.connection)?;
        Ok((changes.more, changes.ledgers.into_iter().map(listed).collect::<Result<_>>()?))
    }

    /// Has all ledgers listed whole: no ledger has the version 0.
    pub fn list_whole(&mut self) -> Result<()> {
        for of_type in [scan::LEDGER, scan::ACCOUNT] {
            let mut scan = Scan::of(of_type);
            while let Some(keys) = scan.next(&mut self.connection)? {
                let keys = keys.iter().map(|key| Version { account: name_of(key), version: 0 });
                self.tell_versions(&keys.collect::<Vec<_>>())?;
            }
        }
        Ok(())
    }

    /// Sends key and version of each ledger.
    fn standings(&mut self, command: fn(&[KeyVersion]) -> Request<Vec<i64>>, of: &[Version]) -> Result<Standings> {
        let mut standings = Standings::default();
        for batch in of.chunks(BATCH) {
            let mut pipe = redis::pipe();
            let mut requests = Vec::with_capacity(batch.len());
            for Version { account, version } in batch {
                let key = key_of(account).with_context(|| format!("the database has no account's name: {account}"))?;
                let request = command(&[KeyVersion { key: key.into(), version: *version }]);
                request.add_to(&mut pipe);
                requests.push(request);
            }
            let replies: Vec<Value> = pipe.ignore_errors().query(&mut self.connection)?;
            for ((Version { account, .. }, request), reply) in batch.iter().zip(requests).zip(replies) {
                match request.decode(reply) {
                    Ok(standing) => standings.gone += usize::from(standing == [-1]),
                    Err(Error::Reply(error)) if error.code == "MOVED" => standings.moved.push(account.clone()),
                    // The slot is moving, and the key is not here (any more). If there is a ledger, its new node lists it
                    // when it has the slot.
                    Err(Error::Reply(error)) if ["ASK", "TRYAGAIN"].contains(&&*error.code) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(standings)
    }
}

fn listed(ledger: LedgerChange) -> Result<Ledger> {
    let rows = |rows: Vec<PeriodAmount>| -> Result<Vec<Row>> {
        let row = |row: PeriodAmount| {
            let first_day = row.first_day.as_str().and_then(|day| day.parse().ok());
            let first_day = first_day.with_context(|| format!("not a day: {}", row.first_day))?;
            Ok(Row { period: row.period, first_day, amount: row.amount })
        };
        rows.into_iter().map(row).collect()
    };
    let LedgerChange { key, version, since, rows: spend, credits, .. } = ledger;
    Ok(Ledger { account: name_of(&key), version, since, spend: rows(spend)?, credits: rows(credits)? })
}
