//! One connection of a gateway: what it asks the server for each request.

use crate::clock::{Clock, Pace, Timed};
use crate::content;
use crate::latency::{Command, Latencies};
use crate::money::Picos;
use crate::workload::{Account, Request, Workload};
use anyhow::{ensure, Context, Result};
use redis::{cmd, Cmd, Connection, FromRedisValue};
use std::time::Duration;

/// The queue of log records on their way to storage.
pub const LOG_KEY: &str = "logs:gateway";

/// The category of all cached responses: the part of their keys before the first colon.
pub const CACHE_CATEGORY: &str = "chat";

/// More records than a run leaves waiting, so that none is dropped.
const LOG_RECORDS_MAX: usize = 10_000_000;

/// The key of an account's ledger.
pub fn budget_key(account: &Account) -> String {
    format!("budget:{{{}}}", account.name)
}

/// What happened to one request.
pub struct Journey {
    /// Index into [`Workload::requests`].
    pub request: usize,
    /// How long after its due time the request was begun: every connection was busy.
    pub late: Duration,
    /// How long all its commands took together.
    pub took: Duration,
    pub requests: Timed<LimitReply>,
    pub tokens: Option<Timed<LimitReply>>,
    pub budget: Option<Timed<BudgetReply>>,
    pub outcome: Outcome,
}

pub enum Outcome {
    /// By requests a minute.
    LimitedRequests,
    /// By tokens a minute.
    LimitedTokens,
    OverBudget,
    /// Answered from the cache.
    Cached,
    /// Answered by the model. The charge's reply is the month's new total.
    Answered(Timed<Picos>),
}

/// The reply of `GW.ALLOW` and `GW.TOKENS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitReply {
    pub allowed: bool,
    pub limit: u64,
    pub remaining: u64,
    pub retry_after_ms: i64,
    pub reset_after_ms: i64,
}

impl LimitReply {
    /// Whether the numbers can belong together, for a request of `units` that was asked with this `limit` or burst.
    pub fn is_consistent(&self, limit: u64, units: u64) -> bool {
        let verdict = match self.allowed {
            true => self.retry_after_ms == 0 && self.remaining <= limit - units.min(limit),
            false if units > limit => self.retry_after_ms == -1,
            false => self.retry_after_ms > 0 && self.remaining < units,
        };
        verdict && self.limit == limit && self.reset_after_ms >= 0
    }
}

/// The reply of `GW.WITHINBUDGET`, without the period, which is always the month, and what is held, which is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetReply {
    pub within: bool,
    pub budget: Picos,
    pub spent: Picos,
    pub remaining: Picos,
    pub reset_after_ms: i64,
}

type RawBudgetReply = (i64, String, String, String, String, String, i64);

impl BudgetReply {
    fn new((within, period, budget, spent, held, remaining, reset_after_ms): RawBudgetReply) -> Result<Self> {
        ensure!(period == "MONTH" && held == "0", "not asked for: {period}, held {held}");
        let (budget, spent, remaining) = (budget.parse()?, spent.parse()?, remaining.parse()?);
        Ok(Self { within: within == 1, budget, spent, remaining, reset_after_ms })
    }
}

/// Asks how an account's month stands, and whether `cost` fits into what is left of `budget`.
pub fn within_budget(connection: &mut Connection, account: &Account, cost: Picos) -> Result<BudgetReply> {
    BudgetReply::new(budget_question(account, cost).query(connection)?)
}

fn budget_question(account: &Account, cost: Picos) -> Cmd {
    let mut question = cmd("GW.WITHINBUDGET");
    question.arg(budget_key(account)).arg(account.budget.to_string()).arg("MONTH").arg("COST").arg(cost.to_string());
    question
}

pub struct Gateway<'a> {
    workload: &'a Workload,
    pace: Pace,
    clock: Clock,
    connection: Connection,
    pub latencies: Latencies,
    pub journeys: Vec<Journey>,
}

impl<'a> Gateway<'a> {
    pub fn new(workload: &'a Workload, pace: Pace, clock: Clock, connection: Connection) -> Self {
        Self { workload, pace, clock, connection, latencies: Latencies::default(), journeys: Vec::new() }
    }

    /// Takes one request through limits, budget and cache, and charges, caches and logs what the model answered.
    ///
    /// # Errors
    /// An error of the server or the connection, or a reply that cannot be right.
    pub fn serve(&mut self, index: usize) -> Result<()> {
        let workload = self.workload;
        let request = &workload.requests[index];
        let account = &workload.accounts[request.account];
        let begun = self.clock.elapsed();

        let requests = self.limit(Command::Allow, account.requests_question(self.pace))?;
        let mut journey = Journey {
            request: index,
            late: begun.saturating_sub(self.pace.shortened(request.at)),
            took: Duration::ZERO,
            requests,
            tokens: None,
            budget: None,
            outcome: Outcome::LimitedRequests,
        };
        if journey.requests.reply.allowed {
            journey.outcome = self.serve_admitted(index, request, account, &mut journey)?;
        }
        journey.took = self.clock.elapsed() - begun;
        self.latencies.record_request(journey.took);
        self.journeys.push(journey);
        Ok(())
    }

    /// The rest, for a request within its requests a minute.
    fn serve_admitted(
        &mut self,
        index: usize,
        request: &Request,
        account: &Account,
        journey: &mut Journey,
    ) -> Result<Outcome> {
        let tokens = self.limit(Command::Tokens, account.tokens_question(self.pace, request.tokens()))?;
        let tokens = journey.tokens.insert(tokens);
        if !tokens.reply.allowed {
            return Ok(Outcome::LimitedTokens);
        }

        let Timed { sent, received, reply } =
            self.ask(Command::WithinBudget, &budget_question(account, request.cost))?;
        let budget = journey.budget.insert(Timed { sent, received, reply: BudgetReply::new(reply)? });
        if !budget.reply.within {
            return Ok(Outcome::OverBudget);
        }

        let model = &self.workload.models[request.model];
        let cache_key = content::cache_key(model, request);
        let cached: Option<String> = self.ask(Command::CacheGet, cmd("GW.CACHEGET").arg(&cache_key))?.reply;
        if let Some(response) = cached {
            let expected = content::response_id(request);
            ensure!(response.contains(&expected), "the cache has another prompt's response under {cache_key}");
            return Ok(Outcome::Cached);
        }

        let mut charge = cmd("GW.ADDCOST");
        charge.arg(budget_key(account)).arg(request.cost.to_string());
        let Timed { sent, received, reply } = self.ask::<String>(Command::AddCost, &charge)?;
        let charged = Timed { sent, received, reply: reply.parse()? };

        let response = content::response(model, request);
        let stored: String = self.ask(Command::CacheSet, cmd("GW.CACHESET").arg(&cache_key).arg(response))?.reply;
        ensure!(stored == "OK", "GW.CACHESET replied {stored}");

        let record = content::log_record(index, model, account, request);
        let mut push = cmd("GW.LOGPUSH");
        push.arg(LOG_KEY).arg("MAXLEN").arg(LOG_RECORDS_MAX).arg("JSON").arg("RECORDS").arg(record);
        let (_, dropped): (u64, u64) = self.ask(Command::LogPush, &push)?.reply;
        ensure!(dropped == 0, "GW.LOGPUSH dropped {dropped} records of a queue that is not full");
        Ok(Outcome::Answered(charged))
    }

    fn limit(&mut self, command: Command, question: Cmd) -> Result<Timed<LimitReply>> {
        let Timed { sent, received, reply } = self.ask(command, &question)?;
        let (allowed, limit, remaining, retry_after_ms, reset_after_ms): (u8, u64, u64, i64, i64) = reply;
        let reply = LimitReply { allowed: allowed == 1, limit, remaining, retry_after_ms, reset_after_ms };
        Ok(Timed { sent, received, reply })
    }

    fn ask<T: FromRedisValue>(&mut self, command: Command, question: &Cmd) -> Result<Timed<T>> {
        let sent = self.clock.elapsed();
        let reply = question.query(&mut self.connection).with_context(|| command.name())?;
        let received = self.clock.elapsed();
        self.latencies.record(command, received - sent);
        Ok(Timed { sent, received, reply })
    }
}

impl Account {
    fn requests_question(&self, pace: Pace) -> Cmd {
        let mut question = cmd("GW.ALLOW");
        question.arg(format!("requests:{{{}}}", self.name)).arg(self.requests_per_minute);
        question.arg("WINDOW").arg(pace.minute_ms());
        question
    }

    fn tokens_question(&self, pace: Pace, tokens: u64) -> Cmd {
        let mut question = cmd("GW.TOKENS");
        question.arg(format!("tokens:{{{}}}", self.name)).arg(self.tokens_per_minute).arg(self.burst_tokens);
        question.arg("PER").arg(pace.minute_ms()).arg("COST").arg(tokens);
        question
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_that_contradict_themselves_are_recognized() {
        let reply = |allowed, remaining, retry_after_ms| LimitReply {
            allowed,
            limit: 10,
            remaining,
            retry_after_ms,
            reset_after_ms: 5,
        };
        for right in [reply(true, 7, 0), reply(true, 0, 0), reply(false, 2, 1)] {
            assert!(right.is_consistent(10, 3), "{right:?}");
            assert!(!right.is_consistent(11, 3), "{right:?}");
        }
        assert!(reply(false, 10, -1).is_consistent(10, 11));
        for wrong in [reply(true, 8, 0), reply(true, 7, 1), reply(false, 3, 1), reply(false, 2, 0), reply(false, 2, -1)]
        {
            assert!(!wrong.is_consistent(10, 3), "{wrong:?}");
        }
        assert!(!reply(false, 10, 1).is_consistent(10, 11));
        assert!(!LimitReply { reset_after_ms: -1, ..reply(true, 7, 0) }.is_consistent(10, 3));
    }

    #[test]
    fn a_budget_reply_is_of_the_month_and_holds_nothing() {
        let raw = |period: &str, held: &str, spent: &str| {
            (1, period.to_owned(), "2".to_owned(), spent.to_owned(), held.to_owned(), "0.5".to_owned(), 9)
        };
        let reply = BudgetReply::new(raw("MONTH", "0", "1.5")).unwrap();
        assert_eq!((reply.within, reply.spent.to_string().as_str(), reply.reset_after_ms), (true, "1.5", 9));
        for wrong in [raw("DAY", "0", "1.5"), raw("MONTH", "0.1", "1.5"), raw("MONTH", "0", "nan")] {
            assert!(BudgetReply::new(wrong).is_err());
        }
    }
}
