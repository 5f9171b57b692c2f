use std::fmt;
use std::time::{Duration, SystemTime};

use crate::commands::{Amount, Period, Verdict};
use crate::headers::{HeaderOptions, verdict_headers};

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The server has admitted it.
    Admitted,
    /// It was refused.
    Denied,
    /// It was let through without the server, as the settings allow while that is away.
    Degraded,
}

impl Outcome {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Denied => "denied",
            Self::Degraded => "degraded",
        }
    }
}

/// How an admission or a hold has ended, or what became of a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Settlement {
    /// The server has taken it.
    Settled,
    /// The lease had ended before, and the estimates stay charged.
    Late,
    /// It had been settled already.
    Repeated,
    /// No account knew the lease, so the money was booked under its id.
    Charged,
    /// The same, with no money to book.
    Unknown,
    /// The server is away, and gets it later.
    Kept,
    /// The server is away, and there is no room to keep more, or it is too late to send it.
    GivenUp,
    /// There was nothing to settle: the request was denied.
    Nothing,
}

impl Settlement {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Late => "late",
            Self::Repeated => "repeated",
            Self::Charged => "charged",
            Self::Unknown => "unknown",
            Self::Kept => "kept",
            Self::GivenUp => "given_up",
            Self::Nothing => "nothing",
        }
    }
}

/// Why a request was denied, in a form that can be returned as an error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Denied {
    /// `limit`, `local_limit`, `no_account`, or why the server is away.
    pub reason: &'static str,
    /// How long to wait; none if waiting does not help.
    pub retry_after: Option<Duration>,
    /// The HTTP status: 429 if a limit refuses, 403 without an account, 503 if the server is away.
    pub status: u16,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "denied: {}", self.reason)
    }
}

impl std::error::Error for Denied {}

pub(super) fn status_of(outcome: Outcome, reason: Option<&str>) -> u16 {
    match (outcome, reason) {
        (Outcome::Admitted | Outcome::Degraded, _) => 200,
        (_, Some("limit" | "local_limit")) => 429,
        (_, Some("no_account")) => 403,
        _ => 503,
    }
}

/// The answer of a limiter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitDecision {
    /// What was decided.
    pub outcome: Outcome,
    /// Why: none if it was admitted; `limit`, `local_limit`, or why the server is away, such as `timeout`.
    pub reason: Option<&'static str>,
    /// The limit, in units.
    pub limit: i64,
    /// What can still be taken now, 0 or more.
    pub remaining: i64,
    /// How long a denied request has to wait; none if waiting does not help.
    pub retry_after: Option<Duration>,
    /// How long until the whole limit is free again.
    pub reset_after: Duration,
    /// The window, or the period of the bucket's rate.
    pub period: Duration,
}

impl LimitDecision {
    /// Whether the request may go on.
    pub fn is_ok(&self) -> bool {
        self.outcome != Outcome::Denied
    }

    /// The HTTP status: 200, 429 if a limit refuses, or 503 if the server is away.
    pub fn status(&self) -> u16 {
        status_of(self.outcome, self.reason)
    }

    /// The headers of the HTTP response, by name. `name` is `requests` for a limit on requests, and `tokens` for one on tokens.
    pub fn headers(&self, name: &str, options: &HeaderOptions<'_>) -> Vec<(String, String)> {
        let verdict = Verdict {
            allowed: self.is_ok(),
            limit: self.limit,
            remaining: self.remaining,
            retry_after_ms: self.retry_after.map_or(-1, |wait| wait.as_millis() as i64),
            reset_after_ms: self.reset_after.as_millis() as i64,
        };
        verdict_headers(name, &verdict, self.period.as_millis() as i64, SystemTime::now(), options)
    }
}

/// Whether a ledger is within its budgets. All but the first two fields are about the tightest one, and none while the server is away.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetDecision {
    /// What was decided.
    pub outcome: Outcome,
    /// Why: none if it was admitted; `limit`, or why the server is away.
    pub reason: Option<&'static str>,
    /// The tightest budget.
    pub tightest: Option<TightestBudget>,
}

impl BudgetDecision {
    /// Whether the request may go on.
    pub fn is_ok(&self) -> bool {
        self.outcome != Outcome::Denied
    }
}

/// A budget with what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TightestBudget {
    /// Its period.
    pub period: Period,
    /// The budget, with the credit of its current period.
    pub budget: Amount,
    /// What was spent in the current period.
    pub spent: Amount,
    /// What open holds set aside in it.
    pub held: Amount,
    /// What is left, 0 or more.
    pub remaining: Amount,
    /// How long until the period ends; none for the total.
    pub reset_after: Option<Duration>,
}
