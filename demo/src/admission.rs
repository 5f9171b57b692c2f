//! The accounts of a request, their policies, and what `GW.ADMIT` answers.

use crate::clock::Pace;
use crate::money::Picos;
use crate::workload::{Request, Workload};
use anyhow::{Context, Result, bail, ensure};
use redis::{Cmd, Connection, cmd};

/// The policies' names. A key has the first two, a user the third, a team the last.
pub const REQUESTS: &str = "requests-a-minute";
pub const IN_FLIGHT: &str = "in-flight";
pub const TOKENS: &str = "tokens-a-minute";
pub const MONTH: &str = "month";

/// Sets the policies of all accounts, once, before any request.
///
/// # Errors
/// An error of the server, or an account that had policies before.
pub fn set_policies(connection: &mut Connection, workload: &Workload, pace: Pace) -> Result<()> {
    let minute_ms = pace.minute_ms();
    let policy = |account: &str, name: &str| {
        let mut question = cmd("GW.POLICYSET");
        question.arg(account).arg(name);
        question
    };
    let mut policies = Vec::new();
    for key in &workload.keys {
        let window = ("WINDOW", key.requests_per_minute, "PER", minute_ms);
        policies.push(policy(&key.account, REQUESTS).arg(window).take());
        policies.push(policy(&key.account, IN_FLIGHT).arg(("INFLIGHT", key.in_flight_max)).take());
    }
    for user in &workload.users {
        let bucket = ("BUCKET", user.tokens_per_minute, user.burst_tokens, "PER", minute_ms, "METER", "tokens");
        policies.push(policy(&user.account, TOKENS).arg(bucket).take());
    }
    for team in &workload.teams {
        let budget = ("BUDGET", team.budget.to_string(), "MONTH");
        policies.push(policy(&team.account, MONTH).arg(budget).take());
    }
    for policy in policies {
        let new: u8 = policy.query(connection).context("GW.POLICYSET")?;
        ensure!(new == 1, "GW.POLICYSET of a policy that was there before");
    }
    Ok(())
}

/// A command on the three accounts of a request, which are in one slot of a cluster.
pub fn on_accounts(command: &str, workload: &Workload, request: &Request) -> Cmd {
    let mut question = cmd(command);
    question.arg(&workload.key(request).account);
    question.arg("WITH").arg(2).arg(&workload.user(request).account).arg(&workload.team(request).account);
    question
}

/// The reply of `GW.ADMIT`, its rows by what they limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    pub admitted: bool,
    pub retry_after_ms: i64,
    pub requests: Row<u64>,
    pub in_flight: Row<u64>,
    pub tokens: Row<u64>,
    pub budget: Row<Picos>,
}

/// The answer of one policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<T> {
    pub allowed: bool,
    pub limit: T,
    pub remaining: T,
    pub retry_after_ms: i64,
    pub reset_after_ms: i64,
}

/// Account, policy, allowed, limit, remaining, retry_after_ms, reset_after_ms.
type RawRow = (String, String, u8, String, String, i64, i64);
pub type RawAdmission = (u8, i64, Vec<RawRow>);

impl Admission {
    /// # Errors
    /// If the rows are not those of the request's policies, or contradict the verdict.
    pub fn new((admitted, retry_after_ms, rows): RawAdmission, workload: &Workload, request: &Request) -> Result<Self> {
        let (key, user, team) = (workload.key(request), workload.user(request), workload.team(request));
        let named: Vec<_> = rows.iter().map(|(account, policy, ..)| (account.as_str(), policy.as_str())).collect();
        let expected =
            [(&key.account, REQUESTS), (&key.account, IN_FLIGHT), (&user.account, TOKENS), (&team.account, MONTH)]
                .map(|(account, policy)| (account.as_str(), policy));
        let ([requests, in_flight, tokens, budget], true) = (rows.as_slice(), named == expected) else {
            bail!("rows of {named:?} instead of {expected:?}");
        };
        let admission = Self {
            admitted: admitted == 1,
            retry_after_ms,
            requests: Row::new(requests)?,
            in_flight: Row::new(in_flight)?,
            tokens: Row::new(tokens)?,
            budget: Row::new(budget)?,
        };
        ensure!(admission.agrees_with_its_rows(), "{admission:?}");
        Ok(admission)
    }

    /// Whether the request is admitted if no row refuses it; and else whether the wait is the longest of the rows that
    /// refuse, or -1 if one of them will never admit.
    fn agrees_with_its_rows(&self) -> bool {
        let units = [self.requests, self.in_flight, self.tokens].map(|row| (row.allowed, row.retry_after_ms));
        let rows = units.into_iter().chain([(self.budget.allowed, self.budget.retry_after_ms)]);
        let refusals: Vec<i64> = rows.filter(|(allowed, _)| !allowed).map(|(_, retry_ms)| retry_ms).collect();
        let retry_after_ms = match refusals.contains(&-1) {
            true => -1,
            false => refusals.iter().copied().max().unwrap_or(0),
        };
        self.admitted == refusals.is_empty() && self.retry_after_ms == retry_after_ms
    }
}

impl<T: std::str::FromStr> Row<T>
where
    T::Err: Into<anyhow::Error>,
{
    fn new((_, _, allowed, limit, remaining, retry_after_ms, reset_after_ms): &RawRow) -> Result<Self> {
        let number = |text: &str| text.parse().map_err(|error: T::Err| error.into()).with_context(|| text.to_owned());
        Ok(Self {
            allowed: *allowed == 1,
            limit: number(limit)?,
            remaining: number(remaining)?,
            retry_after_ms: *retry_after_ms,
            reset_after_ms: *reset_after_ms,
        })
    }
}

impl Row<u64> {
    /// Whether the numbers are consistent for a request of `units` under this `limit` or burst, which was charged if it
    /// was `admitted`, and else refused by any policy and not charged.
    pub fn is_consistent(&self, limit: u64, units: u64, admitted: bool) -> bool {
        let verdict = match (self.allowed, admitted) {
            (true, true) => self.retry_after_ms == 0 && self.remaining <= limit - units.min(limit),
            (true, false) => self.retry_after_ms == 0 && (units..=limit).contains(&self.remaining),
            (false, true) => false,
            (false, false) if units > limit => self.retry_after_ms == -1,
            (false, false) => self.retry_after_ms > 0 && self.remaining < units,
        };
        verdict && self.limit == limit && self.reset_after_ms >= 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<T>(allowed: bool, limit: T, remaining: T, retry_after_ms: i64) -> Row<T> {
        Row { allowed, limit, remaining, retry_after_ms, reset_after_ms: 5 }
    }

    #[test]
    fn rows_that_contradict_themselves_are_recognized() {
        let of_ten = |allowed, remaining, retry_after_ms| row(allowed, 10, remaining, retry_after_ms);
        for (right, admitted) in [
            (of_ten(true, 7, 0), true),
            (of_ten(true, 0, 0), true),
            (of_ten(true, 10, 0), false),
            (of_ten(false, 2, 1), false),
        ] {
            assert!(right.is_consistent(10, 3, admitted), "{right:?}");
            assert!(!right.is_consistent(11, 3, admitted), "{right:?}");
        }
        assert!(of_ten(false, 10, -1).is_consistent(10, 11, false));
        for (wrong, admitted) in [
            (of_ten(true, 8, 0), true),
            (of_ten(true, 7, 1), true),
            (of_ten(true, 2, 0), false),
            (of_ten(false, 2, 1), true),
            (of_ten(false, 3, 1), false),
            (of_ten(false, 2, 0), false),
            (of_ten(false, 2, -1), false),
        ] {
            assert!(!wrong.is_consistent(10, 3, admitted), "{wrong:?}");
        }
        assert!(!of_ten(false, 10, 1).is_consistent(10, 11, false));
        assert!(!Row { reset_after_ms: -1, ..of_ten(true, 7, 0) }.is_consistent(10, 3, true));
    }

    #[test]
    fn a_verdict_follows_from_its_rows() {
        let money = |allowed, retry_after_ms| row(allowed, Picos::default(), Picos::default(), retry_after_ms);
        let admission = |admitted, retry_after_ms, requests_retry_ms, budget_retry_ms| Admission {
            admitted,
            retry_after_ms,
            requests: row(requests_retry_ms == 0, 1, 1, requests_retry_ms),
            in_flight: row(true, 1, 1, 0),
            tokens: row(true, 1, 1, 0),
            budget: money(budget_retry_ms == 0, budget_retry_ms),
        };
        for right in [
            admission(true, 0, 0, 0),
            admission(false, 9, 5, 9),
            admission(false, 5, 5, 0),
            admission(false, -1, 5, -1),
        ] {
            assert!(right.agrees_with_its_rows(), "{right:?}");
        }
        for wrong in
            [admission(false, 0, 0, 0), admission(true, 0, 5, 0), admission(false, 5, 5, 9), admission(false, 9, 9, -1)]
        {
            assert!(!wrong.agrees_with_its_rows(), "{wrong:?}");
        }
    }
}
