//! This node's counters: `GW.STATS` and `INFO gw` show the same list.

use crate::server::counter::Counter;
use crate::server::guard::INTERNAL_ERRORS;

/// Sets all counters back to 0.
pub fn reset() {
    ALL.iter().for_each(|(_, counter)| counter.reset());
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// This node's counters.
        pub struct Stats { $($(#[$doc])* pub $name: Counter,)* }

        pub static STATS: Stats = Stats { $($name: Counter::new(),)* };

        /// All counters with their names, in the order in which they are shown.
        pub static ALL: &[(&str, &Counter)] = &[
            $((stringify!($name), &STATS.$name),)*
            // Panics that the guard has caught. Anything but 0 is a bug to report.
            ("internal_errors", &INTERNAL_ERRORS),
        ];
    };
}

counters! {
    /// GW.ALLOW: requests admitted, denied, looked at with PEEK, and recorded with FORCE.
    allow_admitted,
    allow_denied,
    allow_peeked,
    allow_forced,
    /// GW.TOKENS: requests admitted, denied, looked at with PEEK, and recorded with FORCE.
    tokens_admitted,
    tokens_denied,
    tokens_peeked,
    tokens_forced,
    /// GW.ACQUIRE: slots taken or kept, requests denied, and requests that had to wait, however that ended.
    leases_acquired,
    leases_denied,
    leases_waited,
    /// GW.ADDCOST: charges and refunds.
    budget_charges,
    budget_refunds,
    /// GW.CREDIT: credits given and taken back.
    budget_credits,
    /// GW.WITHINBUDGET: spend within the budget. GW.WITHINBUDGET and GW.RESERVE: budget exceeded.
    budget_within,
    budget_exceeded,
    /// GW.RESERVE, GW.COMMIT, GW.CANCEL: holds made, committed, cancelled.
    budget_holds,
    budget_commits,
    budget_cancels,
    /// Calls with an id that was seen before: they changed nothing.
    budget_repeated,
    /// GW.ADMIT: requests admitted, refused, admitted before, admitted only because a policy has SHADOW, and calls that
    /// only ask, with SHADOW.
    admit_admitted,
    admit_denied,
    admit_repeated,
    admit_would_deny,
    admit_probed,
    /// Calls of GW.ADMIT that are refused because their lease has ended: their id was used before.
    admit_lease_ended,
    /// Calls of GW.ADMIT that name an account that does not exist.
    admit_no_account,
    /// Admissions that do not name the meter of every policy.
    admit_meter_unnamed,
    /// Admissions that leave a budget at its SOFT percentage or above.
    admit_soft,
    /// GW.ROUTE: requests routed to a target, refused by all of them, and routed before.
    route_picked,
    route_refused,
    route_repeated,
    /// Calls of GW.ROUTE that are refused because their lease has ended: their id was used before.
    route_lease_ended,
    /// Calls of GW.ROUTE that name a target that does not exist.
    route_no_account,
    /// Breakers: requests let through as probes, breakers opened, and closed. Cooldowns said by settlements.
    breaker_probes,
    breaker_opened,
    breaker_closed,
    cooldowns,
    /// GW.SETTLE: admissions settled in time, settled after their lease had expired, settled before, and unknown.
    settle_done,
    settle_late,
    settle_repeated,
    settle_unknown,
    /// Log queues: records pushed, delivered, acknowledged, delivered again, moved to the dead letters, dropped because
    /// there were too many dead letters, dropped to make room, rejected because the queue was full, and pushed again under
    /// an id that is known.
    log_pushed,
    log_popped,
    log_acked,
    log_redelivered,
    log_dead,
    log_dead_dropped,
    log_dropped,
    log_rejected,
    log_repeated,
    /// The response cache, all categories together.
    cache_hits,
    cache_stale_hits,
    cache_misses,
    cache_pending,
    cache_leader_grants,
    cache_releases,
    cache_wait_timeouts,
    cache_sets,
    cache_deletes,
    cache_cleared,
    cache_errors,
    /// The semantic cache: questions answered and not, entries set and deleted, answers rejected, and entries removed because
    /// their index was full, or because they had expired.
    sem_hits,
    sem_misses,
    sem_sets,
    sem_deletes,
    sem_rejects,
    sem_evicted,
    sem_expired,
    /// GW.TOP: amounts of meters that have no list because there are too many meters.
    top_ignored,
}
