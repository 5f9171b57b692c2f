//! The gateway itself, which knows nothing of what is built on it: each part adds its own methods.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::core::Core;
use super::figures::Figures;
use super::readings;
use super::settings::{Settings, SettingsError};
use super::way::{To, Way};
use crate::commands::Request;
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
    pub(super) core: Arc<Core>,
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
        let core = Core::new(&Way { client: client.clone(), to }, settings, Handle::current());
        readings::watch(&core);
        Ok(Self { core })
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

    /// What was decided and how it went, since the gateway was made.
    pub fn figures(&self) -> Figures {
        self.core.watch.figures()
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
