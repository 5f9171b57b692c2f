use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::flights::CacheInner;
use super::ids::new_id;
use super::settings::milliseconds;
use crate::commands::{CacheAnswer, CacheLeaseOptions, CacheState, Request, cache_lease, cache_release};
use crate::error::Error;

/// What the server has said of a key to a call of one name, and the fill lease that it may have given. Dropped unused, it has the next
/// one who waits compute.
pub(super) struct Fill {
    cache: Arc<CacheInner>,
    key: String,
    holder: String,
    /// 0 without a fill lease.
    token: i64,
    /// No reply has come, so the server may have given the fill lease.
    asked: bool,
}

impl Fill {
    pub(super) fn new(cache: &Arc<CacheInner>, key: &str) -> Self {
        Self { cache: cache.clone(), key: key.to_owned(), holder: new_id(), token: 0, asked: false }
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn token(&self) -> i64 {
        self.token
    }

    /// The value was stored: the lease is over.
    pub(super) fn used(&mut self) {
        self.token = 0;
        self.asked = false;
    }

    fn request(&self, wait: Option<Duration>) -> Request<CacheAnswer> {
        let options = CacheLeaseOptions {
            holder: Some(self.holder.as_str().into()),
            wait_ms: wait.map(milliseconds),
            ..Default::default()
        };
        cache_lease(&self.key, milliseconds(self.cache.options.lease), &options)
    }

    async fn ask(&mut self, wait: Option<Duration>) -> Result<CacheAnswer, Error> {
        self.asked = true;
        let request = self.request(wait);
        let found = match wait {
            None => self.cache.core.run(&request).await,
            Some(wait) => self.cache.core.transport.wait(&request, wait).await,
        };
        match &found {
            Ok(answer) => {
                self.asked = false;
                self.token = answer.token;
            }
            Err(error) => self.asked = error.unavailable().is_some_and(|away| away.sent),
        }
        found
    }

    /// What the server says, after the wait for another's computation; none if it is away or refuses.
    pub(super) async fn fetch(&mut self, end: Instant) -> Option<CacheAnswer> {
        let longest = self.cache.core.settings.longest_wait();
        let mut wait = None;
        loop {
            let found = self.ask(wait).await;
            let left = end.saturating_duration_since(Instant::now());
            let goes_on = !left.is_zero() && !self.cache.core.is_closed();
            match found {
                // A part of the wait: so the connection's time-out tells in time that the server is away.
                Ok(answer) if answer.state == CacheState::Pending && goes_on => wait = Some(left.min(longest)),
                // The wait was ended by the server, or all connections on which calls wait are taken.
                Err(Error::Unavailable(away))
                    if goes_on && wait.is_some() && matches!(away.reason, "unblocked" | "connections") =>
                {
                    tokio::time::sleep(left.min(Duration::from_millis(100))).await;
                    wait = None;
                }
                Ok(answer) => {
                    self.cache.count(match answer.state {
                        CacheState::Hit => "hit",
                        CacheState::Stale => "stale",
                        CacheState::Miss => "miss",
                        _ if wait.is_some() => "wait_timeout",
                        _ => "pending",
                    });
                    return Some(answer);
                }
                Err(error) => {
                    self.cache.failed(&error);
                    return None;
                }
            }
        }
    }

    /// Whether it is known (again) if the lease was given.
    pub(super) async fn is_known_again(&mut self) -> bool {
        !self.asked || !matches!(self.ask(None).await, Err(Error::Unavailable(_)))
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        if self.token == 0 && !self.asked {
            return;
        }
        let mut own = Self {
            cache: self.cache.clone(),
            key: std::mem::take(&mut self.key),
            holder: std::mem::take(&mut self.holder),
            token: self.token,
            asked: self.asked,
        };
        let core = self.cache.core.clone();
        core.spawn(async move {
            // If the server is back before the lease has ended by itself, it is told.
            let end = Instant::now() + own.cache.options.lease;
            while !own.release().await {
                own.cache.count("not_released");
                if Instant::now() >= end || own.cache.core.is_closed() {
                    break;
                }
                tokio::time::sleep(own.cache.core.settings.kept.every).await;
            }
            own.used();
        });
    }
}

impl Fill {
    /// Whether the server has taken it back. A token that was used meanwhile releases nothing.
    async fn release(&mut self) -> bool {
        if !self.is_known_again().await {
            return false;
        }
        if self.token == 0 {
            return true;
        }
        let request = cache_release(&self.key, self.token);
        !matches!(self.cache.core.run(&request).await, Err(Error::Unavailable(_)))
    }
}
