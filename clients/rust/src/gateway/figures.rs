use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::decisions::Outcome;
use super::observer::{Label, Observer};
use crate::commands::Amounts;

/// What was decided and how it went, since the gateway was made. No key, value or credential is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// Decisions by family (`admission`, `route`, `limits`, `budgets`, `slots`), outcome and reason (empty if admitted).
    pub decisions: BTreeMap<(&'static str, Outcome, &'static str), u64>,
    /// Requests of the cache by category and what they got: hit, stale, coalesced, miss, pending, wait_timeout, away or error; and
    /// what went wrong with entries: not_stored, not_released, refresh_failed.
    pub cache: BTreeMap<(String, &'static str), u64>,
    /// Log records that were dropped, by reason: buffer_full, queue_full, refused, unknown, closed.
    pub log_dropped: BTreeMap<&'static str, u64>,
    /// Settlements by how they ended.
    pub settlements: BTreeMap<&'static str, u64>,
    /// The rest by name: kept, kept_sent, kept_dropped, kept_given_up, kept_refused, settlements_unknown, settlements_refused,
    /// admissions_dropped, admissions_closed, streams_ended, leases_lost, locks_lost, keep_alive_failed.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Figures {
    /// A count by name; 0 if there is none.
    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or_default()
    }
}

/// Counts for one gateway, and tells its observer.
pub(super) struct Watch {
    figures: Mutex<Figures>,
    observer: Option<Arc<dyn Observer>>,
}

impl Watch {
    pub(super) fn new(observer: Option<Arc<dyn Observer>>) -> Self {
        Self { figures: Mutex::default(), observer }
    }

    fn change(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut self.figures.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    }

    fn tell(&self, name: &'static str, amount: u64, labels: &[Label<'_>]) {
        if let Some(observer) = &self.observer {
            observer.count(name, amount, labels);
        }
    }

    pub(super) fn decided(&self, family: &'static str, outcome: Outcome, reason: Option<&'static str>) {
        self.change(|all| *all.decisions.entry((family, outcome, reason.unwrap_or_default())).or_default() += 1);
        let reason = reason.unwrap_or("none");
        self.tell("decisions", 1, &[("family", family), ("outcome", outcome.name()), ("reason", reason)]);
    }

    pub(super) fn count(&self, name: &'static str, count: u64) {
        self.change(|all| *all.counts.entry(name).or_default() += count);
        self.tell(name, count, &[]);
    }

    pub(super) fn settled(&self, how: &'static str) {
        self.change(|all| *all.settlements.entry(how).or_default() += 1);
        self.tell("settlements", 1, &[("outcome", how)]);
    }

    /// Tokens of a settled request.
    pub(super) fn used(&self, amounts: &Amounts, attributes: &[(String, String)]) {
        let Some(observer) = &self.observer else { return };
        for (meter, kind) in [("input_tokens", "input"), ("output_tokens", "output")] {
            if let Some(amount) = amounts.get(meter.as_bytes()) {
                // Meters may count parts of a token, which the conventions do not.
                observer.tokens(kind, amount.to_f64().round() as u64, attributes);
            }
        }
    }

    pub(super) fn cache(&self, category: &str, result: &'static str) {
        self.change(|all| *all.cache.entry((category.to_owned(), result)).or_default() += 1);
        self.tell("cache", 1, &[("category", category), ("result", result)]);
    }

    pub(super) fn log_dropped(&self, count: usize, reason: &'static str) {
        self.change(|all| *all.log_dropped.entry(reason).or_default() += count as u64);
        self.tell("log_dropped", count as u64, &[("reason", reason)]);
    }

    pub(super) fn figures(&self) -> Figures {
        self.figures.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}
