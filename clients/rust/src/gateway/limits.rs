use std::time::Duration;

use super::decisions::{LimitDecision, Outcome};
use super::handle::Gateway;
use super::local::share;
use super::settings::{Mode, duration_of, milliseconds};
use crate::commands::{self, LimitMode, Request, Verdict};
use crate::error::Error;

/// What [`Gateway::allow`] may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowOptions {
    /// The length of the window. Default: a minute.
    pub window: Duration,
    /// How many units the request takes. Default: 1.
    pub cost: u64,
    /// Ask, and take nothing.
    pub peek: bool,
}

impl Default for AllowOptions {
    fn default() -> Self {
        Self { window: Duration::from_secs(60), cost: 1, peek: false }
    }
}

/// What [`Gateway::tokens`] may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokensOptions {
    /// The period of the rate. Default: a minute.
    pub per: Duration,
    /// How many tokens the request takes. Default: 1.
    pub cost: u64,
    /// Ask, and take nothing.
    pub peek: bool,
}

impl Default for TokensOptions {
    fn default() -> Self {
        Self { per: Duration::from_secs(60), cost: 1, peek: false }
    }
}

/// What is asked of this process while the server is away.
struct Local {
    key: Vec<u8>,
    limit: u64,
    window: Duration,
    cost: u64,
    peek: bool,
}

fn integer(number: u64) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

fn mode(peek: bool) -> Option<LimitMode> {
    peek.then_some(LimitMode::Peek)
}

impl Gateway {
    /// Whether so many units fit into a sliding window under a key. An error is one of the call, such as a key of another type: while
    /// the server is away, [`Away::limits`](super::Away::limits) decides. Range of `limit` and the cost: 0 to 2^53.
    pub async fn allow(
        &self,
        key: impl AsRef<[u8]>,
        limit: u64,
        options: &AllowOptions,
    ) -> Result<LimitDecision, Error> {
        let own = commands::AllowOptions {
            window_ms: Some(milliseconds(options.window)),
            cost: Some(integer(options.cost)),
            mode: mode(options.peek),
            ..Default::default()
        };
        let request = commands::allow(&key, integer(limit), &own);
        let local =
            Local { key: key.as_ref().to_vec(), limit, window: options.window, cost: options.cost, peek: options.peek };
        self.limited(&request, options.window, local).await
    }

    /// Whether a bucket under a key has so many tokens: it holds `burst`, and gets `rate` tokens in every period. An error is one of the
    /// call: while the server is away, [`Away::limits`](super::Away::limits) decides. Range of `rate` and `burst`: to 2^53.
    pub async fn tokens(
        &self,
        key: impl AsRef<[u8]>,
        rate: u64,
        burst: u64,
        options: &TokensOptions,
    ) -> Result<LimitDecision, Error> {
        let own = commands::TokensOptions {
            per_ms: Some(milliseconds(options.per)),
            cost: Some(integer(options.cost)),
            mode: mode(options.peek),
        };
        let request = commands::tokens(&key, integer(rate), integer(burst), &own);
        // A window in which as much is let through as the bucket would let through in that time.
        let window = options.per.mul_f64((burst as f64 / rate.max(1) as f64).clamp(1.0, 1e6));
        let local = Local {
            key: key.as_ref().to_vec(),
            limit: rate.max(burst),
            window,
            cost: options.cost,
            peek: options.peek,
        };
        self.limited(&request, options.per, local).await
    }

    async fn limited(
        &self,
        request: &Request<Verdict>,
        period: Duration,
        local: Local,
    ) -> Result<LimitDecision, Error> {
        let made = match self.core.run(request).await {
            Ok(verdict) => LimitDecision {
                outcome: if verdict.allowed { Outcome::Admitted } else { Outcome::Denied },
                reason: (!verdict.allowed).then_some("limit"),
                limit: verdict.limit,
                remaining: verdict.remaining,
                retry_after: duration_of(verdict.retry_after_ms),
                reset_after: duration_of(verdict.reset_after_ms).unwrap_or_default(),
                period,
            },
            Err(Error::Unavailable(away)) => self.limited_alone(local, away.reason),
            Err(error) => return Err(error),
        };
        self.core.watch.decided("limits", made.outcome, made.reason);
        Ok(made)
    }

    fn limited_alone(&self, local: Local, reason: &'static str) -> LimitDecision {
        let settings = &self.core.settings;
        let mut made = LimitDecision {
            outcome: Outcome::Degraded,
            reason: Some(reason),
            limit: integer(local.limit),
            remaining: integer(local.limit),
            retry_after: Some(Duration::ZERO),
            reset_after: local.window,
            period: local.window,
        };
        match settings.away.limits {
            Mode::Open => {}
            Mode::Closed => {
                made.outcome = Outcome::Denied;
                made.remaining = 0;
                made.retry_after = Some(settings.pause);
            }
            Mode::Local => {
                let limit = share(local.limit, settings.instances);
                let key = [b"limits:", &local.key[..]].concat();
                let taken = self.core.windows.take(&key, limit, local.window, local.cost, local.peek);
                made.limit = integer(limit);
                made.remaining = integer(taken.left);
                if !taken.allowed {
                    made.outcome = Outcome::Denied;
                    made.reason = Some("local_limit");
                    made.retry_after = taken.retry_after;
                }
            }
        }
        made
    }
}
