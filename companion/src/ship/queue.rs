//! The log queue, for a consumer of leased batches. In a cluster it is followed wherever its slot goes.

use std::collections::BTreeMap;
use std::time::Duration;

use gateway_core::queue::BatchId;
use redis::{Cmd, Connection, ErrorKind, FromRedisValue, RedisError, RedisResult};

use crate::nodes::{self, Address, Redirect, Seed};
use crate::stop::{Backoff, Stop};
use crate::supervise::Reporter;

/// How long a pop waits at the server for records. The end of the run has to wait for it.
const BLOCK: Duration = Duration::from_secs(1);
/// If no reply comes for this long, the server is considered gone.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The number of tries after the end was requested, which ends all pauses.
const LAST_TRIES: u32 = 3;

pub struct Batch {
    pub id: BatchId,
    pub records: Vec<Vec<u8>>,
    /// The number of this delivery.
    pub delivery: u64,
}

/// How many redirections one call follows at once. Nodes that do not agree yet may send it in a circle.
const REDIRECTIONS: u32 = 5;

pub struct Queue<'a> {
    stop: &'a Stop,
    reporter: &'a Reporter,
    seed: Seed,
    /// The nodes that were heard of. The first one is asked; if it fails, it goes to the end. The others know which node
    /// has the queue.
    nodes: Vec<Address>,
    connections: BTreeMap<Address, Connection>,
    key: String,
    lease_ms: u64,
}

impl<'a> Queue<'a> {
    pub fn new(seed: Seed, key: &str, lease: Duration, stop: &'a Stop, reporter: &'a Reporter) -> Self {
        let nodes = vec![seed.address().clone()];
        let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        Self { stop, reporter, seed, nodes, connections: BTreeMap::new(), key: key.to_owned(), lease_ms }
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    /// Leases up to `count` records, after a short wait at most; `None` if there are none.
    pub fn lease(&mut self, count: u32) -> RedisResult<Option<Batch>> {
        let mut pop = redis::cmd("GW.LOGPOP");
        pop.arg(&self.key).arg("COUNT").arg(count).arg("LEASE").arg(self.lease_ms);
        pop.arg("BLOCK").arg(BLOCK.as_millis() as u64);
        let batch: Option<(Vec<u8>, Vec<Vec<u8>>, u64)> = self.call(&pop)?;
        let Some((id, records, delivery)) = batch else { return Ok(None) };
        let unknown = || RedisError::from((ErrorKind::Parse, "not the id of a batch"));
        Ok(Some(Batch { id: BatchId::parse(&id).ok_or_else(unknown)?, records, delivery }))
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
        command.arg(&self.key).arg(batch.id.to_string()).arg("DELIVERY").arg(batch.delivery);
        command
    }

    /// Goes on through restarts, failovers and moves of the queue; every command here can be repeated.
    fn call<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        let mut backoff = Backoff::up_to(PAUSE_MAX);
        let mut last_tries = LAST_TRIES;
        loop {
            match self.follow(command) {
                Err(error) if is_passing(&error) && last_tries > 0 => {
                    tracing::warn!(queue = self.key, %error, "the server cannot be asked; trying again");
                    self.reporter.waiting(&error);
                    last_tries -= u32::from(self.stop.is_requested());
                    self.stop.pause(backoff.next());
                }
                done => return done,
            }
        }
    }

    /// Sends the command to the node that was right last, and then to wherever it is redirected.
    fn follow<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        let (mut node, mut asking) = (self.nodes[0].clone(), false);
        let mut redirections = REDIRECTIONS;
        loop {
            let error = match self.send(command, &node, asking) {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let Some(redirect) = nodes::redirect(&error, &node).filter(|_| redirections > 0) else {
                self.turn_from(&node);
                return Err(error);
            };
            redirections -= 1;
            (node, asking) = match redirect {
                Redirect::Moved(to) => {
                    self.turn_to(&to);
                    (to, false)
                }
                // For this call alone: the slot is still the first node's.
                Redirect::Ask(to) => (to, true),
            };
        }
    }

    fn send<T: FromRedisValue>(&mut self, command: &Cmd, node: &Address, asking: bool) -> RedisResult<T> {
        let mut connection = match self.connections.remove(node) {
            Some(connection) => connection,
            None => self.connect(node)?,
        };
        if asking {
            redis::cmd("ASKING").exec(&mut connection)?;
        }
        let reply = command.query(&mut connection);
        // After any other error a new connection is made: it may lead to another server.
        if reply.as_ref().err().is_none_or(|error| nodes::redirect(error, node).is_some()) {
            self.connections.insert(node.clone(), connection);
        }
        reply
    }

    fn connect(&mut self, node: &Address) -> RedisResult<Connection> {
        let mut connection = self.seed.connect(node, BLOCK + PATIENCE)?;
        for shard in nodes::shards(&mut connection, node)? {
            for other in [shard.primary].into_iter().chain(shard.replicas) {
                if !self.nodes.contains(&other) {
                    self.nodes.push(other);
                }
            }
        }
        Ok(connection)
    }

    /// From now on this node is asked first.
    fn turn_to(&mut self, node: &Address) {
        self.nodes.retain(|known| known != node);
        self.nodes.insert(0, node.clone());
    }

    /// A node that fails is asked again when all others have been asked.
    fn turn_from(&mut self, node: &Address) {
        if self.nodes[0] == *node {
            self.nodes.rotate_left(1);
        }
    }
}

/// Whether the error may go away by itself: the server restarts, loads, has become a replica, or cannot save; the nodes
/// of a cluster do not agree yet.
fn is_passing(error: &RedisError) -> bool {
    const CODES: [&str; 9] =
        ["LOADING", "READONLY", "UNBLOCKED", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "MOVED", "ASK"];
    // A reply that cannot be read was cut off.
    let is_cut_off = matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse);
    is_cut_off || error.code().is_some_and(|code| CODES.contains(&code))
}
