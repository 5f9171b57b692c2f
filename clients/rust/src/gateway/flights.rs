use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::core::{Core, code_of};
use crate::error::Error;

/// What [`Gateway::cache`](super::Gateway::cache) may be told.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// Who may see the answers: a team, a customer. Two tenants never share one. Default: all may.
    pub tenant: Option<String>,
    /// For how long an answer is fresh. Default: what the server's `gw.cache-ttl` says for the category.
    pub ttl: Option<Duration>,
    /// For how long after that it is served while it is refreshed. Default: what the server's `gw.cache-stale` says for the category.
    pub stale: Option<Duration>,
    /// Longer than a computation may take. Default: 2 minutes.
    pub lease: Duration,
    /// The longest wait for the computation of another. Then it is computed without it. Default: a minute.
    pub wait: Duration,
    /// Members of requests that do not change the answer, such as `stream` and `user`.
    pub ignore: Vec<String>,
    /// So many are computed at a time while the cache is away. Default: 64.
    pub computing: usize,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            tenant: None,
            ttl: None,
            stale: None,
            lease: Duration::from_secs(120),
            wait: Duration::from_secs(60),
            ignore: Vec::new(),
            computing: 64,
        }
    }
}

/// What the parts of a cache share.
pub(super) struct CacheInner {
    pub(super) core: Arc<Core>,
    pub(super) category: String,
    pub(super) options: CacheOptions,
    /// A place for each computation without the cache.
    pub(super) computing: Arc<Semaphore>,
    pub(super) flights: Mutex<HashMap<String, Arc<Flight>>>,
}

/// A computation that others in this process wait for.
pub(super) struct Flight {
    value: OnceLock<Arc<[u8]>>,
    done: watch::Sender<bool>,
}

impl Flight {
    /// Whether it ends by then.
    pub(super) async fn ended(&self, end: Instant) -> bool {
        let mut done = self.done.subscribe();
        tokio::time::timeout_at(end, done.wait_for(|done| *done)).await.is_ok()
    }

    pub(super) fn value(&self) -> Option<&Arc<[u8]>> {
        self.value.get()
    }
}

/// The duty to end a flight, also if whoever leads it leaves.
pub(super) struct Lead {
    cache: Arc<CacheInner>,
    key: String,
    flight: Arc<Flight>,
}

impl Lead {
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn cache(&self) -> &Arc<CacheInner> {
        &self.cache
    }

    /// What others get when the flight ends.
    pub(super) fn share(&self, value: Arc<[u8]>) {
        let _ = self.flight.value.set(value);
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.cache.flights().remove(&self.key);
        self.flight.done.send_replace(true);
    }
}

impl CacheInner {
    fn flights(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Flight>>> {
        self.flights.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn count(&self, result: &'static str) {
        self.core.watch.cache(&self.category, result);
    }

    /// An error of the cache, which is a miss.
    pub(super) fn failed(&self, error: &Error) {
        if error.unavailable().is_some() {
            self.count("away");
        } else {
            self.count("error");
            log::warn!("the cache refuses to answer: {}", code_of(error));
        }
    }

    /// A place to compute in: without the cache all misses come together. None if none is free by then.
    pub(super) async fn place(&self, end: Instant) -> Option<OwnedSemaphorePermit> {
        tokio::time::timeout_at(end, self.computing.clone().acquire_owned()).await.ok()?.ok()
    }

    /// Joins the computation of a key, or begins it.
    pub(super) fn fly(self: &Arc<Self>, key: &str) -> Result<Lead, Arc<Flight>> {
        let mut flights = self.flights();
        if let Some(found) = flights.get(key) {
            return Err(found.clone());
        }
        let flight = Arc::new(Flight { value: OnceLock::new(), done: watch::Sender::new(false) });
        flights.insert(key.to_owned(), flight.clone());
        Ok(Lead { cache: self.clone(), key: key.to_owned(), flight })
    }
}
