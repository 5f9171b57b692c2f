//! The log queue, for a consumer of leased batches.

use crate::stop::{self, Backoff};
use redis::{Cmd, Connection, ErrorKind, FromRedisValue, RedisError, RedisResult};
use std::time::Duration;

/// How long a pop waits at the server for records. The end of the run has to wait for it.
const BLOCK: Duration = Duration::from_secs(1);
/// If no reply comes for this long, the server is considered gone.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The number of tries after the end was requested; the signal interrupts any wait.
const LAST_TRIES: u32 = 3;

pub struct Batch {
    pub id: String,
    pub records: Vec<Vec<u8>>,
    /// The number of this delivery.
    pub delivery: u64,
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

    /// Leases up to `count` records, after a short wait at most; `None` if there are none.
    pub fn lease(&mut self, count: u32) -> RedisResult<Option<Batch>> {
        let mut pop = redis::cmd("GW.LOGPOP");
        pop.arg(&self.key).arg("COUNT").arg(count).arg("LEASE").arg(self.lease_ms);
        pop.arg("BLOCK").arg(BLOCK.as_millis() as u64);
        let batch: Option<(String, Vec<Vec<u8>>, u64)> = self.call(&pop)?;
        Ok(batch.map(|(id, records, delivery)| Batch { id, records, delivery }))
    }

    /// Acknowledges the batch, which is stored. This and the next methods return false if another shipper has the batch
    /// now.
    pub fn ack(&mut self, batch: &Batch) -> RedisResult<bool> {
        let acknowledge = self.on("GW.LOGACK", batch);
        self.call(&acknowledge)
    }

    /// Gives the batch back, so that another shipper may have it.
    pub fn give_back(&mut self, batch: &Batch) -> RedisResult<bool> {
        let give_back = self.on("GW.LOGNACK", batch);
        self.call(&give_back)
    }

    /// Gives up records that somebody has to look at. Repeated, it gives up no others: the indexes are those of the
    /// delivery.
    pub fn give_up(&mut self, batch: &Batch, indexes: &[usize]) -> RedisResult<bool> {
        let mut give_up = self.on("GW.LOGNACK", batch);
        give_up.arg("DEAD").arg("RECORD").arg(indexes);
        self.call(&give_up)
    }

    /// Starts the batch's lease again.
    pub fn extend(&mut self, batch: &Batch) -> RedisResult<bool> {
        let mut extend = self.on("GW.LOGEXTEND", batch);
        extend.arg("LEASE").arg(self.lease_ms);
        self.call(&extend)
    }

    /// A command on a batch. It changes nothing if the batch has been delivered again since.
    fn on(&self, command: &str, batch: &Batch) -> Cmd {
        let mut command = redis::cmd(command);
        command.arg(&self.key).arg(&batch.id).arg("DELIVERY").arg(batch.delivery);
        command
    }

    /// Goes on through restarts and failovers of the server; every command here can be repeated.
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
        // After an error a new connection is made: it may lead to another server.
        self.connection = Some(connection);
        Ok(reply)
    }
}

/// Whether the error may go away by itself: the server restarts, loads, has become a replica, or cannot save.
fn is_passing(error: &RedisError) -> bool {
    const CODES: [&str; 7] = ["LOADING", "READONLY", "UNBLOCKED", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF"];
    // A reply that cannot be read was cut off.
    let is_cut_off = matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse);
    is_cut_off || error.code().is_some_and(|code| CODES.contains(&code))
}
