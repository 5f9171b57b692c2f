//! Each policy's answer to a request, and the answer of all policies together.

use crate::limit::{NEVER, Verdict};
use crate::money::Amount;

/// A limit, and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figures {
    /// For windows, buckets, leases in flight and blocks.
    Units {
        /// The most units.
        limit: u64,
        /// The units left; 0 in debt.
        remaining: u64,
    },
    /// For budgets, and for windows and buckets that count billionths.
    Money {
        /// The largest amount.
        limit: Amount,
        /// The amount left; zero in debt or if overspent.
        remaining: Amount,
    },
}

/// What counts towards a policy's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Used {
    /// For windows, buckets and leases in flight.
    Units(u64),
    /// For budgets, and for windows and buckets that count billionths.
    Money(Amount),
}

/// What a window or bucket has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// The units in a window or the tokens in a bucket, which are negative in debt.
    Units(i64),
    /// The same, for a policy that counts billionths.
    Money(Amount),
}

/// Where a budget stands with respect to its soft limit, with the request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Soft {
    /// Below the limit, or there is no limit.
    #[default]
    Below,
    /// The request reaches the limit.
    Reached,
    /// At or above the limit before the request.
    Above,
}

/// A policy's answer to a request, without account and policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answered {
    pub allowed: bool,
    pub soft: Soft,
    pub figures: Figures,
    pub retry_after_ms: i64,
    pub reset_after_ms: i64,
}

impl Answered {
    /// The answer of a policy that cannot be asked, because what it counts is missing. Neither a change nor a
    /// load can cause this; if it happens all the same, the policy refuses.
    pub const UNDECIDED: Self = Self {
        allowed: false,
        soft: Soft::Below,
        figures: Figures::Units { limit: 0, remaining: 0 },
        retry_after_ms: NEVER,
        reset_after_ms: NEVER,
    };

    /// The answer of a window or bucket. `figures` are its limit and what is left of it.
    pub fn of(verdict: &Verdict, figures: Figures) -> Self {
        let &Verdict { allowed, retry_after_ms, reset_after_ms, .. } = verdict;
        Self { allowed, soft: Soft::Below, figures, retry_after_ms, reset_after_ms }
    }

    /// The answer of a block or a cooldown that ends in `left_ms`: 0 if it has ended, -1 if it does not end.
    pub fn blocked(left_ms: i64) -> Self {
        let figures = Figures::Units { limit: 0, remaining: 0 };
        let (retry_after_ms, reset_after_ms) = (left_ms, left_ms);
        Self { allowed: left_ms == 0, soft: Soft::Below, figures, retry_after_ms, reset_after_ms }
    }
}

/// What can be in the way besides policies. Reserved as names of policies, in any case.
pub const OBSTACLES: [&str; 3] = ["COOLDOWN", "NOACCOUNT", "HOLDS"];

/// A policy's answer to a request, with the policy and its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The account's index among the request's accounts.
    pub account: u8,
    /// The policy's index among the account's policies, or what else is in the way: [`Self::COOLDOWN`],
    /// [`Self::NO_ACCOUNT`] or [`Self::HOLDS`].
    pub policy: u8,
    /// Whether the policy allows the request.
    pub allowed: bool,
    /// Whether the policy is a shadow policy, whose answer refuses nothing.
    pub shadow: bool,
    /// Where a budget stands with respect to its soft limit.
    pub soft: Soft,
    /// The limit and what is left of it.
    pub figures: Figures,
    /// Milliseconds until the policy would allow the request, if nothing else is taken: 0 if it does now, -1 if it
    /// never will.
    pub retry_after_ms: i64,
    /// Milliseconds until the whole limit is free again, if nothing else is taken; -1 for a budget over `TOTAL`.
    pub reset_after_ms: i64,
}

impl Row {
    /// In place of a policy: the account's cooldown is not over.
    pub const COOLDOWN: u8 = u8::MAX;
    /// In place of a policy: there is no such account.
    pub const NO_ACCOUNT: u8 = u8::MAX - 1;
    /// In place of a policy: a ledger of the account has no room for one more hold.
    pub const HOLDS: u8 = u8::MAX - 2;

    /// The name of what is in the way instead of a policy. No policy has such a name.
    pub fn obstacle(&self) -> Option<&'static str> {
        obstacle(self.policy)
    }

    /// Whether the request is refused because of this row.
    pub fn refuses(&self) -> bool {
        !self.allowed && !self.shadow
    }

    pub(super) fn new(account: u8, policy: u8, shadow: bool, answered: Answered) -> Self {
        let Answered { allowed, soft, figures, retry_after_ms, reset_after_ms } = answered;
        Self { account, policy, allowed, shadow, soft, figures, retry_after_ms, reset_after_ms }
    }

    /// Updates the row after units were taken.
    pub(super) fn take_units(&mut self, units: u64, reset_after_ms: i64) {
        match &mut self.figures {
            Figures::Units { remaining, .. } => *remaining = remaining.saturating_sub(units),
            Figures::Money { .. } => self.take_money(Amount::from_billionths(units)),
        }
        if units > 0 {
            self.reset_after_ms = reset_after_ms;
        }
    }

    /// Updates the row after money was set aside.
    pub(super) fn take_money(&mut self, amount: Amount) {
        if let Figures::Money { remaining, .. } = &mut self.figures {
            *remaining = remaining.saturating_sub(amount).max(Amount::ZERO);
        }
    }
}

/// See [`Row::obstacle`].
pub(super) fn obstacle(policy: u8) -> Option<&'static str> {
    match policy {
        Row::COOLDOWN => Some(OBSTACLES[0]),
        Row::NO_ACCOUNT => Some(OBSTACLES[1]),
        Row::HOLDS => Some(OBSTACLES[2]),
        _ => None,
    }
}

/// The answer of all policies together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Whether no policy refuses, except shadow policies.
    pub admitted: bool,
    /// The longest wait of the refusing policies: 0 if admitted, -1 if waiting does not help.
    pub retry_after_ms: i64,
}

impl Answer {
    /// Combines the policies' rows into one answer.
    pub fn of(rows: &[Row]) -> Self {
        let refusing = || rows.iter().filter(|row| row.refuses());
        // -1 is the longest wait: as an unsigned integer it is the largest.
        let longest = refusing().map(|row| row.retry_after_ms).max_by_key(|&wait_ms| wait_ms.cast_unsigned());
        Self { admitted: longest.is_none(), retry_after_ms: longest.unwrap_or(0) }
    }
}
