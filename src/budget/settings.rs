//! The family's settings, and what depends on them: the calendar, and the versions of changes.

use gateway_core::PERIOD_MAX_MS;
use gateway_core::admission::Moment;
use gateway_core::calendar::{Calendar, Day, Period};
use gateway_core::ledger::{HOLDS_MAX, KEEP_DAYS_MAX, KEEP_DAYS_MIN, Ledger, Stamp};
use lazy_static::lazy_static;

use crate::server::call::now_ms;
use crate::server::config::{Number, Text};
use crate::server::counter::Counter;
use crate::server::shared::MainThread;

lazy_static! {
    /// The calendar in the time zone `gw.timezone`.
    static ref CALENDAR: MainThread<Calendar> = MainThread::new(Calendar::utc());
}

/// The time zone in which days, weeks and months begin. A change applies to later charges; days that were charged are
/// not changed.
pub static TIMEZONE: Text = Text::new("timezone", "UTC", |name| {
    *CALENDAR.borrow() = Calendar::new(name).map_err(|_| "not an IANA time zone, such as Europe/Berlin".to_owned())?;
    Ok(())
});

/// How many charged days a ledger keeps. See [`gateway_core::ledger`].
pub static KEEP_DAYS: Number = Number::new("ledger-days", 62, KEEP_DAYS_MIN as i64, KEEP_DAYS_MAX as i64);

/// The most holds of a ledger at one time, those of admissions included. A ledger that has more already, because it comes from
/// another server or from before a change, keeps them.
pub static MAX_HOLDS: Number = Number::new("ledger-max-holds", 100_000, 1, HOLDS_MAX as i64);

/// [`MAX_HOLDS`] as it is now.
pub fn holds_max() -> usize {
    usize::try_from(MAX_HOLDS.get()).unwrap_or(HOLDS_MAX)
}

/// How long a ledger remembers the ids of charges and of ended holds, in milliseconds.
pub static IDEMPOTENCY_MS: Number = Number::new("idempotency-ms", 86_400_000, 1_000, PERIOD_MAX_MS as i64);

/// The largest version that this node has seen in any ledger.
static LAST_VERSION: Counter = Counter::new();

/// How far ahead of the clock, in microseconds, a version may be and still raise the versions of other ledgers.
pub const VERSION_AHEAD_MAX_US: u64 = 24 * 3_600_000_000;

/// Notes a ledger's version, so that later versions on this node are larger.
pub fn saw_version(version: u64) {
    if version > LAST_VERSION.get() && version <= now_ms().unsigned_abs() * 1_000 + VERSION_AHEAD_MAX_US {
        LAST_VERSION.raise(version);
    }
}

/// The version for a change of a ledger that is made now.
pub fn next_version(ledger: &Ledger, now_ms: i64) -> u64 {
    ledger.next_version(now_ms.unsigned_abs() * 1_000, LAST_VERSION.get())
}

/// The stamp of a change that is made now, with this node's settings.
pub fn stamp(now_ms: i64, version: u64) -> Stamp {
    let (keep_days, remember_ms) = (KEEP_DAYS.get() as u32, IDEMPOTENCY_MS.get().unsigned_abs());
    Stamp { at_ms: now_ms, keep_days, remember_ms, version }
}

/// The moment of a change that is made now. `version` is the version that ledgers have after it, 0 if no spend changes.
pub fn present(now_ms: i64, version: u64) -> Moment {
    Moment { day: day_of(now_ms), stamp: stamp(now_ms, version) }
}

/// The day that contains a time, in the time zone `gw.timezone`.
pub fn day_of(at_ms: i64) -> Day {
    CALENDAR.borrow().day_of(at_ms)
}

/// The length of the period that contains `now_ms`, in milliseconds; -1 for `TOTAL`.
pub fn length_ms(period: Period, now_ms: i64) -> i64 {
    match period {
        Period::Total => -1,
        _ => {
            let (start_ms, end_ms) = CALENDAR.borrow().bounds(period, now_ms);
            end_ms.saturating_sub(start_ms)
        }
    }
}

/// Milliseconds until the current period ends; -1 for `TOTAL`, which never ends.
pub fn reset_after_ms(period: Period, now_ms: i64) -> i64 {
    match period {
        Period::Total => -1,
        _ => CALENDAR.borrow().bounds(period, now_ms).1.saturating_sub(now_ms),
    }
}
