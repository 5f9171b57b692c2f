//! The server: ledgers that have changed.

use redis::{Connection, FromRedisValue, RedisResult, Value};

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

pub struct Feed(Connection);

/// The ledgers requested in one call, and the commands sent at a time: as many as the server lists in one call. Each
/// command names one ledger, so that a cluster's nodes accept them whatever their slots are.
const BATCH: usize = 200;

impl Feed {
    pub fn connect(url: &str) -> RedisResult<Feed> {
        redis::Client::open(url)?.get_connection().map(Feed)
    }

    /// Tells the server which versions the database has. Returns how many of these ledgers are gone.
    pub fn tell_versions(&mut self, versions: &[(Vec<u8>, i64)]) -> RedisResult<usize> {
        self.standings("GW.COSTSYNC", versions)
    }

    /// Returns ledgers with changes, and whether to ask again at once.
    pub fn changes(&mut self) -> RedisResult<(bool, Vec<Ledger>)> {
        let (more, ledgers): (i64, Vec<Value>) =
            redis::cmd("GW.COSTCHANGES").arg("COUNT").arg(BATCH).query(&mut self.0)?;
        let ledgers = ledgers.into_iter().map(|ledger| {
            let (key, version, since, rows, credits) = FromRedisValue::from_redis_value(ledger)?;
            Ok(Ledger { key, version, since, rows, credits })
        });
        Ok((more == 1, ledgers.collect::<RedisResult<_>>()?))
    }

    pub fn acknowledge(&mut self, ledgers: &[Ledger]) -> RedisResult<()> {
        let versions: Vec<_> = ledgers.iter().map(|ledger| (ledger.key.clone(), ledger.version)).collect();
        self.standings("GW.COSTACK", &versions).map(drop)
    }

    /// Sends key and version of each ledger. Returns for how many keys the server has no ledger.
    fn standings(&mut self, command: &str, versions: &[(Vec<u8>, i64)]) -> RedisResult<usize> {
        let mut gone = 0;
        for batch in versions.chunks(BATCH) {
            let mut pipe = redis::pipe();
            for (key, version) in batch {
                pipe.cmd(command).arg(key).arg(version);
            }
            let standings: Vec<[i64; 1]> = pipe.query(&mut self.0)?;
            gone += standings.iter().filter(|standing| **standing == [-1]).count();
        }
        Ok(gone)
    }
}
