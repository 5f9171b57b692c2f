//! What each policy answers to a request, and all of them together.

use crate::limit::{NEVER, Verdict};
use crate::money::Amount;

/// A limit, and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figures {
    /// Of windows, buckets and leases in flight.
    Units {
        /// The most units.
        limit: u64,
        /// Those that are left, 0 in debt.
        remaining: u64,
    },
    /// Of budgets.
    Money {
        /// The budget.
        limit: Amount,
        /// What is left of it, zero if overspent.
        remaining: Amount,
    },
}

/// What counts towards a policy's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Used {
    /// Of windows, buckets and leases in flight.
    Units(u64),
    /// Of budgets.
    Money(Amount),
}

/// How a budget stands to its soft limit, with the request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Soft {
    /// Below it, or without one.
    #[default]
    Below,
    /// The request takes it there.
    Reached,
    /// At or above it before the request.
    Above,
}

/// A policy's answer to a request, without where it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answered {
    pub allowed: bool,
    pub soft: Soft,
    pub figures: Figures,
    pub retry_after_ms: i64,
    pub reset_after_ms: i64,
}

impl Answered {
    /// The answer of a policy that cannot be asked, since what it counts is missing. Neither a change nor a load leads
    /// here; should it happen all the same, the policy refuses.
    pub const UNDECIDED: Self = Self {
        allowed: false,
        soft: Soft::Below,
        figures: Figures::Units { limit: 0, remaining: 0 },
        retry_after_ms: NEVER,
        reset_after_ms: NEVER,
    };
}

impl From<Verdict> for Answered {
    fn from(verdict: Verdict) -> Self {
        let Verdict { allowed, limit, remaining, retry_after_ms, reset_after_ms } = verdict;
        let figures = Figures::Units { limit, remaining };
        Self { allowed, soft: Soft::Below, figures, retry_after_ms, reset_after_ms }
    }
}

/// A policy's answer to a request, and which policy of which account gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The account's index among the request's accounts.
    pub account: u8,
    /// The policy's index among the account's policies.
    pub policy: u8,
    /// Whether the policy allows the request.
    pub allowed: bool,
    /// The policy refuses nothing: its answer is only told.
    pub shadow: bool,
    /// How a budget stands to its soft limit.
    pub soft: Soft,
    /// The limit and what is left of it.
    pub figures: Figures,
    /// Milliseconds until the policy would allow the request, if nobody else takes anything: 0 if it does now, -1 if it
    /// never will.
    pub retry_after_ms: i64,
    /// Milliseconds until the whole limit is free again, if nobody takes anything; -1 for a budget over TOTAL.
    pub reset_after_ms: i64,
}

impl Row {
    pub(super) fn new(account: u8, policy: u8, shadow: bool, answered: Answered) -> Self {
        let Answered { allowed, soft, figures, retry_after_ms, reset_after_ms } = answered;
        Self { account, policy, allowed, shadow, soft, figures, retry_after_ms, reset_after_ms }
    }

    /// Brings the row up to date after units were taken.
    pub(super) fn take_units(&mut self, units: u64, reset_after_ms: i64) {
        if let Figures::Units { remaining, .. } = &mut self.figures {
            *remaining = remaining.saturating_sub(units);
        }
        if units > 0 {
            self.reset_after_ms = reset_after_ms;
        }
    }

    /// Brings the row up to date after money was set aside.
    pub(super) fn take_money(&mut self, amount: Amount) {
        if let Figures::Money { remaining, .. } = &mut self.figures {
            *remaining = remaining.saturating_sub(amount).max(Amount::ZERO);
        }
    }
}

/// The answer of all policies together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Whether no policy refuses, shadow policies aside.
    pub admitted: bool,
    /// The longest wait of the policies that refuse: 0 if admitted, -1 if waiting does not help.
    pub retry_after_ms: i64,
}

impl Answer {
    /// The answer that the policies' rows amount to.
    pub fn of(rows: &[Row]) -> Self {
        let refusing = || rows.iter().filter(|row| !row.allowed && !row.shadow);
        // -1 is the longest of all: as an unsigned integer it is the largest.
        let longest = refusing().map(|row| row.retry_after_ms).max_by_key(|&wait_ms| wait_ms.cast_unsigned());
        Self { admitted: longest.is_none(), retry_after_ms: longest.unwrap_or(0) }
    }
}
