//! The same gateway for programs without async: each call waits for its end.
//!
//! It runs on a thread of its own. None of this may be called from async code, which would be held up by it.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};

use super::admitter::AdmitOptions;
use super::batches::BatchOptions;
use super::budgets::ChargeOptions;
use super::cache::{Cache, CacheError, EntryOptions};
use super::decisions::{BudgetDecision, Denied, LimitDecision, Settlement};
use super::flights::CacheOptions;
use super::limits::{AllowOptions, TokensOptions};
use super::locks::SlotOptions;
use super::routing::RouteOptions;
use super::settings::{Settings, SettingsError};
use crate::commands::{Amount, Amounts, Budget, Request, Text};
use crate::error::Error;

/// Something of the gateway whose calls wait: see the methods of the types with this name, such as [`Admission`]. It dereferences to
/// the one of the async gateway, for all that does not wait.
pub struct Waits<T> {
    inner: T,
    runtime: Handle,
}

/// A request that was admitted, denied, or let through as degraded: see [`Admission`](crate::Admission).
pub type Admission = Waits<super::admission::Admission>;
/// Money that is set aside for a request: see [`Hold`](crate::Hold).
pub type Hold = Waits<super::budgets::Hold>;
/// A slot, or a lock: see [`Slot`](crate::Slot).
pub type Slot = Waits<super::locks::Slot>;
/// A call of one target: see [`Attempt`](crate::Attempt).
pub type Attempt = Waits<super::routing::Attempt>;
/// A request that is served by one of several targets: see [`RoutedRequest`](crate::RoutedRequest).
pub type RoutedRequest = Waits<super::routing::RoutedRequest>;
/// Records that are leased for a piece of work: see [`LogBatch`](crate::LogBatch).
pub type LogBatch = Waits<super::batches::LogBatch>;

impl<T> Deref for Waits<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: fmt::Debug> fmt::Debug for Waits<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Waits<super::admission::Admission> {
    /// Ends the admission at what was told, once.
    pub fn settle(&self) -> Result<Settlement, Error> {
        self.runtime.block_on(self.inner.settle())
    }

    /// Ends it as if it had never been.
    pub fn undo(&self) -> Result<Settlement, Error> {
        self.runtime.block_on(self.inner.undo())
    }
}

impl Waits<super::budgets::Hold> {
    /// Charges what it has cost.
    pub fn commit(&self, actual: Amount) -> Result<Settlement, Error> {
        self.runtime.block_on(self.inner.commit(actual))
    }

    /// Gives it back.
    pub fn cancel(&self) -> Result<Settlement, Error> {
        self.runtime.block_on(self.inner.cancel())
    }
}

impl Waits<super::locks::Slot> {
    /// Gives it back. Whether it was still taken, as far as is known.
    pub fn release(&self) -> Result<bool, Error> {
        self.runtime.block_on(self.inner.release())
    }
}

impl Waits<super::routing::Attempt> {
    /// Ends the attempt as a success of the target, with the time that it took.
    pub fn settle(&self) -> Result<Settlement, Error> {
        self.runtime.block_on(self.inner.settle())
    }

    /// Ends the attempt as a failure of the target.
    pub fn fail(&self, retry_after: Option<Duration>) -> Result<Settlement, Error> {
        self.runtime.block_on(self.inner.fail(retry_after))
    }

    /// Ends an attempt that was broken off.
    pub fn break_off(&self) -> Result<Settlement, Error> {
        self.runtime.block_on(self.inner.break_off())
    }
}

impl Waits<super::routing::RoutedRequest> {
    /// The next attempt, or why there is none.
    pub fn next_attempt(&mut self) -> Result<Result<Attempt, Denied>, Error> {
        let found = self.runtime.block_on(self.inner.next())?;
        Ok(found.map(|inner| Waits { inner, runtime: self.runtime.clone() }))
    }

    /// Has the accounts pay what all attempts have used.
    pub fn settle(&self) -> Result<Settlement, Error> {
        self.runtime.block_on(self.inner.settle())
    }
}

impl Waits<super::batches::LogBatch> {
    /// Acknowledges the batch. Whether it was still leased, as far as is known.
    pub fn done(self) -> Result<bool, Error> {
        self.runtime.block_on(self.inner.done())
    }

    /// Gives the batch back, to be delivered again.
    pub fn give_back(self) -> Result<bool, Error> {
        self.runtime.block_on(self.inner.give_back())
    }
}

/// Admission, limits, budgets, cache, log buffer and locks for programs without async. Clones share everything; the last one that is
/// dropped closes it.
///
/// ```no_run
/// use redis_gateway_client::blocking::Gateway;
/// use redis_gateway_client::{AdmitOptions, Amount, Settings};
///
/// let client = redis::Client::open("redis://127.0.0.1/")?;
/// let gateway = Gateway::new(&client, Settings::default())?;
/// let estimates = [("usd".into(), Amount::try_from(0.02)?)].into();
/// let admission = gateway.admit(["user:42"], estimates, &AdmitOptions::default())?;
/// if admission.is_ok() {
///     admission.use_so_far("usd", Amount::try_from(0.013)?)?;
///     admission.settle()?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Gateway {
    own: Arc<Own>,
}

struct Own {
    inner: super::handle::Gateway,
    runtime: Runtime,
}

impl Drop for Own {
    fn drop(&mut self) {
        self.runtime.block_on(self.inner.close());
    }
}

impl Gateway {
    /// The gateway of a server.
    ///
    /// # Panics
    ///
    /// If the system has no thread for it.
    pub fn new(client: &redis::Client, settings: Settings) -> Result<Self, SettingsError> {
        Self::made(|| super::handle::Gateway::new(client, settings))
    }

    /// The gateway of a cluster, of which `client` knows one node.
    ///
    /// # Panics
    ///
    /// If the system has no thread for it.
    pub fn cluster(client: &redis::Client, settings: Settings) -> Result<Self, SettingsError> {
        Self::made(|| super::handle::Gateway::cluster(client, settings))
    }

    /// The gateway of the primary that sentinels know by a name: see [`Gateway::sentinel`](crate::Gateway::sentinel).
    ///
    /// # Panics
    ///
    /// If the system has no thread for it.
    pub fn sentinel(
        sentinels: &[redis::Client],
        name: &str,
        client: &redis::Client,
        settings: Settings,
    ) -> Result<Self, SettingsError> {
        Self::made(|| super::handle::Gateway::sentinel(sentinels, name, client, settings))
    }

    fn made(make: impl FnOnce() -> Result<super::handle::Gateway, SettingsError>) -> Result<Self, SettingsError> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("redis-gateway").enable_all().build();
        let runtime = runtime.expect("a thread for the gateway");
        let entered = runtime.enter();
        let inner = make()?;
        drop(entered);
        Ok(Self { own: Arc::new(Own { inner, runtime }) })
    }

    /// The async gateway: for all that does not wait, such as [`figures`](crate::Gateway::figures) and [`logs`](crate::Gateway::logs).
    pub fn inner(&self) -> &super::handle::Gateway {
        &self.own.inner
    }

    /// Waits for something of the async gateway that has no method here.
    pub fn wait_for<F: Future>(&self, work: F) -> F::Output {
        self.own.runtime.block_on(work)
    }

    fn waits<T>(&self, inner: T) -> Waits<T> {
        Waits { inner, runtime: self.own.runtime.handle().clone() }
    }

    /// Sends a typed command with the time-outs of the request path.
    pub fn run<T>(&self, request: &Request<T>) -> Result<T, Error> {
        self.wait_for(self.inner().run(request))
    }

    /// Asks whether a request may go on: see [`Gateway::admit`](crate::Gateway::admit).
    pub fn admit<A: Into<Text>>(
        &self,
        accounts: impl IntoIterator<Item = A>,
        estimates: Amounts,
        options: &AdmitOptions,
    ) -> Result<Admission, Error> {
        self.wait_for(self.inner().admit(accounts, estimates, options)).map(|made| self.waits(made))
    }

    /// Whether so many units fit into a sliding window: see [`Gateway::allow`](crate::Gateway::allow).
    pub fn allow(&self, key: impl AsRef<[u8]>, limit: u64, options: &AllowOptions) -> Result<LimitDecision, Error> {
        self.wait_for(self.inner().allow(key, limit, options))
    }

    /// Whether a bucket has so many tokens: see [`Gateway::tokens`](crate::Gateway::tokens).
    pub fn tokens(
        &self,
        key: impl AsRef<[u8]>,
        rate: u64,
        burst: u64,
        options: &TokensOptions,
    ) -> Result<LimitDecision, Error> {
        self.wait_for(self.inner().tokens(key, rate, burst, options))
    }

    /// Whether a ledger is within its budgets: see [`Gateway::within_budget`](crate::Gateway::within_budget).
    pub fn within_budget(
        &self,
        key: impl AsRef<[u8]>,
        budgets: &[Budget],
        more: Option<Amount>,
    ) -> Result<BudgetDecision, Error> {
        self.wait_for(self.inner().within_budget(key, budgets, more))
    }

    /// Charges a ledger, once: see [`Gateway::charge`](crate::Gateway::charge).
    pub fn charge(&self, key: impl AsRef<[u8]>, amount: Amount, options: &ChargeOptions) -> Result<Settlement, Error> {
        self.wait_for(self.inner().charge(key, amount, options))
    }

    /// Sets money aside: see [`Gateway::reserve`](crate::Gateway::reserve).
    pub fn reserve(
        &self,
        key: impl AsRef<[u8]>,
        estimate: Amount,
        budgets: &[Budget],
        ttl: Duration,
    ) -> Result<Hold, Error> {
        self.wait_for(self.inner().reserve(key, estimate, budgets, ttl)).map(|made| self.waits(made))
    }

    /// Picks one of several targets: see [`Gateway::route`](crate::Gateway::route).
    pub fn route<A: Into<Text>>(
        &self,
        targets: impl IntoIterator<Item = A>,
        estimates: Amounts,
        options: &RouteOptions,
    ) -> Result<Attempt, Error> {
        self.wait_for(self.inner().route(targets, estimates, options)).map(|made| self.waits(made))
    }

    /// Admits a request that is served by one of several targets: see [`Gateway::request`](crate::Gateway::request).
    pub fn request<A: Into<Text>, T: Into<Text>>(
        &self,
        accounts: impl IntoIterator<Item = A>,
        targets: impl IntoIterator<Item = T>,
        estimates: Amounts,
        options: &RouteOptions,
    ) -> Result<RoutedRequest, Error> {
        self.wait_for(self.inner().request(accounts, targets, estimates, options)).map(|made| self.waits(made))
    }

    /// Takes one of so many slots of a key: see [`Gateway::slot`](crate::Gateway::slot).
    pub fn slot(&self, key: impl AsRef<[u8]>, slots: u64, options: &SlotOptions) -> Result<Slot, Error> {
        self.wait_for(self.inner().slot(key, slots, options)).map(|made| self.waits(made))
    }

    /// Takes a lock: see [`Gateway::lock`](crate::Gateway::lock).
    pub fn lock(&self, key: impl AsRef<[u8]>, options: &SlotOptions) -> Result<Slot, Error> {
        self.wait_for(self.inner().lock(key, options)).map(|made| self.waits(made))
    }

    /// Leases the oldest records of a log queue: see [`Gateway::lease_batch`](crate::Gateway::lease_batch).
    pub fn lease_batch(&self, key: impl AsRef<[u8]>, options: &BatchOptions) -> Result<Option<LogBatch>, Error> {
        Ok(self.wait_for(self.inner().lease_batch(key, options))?.map(|made| self.waits(made)))
    }

    /// A cache of answers, for [`get_or_compute`](Self::get_or_compute).
    pub fn cache(&self, category: &str, options: CacheOptions) -> Cache {
        self.inner().cache(category, options)
    }

    /// The cached answer to a request, or else the computed one: see [`Cache::get_or_compute`].
    pub fn get_or_compute<T, E>(
        &self,
        cache: &Cache,
        request: impl AsRef<[u8]>,
        options: &EntryOptions,
        compute: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<Arc<[u8]>, CacheError<E>>
    where
        T: Into<Vec<u8>> + Send + 'static,
        E: Send + 'static,
    {
        // Not on the gateway's own thread, which has other things to do meanwhile.
        let computed = || async {
            match tokio::task::spawn_blocking(compute).await {
                Ok(found) => found,
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            }
        };
        self.wait_for(cache.get_or_compute(request, options, computed))
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner().fmt(f)
    }
}
