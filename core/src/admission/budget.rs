//! Asks a ledger whether a budget allows a cost.

use super::moment::Moment;
use super::row::{Answered, Figures, Soft};
use crate::calendar::Period;
use crate::ledger::Ledger;
use crate::limit::NEVER;
use crate::money::Amount;

/// A question to a ledger: does a cost fit into a budget over a period?
pub(super) struct BudgetQuestion {
    pub budget: Amount,
    pub period: Period,
    /// `None` asks whether anything is left.
    pub cost: Option<Amount>,
    /// 1 to 100, or 0 for no soft limit.
    pub soft_percent: u8,
    /// Milliseconds until the period ends; -1 for `TOTAL`.
    pub ends_after_ms: i64,
}

impl BudgetQuestion {
    pub fn answer(&self, ledger: &Ledger, now: &Moment) -> Answered {
        let (now_ms, period) = (now.stamp.at_ms, self.period);
        // Every budget over a period includes the period's credit.
        let budget = self.budget.saturating_add(ledger.credit(period, now.day));
        let unspent = budget.saturating_sub(ledger.spent(period, now.day));
        let remaining = unspent.saturating_sub(ledger.held(now_ms, period, now.day));
        let fits = |left: Amount| self.cost.map_or(left > Amount::ZERO, |cost| cost <= left);
        let allowed = fits(remaining);
        let retry_after_ms = if allowed {
            0
        } else if self.cost.map_or(budget == Amount::ZERO, |cost| cost > budget) {
            NEVER
        } else if fits(unspent) {
            // Only holds are in the way: the next hold to end may leave room, and the next period does.
            let next_ms = ledger.holds(now_ms).next().map(|(.., left_ms)| left_ms);
            next_ms.into_iter().chain((period != Period::Total).then_some(self.ends_after_ms)).min().unwrap_or(NEVER)
        } else {
            // Spend counts until the period ends: -1 for `TOTAL`.
            self.ends_after_ms
        };
        Answered {
            allowed,
            soft: self.soft(budget, remaining),
            figures: Figures::Money { limit: budget, remaining: remaining.max(Amount::ZERO) },
            retry_after_ms,
            reset_after_ms: self.ends_after_ms,
        }
    }

    /// Where the spend stands with respect to the soft limit of `budget`, before and with the cost. A budget of zero
    /// has no soft limit: it may be that of a prepaid account before its first credit.
    fn soft(&self, budget: Amount, remaining: Amount) -> Soft {
        if self.soft_percent == 0 || budget <= Amount::ZERO {
            return Soft::Below;
        }
        // Amounts are far from the bounds of an i128, so that a hundred times the largest fits.
        let hundredths = |amount: Amount| amount.picos().saturating_mul(100);
        let reached = |remaining: Amount| {
            let soft = budget.picos().saturating_mul(self.soft_percent.into());
            hundredths(budget.saturating_sub(remaining)) >= soft
        };
        match (reached(remaining), reached(remaining.saturating_sub(self.cost.unwrap_or_default()))) {
            (true, _) => Soft::Above,
            (false, true) => Soft::Reached,
            (false, false) => Soft::Below,
        }
    }
}
