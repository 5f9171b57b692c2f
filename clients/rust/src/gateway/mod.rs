//! The high level: what a gateway does with the commands, also while the server is away.

mod admission;
mod admitter;
mod batches;
pub mod blocking;
mod budgets;
mod cache;
mod circuit;
mod cluster;
mod core;
mod decisions;
mod delivery;
mod disk;
mod failure;
mod figures;
mod fill;
mod ids;
mod limits;
mod link;
mod local;
mod locks;
mod logs;
mod node;
mod routing;
mod settings;
mod stream;
mod streamcache;
mod transport;
mod waiting;
mod way;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

pub use admission::Admission;
pub use admitter::AdmitOptions;
pub use batches::{BatchOptions, LogBatch};
pub use budgets::{ChargeOptions, Hold};
pub use cache::{Cache, CacheError, CacheOptions, EntryOptions};
pub use decisions::{BudgetDecision, Denied, LimitDecision, Outcome, Settlement, TightestBudget};
pub use failure::Unavailable;
pub use figures::Figures;
pub use limits::{AllowOptions, TokensOptions};
pub use locks::{Slot, SlotOptions};
pub use logs::{LogOptions, Logs};
pub use routing::{Attempt, RouteOptions, RoutedRequest};
pub use settings::{Away, Kept, LocalLimit, Mode, Plan, Plans, Settings, SettingsError};
pub use stream::AdmittedStream;
pub use streamcache::CachedStream;
use tokio::runtime::Handle;

use self::core::Core;
use self::way::{To, Way};
use crate::commands::{Amounts, Request, Text, stats};
use crate::error::Error;

/// The time that closing takes at most, if nothing else is said.
const CLOSING: Duration = Duration::from_secs(5);

/// Admission, limits, budgets, cache, log buffer and locks of an LLM gateway, over a server with the module. Clones share everything.
///
/// It opens connections of its own with the address, credentials, TLS settings and protocol of the application's client, which is
/// neither changed nor used: time-outs and retries differ.
///
/// Everything that must arrive goes on when a future is dropped, in tasks of the runtime in which the gateway was made. Call
/// [`close`](Self::close) before that runtime ends.
#[derive(Clone)]
pub struct Gateway {
    core: Arc<Core>,
}

impl Gateway {
    /// The gateway of a server. It is made without asking the server.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn new(client: &redis::Client, settings: Settings) -> Result<Self, SettingsError> {
        Self::made(client, To::Server, settings)
    }

    /// The gateway of a cluster, of which `client` knows one node. The others are asked for, with the same settings.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn cluster(client: &redis::Client, settings: Settings) -> Result<Self, SettingsError> {
        Self::made(client, To::Cluster, settings)
    }

    /// The gateway of the primary that sentinels know by a name. They are asked for it whenever a connection is made, all at once, and the
    /// first one that answers is taken. `client` has the settings of the connections to the primary: its address is not used.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn sentinel(
        sentinels: &[redis::Client],
        name: &str,
        client: &redis::Client,
        settings: Settings,
    ) -> Result<Self, SettingsError> {
        Self::made(client, To::Sentinel { sentinels: sentinels.into(), name: name.into() }, settings)
    }

    fn made(client: &redis::Client, to: To, settings: Settings) -> Result<Self, SettingsError> {
        settings.check()?;
        Ok(Self { core: Core::new(&Way { client: client.clone(), to }, settings, Handle::current()) })
    }

    /// Sends a typed command with the time-outs of the request path. While the server is away, that is the error.
    ///
    /// ```no_run
    /// # async fn example(gateway: redis_gateway_client::Gateway) -> Result<(), redis_gateway_client::Error> {
    /// use redis_gateway_client::commands::policy_put;
    ///
    /// let policies = r#"{"policies":[{"name":"rpm","kind":"window","limit":100,"per_ms":60000}]}"#;
    /// gateway.run(&policy_put("user:42", policies, &Default::default())).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run<T>(&self, request: &Request<T>) -> Result<T, Error> {
        self.core.run(request).await
    }

    /// Asks every primary of a cluster, or the one server there is. An error is that of the first that has failed, after all were asked.
    pub async fn run_everywhere<T: Send + 'static>(&self, request: &Request<T>) -> Result<Vec<T>, Error> {
        self.core.transport.run_everywhere(request, None).await
    }

    /// Asks whether a request may go on: all limits and budgets of its accounts at once, which are charged with the estimates. An error
    /// is one of the call: then nothing is charged, and neither is anything if nobody waits for the answer any more.
    ///
    /// Estimates are by meter, from 0 to 10^18; the meter `usd` is the money that is booked if the server forgets the admission.
    pub async fn admit<A: Into<Text>>(
        &self,
        accounts: impl IntoIterator<Item = A>,
        estimates: Amounts,
        options: &AdmitOptions,
    ) -> Result<Admission, Error> {
        let accounts = accounts.into_iter().map(Into::into).collect();
        let asked = admitter::admit(self.core.clone(), accounts, estimates, options.clone());
        self.core.finish(asked).await
    }

    /// What was decided and how it went, since the gateway was made.
    pub fn figures(&self) -> Figures {
        self.core.watch.figures()
    }

    /// Whether the server and its module answer, how fast, and what waits to be sent.
    pub async fn health(&self) -> Health {
        let began = Instant::now();
        let found = self.core.run(&stats()).await;
        let reason = match &found {
            Ok(_) => None,
            Err(Error::Unavailable(away)) => Some(away.reason.to_owned()),
            // It answers, and has the module; this user may not ask for its figures.
            Err(Error::Reply(error)) if error.code == "NOPERM" => None,
            Err(Error::Reply(error)) => Some(error.kind.name().to_owned()),
            Err(_) => Some("unexpected".to_owned()),
        };
        let nodes = self.core.transport.nodes();
        Health {
            ok: reason.is_none(),
            reason,
            took: began.elapsed(),
            circuits_open: nodes.iter().filter(|node| node.circuit.is_open()).count(),
            away: nodes.iter().map(|node| node.circuit.away_for()).max().unwrap_or_default(),
            kept: self.core.kept.count(),
            log_records: self.core.log_buffers().iter().filter_map(Weak::upgrade).map(|logs| logs.len()).sum(),
        }
    }

    /// How many settlements and charges the server has not taken yet.
    pub fn kept(&self) -> usize {
        self.core.kept.count()
    }

    /// Tries now to send what is kept, and returns how much the server has taken. It is sent in the background, too.
    pub async fn send_kept(&self) -> usize {
        self.core.send_kept().await
    }

    /// Settles what is still running at what it has used so far, sends what there is to send, for five seconds at most, and closes the
    /// connections.
    pub async fn close(&self) {
        self.close_within(CLOSING).await;
    }

    /// The same, for at most so long.
    pub async fn close_within(&self, longest: Duration) {
        self.core.close(longest).await;
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("settings", &self.core.settings).finish_non_exhaustive()
    }
}

/// How a gateway and its server are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// The server answers, and has the module.
    pub ok: bool,
    /// Why not: why the server is away, or the kind of its error.
    pub reason: Option<String>,
    /// How long the answer took.
    pub took: Duration,
    /// Servers that are not asked now.
    pub circuits_open: usize,
    /// For how long a server was away, in all: that of the one that was away longest.
    pub away: Duration,
    /// Settlements and charges that wait to be sent.
    pub kept: usize,
    /// Log records that wait to be sent, in all buffers.
    pub log_records: usize,
}
