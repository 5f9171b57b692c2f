use std::borrow::Cow;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Arg, Cmd, RedisResult, Value};
use tokio::sync::Semaphore;

use super::circuit::Circuit;
use super::failure::{away_reply, not_connected};
use super::link::Link;
use super::observer::Observer;
use super::settings::Settings;
use super::telling::Telling;
use super::waiting::within;
use super::way::Way;
use crate::commands::Request;
use crate::error::{Error, ReplyError, Unavailable};

/// What is sent: a command with its key.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) cmd: Cmd,
    pub(super) key: Option<Vec<u8>>,
    pub(super) repeatable: bool,
    /// The longest wait for its reply, if it is not the usual one.
    pub(super) longest: Option<Duration>,
}

impl Call {
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        let key = request.key().map(<[u8]>::to_vec);
        Self { cmd: request.cmd().clone(), key, repeatable: request.is_repeatable(), longest: None }
    }

    /// The command's name.
    fn operation(&self) -> Cow<'_, str> {
        match self.cmd.args_iter().next() {
            Some(Arg::Simple(name)) => String::from_utf8_lossy(name),
            _ => Cow::Borrowed("UNKNOWN"),
        }
    }
}

/// One server, with the gateway's own connections to it.
pub(super) struct Node {
    pub(super) address: String,
    pub(super) circuit: Circuit,
    way: Way,
    timeout: Duration,
    connect_timeout: Duration,
    /// The connection that all calls share.
    shared: tokio::sync::Mutex<Shared>,
    attempts: AtomicU64,
    /// Connections on which calls wait inside the server, that are free now.
    idle: Mutex<Vec<Link>>,
    waiting: Semaphore,
    observer: Option<Arc<dyn Observer>>,
}

#[derive(Default)]
struct Shared {
    link: Option<Link>,
    /// Which one it is, so that a call leaves only the connection on which it has failed.
    number: u64,
    failure: Option<Error>,
}

impl Node {
    pub(super) fn new(way: Way, address: String, settings: &Settings) -> Self {
        Self {
            circuit: Circuit::new(&address, settings.failures, settings.pause),
            address,
            way,
            timeout: settings.timeout,
            connect_timeout: settings.connect_timeout,
            shared: tokio::sync::Mutex::default(),
            attempts: AtomicU64::new(0),
            idle: Mutex::default(),
            waiting: Semaphore::new(settings.waiting_connections),
            observer: settings.observer.clone(),
        }
    }

    async fn connect(&self) -> Result<Link, Error> {
        let longest = self.connect_timeout;
        let client = self.way.now(longest).await?;
        match within(longest + self.timeout, Link::connect(&client, longest)).await {
            Some(made) => made.map_err(not_connected),
            None => Err(Error::Unavailable(Unavailable::new("timeout", false, true))),
        }
    }

    /// The connection that all calls share. It is made once for all that wait for it, and they fail together.
    async fn connection(&self) -> Result<(u64, Link), Error> {
        let before = self.attempts.load(Ordering::Acquire);
        let mut shared = self.shared.lock().await;
        if let Some(link) = shared.link.as_ref().filter(|link| !link.is_lost()) {
            return Ok((shared.number, link.clone()));
        }
        if self.attempts.load(Ordering::Acquire) != before
            && let Some(failure) = &shared.failure
        {
            return Err(failure.clone());
        }
        let made = self.connect().await;
        self.attempts.fetch_add(1, Ordering::AcqRel);
        match made {
            Ok(link) => {
                shared.number += 1;
                shared.link = Some(link.clone());
                shared.failure = None;
                Ok((shared.number, link))
            }
            Err(failure) => {
                shared.failure = Some(failure.clone());
                Err(failure)
            }
        }
    }

    /// The next call makes a new connection.
    async fn leave(&self, number: u64) {
        let mut shared = self.shared.lock().await;
        if shared.number == number {
            shared.link = None;
        }
        self.lock_idle().clear();
    }

    fn lock_idle(&self) -> std::sync::MutexGuard<'_, Vec<Link>> {
        self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Sends a call, if the circuit lets it. A second time on a new connection if the first one was lost, and if that changes nothing.
    pub(super) async fn ask(&self, call: &Call, asking: bool) -> Result<Value, Error> {
        let Some(permit) = self.circuit.ask(self.timeout).await else {
            return Err(Error::Unavailable(Unavailable::new("circuit_open", false, true)));
        };
        let operation = call.operation();
        let mut found = self.told(&operation, self.once(call, asking)).await;
        if let Err(Error::Unavailable(first)) = &found
            && first.reason == "connection"
            && (!first.sent || call.repeatable)
        {
            let sent = first.sent;
            found = self.told(&operation, self.once(call, asking)).await;
            // A call that was tried twice may have arrived if one of the tries may have.
            if let Err(Error::Unavailable(second)) = &mut found {
                second.sent |= sent;
            }
        }
        match &found {
            Err(Error::Unavailable(away)) if away.down => permit.failed(away.reason),
            _ => permit.succeeded(),
        }
        found
    }

    async fn once(&self, call: &Call, asking: bool) -> Result<Value, Error> {
        let (number, mut link) = self.connection().await?;
        let answer = within(call.longest.unwrap_or(self.timeout), send(&mut link.connection, &call.cmd, asking)).await;
        let found = read(answer);
        if let Err(Error::Unavailable(away)) = &found
            && matches!(away.reason, "timeout" | "connection" | "readonly" | "masterdown" | "unblocked")
        {
            self.leave(number).await;
        }
        found
    }

    /// Sends calls that can be repeated together, in one round trip. Each has the answer that it would have alone.
    pub(super) async fn ask_together(&self, calls: &[Call]) -> Vec<Result<Value, Error>> {
        let all = |error: Error| calls.iter().map(|_| Err(error.clone())).collect();
        let Some(permit) = self.circuit.ask(self.timeout).await else {
            return all(Error::Unavailable(Unavailable::new("circuit_open", false, true)));
        };
        let mut found = self.told("PIPELINE", self.once_together(calls)).await;
        if matches!(&found, Err(Error::Unavailable(away)) if away.reason == "connection") {
            found = self.told("PIPELINE", self.once_together(calls)).await;
        }
        match found {
            Ok(replies) => {
                permit.succeeded();
                replies
            }
            Err(error) => {
                if let Some(away) = error.unavailable() {
                    permit.failed(away.reason);
                }
                all(error)
            }
        }
    }

    async fn once_together(&self, calls: &[Call]) -> Result<Vec<Result<Value, Error>>, Error> {
        let (number, mut link) = self.connection().await?;
        let mut pipe = redis::pipe();
        for call in calls {
            pipe.add_command(call.cmd.clone());
        }
        let answer = within(self.timeout, link.connection.req_packed_commands(&pipe, 0, calls.len())).await;
        let lost = |reason| Err(Error::Unavailable(Unavailable::new(reason, true, true)));
        let found = match answer {
            Some(Ok(replies)) if replies.len() == calls.len() => Ok(replies),
            Some(_) => lost("connection"),
            None => lost("timeout"),
        };
        if found.is_err() {
            self.leave(number).await;
        }
        Ok(found?.into_iter().map(|reply| read(Some(Ok(reply)))).collect())
    }

    /// Sends a call that waits in the server for so long, on a connection of its own. If nobody waits for it any more, the connection
    /// is closed, which ends the wait in the server.
    pub(super) async fn ask_waiting(&self, call: &Call, wait: Duration, patience: Duration) -> Result<Value, Error> {
        if self.circuit.is_open() {
            return Err(Error::Unavailable(Unavailable::new("circuit_open", false, true)));
        }
        let full = || Error::Unavailable(Unavailable::new("connections", false, false));
        let taken = tokio::time::timeout(wait.max(self.timeout), self.waiting.acquire()).await;
        let _place = taken.map_err(|_| full())?.map_err(|_| full())?;
        let idle = {
            let mut idle = self.lock_idle();
            // They may have been lost while nobody used them.
            idle.retain(|link| !link.is_lost());
            idle.pop()
        };
        let asked = async {
            let mut link = match idle {
                Some(link) => link,
                None => self.connect().await?,
            };
            let found = read(within(wait + patience, send(&mut link.connection, &call.cmd, false)).await);
            if !matches!(&found, Err(Error::Unavailable(_))) {
                self.lock_idle().push(link);
            }
            found
        };
        self.told(&call.operation(), asked).await
    }

    /// Does it, and tells the observer how it goes.
    async fn told<T>(&self, operation: &str, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let telling = Telling::begin(self.observer.as_ref(), operation, &self.address);
        let found = work.await;
        telling.ended(&found);
        found
    }
}

async fn send(connection: &mut MultiplexedConnection, cmd: &Cmd, asking: bool) -> RedisResult<Value> {
    if !asking {
        return connection.send_packed_command(cmd).await;
    }
    let mut pipe = redis::pipe();
    pipe.cmd("ASKING").add_command(cmd.clone());
    let mut replies = connection.req_packed_commands(&pipe, 1, 1).await?;
    Ok(replies.pop().unwrap_or_default())
}

fn read(answer: Option<RedisResult<Value>>) -> Result<Value, Error> {
    let Some(answer) = answer else { return Err(Error::Unavailable(Unavailable::new("timeout", true, true))) };
    match answer.map_err(Error::from) {
        Ok(Value::ServerError(error)) => Err(away_reply(ReplyError::from(&error))),
        Err(Error::Reply(error)) => Err(away_reply(error)),
        Err(Error::Redis(_)) => Err(Error::Unavailable(Unavailable::new("connection", true, true))),
        other => other,
    }
}
