//! What was spent, by period, and what is held.

use std::collections::HashMap;

use super::dates::{PERIODS, first_of};
use super::words::{Done, Stop};
use crate::commands::Period;
use crate::{Amount, Text};

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Held {
    Living,
    Committed,
    Cancelled,
}

pub(super) struct Hold {
    pub(super) amount: Amount,
    pub(super) charged: Amount,
    pub(super) at: i64,
    pub(super) end: i64,
    pub(super) state: Held,
}

#[derive(Default)]
pub(super) struct Ledger {
    /// By period, and when it began.
    sums: HashMap<(Period, i64), Amount>,
    pub(super) holds: HashMap<Text, Hold>,
    /// What was charged under an id, and when.
    pub(super) charges: HashMap<Text, (Amount, i64)>,
}

impl Ledger {
    pub(super) fn charge(&mut self, amount: Amount, at: i64) {
        for period in PERIODS {
            *self.sums.entry((period, first_of(period, at))).or_default() += amount;
        }
    }

    pub(super) fn spent(&self, period: Period, at: i64) -> Amount {
        self.sums.get(&(period, first_of(period, at))).copied().unwrap_or_default()
    }

    pub(super) fn held(&self, period: Period, now: i64) -> Amount {
        let living = self.holds.values().filter(|hold| hold.state == Held::Living && hold.end > now);
        living.filter(|hold| first_of(period, hold.at) == first_of(period, now)).map(|hold| hold.amount).sum()
    }

    /// Whether some sum would be one that the server does not have.
    pub(super) fn overflows(&self, amount: Amount, at: i64) -> bool {
        let sums = PERIODS.into_iter().map(|period| self.spent(period, at) + amount);
        sums.into_iter().any(|sum| Amount::from_trillionths(sum.trillionths()).is_err())
    }

    /// Commits a hold, or cancels it if there is no actual amount.
    pub(super) fn end(&mut self, id: &Text, actual: Option<Amount>) -> Done {
        if let Some((amount, at)) = self.charges.get(id) {
            let month = self.spent(Period::Month, *at);
            return Ok(vec![false.into(), "charged".into(), (*amount).into(), false.into(), month.into()].into());
        }
        let Some(own) = self.holds.get_mut(id) else {
            return Err(Stop::Refused("NOHOLD no such hold: it was never made, or is forgotten".to_owned()));
        };
        let changed = own.state == Held::Living;
        if changed {
            own.state = if actual.is_some() { Held::Committed } else { Held::Cancelled };
            own.charged = actual.unwrap_or_default();
        }
        let (charged, at, over) = (own.charged, own.at, own.charged > own.amount);
        let word = if own.state == Held::Committed { "committed" } else { "cancelled" };
        if changed {
            self.charge(charged, at);
        }
        let month = self.spent(Period::Month, at);
        Ok(vec![changed.into(), word.into(), charged.into(), over.into(), month.into()].into())
    }
}
