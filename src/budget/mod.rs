//! Budgets: GW.ADDCOST, GW.WITHINBUDGET and GW.SPENT, over a ledger of calendar periods.

pub mod charge;
pub mod query;
mod value;

use std::ffi::CStr;

use gateway_core::calendar::{Calendar, Day, Period};
use gateway_core::ledger::{Ledger, KEEP_DAYS_MAX, KEEP_DAYS_MIN};
use lazy_static::lazy_static;

use crate::server::call::now_ms;
use crate::server::config::{Number, Text};
use crate::server::shared::MainThread;
use crate::server::stats::Counter;
use crate::server::Error;

/// The family's effects: `C day amount keep_days version` for a charge, the day as days since 1970-01-01 in the time zone
/// of the node that took it.
const EFFECT_NAME: &CStr = c"GW._BUDGET";

lazy_static! {
    /// The calendar of gw.timezone.
    static ref CALENDAR: MainThread<Calendar> = MainThread::new(Calendar::utc());
}

/// Where days, weeks and months begin. A change holds for charges from then on; booked days stay as they are.
pub static TIMEZONE: Text = Text::new("timezone", "UTC", |name| {
    *CALENDAR.borrow() = Calendar::new(name).map_err(|_| "not an IANA time zone, such as Europe/Berlin".to_owned())?;
    Ok(())
});

/// How many of the days it was charged on a ledger keeps one by one. See [`gateway_core::ledger`].
pub static KEEP_DAYS: Number = Number::new("ledger-days", 62, KEEP_DAYS_MIN as i64, KEEP_DAYS_MAX as i64);

/// The largest version of a change that this node has seen in any ledger.
static LAST_VERSION: Counter = Counter::new();

/// How far ahead of the clock a version may be for others to follow it. A ledger that is further ahead stays alone.
const VERSION_AHEAD_MAX_US: u64 = 24 * 3_600_000_000;

/// Takes notice of a ledger's version.
fn saw_version(version: u64) {
    if version > LAST_VERSION.get() && version <= now_ms().unsigned_abs() * 1_000 + VERSION_AHEAD_MAX_US {
        LAST_VERSION.raise(version);
    }
}

/// The version of a change to a ledger that is made now.
fn next_version(ledger: Option<&Ledger>, now_ms: i64) -> u64 {
    let (now_us, last) = (now_ms.unsigned_abs() * 1_000, LAST_VERSION.get());
    ledger.map_or_else(|| Ledger::new().next_version(now_us, last), |ledger| ledger.next_version(now_us, last))
}

/// The day that a time belongs to.
fn day_of(at_ms: i64) -> Day {
    CALENDAR.borrow().day_of(at_ms)
}

/// Milliseconds until the period that `now_ms` is in ends; -1 for TOTAL, which never does.
fn reset_after_ms(period: Period, now_ms: i64) -> i64 {
    match period {
        Period::Total => -1,
        _ => CALENDAR.borrow().bounds(period, now_ms).1.saturating_sub(now_ms),
    }
}

fn not_a_period(given: &[u8]) -> Error {
    Error::new("not DAY, WEEK, MONTH or TOTAL", given)
}
