//! What a request asks for, and what each policy says to it.

use super::Moment;
use super::policy::REQUESTS;
use crate::UNITS_MAX;
use crate::calendar::Period;
use crate::ledger::Ledger;
use crate::limit::{NEVER, Verdict};
use crate::money::Amount;

/// The amounts of a request by their meters, each at most once.
#[derive(Debug, Clone, Copy)]
pub struct Amounts<'a>(pub &'a [(&'a [u8], Amount)]);

impl Amounts<'_> {
    pub fn of(&self, meter: &[u8]) -> Option<Amount> {
        self.0.iter().find(|(name, _)| *name == meter).map(|&(_, amount)| amount)
    }

    /// As [`Self::of`] for an admission, which is one request where it does not say how many.
    pub(super) fn asked(&self, meter: &[u8]) -> Option<Amount> {
        self.of(meter).or((meter == REQUESTS).then_some(Amount::ONE))
    }

    /// The whole units of a meter; a fraction counts as one.
    pub(super) fn units(&self, meter: &[u8]) -> Option<u64> {
        self.of(meter).map(whole_units)
    }

    /// The whole units that [`Self::asked`] names.
    pub(super) fn estimate(&self, meter: &[u8]) -> Option<u64> {
        self.asked(meter).map(whole_units)
    }
}

/// No more than one above what any limit allows.
fn whole_units(amount: Amount) -> u64 {
    const PICOS_PER_UNIT: u64 = Amount::ONE.picos() as u64;
    match u64::try_from(amount.picos()) {
        // A 128-bit division costs many times a 64-bit one.
        Ok(picos) => picos.div_ceil(PICOS_PER_UNIT),
        Err(_) if amount < Amount::ZERO => 0,
        Err(_) => {
            let units = amount.picos().unsigned_abs().div_ceil(PICOS_PER_UNIT.into());
            u64::try_from(units).unwrap_or(u64::MAX).min(UNITS_MAX + 1)
        }
    }
}

/// What a limit is, and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figures {
    Units { limit: u64, remaining: u64 },
    Money { limit: Amount, remaining: Amount },
}

/// How a budget stands to its soft limit, with the request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Soft {
    /// Below it, or without one.
    #[default]
    Below,
    /// The request takes it there.
    Reached,
    Above,
}

/// A policy's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub allowed: bool,
    /// An answer that refuses nothing.
    pub shadow: bool,
    pub soft: Soft,
    pub figures: Figures,
    /// 0 where it allows, -1 where it never will.
    pub retry_after_ms: i64,
    /// Until the whole limit is free again if nobody takes any; -1 for a budget without end.
    pub reset_after_ms: i64,
}

impl Default for Row {
    fn default() -> Self {
        let figures = Figures::Units { limit: 0, remaining: 0 };
        Self { allowed: true, shadow: false, soft: Soft::Below, figures, retry_after_ms: 0, reset_after_ms: 0 }
    }
}

impl From<Verdict> for Row {
    fn from(verdict: Verdict) -> Self {
        let Verdict { allowed, limit, remaining, retry_after_ms, reset_after_ms } = verdict;
        Self {
            allowed,
            figures: Figures::Units { limit, remaining },
            retry_after_ms,
            reset_after_ms,
            ..Self::default()
        }
    }
}

impl Row {
    /// After units were taken.
    pub(super) fn take_units(&mut self, units: u64, reset_after_ms: i64) {
        if let Figures::Units { remaining, .. } = &mut self.figures {
            *remaining = remaining.saturating_sub(units);
        }
        if units > 0 {
            self.reset_after_ms = reset_after_ms;
        }
    }

    /// After money was set aside.
    pub(super) fn take_money(&mut self, amount: Amount) {
        if let Figures::Money { remaining, .. } = &mut self.figures {
            *remaining = remaining.saturating_sub(amount).max(Amount::ZERO);
        }
    }
}

/// What a budget is asked.
pub(super) struct Asked {
    pub budget: Amount,
    /// Without one: whether anything is left.
    pub cost: Option<Amount>,
    pub soft_percent: u8,
    pub ends_after_ms: i64,
}

impl Asked {
    pub fn row(&self, ledger: &Ledger, now: &Moment, period: Period) -> Row {
        let now_ms = now.terms.at_ms;
        let unspent = self.budget.saturating_sub(ledger.spent(period, now.day));
        let remaining = unspent.saturating_sub(ledger.held(now_ms, period, now.day));
        let fits = |left: Amount| self.cost.map_or(left > Amount::ZERO, |cost| cost <= left);
        let allowed = fits(remaining);
        let retry_after_ms = if allowed {
            0
        } else if self.cost.map_or(self.budget == Amount::ZERO, |cost| cost > self.budget) {
            NEVER
        } else if fits(unspent) {
            // Only what is held is in the way: the next hold to end may leave room, or else the next period.
            let next_ms = ledger.holds(now_ms).next().map(|(.., left_ms)| left_ms);
            next_ms.into_iter().chain((period != Period::Total).then_some(self.ends_after_ms)).min().unwrap_or(NEVER)
        } else {
            // All that is spent stays spent until the period ends: -1 for TOTAL.
            self.ends_after_ms
        };
        Row {
            allowed,
            soft: self.soft(remaining),
            figures: Figures::Money { limit: self.budget, remaining: remaining.max(Amount::ZERO) },
            retry_after_ms,
            reset_after_ms: self.ends_after_ms,
            ..Row::default()
        }
    }

    fn soft(&self, remaining: Amount) -> Soft {
        // Amounts are far from the ends of an i128: a hundred of the largest fit.
        let hundredths = |amount: Amount| amount.picos().saturating_mul(100);
        let reached = |remaining: Amount| {
            let soft = self.budget.picos().saturating_mul(self.soft_percent.into());
            self.soft_percent > 0 && hundredths(self.budget.saturating_sub(remaining)) >= soft
        };
        match (reached(remaining), reached(remaining.saturating_sub(self.cost.unwrap_or_default()))) {
            (true, _) => Soft::Above,
            (false, true) => Soft::Reached,
            (false, false) => Soft::Below,
        }
    }
}

/// The answer of all policies together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub admitted: bool,
    /// The longest wait of those that refuse: 0 where it is admitted, -1 where waiting does not help.
    pub retry_after_ms: i64,
}

impl Answer {
    pub fn of(rows: &[Row]) -> Self {
        let refusing = || rows.iter().filter(|row| !row.allowed && !row.shadow);
        // -1 is the longest of all.
        let longest = refusing().map(|row| row.retry_after_ms).max_by_key(|&wait_ms| wait_ms as u64);
        Self { admitted: longest.is_none(), retry_after_ms: longest.unwrap_or(0) }
    }
}
