//! This node's counters: `GW.STATS` and `INFO gw` show the same list.

use std::ffi::{CString, c_int};
use std::sync::atomic::{AtomicU64, Ordering};

use redis_module::raw::RedisModuleInfoCtx;

use super::call::Call;
use super::error::Outcome;
use super::guard::guarded;

/// A counter since the server's start. Written by the main thread alone, so an addition needs no lock.
pub struct Counter(AtomicU64);

impl Counter {
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub fn add(&self, count: u64) {
        self.0.store(self.get().wrapping_add(count), Ordering::Relaxed);
    }

    /// Raises the count to `least` where it is below.
    pub fn raise(&self, least: u64) {
        self.0.store(self.get().max(least), Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// This node's counters.
        pub struct Stats { $($(#[$doc])* pub $name: Counter,)* }

        pub static STATS: Stats = Stats { $($name: Counter::new(),)* };

        /// All counters with their names, in the order shown.
        pub fn all() -> [(&'static str, &'static Counter); [$(stringify!($name)),*].len()] {
            [$((stringify!($name), &STATS.$name),)*]
        }
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
    /// GW.ACQUIRE: slots taken or kept, and requests for which there was none.
    leases_acquired,
    leases_denied,
    /// GW.ADDCOST: charges and refunds.
    budget_charges,
    budget_refunds,
    /// GW.WITHINBUDGET: answers that there is budget. And with GW.RESERVE: that there is not.
    budget_within,
    budget_exceeded,
    /// GW.RESERVE, GW.COMMIT, GW.CANCEL: holds made, committed, cancelled.
    budget_holds,
    budget_commits,
    budget_cancels,
    /// Calls with an id that was seen before: they changed nothing.
    budget_repeated,
    /// GW.ADMIT: requests admitted, refused, admitted before, and refused if it were not for SHADOW.
    admit_admitted,
    admit_denied,
    admit_repeated,
    admit_would_deny,
    /// GW.ADMIT calls that name an account that does not exist, which limits nothing.
    admit_no_account,
    /// Admissions with which a budget is at its SOFT percentage or above.
    admit_soft,
    /// GW.SETTLE: admissions settled in time, after their lease had expired, settled before, and not known.
    settle_done,
    settle_late,
    settle_repeated,
    settle_unknown,
    /// Log queues: records taken in, handed out, acknowledged, handed out again, gone to the dead letters, dropped to
    /// make room, and refused because the queue was full.
    log_pushed,
    log_popped,
    log_acked,
    log_redelivered,
    log_dead,
    log_dropped,
    log_rejected,
    /// The response cache, all categories together.
    cache_hits,
    cache_stale_hits,
    cache_misses,
    cache_pending,
    cache_leader_grants,
    cache_wait_timeouts,
    cache_sets,
    cache_deletes,
    cache_cleared,
    cache_errors,
    /// Panics that the guard caught. Anything but 0 is a bug to report.
    internal_errors,
}

/// GW.STATS: no arguments. Replies a flat map of names and numbers.
pub fn stats(call: &mut Call) -> Outcome {
    call.args().end()?;
    let counters = all();
    let reply = call.reply();
    reply.map(counters.len());
    for (name, counter) in counters {
        reply.bytes(name).count(counter.get());
    }
    Ok(())
}

/// `INFO gw`, `INFO everything` and crash reports.
pub(super) unsafe extern "C" fn info(ctx: *mut RedisModuleInfoCtx, _for_crash_report: c_int) {
    guarded(|| {
        // SAFETY: the server's context lives through the call, and the strings through each addition.
        unsafe { api!(RedisModule_InfoAddSection(ctx, std::ptr::null())) };
        for (name, counter) in all() {
            if let Ok(name) = CString::new(name) {
                unsafe { api!(RedisModule_InfoAddFieldULongLong(ctx, name.as_ptr(), counter.get())) };
            }
        }
    });
}
