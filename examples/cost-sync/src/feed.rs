//! The change feed of one server: a primary of a cluster, or a server outside of one.

use std::time::Duration;

use gw_nodes::{Address, Seed, Shard};
use redis::{Connection, FromRedisValue, RedisError, RedisResult, ServerErrorKind, Value};

/// A ledger with its changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    pub key: Vec<u8>,
    pub version: i64,
    /// Amounts that the database has under older versions are those of another ledger.
    pub since: i64,
    pub rows: Vec<Row>,
    pub credits: Vec<Row>,
}

/// Period, first day, amount.
pub type Row = (String, String, String);

/// A key and a version of its ledger.
pub type Version = (Vec<u8>, i64);

pub struct Feed {
    address: Address,
    connection: Connection,
}

/// What a server said of several ledgers.
#[derive(Debug, Default)]
pub struct Standings {
    /// The number of keys without a ledger.
    pub gone: usize,
    /// Keys whose slot belongs to another node now.
    pub moved: Vec<Vec<u8>>,
}

/// The ledgers requested in one call, and the commands sent at a time: as many as the server lists in one call. Each
/// command names one ledger, so that the keys of a call are never in two slots, and a key that has moved concerns no other.
const BATCH: usize = 200;

/// If no reply comes for this long, the server is considered gone.
const PATIENCE: Duration = Duration::from_secs(30);

impl Feed {
    pub fn connect(seed: &Seed, address: &Address) -> RedisResult<Feed> {
        Ok(Feed { address: address.clone(), connection: seed.connect(address, PATIENCE)? })
    }

    /// Who serves what, as this node knows it.
    pub fn shards(&mut self) -> RedisResult<Vec<Shard>> {
        gw_nodes::shards(&mut self.connection, &self.address)
    }

    /// Identifies the data of this server. It changes with each failover: what the server has then may be older than what
    /// was read from it before.
    pub fn history(&mut self) -> RedisResult<String> {
        let text: String = redis::cmd("INFO").arg("replication").query(&mut self.connection)?;
        let id = text.lines().find_map(|line| line.strip_prefix("master_replid:"));
        Ok(id.unwrap_or_default().to_owned())
    }

    /// Tells the server which versions the database has.
    pub fn tell_versions(&mut self, versions: &[Version]) -> RedisResult<Standings> {
        self.standings("GW.COSTSYNC", versions)
    }

    /// Returns ledgers with changes, and whether to ask again at once.
    pub fn changes(&mut self) -> RedisResult<(bool, Vec<Ledger>)> {
        let (more, ledgers): (i64, Vec<Value>) =
            redis::cmd("GW.COSTCHANGES").arg("COUNT").arg(BATCH).query(&mut self.connection)?;
        let ledgers = ledgers.into_iter().map(|ledger| {
            let (key, version, since, rows, credits) = FromRedisValue::from_redis_value(ledger)?;
            Ok(Ledger { key, version, since, rows, credits })
        });
        Ok((more == 1, ledgers.collect::<RedisResult<_>>()?))
    }

    pub fn acknowledge(&mut self, versions: &[Version]) -> RedisResult<Standings> {
        self.standings("GW.COSTACK", versions)
    }

    /// Sends key and version of each ledger.
    fn standings(&mut self, command: &str, versions: &[Version]) -> RedisResult<Standings> {
        let mut standings = Standings::default();
        for batch in versions.chunks(BATCH) {
            let mut pipe = redis::pipe();
            for (key, version) in batch {
                pipe.cmd(command).arg(key).arg(version);
            }
            let replies: Vec<RedisResult<[i64; 1]>> = pipe.ignore_errors().query(&mut self.connection)?;
            for ((key, _), reply) in batch.iter().zip(replies) {
                match reply {
                    Ok([standing]) => standings.gone += usize::from(standing == -1),
                    Err(error) if is_elsewhere(&error) => {}
                    Err(error) if error.kind() == ServerErrorKind::Moved.into() => standings.moved.push(key.clone()),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(standings)
    }
}

/// Whether the slot is moving, and the key is not here (any more). If there is a ledger, its new node lists it when it has
/// the slot.
fn is_elsewhere(error: &RedisError) -> bool {
    [ServerErrorKind::Ask, ServerErrorKind::TryAgain].into_iter().any(|kind| error.kind() == kind.into())
}
