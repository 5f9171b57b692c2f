use std::collections::BTreeMap;
use std::sync::Mutex;

use super::decisions::Outcome;

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

#[derive(Default)]
pub(super) struct Watch(Mutex<Figures>);

impl Watch {
    fn change(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    }

    pub(super) fn decided(&self, family: &'static str, outcome: Outcome, reason: Option<&'static str>) {
        self.change(|all| *all.decisions.entry((family, outcome, reason.unwrap_or_default())).or_default() += 1);
    }

    pub(super) fn count(&self, name: &'static str, count: u64) {
        self.change(|all| *all.counts.entry(name).or_default() += count);
    }

    pub(super) fn settled(&self, how: &'static str) {
        self.change(|all| *all.settlements.entry(how).or_default() += 1);
    }

    pub(super) fn cache(&self, category: &str, result: &'static str) {
        self.change(|all| *all.cache.entry((category.to_owned(), result)).or_default() += 1);
    }

    pub(super) fn log_dropped(&self, count: usize, reason: &'static str) {
        self.change(|all| *all.log_dropped.entry(reason).or_default() += count as u64);
    }

    pub(super) fn figures(&self) -> Figures {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}
