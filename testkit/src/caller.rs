//! A client that finds the primary of a key, in a cluster or through sentinels, and says what became of each call.

use crate::client::time_ms;
use crate::error::Error;
use crate::routes::{Discovery, Routes};
use crate::wait::DEADLINE;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, Value, cmd};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long to wait before a call is sent again.
const PAUSE: Duration = Duration::from_millis(5);

/// How long [`Caller::confirming`] waits for replicas.
const CONFIRMATION_MS: u64 = 500;

/// How many marks the callers of this process have set: no two are the same.
static MARKS: AtomicU64 = AtomicU64::new(0);

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
    routes: Routes,
    confirmed_by: Arc<AtomicUsize>,
    /// Calls that were sent elsewhere, or again, because a node said so.
    pub redirected: u64,
    /// Calls that were lost.
    pub lost: u64,
}

impl Caller {
    pub fn new(discovery: Discovery) -> Self {
        Self { routes: Routes::new(discovery), confirmed_by: Arc::default(), redirected: 0, lost: 0 }
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
        let mut ask = None;
        while start.elapsed() < DEADLINE {
            let asking = ask.take();
            let Some(port) = asking.or_else(|| self.routes.find(key)) else {
                thread::sleep(PAUSE);
                continue;
            };
            let (at_ms, error) = match self.send(port, asking.is_some(), key, command) {
                Ok((at_ms, Ok(value))) => return Ok((at_ms, Outcome::Replied(value))),
                Ok((at_ms, Err(error))) => (at_ms, error),
                Err(Unsent) => {
                    self.routes.forget(key);
                    thread::sleep(PAUSE);
                    continue;
                }
            };
            match advice(&error) {
                Advice::Moved(port) => self.routes.learn(key, port),
                Advice::Ask(port) => ask = Some(port),
                Advice::Again => {
                    self.routes.forget(key);
                    thread::sleep(PAUSE);
                }
                Advice::Lost => {
                    self.routes.disconnect(port);
                    self.routes.forget(key);
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
            let number = MARKS.fetch_add(1, Ordering::Relaxed);
            // A node that asks to be asked has said so about the command's key only. The usual mark may still be where
            // it was, and a second one here would end the move of its slot, so this mark is one that nobody else sets.
            let mark = if asking { format!("mark:{number}") } else { "mark".to_owned() };
            send(cmd("SET").arg(format!("{{{}}}:{mark}", tag(key))).arg(number));
            send(cmd("WAIT").arg(confirmed_by).arg(CONFIRMATION_MS));
        }
        send(&cmd("TIME"));
        let connection = self.routes.connection(port).ok_or(Unsent)?;
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
    redis::from_redis_value(reply.clone().ok()?).ok().map(time_ms)
}

/// The part of a key by which it has its slot.
fn tag(key: &str) -> &str {
    key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or(key, |(tag, _)| tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::key_slot;

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
    fn marks_are_in_the_slot_of_their_key() {
        for key in ["plain", "{tag}:key", "a{b}c"] {
            assert_eq!(key_slot(&format!("{{{}}}:mark", tag(key))), key_slot(key));
        }
    }
}
