use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::observer::Observer;

/// What is decided while the server is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything passes.
    Open,
    /// A limit within this process.
    Local,
    /// Everything is refused.
    Closed,
}

/// A limit of this deployment's own for admissions while the server is away. Each of [`Settings::instances`] gets its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalLimit {
    /// The most requests in `window`, for each first account. Default: 0.
    pub requests: u64,
    /// The length of the window. Default: a minute.
    pub window: Duration,
}

impl Default for LocalLimit {
    fn default() -> Self {
        Self { requests: 0, window: Duration::from_secs(60) }
    }
}

/// What is decided while the server is away, by family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away {
    /// Of `allow` and `tokens`. Local: the call's own limit, divided by [`Settings::instances`]. Default: local.
    pub limits: Mode,
    /// Of `slot`. Local: the call's maximum, divided by [`Settings::instances`]. Locks are always closed. Default: local.
    pub slots: Mode,
    /// Of `within_budget` and `reserve`: open or closed. Default: closed.
    pub budgets: Mode,
    /// Of `admit` and `route`. Closed suits prepaid accounts; local needs `local`. Default: closed.
    pub admission: Mode,
    /// The limit of admissions if `admission` is local.
    pub local: LocalLimit,
}

impl Default for Away {
    fn default() -> Self {
        Self {
            limits: Mode::Local,
            slots: Mode::Local,
            budgets: Mode::Closed,
            admission: Mode::Closed,
            local: LocalLimit::default(),
        }
    }
}

/// How settlements and charges are kept that the server has not taken yet. They are sent again until it takes them, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The most that are kept. Further ones are dropped, and counted. Default: 100,000.
    pub count: usize,
    /// Where they survive the process. Default: they are kept in memory only.
    pub directory: Option<PathBuf>,
    /// The time between two tries. Default: a second.
    pub every: Duration,
    /// A settlement that may have arrived is given up after this time, since the server forgets settled leases after an hour.
    /// Default: 55 minutes.
    pub settle_within: Duration,
    /// The same for charges: the server forgets their ids after `gw.idempotency-ms`, a day by default. Default: 80,000 s.
    pub charge_within: Duration,
    /// If the server does not know the admission of a settlement that may have arrived, its money is booked only within this time. An
    /// account remembers the last 65,536 that it settled: set it to 65,536 divided by your rate, if more than 109 a second are
    /// settled for one account. Default: 10 minutes.
    pub book_within: Duration,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            count: 100_000,
            directory: None,
            every: Duration::from_secs(1),
            settle_within: Duration::from_secs(3_300),
            charge_within: Duration::from_secs(80_000),
            book_within: Duration::from_secs(600),
        }
    }
}

/// What an account is made of that does not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The document of GW.POLICYPUT.
    pub policies: String,
    /// The account expires so long after its last request. None: never.
    pub idle: Option<Duration>,
}

/// Finds the plan of an account, by its key.
pub type Plans = Arc<dyn Fn(&[u8]) -> Option<Plan> + Send + Sync>;

/// How a gateway behaves. `Settings::default()` has everything at its default.
#[derive(Clone)]
pub struct Settings {
    /// The longest wait for a reply on the request path. Default: 50 ms.
    pub timeout: Duration,
    /// The longest wait for a connection. Default: 100 ms.
    pub connect_timeout: Duration,
    /// The most connections to one server on which calls wait inside the server: for an answer that another is computing, or for a
    /// slot. Range: 1 and more. Default: 8.
    pub waiting_connections: usize,
    /// The longest wait for a reply on these. A longer wait is made of several calls. Range: 500 ms and more. Default: 5 s.
    pub waiting_timeout: Duration,
    /// So many failures in a row open the circuit: the server is not asked for `pause`. Range: 1 and more. Default: 5.
    pub failures: u32,
    /// How long the server is not asked, give or take a quarter. Default: a second.
    pub pause: Duration,
    /// How many processes share the limits. Each gets its part of a local limit while the server is away. Range: 1 and more. Default:
    /// 1.
    pub instances: u64,
    /// How long an admission's lease lives without a sign of life. It is prolonged every third of this time. Default: 30 s.
    pub lease_ttl: Duration,
    /// An admission is not prolonged beyond this time after it was admitted. Default: 10 minutes.
    pub lease_cap: Duration,
    /// What is decided while the server is away.
    pub away: Away,
    /// How settlements and charges are kept meanwhile.
    pub kept: Kept,
    /// Finds the plan of an account that does not exist. Default: none; such accounts limit nothing, or are denied if
    /// [`AdmitOptions::require`](super::AdmitOptions::require) says so.
    pub plans: Option<Plans>,
    /// Is told what is decided and how it goes: `OpenTelemetry`, with the feature `opentelemetry`. Default: none.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_millis(50),
            connect_timeout: Duration::from_millis(100),
            waiting_connections: 8,
            waiting_timeout: Duration::from_secs(5),
            failures: 5,
            pause: Duration::from_secs(1),
            instances: 1,
            lease_ttl: Duration::from_secs(30),
            lease_cap: Duration::from_secs(600),
            away: Away::default(),
            kept: Kept::default(),
            plans: None,
            observer: None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("instances", &self.instances)
            .field("away", &self.away)
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}

/// A setting that is out of its range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError(pub(crate) &'static str);

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for SettingsError {}

impl Settings {
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let above = [self.timeout, self.connect_timeout, self.pause, self.lease_ttl, self.lease_cap, self.kept.every];
        if above.iter().any(Duration::is_zero) || self.away.local.window.is_zero() {
            return Err(SettingsError("time-outs, pauses and windows are above 0"));
        }
        if self.waiting_connections == 0 || self.failures == 0 || self.instances == 0 || self.kept.count == 0 {
            return Err(SettingsError("waiting_connections, failures, instances and kept.count are 1 at least"));
        }
        if self.waiting_timeout < Duration::from_millis(500) {
            return Err(SettingsError("waiting_timeout is 500 ms at least"));
        }
        if self.away.budgets == Mode::Local {
            return Err(SettingsError("away.budgets is open or closed"));
        }
        Ok(())
    }

    /// The longest wait in the server: shorter than the time-out, so that this tells in time that the server is away.
    pub(super) fn longest_wait(&self) -> Duration {
        self.waiting_timeout * 4 / 5
    }
}

/// Milliseconds for the server, at least 1.
pub(super) fn milliseconds(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX).max(1)
}

/// A time of the server's; none if it is below 0: waiting does not help.
pub(super) fn duration_of(ms: i64) -> Option<Duration> {
    u64::try_from(ms).ok().map(Duration::from_millis)
}
