//! A client that finds the primary of a key, in a cluster or through sentinels, and says what became of each call.

use crate::cluster::{SLOTS, key_slot};
use crate::error::Error;
use crate::sentinel::SENTINEL_NAME;
use crate::wait::DEADLINE;
use redis::{Cmd, Connection, ErrorKind, RedisError, RedisResult, Value, cmd};
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a node may take for a reply. Calls that wait must end earlier.
const TIMEOUT: Duration = Duration::from_millis(2_500);

/// How long to wait before a call is sent again.
const PAUSE: Duration = Duration::from_millis(5);

/// How long [`Caller::confirming`] waits for replicas.
const CONFIRMATION_MS: u64 = 500;

/// Where to ask for primaries.
#[derive(Debug, Clone)]
pub enum Discovery {
    /// Any node of a cluster, by its port.
    Cluster(Vec<u16>),
    /// The sentinels' ports.
    Sentinels(Vec<u16>),
}

/// What became of a call.
#[derive(Debug)]
pub enum Outcome {
    Replied(Value),
    /// An error of the command. Redirections and errors of a server that is away are not among them: they are followed.
    Refused(RedisError),
    /// Nobody knows whether the command ran: the link was cut, or the reply did not come, or, while
    /// [confirming](Caller::confirming), too few replicas have it.
    Lost,
}

/// A client that follows slots and failovers. It repeats a call only if it certainly did not run.
pub struct Caller {
    discovery: Discovery,
    /// The port of each slot's primary, as far as it is known. Without a cluster every key is in slot 0.
    primaries: Vec<Option<u16>>,
    connections: HashMap<u16, Connection>,
    confirmed_by: Arc<AtomicUsize>,
    marks: u64,
    /// Calls that were sent elsewhere, or again, because a node said so.
    pub redirected: u64,
    /// Calls that were lost.
    pub lost: u64,
}

impl Caller {
    pub fn new(discovery: Discovery) -> Self {
        let primaries = vec![None; usize::from(SLOTS)];
        let confirmed_by = Arc::default();
        Self { discovery, primaries, connections: HashMap::new(), confirmed_by, marks: 0, redirected: 0, lost: 0 }
    }

    /// Counts only what this number of replicas has confirmed; 0 counts all. The number can be changed later on.
    #[must_use]
    pub fn confirming(mut self, replicas: Arc<AtomicUsize>) -> Self {
        self.confirmed_by = replicas;
        self
    }

    /// Calls the primary of `key`, until there is a reply or the call may have been lost.
    ///
    /// # Errors
    /// If nobody serves the key for long.
    pub fn call(&mut self, key: &str, command: &Cmd) -> Result<Outcome, Error> {
        Ok(self.timed(key, command)?.1)
    }

    /// Like [`call`](Self::call), with the server's time, in unix milliseconds: right before and right after the command
    /// ran. It means nothing if the call was lost.
    ///
    /// # Errors
    /// If nobody serves the key for long.
    pub fn timed(&mut self, key: &str, command: &Cmd) -> Result<(RangeInclusive<i64>, Outcome), Error> {
        let start = Instant::now();
        let slot = match self.discovery {
            Discovery::Cluster(_) => usize::from(key_slot(key)),
            Discovery::Sentinels(_) => 0,
        };
        let mut ask = None;
        while start.elapsed() < DEADLINE {
            let asking = ask.take();
            let Some(port) = asking.or_else(|| self.find(slot)) else {
                thread::sleep(PAUSE);
                continue;
            };
            let (at_ms, error) = match self.send(port, asking.is_some(), key, command) {
                Ok((at_ms, Ok(value))) => return Ok((at_ms, Outcome::Replied(value))),
                Ok((at_ms, Err(error))) => (at_ms, error),
                Err(Unsent) => {
                    self.primaries[slot] = None;
                    thread::sleep(PAUSE);
                    continue;
                }
            };
            match advice(&error) {
                Advice::Moved(port) => self.primaries[slot] = Some(port),
                Advice::Ask(port) => ask = Some(port),
                Advice::Again => {
                    self.primaries[slot] = None;
                    thread::sleep(PAUSE);
                }
                Advice::Lost => {
                    self.connections.remove(&port);
                    self.primaries[slot] = None;
                    self.lost += 1;
                    return Ok((at_ms, Outcome::Lost));
                }
                Advice::Refused => return Ok((at_ms, Outcome::Refused(error))),
            }
            self.redirected += 1;
        }
        Err(Error::new(format!("after {DEADLINE:?} still nobody serves {key}")))
    }

    /// Sends the command in a pipeline with what tells the time and, if asked for, whether replicas have it.
    fn send(&mut self, port: u16, asking: bool, key: &str, command: &Cmd) -> Result<Sent, Unsent> {
        let confirmed_by = self.confirmed_by.load(Ordering::Relaxed);
        let mut pipe = redis::pipe();
        let mut send = |command: &Cmd| {
            if asking {
                pipe.cmd("ASKING");
            }
            pipe.add_command(command.clone());
        };
        send(&cmd("TIME"));
        send(command);
        if confirmed_by > 0 {
            // WAIT is about what its own connection has written. A command that repeats an earlier one, of a connection
            // that was lost, writes nothing; what is written now comes after both.
            self.marks += 1;
            send(cmd("SET").arg(format!("{{{}}}:mark", tag(key))).arg(self.marks));
            send(cmd("WAIT").arg(confirmed_by).arg(CONFIRMATION_MS));
        }
        send(&cmd("TIME"));
        let connection = self.connection(port).ok_or(Unsent)?;
        let replies = match pipe.ignore_errors().query::<Vec<RedisResult<Value>>>(connection) {
            Ok(replies) => replies,
            Err(error) => return Ok((0..=0, Err(error))),
        };
        let replies: Vec<_> = replies.into_iter().skip(usize::from(asking)).step_by(1 + usize::from(asking)).collect();
        let [before, reply, confirmation @ .., after] = replies.as_slice() else { return Ok((0..=0, Err(lost()))) };
        let at_ms = read_time(before).unwrap_or_default()..=read_time(after).unwrap_or_default();
        let confirmed = match confirmation {
            [mark, Ok(Value::Int(count))] => mark.is_ok() && *count >= confirmed_by as i64,
            _ => confirmed_by == 0,
        };
        let reply = reply.clone().and_then(|value| if confirmed { Ok(value) } else { Err(lost()) });
        Ok((at_ms, reply))
    }

    /// The port of the slot's primary, as far as somebody tells.
    fn find(&mut self, slot: usize) -> Option<u16> {
        if self.primaries[slot].is_none() {
            match self.discovery.clone() {
                Discovery::Cluster(ports) => {
                    // Somebody else each time: what a node tells that was cut off can be old.
                    let first = self.marks as usize + self.redirected as usize + self.lost as usize;
                    let ports = (0..ports.len()).map(|index| ports[(first + index) % ports.len()]);
                    let told = ports.into_iter().find_map(|port| self.ask_cluster(port))?;
                    for (first, last, port) in told {
                        self.primaries[first..=last].fill(Some(port));
                    }
                }
                Discovery::Sentinels(ports) => {
                    self.primaries[slot] = ports.into_iter().find_map(|port| self.ask_sentinel(port));
                }
            }
        }
        self.primaries[slot]
    }

    fn ask_cluster(&mut self, port: u16) -> Option<Vec<(usize, usize, u16)>> {
        let told: RedisResult<Vec<Vec<Value>>> = cmd("CLUSTER").arg("SLOTS").query(self.connection(port)?);
        let Ok(told) = told else {
            self.connections.remove(&port);
            return None;
        };
        told.into_iter().map(|range| read_range(&range)).collect()
    }

    fn ask_sentinel(&mut self, port: u16) -> Option<u16> {
        let told: RedisResult<(String, u16)> =
            cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(SENTINEL_NAME).query(self.connection(port)?);
        if told.is_err() {
            self.connections.remove(&port);
        }
        told.ok().map(|(_, port)| port)
    }

    fn connection(&mut self, port: u16) -> Option<&mut Connection> {
        if !self.connections.contains_key(&port) {
            let client = redis::Client::open(("127.0.0.1", port)).ok()?;
            let connection = client.get_connection_with_timeout(TIMEOUT).ok()?;
            connection.set_read_timeout(Some(TIMEOUT)).ok()?;
            connection.set_write_timeout(Some(TIMEOUT)).ok()?;
            self.connections.insert(port, connection);
        }
        self.connections.get_mut(&port)
    }
}

/// The server's time around the command, and what it replied.
type Sent = (RangeInclusive<i64>, RedisResult<Value>);

/// There is no connection, so the command was not sent.
struct Unsent;

/// What to do about an error.
#[derive(Debug, PartialEq, Eq)]
enum Advice {
    Moved(u16),
    Ask(u16),
    /// The command did not run, and may do so later, or elsewhere.
    Again,
    Lost,
    Refused,
}

fn advice(error: &RedisError) -> Advice {
    let port = || error.redirect_node()?.0.rsplit_once(':')?.1.parse().ok();
    match error.code() {
        Some("MOVED") => port().map_or(Advice::Refused, Advice::Moved),
        Some("ASK") => port().map_or(Advice::Refused, Advice::Ask),
        Some("TRYAGAIN" | "CLUSTERDOWN" | "LOADING" | "READONLY" | "MASTERDOWN" | "UNBLOCKED" | "NOREPLICAS") => {
            Advice::Again
        }
        Some(_) => Advice::Refused,
        None => Advice::Lost,
    }
}

/// The error of a command that ran, or may have run, and does not count.
fn lost() -> RedisError {
    RedisError::from((ErrorKind::Io, "not confirmed"))
}

/// The reply of TIME in unix milliseconds.
fn read_time(reply: &RedisResult<Value>) -> Option<i64> {
    let [seconds, micros]: [i64; 2] = redis::from_redis_value(reply.clone().ok()?).ok()?;
    Some(seconds * 1_000 + micros / 1_000)
}

/// The part of a key by which it has its slot.
fn tag(key: &str) -> &str {
    key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or(key, |(tag, _)| tag)
}

/// An item of CLUSTER SLOTS: first slot, last slot, the primary as address and port, the replicas.
fn read_range(range: &[Value]) -> Option<(usize, usize, u16)> {
    let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = range else { return None };
    let Some(Value::Int(port)) = primary.get(1) else { return None };
    Some((usize::try_from(*first).ok()?, usize::try_from(*last).ok()?, u16::try_from(*port).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: &str) -> RedisError {
        redis::parse_redis_value(format!("-{line}\r\n").as_bytes())
            .and_then(Value::extract_error)
            .expect_err("an error")
    }

    #[test]
    fn errors_tell_what_to_do() {
        assert_eq!(advice(&error("MOVED 3999 127.0.0.1:6381")), Advice::Moved(6381));
        assert_eq!(advice(&error("ASK 3999 127.0.0.1:6381")), Advice::Ask(6381));
        for again in ["TRYAGAIN Multiple keys", "READONLY You can't", "LOADING Redis is", "UNBLOCKED the wait"] {
            assert_eq!(advice(&error(again)), Advice::Again, "{again}");
        }
        for refused in ["ERR unknown option: FOO", "NOHOLD no such hold", "WRONGTYPE Operation", "MOVED nonsense"] {
            assert_eq!(advice(&error(refused)), Advice::Refused, "{refused}");
        }
        assert_eq!(advice(&RedisError::from(std::io::Error::other("broken pipe"))), Advice::Lost);
    }

    #[test]
    fn slots_are_read() {
        let node = Value::Array(vec![Value::BulkString(b"127.0.0.1".into()), Value::Int(7000)]);
        let range = [Value::Int(0), Value::Int(5460), node, Value::Array(Vec::new())];
        assert_eq!(read_range(&range), Some((0, 5460, 7000)));
        assert_eq!(read_range(&range[..2]), None);
    }

    #[test]
    fn marks_are_in_the_slot_of_their_key() {
        for key in ["plain", "{tag}:key", "a{b}c"] {
            assert_eq!(key_slot(&format!("{{{}}}:mark", tag(key))), key_slot(key));
        }
    }
}
