//! All metrics, in one place: the exporter's answer and the table of the book are made of this one.

/// What a metric's values do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// They only grow, except that they begin at 0 again.
    Counter,
    Gauge,
}

/// A metric, with all of its series.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    pub kind: Kind,
    pub name: &'static str,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

impl Family {
    const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { kind: Kind::Counter, name, labels, help }
    }

    const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { kind: Kind::Gauge, name, labels, help }
    }
}

/// A value of GW.STATS, by its name there. `None` of a module that is newer than this companion.
pub fn stat(name: &str) -> Option<&'static Family> {
    let of_module = |family: &Family| {
        family.name.strip_prefix("gw_").is_some_and(|rest| rest == name || rest.strip_suffix("_total") == Some(name))
    };
    STATS.iter().find(|family| of_module(family))
}

/// All metrics, in the order in which they are shown.
pub fn all() -> impl Iterator<Item = &'static Family> {
    BEFORE.iter().copied().chain(STATS).chain(BEHIND.iter().copied())
}

const NODE: &[&str] = &["node", "role"];
const CATEGORY: &[&str] = &["node", "role", "category"];
const QUEUE: &[&str] = &["node", "role", "queue"];
const COMMAND: &[&str] = &["node", "role", "command"];
const POLICY: &[&str] = &["node", "role", "account", "policy", "kind", "meter"];
const BUDGET: &[&str] = &["node", "role", "account", "policy", "meter"];
const SHIPPED: &[&str] = &["queue"];
const JOB: &[&str] = &["job"];

pub const BUILD: Family = Family::gauge("gw_build_info", &["version"], "Always 1; the version of the companion.");
pub const JOB_UP: Family = Family::gauge("gw_job_up", JOB, "1 if the job does its work, 0 if something is in its way.");
pub const JOB_RESTARTS: Family =
    Family::counter("gw_job_restarts_total", JOB, "How often the job has failed and was started again.");
pub const JOB_LAST_ERROR: Family = Family::gauge(
    "gw_job_last_error_timestamp_seconds",
    JOB,
    "When the job last had an error, in unix seconds. Missing if it had none.",
);
pub const DROPPED: Family = Family::gauge(
    "gw_exporter_dropped_series",
    &["metric"],
    "Series of this scrape that were left out because of a bound or of the list of allowed keys. Missing where none was.",
);
pub const UP: Family = Family::gauge("gw_up", NODE, "1 if the node has answered in time, else 0.");
pub const SCRAPE_DURATION: Family =
    Family::gauge("gw_scrape_duration_seconds", NODE, "How long the node took to answer. Missing if it did not.");
pub const SCRAPE_ERRORS: Family = Family::gauge(
    "gw_scrape_errors",
    COMMAND,
    "Calls of this scrape that the node has refused, such as for a right that the user lacks.",
);
pub const NODE_INFO: Family = Family::gauge(
    "gw_node_info",
    &["node", "role", "server", "server_version", "module_version"],
    "Always 1; the versions of the server and of the module. The module's version is empty if it is not loaded.",
);
pub const NODE_UPTIME: Family = Family::gauge("gw_node_uptime_seconds", NODE, "Since when the server process runs.");
pub const NODE_CLIENTS: Family = Family::gauge("gw_node_clients", NODE, "Connected clients.");
pub const NODE_MEMORY: Family = Family::gauge("gw_node_memory_used_bytes", NODE, "Memory in use: used_memory of INFO.");
pub const NODE_MEMORY_MAX: Family =
    Family::gauge("gw_node_memory_max_bytes", NODE, "The bound of the memory, maxmemory; 0 if there is none.");
pub const NODE_EVICTED: Family =
    Family::counter("gw_node_evicted_keys_total", NODE, "Keys evicted because the memory was full.");
pub const NODE_AOF_OK: Family =
    Family::gauge("gw_node_aof_ok", NODE, "1 if the last write to the append-only file has worked, or there is none.");
pub const NODE_RDB_OK: Family = Family::gauge("gw_node_rdb_ok", NODE, "1 if the last snapshot has worked.");
pub const NODE_LINK_UP: Family =
    Family::gauge("gw_node_replication_link_up", NODE, "Of replicas only: 1 if the link to the primary stands.");
pub const NODE_LINK_AGE: Family = Family::gauge(
    "gw_node_replication_last_io_seconds",
    NODE,
    "Of replicas only: how long ago the primary was last heard of. Missing while the link is down.",
);
pub const NODE_OFFSET: Family = Family::gauge(
    "gw_node_replication_offset_bytes",
    NODE,
    "How far the node is in the stream of changes. A primary's minus its replica's is what the replica lacks.",
);
pub const NODE_REPLICAS: Family = Family::gauge("gw_node_replicas", NODE, "Of primaries only: connected replicas.");
pub const COMMAND_CALLS: Family = Family::counter("gw_command_calls_total", COMMAND, "Calls of the command.");
pub const COMMAND_SECONDS: Family =
    Family::counter("gw_command_seconds_total", COMMAND, "Time that the server spent in the command.");
pub const COMMAND_REJECTED: Family = Family::counter(
    "gw_command_rejected_total",
    COMMAND,
    "Calls that the server refused before the command ran, such as for a missing right or full memory.",
);
pub const COMMAND_FAILED: Family =
    Family::counter("gw_command_failed_total", COMMAND, "Calls that the command answered with an error.");
pub const CATEGORY_HITS: Family =
    Family::counter("gw_cache_category_hits_total", CATEGORY, "Replies of a fresh value.");
pub const CATEGORY_STALE_HITS: Family =
    Family::counter("gw_cache_category_stale_hits_total", CATEGORY, "Replies of a stale value.");
pub const CATEGORY_MISSES: Family =
    Family::counter("gw_cache_category_misses_total", CATEGORY, "Replies without a value.");
pub const CATEGORY_PENDING: Family =
    Family::counter("gw_cache_category_pending_total", CATEGORY, "Calls that found another caller's fill lease.");
pub const CATEGORY_LEADER_GRANTS: Family =
    Family::counter("gw_cache_category_leader_grants_total", CATEGORY, "Fill leases given out.");
pub const CATEGORY_RELEASES: Family =
    Family::counter("gw_cache_category_releases_total", CATEGORY, "Fill leases given up.");
pub const CATEGORY_WAIT_TIMEOUTS: Family =
    Family::counter("gw_cache_category_wait_timeouts_total", CATEGORY, "Waits that ended without a value.");
pub const CATEGORY_SETS: Family = Family::counter("gw_cache_category_sets_total", CATEGORY, "Entries set.");
pub const CATEGORY_CLEARS: Family =
    Family::counter("gw_cache_category_clears_total", CATEGORY, "Entries cleared, other than by tag.");
pub const CATEGORY_EXPIRED: Family =
    Family::counter("gw_cache_category_expired_total", CATEGORY, "Entries that lived to their end.");
pub const CATEGORY_ERRORS: Family =
    Family::counter("gw_cache_category_errors_total", CATEGORY, "Calls that were refused.");
pub const CATEGORY_SAVED: Family =
    Family::counter("gw_cache_category_saved_total", CATEGORY, "What hits have saved: the sum of SAVED, in its unit.");
pub const CATEGORY_ENTRIES: Family = Family::gauge("gw_cache_category_entries", CATEGORY, "Entries there are.");
pub const CATEGORY_BYTES: Family =
    Family::gauge("gw_cache_category_stored_bytes", CATEGORY, "The bytes of their values as stored.");
pub const CATEGORY_RAW_BYTES: Family =
    Family::gauge("gw_cache_category_raw_bytes", CATEGORY, "The bytes of their values uncompressed.");
pub const QUEUE_LENGTH: Family = Family::gauge("gw_queue_length", QUEUE, "Records that wait.");
pub const QUEUE_LEASED: Family = Family::gauge("gw_queue_leased_records", QUEUE, "Records in leased batches.");
pub const QUEUE_LEASED_BATCHES: Family = Family::gauge("gw_queue_leased_batches", QUEUE, "Leased batches.");
pub const QUEUE_DEAD: Family = Family::gauge("gw_queue_dead_records", QUEUE, "Records among the dead letters.");
pub const QUEUE_DEAD_BATCHES: Family = Family::gauge("gw_queue_dead_batches", QUEUE, "Batches among the dead letters.");
pub const QUEUE_BYTES: Family =
    Family::gauge("gw_queue_record_bytes", QUEUE, "The bytes of the records that wait or are leased.");
pub const QUEUE_DEAD_BYTES: Family =
    Family::gauge("gw_queue_dead_bytes", QUEUE, "The bytes of the records among the dead letters.");
pub const QUEUE_MEMORY: Family = Family::gauge("gw_queue_memory_bytes", QUEUE, "The memory that the queue takes.");
pub const QUEUE_AGE: Family = Family::gauge(
    "gw_queue_oldest_age_seconds",
    QUEUE,
    "Since when the oldest waiting record waits; 0 if none does. Of a queue that is shipped, this is how far shipping is behind.",
);
pub const QUEUE_PUSHED: Family = Family::counter("gw_queue_pushed_total", QUEUE, "Records pushed.");
pub const QUEUE_POPPED: Family =
    Family::counter("gw_queue_popped_total", QUEUE, "Records taken out for the first time.");
pub const QUEUE_ACKED: Family = Family::counter("gw_queue_acked_total", QUEUE, "Records acknowledged.");
pub const QUEUE_REDELIVERED: Family = Family::counter("gw_queue_redelivered_total", QUEUE, "Records taken out again.");
pub const QUEUE_DROPPED: Family =
    Family::counter("gw_queue_dropped_total", QUEUE, "Records dropped to make room, or from the dead letters.");
pub const QUEUE_DEAD_LETTERED: Family =
    Family::counter("gw_queue_dead_lettered_total", QUEUE, "Records gone to the dead letters.");
pub const QUEUE_DEAD_DROPPED: Family =
    Family::counter("gw_queue_dead_dropped_total", QUEUE, "Records dropped because there were too many dead letters.");
pub const QUEUE_REJECTED: Family =
    Family::counter("gw_queue_rejected_total", QUEUE, "Records refused because the queue was full.");
pub const QUEUE_REPEATED: Family =
    Family::counter("gw_queue_repeated_total", QUEUE, "Records pushed again under a known id.");
pub const SHIP_LAG: Family = Family::gauge(
    "gw_ship_lag_seconds",
    SHIPPED,
    "Of queues that this companion ships: since when the oldest record waits to be shipped; 0 if none does.",
);
pub const SHIP_WAITING: Family = Family::gauge(
    "gw_ship_waiting_records",
    SHIPPED,
    "Of queues that this companion ships: records not shipped yet, those in hand included.",
);
pub const FEED_LAG: Family = Family::gauge(
    "gw_feed_lag_seconds",
    NODE,
    "How long at least the ledger that waits longest to be stored in a database has been waiting since its last change; 0 if none waits.",
);
pub const TOP_DENIED: Family = Family::gauge(
    "gw_top_denied",
    &["node", "role", "key", "by", "window"],
    "Refusals of the keys refused most in the last minute or hour, at most.",
);
pub const TOP_DENIED_ERROR: Family = Family::gauge(
    "gw_top_denied_error_bound",
    &["node", "role", "key", "by"],
    "By how much these counts may be too high.",
);
pub const TOP_USED: Family = Family::gauge(
    "gw_top_used",
    &["node", "role", "key", "meter", "window"],
    "What the keys that use most of a meter have used in the last minute or hour, at most, in the meter's unit.",
);
pub const TOP_USED_ERROR: Family = Family::gauge(
    "gw_top_used_error_bound",
    &["node", "role", "key", "meter"],
    "By how much these amounts may be too high.",
);
pub const POLICY_LIMIT: Family = Family::gauge(
    "gw_policy_limit",
    POLICY,
    "The policy's whole limit, a budget's credit included, in the meter's unit.",
);
pub const POLICY_USED: Family =
    Family::gauge("gw_policy_used", POLICY, "What counts towards the limit now, money held included.");
pub const POLICY_RESET: Family = Family::gauge(
    "gw_policy_reset_seconds",
    POLICY,
    "Until the whole limit is free again if nobody takes any. Missing if that is never.",
);
pub const POLICY_ALLOWS: Family =
    Family::gauge("gw_policy_allows", POLICY, "1 if the policy would allow a request now, else 0.");
pub const POLICY_DENIED: Family = Family::counter(
    "gw_policy_denied_total",
    &["node", "role", "account", "policy"],
    "Requests that the policy did not allow, since this node made or loaded the account.",
);
pub const BUDGET_USED: Family =
    Family::gauge("gw_budget_used_ratio", BUDGET, "The used part of a budget: 1 is all of it.");
pub const BUDGET_ELAPSED: Family = Family::gauge(
    "gw_budget_elapsed_ratio",
    BUDGET,
    "The elapsed part of the budget's day, week or month. Missing for a budget of the total.",
);

/// What GW.STATS replies.
const STATS: &[Family] = &[
    Family::counter("gw_allow_admitted_total", NODE, "Calls of GW.ALLOW that were admitted."),
    Family::counter("gw_allow_denied_total", NODE, "Calls of GW.ALLOW that were denied."),
    Family::counter("gw_allow_peeked_total", NODE, "Calls of GW.ALLOW with PEEK."),
    Family::counter("gw_allow_forced_total", NODE, "Calls of GW.ALLOW with FORCE."),
    Family::counter("gw_tokens_admitted_total", NODE, "Calls of GW.TOKENS that were admitted."),
    Family::counter("gw_tokens_denied_total", NODE, "Calls of GW.TOKENS that were denied."),
    Family::counter("gw_tokens_peeked_total", NODE, "Calls of GW.TOKENS with PEEK."),
    Family::counter("gw_tokens_forced_total", NODE, "Calls of GW.TOKENS with FORCE."),
    Family::counter("gw_leases_acquired_total", NODE, "Calls of GW.ACQUIRE that got a slot or kept it."),
    Family::counter("gw_leases_denied_total", NODE, "Calls of GW.ACQUIRE for which there was no slot."),
    Family::counter("gw_leases_waited_total", NODE, "Calls of GW.ACQUIRE that had to wait, however the wait ended."),
    Family::counter("gw_budget_charges_total", NODE, "Calls of GW.ADDCOST that charged."),
    Family::counter("gw_budget_refunds_total", NODE, "Calls of GW.ADDCOST that took an amount back."),
    Family::counter("gw_budget_credits_total", NODE, "Calls of GW.CREDIT that gave a credit or took it back."),
    Family::counter("gw_budget_within_total", NODE, "Calls of GW.WITHINBUDGET with the answer yes."),
    Family::counter(
        "gw_budget_exceeded_total",
        NODE,
        "Calls of GW.WITHINBUDGET with the answer no, and of GW.RESERVE that were not granted.",
    ),
    Family::counter("gw_budget_holds_total", NODE, "Holds made by GW.RESERVE."),
    Family::counter("gw_budget_commits_total", NODE, "Holds committed by GW.COMMIT."),
    Family::counter("gw_budget_cancels_total", NODE, "Holds cancelled by GW.CANCEL."),
    Family::counter(
        "gw_budget_repeated_total",
        NODE,
        "Calls about ledgers with an id that was used before, which changed nothing.",
    ),
    Family::counter("gw_admit_admitted_total", NODE, "Requests that GW.ADMIT has admitted."),
    Family::counter("gw_admit_denied_total", NODE, "Requests that GW.ADMIT has refused."),
    Family::counter("gw_admit_repeated_total", NODE, "Calls of GW.ADMIT whose lease had been admitted before."),
    Family::counter("gw_admit_would_deny_total", NODE, "Admissions that a policy with SHADOW would have refused."),
    Family::counter(
        "gw_admit_probed_total",
        NODE,
        "Calls of GW.ADMIT with SHADOW, which only ask. This exporter makes them, too, for accounts.",
    ),
    Family::counter("gw_admit_lease_ended_total", NODE, "Calls of GW.ADMIT refused because their lease has ended."),
    Family::counter("gw_admit_no_account_total", NODE, "Calls of GW.ADMIT that name an account that does not exist."),
    Family::counter("gw_admit_meter_unnamed_total", NODE, "Admissions that do not name the meter of every policy."),
    Family::counter("gw_admit_soft_total", NODE, "Admissions that leave a budget at its SOFT percentage or above."),
    Family::counter("gw_route_picked_total", NODE, "Requests that GW.ROUTE has routed to a target."),
    Family::counter("gw_route_refused_total", NODE, "Requests that all targets of GW.ROUTE have refused."),
    Family::counter("gw_route_repeated_total", NODE, "Calls of GW.ROUTE whose lease had been routed before."),
    Family::counter("gw_route_lease_ended_total", NODE, "Calls of GW.ROUTE refused because their lease has ended."),
    Family::counter("gw_route_no_account_total", NODE, "Calls of GW.ROUTE that name a target that does not exist."),
    Family::counter("gw_breaker_probes_total", NODE, "Requests that half-open breakers have let through."),
    Family::counter("gw_breaker_opened_total", NODE, "Breakers that have opened, also again."),
    Family::counter("gw_breaker_closed_total", NODE, "Breakers that have closed."),
    Family::counter("gw_cooldowns_total", NODE, "Cooldowns said by settlements, for each account."),
    Family::counter("gw_settle_done_total", NODE, "Settlements of live admissions."),
    Family::counter("gw_settle_late_total", NODE, "Settlements of admissions whose lease had ended by time."),
    Family::counter("gw_settle_repeated_total", NODE, "Settlements that were made before."),
    Family::counter("gw_settle_unknown_total", NODE, "Settlements that no account knows, which charged nothing."),
    Family::counter("gw_log_pushed_total", NODE, "Records taken into log queues."),
    Family::counter("gw_log_popped_total", NODE, "Records handed out for the first time."),
    Family::counter("gw_log_acked_total", NODE, "Records acknowledged."),
    Family::counter("gw_log_redelivered_total", NODE, "Records handed out again."),
    Family::counter("gw_log_dead_total", NODE, "Records that became dead letters."),
    Family::counter("gw_log_dead_dropped_total", NODE, "Records dropped because there were too many dead letters."),
    Family::counter("gw_log_dropped_total", NODE, "Records dropped to make room."),
    Family::counter("gw_log_rejected_total", NODE, "Records refused because the queue was full."),
    Family::counter("gw_log_repeated_total", NODE, "Records pushed again under an id that is known, and not stored."),
    Family::counter("gw_cache_hits_total", NODE, "Reads of the cache that found a fresh value."),
    Family::counter("gw_cache_stale_hits_total", NODE, "Reads of the cache that found a stale value."),
    Family::counter("gw_cache_misses_total", NODE, "Reads of the cache without a value."),
    Family::counter("gw_cache_pending_total", NODE, "Reads of the cache that found the fill lease of another client."),
    Family::counter("gw_cache_leader_grants_total", NODE, "Fill leases given out."),
    Family::counter("gw_cache_releases_total", NODE, "Fill leases given up."),
    Family::counter("gw_cache_wait_timeouts_total", NODE, "Waits for a value that ended without one."),
    Family::counter("gw_cache_sets_total", NODE, "Entries set."),
    Family::counter("gw_cache_deletes_total", NODE, "Entries deleted."),
    Family::counter("gw_cache_cleared_total", NODE, "Entries cleared."),
    Family::counter("gw_cache_errors_total", NODE, "Calls of the cache that were refused."),
    Family::counter("gw_sem_hits_total", NODE, "Questions to the semantic cache that were answered."),
    Family::counter("gw_sem_misses_total", NODE, "Questions to the semantic cache without an answer."),
    Family::counter("gw_sem_sets_total", NODE, "Entries of semantic indexes set."),
    Family::counter("gw_sem_deletes_total", NODE, "Entries of semantic indexes deleted."),
    Family::counter("gw_sem_rejects_total", NODE, "Entries of semantic indexes rejected."),
    Family::counter("gw_sem_evicted_total", NODE, "Entries removed because their semantic index was full."),
    Family::counter("gw_sem_expired_total", NODE, "Entries of semantic indexes removed because they had expired."),
    Family::counter(
        "gw_top_ignored_total",
        NODE,
        "Amounts that no list of GW.TOP counts, because there are too many meters.",
    ),
    Family::counter("gw_internal_errors_total", NODE, "Bugs that the module has caught."),
    Family::gauge("gw_leases_waiting", NODE, "Clients that wait for a slot."),
    Family::gauge("gw_log_waiting", NODE, "Clients that wait for log records."),
    Family::gauge("gw_cache_waiting", NODE, "Clients that wait for a value."),
    Family::gauge("gw_cache_fill_leases", NODE, "Fill leases in force."),
    Family::gauge("gw_top_bytes", NODE, "Memory of the lists of GW.TOP."),
];

/// What is shown before and behind those.
const BEFORE: &[&Family] = &[
    &BUILD,
    &JOB_UP,
    &JOB_RESTARTS,
    &JOB_LAST_ERROR,
    &DROPPED,
    &UP,
    &SCRAPE_DURATION,
    &SCRAPE_ERRORS,
    &NODE_INFO,
    &NODE_UPTIME,
    &NODE_CLIENTS,
    &NODE_MEMORY,
    &NODE_MEMORY_MAX,
    &NODE_EVICTED,
    &NODE_AOF_OK,
    &NODE_RDB_OK,
    &NODE_LINK_UP,
    &NODE_LINK_AGE,
    &NODE_OFFSET,
    &NODE_REPLICAS,
    &COMMAND_CALLS,
    &COMMAND_SECONDS,
    &COMMAND_REJECTED,
    &COMMAND_FAILED,
];
const BEHIND: &[&Family] = &[
    &CATEGORY_HITS,
    &CATEGORY_STALE_HITS,
    &CATEGORY_MISSES,
    &CATEGORY_PENDING,
    &CATEGORY_LEADER_GRANTS,
    &CATEGORY_RELEASES,
    &CATEGORY_WAIT_TIMEOUTS,
    &CATEGORY_SETS,
    &CATEGORY_CLEARS,
    &CATEGORY_EXPIRED,
    &CATEGORY_ERRORS,
    &CATEGORY_SAVED,
    &CATEGORY_ENTRIES,
    &CATEGORY_BYTES,
    &CATEGORY_RAW_BYTES,
    &QUEUE_LENGTH,
    &QUEUE_LEASED,
    &QUEUE_LEASED_BATCHES,
    &QUEUE_DEAD,
    &QUEUE_DEAD_BATCHES,
    &QUEUE_BYTES,
    &QUEUE_DEAD_BYTES,
    &QUEUE_MEMORY,
    &QUEUE_AGE,
    &QUEUE_PUSHED,
    &QUEUE_POPPED,
    &QUEUE_ACKED,
    &QUEUE_REDELIVERED,
    &QUEUE_DROPPED,
    &QUEUE_DEAD_LETTERED,
    &QUEUE_DEAD_DROPPED,
    &QUEUE_REJECTED,
    &QUEUE_REPEATED,
    &SHIP_LAG,
    &SHIP_WAITING,
    &FEED_LAG,
    &TOP_DENIED,
    &TOP_DENIED_ERROR,
    &TOP_USED,
    &TOP_USED_ERROR,
    &POLICY_LIMIT,
    &POLICY_USED,
    &POLICY_RESET,
    &POLICY_ALLOWS,
    &POLICY_DENIED,
    &BUDGET_USED,
    &BUDGET_ELAPSED,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book;

    #[test]
    fn the_book_lists_all_metrics() {
        let row = |Family { kind, name, labels, help }: &Family| {
            let kind = format!("{kind:?}").to_lowercase();
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", "))
        };
        let table = "| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n";
        book::assert_shows("metrics.md", "metrics", &all().map(row).fold(table.to_owned(), |text, row| text + &row));
    }
}
