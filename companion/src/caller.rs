//! Calls about a key, wherever it is: in a cluster its slot is followed, otherwise whichever node is the primary.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redis::{Cmd, Connection, ErrorKind, RedisError, RedisResult, Value};
use redis_gateway_client::Error;
use redis_gateway_client::commands::Request;

use crate::nodes::{self, Address, PATIENCE, Redirect, Seed};
use crate::stop::{Backoff, Stop};
use crate::supervise::Reporter;

const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The longest that somebody who waits for an answer waits for a failover.
const FAILOVER: Duration = Duration::from_secs(30);
/// The number of tries after the end was requested, which ends all pauses.
const LAST_TRIES: u32 = 3;
/// How many redirections one call follows at once. Nodes that do not agree yet may send it in a circle.
const REDIRECTIONS: u32 = 5;

/// Sends calls to the node that was right last. One for each key, or for keys of one slot.
pub struct Caller {
    seed: Seed,
    /// The nodes that were heard of. The first one is asked; if it fails, it goes to the end. The others know which node
    /// has the key.
    nodes: Vec<Address>,
    connections: BTreeMap<Address, Connection>,
    /// The longest time that a call waits inside the server.
    block: Duration,
    has_answered: bool,
}

impl Caller {
    pub fn new(seed: Seed, block: Duration) -> Self {
        let nodes = vec![seed.address().clone()];
        Self { seed, nodes, connections: BTreeMap::new(), block, has_answered: false }
    }

    /// Sends a call that may be repeated until it is answered: through restarts, failovers and moves of the key.
    ///
    /// # Errors
    /// If the server refuses it, which it will do again. What passes by itself is waited for, unless the end is requested.
    pub fn insist<T>(&mut self, request: &Request<T>, stop: &Stop, reporter: &Reporter) -> Result<T, Error> {
        let mut backoff = Backoff::up_to(PAUSE_MAX);
        let mut last_tries = LAST_TRIES;
        loop {
            match self.follow(request.cmd()) {
                Err(error) if is_passing(&error) && last_tries > 0 => {
                    tracing::warn!(command = request.name(), %error, "the server cannot be asked; trying again");
                    reporter.waiting(&error);
                    last_tries -= u32::from(stop.is_requested());
                    stop.pause(backoff.next());
                }
                done => return request.decode(done?),
            }
        }
    }

    /// Sends a call that may be repeated, for somebody who waits for the answer. A server that has not answered yet has one
    /// chance; one that has may be away for as long as a failover takes.
    ///
    /// # Errors
    /// If the server refuses it, or stays away.
    pub fn ask<T>(&mut self, request: &Request<T>) -> Result<T, Error> {
        let (mut backoff, started) = (Backoff::up_to(PAUSE_MAX), Instant::now());
        loop {
            match self.follow(request.cmd()) {
                Err(error) if is_passing(&error) && self.has_answered && started.elapsed() < FAILOVER => {
                    std::thread::sleep(backoff.next());
                }
                done => {
                    self.has_answered |= done.is_ok();
                    return request.decode(done?);
                }
            }
        }
    }

    /// Sends a command to the node that was right last, and then to wherever it is redirected.
    fn follow(&mut self, command: &Cmd) -> RedisResult<Value> {
        if self.seed.is_watched() && self.connections.is_empty() {
            // Whenever there was an error, the primary may be another server now.
            self.turn_to(&self.seed.primary()?);
        }
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

    fn send(&mut self, command: &Cmd, node: &Address, asking: bool) -> RedisResult<Value> {
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
        let mut connection = self.seed.connect(node, self.block + PATIENCE)?;
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
