//! The log queue, as a consumer of leased batches sees it.

use crate::stop::{self, Backoff};
use redis::{Cmd, Connection, ErrorKind, FromRedisValue, RedisError, RedisResult};
use std::time::Duration;

/// How long a pop waits at the server for records; the end of the run waits for it.
const BLOCK: Duration = Duration::from_secs(1);
/// How long no reply at all means that the server has gone.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Once the end is asked for; the signal that asks interrupts whatever is waited for.
const LAST_TRIES: u32 = 3;

pub struct Batch {
    pub id: String,
    pub records: Vec<Vec<u8>>,
    pub deliveries: u64,
}

pub struct Queue {
    client: redis::Client,
    connection: Option<Connection>,
    key: String,
    lease_ms: u64,
}

impl Queue {
    pub fn new(server: &str, key: &str, lease_ms: u64) -> RedisResult<Self> {
        Ok(Self { client: redis::Client::open(server)?, connection: None, key: key.to_owned(), lease_ms })
    }

    /// Up to `count` records, after a while at most; `None` where there are none.
    pub fn lease(&mut self, count: u32) -> RedisResult<Option<Batch>> {
        let mut pop = redis::cmd("GW.LOGPOP");
        pop.arg(&self.key).arg("COUNT").arg(count).arg("LEASE").arg(self.lease_ms);
        pop.arg("BLOCK").arg(BLOCK.as_millis() as u64);
        let batch: Option<(String, Vec<Vec<u8>>, u64)> = self.call(&pop)?;
        Ok(batch.map(|(id, records, deliveries)| Batch { id, records, deliveries }))
    }

    /// The batch is where it should be.
    pub fn ack(&mut self, id: &str) -> RedisResult<bool> {
        self.call(redis::cmd("GW.LOGACK").arg(&self.key).arg(id))
    }

    /// Another shipper may have the batch.
    pub fn give_back(&mut self, id: &str) -> RedisResult<bool> {
        self.call(redis::cmd("GW.LOGNACK").arg(&self.key).arg(id))
    }

    /// Somebody has to look at the batch.
    pub fn give_up(&mut self, id: &str) -> RedisResult<bool> {
        self.call(redis::cmd("GW.LOGNACK").arg(&self.key).arg(id).arg("DEAD"))
    }

    /// Starts the batch's lease anew. False where somebody else has it by now.
    pub fn extend(&mut self, id: &str) -> RedisResult<bool> {
        self.call(redis::cmd("GW.LOGEXTEND").arg(&self.key).arg(id).arg("LEASE").arg(self.lease_ms))
    }

    /// Outlasts restarts and failovers of the server; every command here can be repeated.
    fn call<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        let mut backoff = Backoff::up_to(PAUSE_MAX);
        let mut last_tries = LAST_TRIES;
        loop {
            match self.try_call(command) {
                Err(error) if is_passing(&error) && last_tries > 0 => {
                    eprintln!("{error}; trying again");
                    last_tries -= u32::from(stop::requested());
                    backoff.pause();
                }
                done => return done,
            }
        }
    }

    fn try_call<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let connection = self.client.get_connection_with_timeout(PATIENCE)?;
                connection.set_read_timeout(Some(BLOCK + PATIENCE))?;
                connection
            }
        };
        let reply = command.query(&mut connection)?;
        // After an error a new one is made: it may lead to another server.
        self.connection = Some(connection);
        Ok(reply)
    }
}

/// Whether it may be over in a while: the server restarts, loads, has become a replica, or cannot save.
fn is_passing(error: &RedisError) -> bool {
    const CODES: [&str; 7] = ["LOADING", "READONLY", "UNBLOCKED", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF"];
    // A reply that cannot be read is one that was cut off.
    let is_cut_off = matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse);
    is_cut_off || error.code().is_some_and(|code| CODES.contains(&code))
}
