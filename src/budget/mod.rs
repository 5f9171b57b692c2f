//! Budgets: charges, holds and questions over a ledger of calendar periods, and the feed of changed ledgers.

pub mod account;
pub mod budgets;
pub mod change;
pub mod charge;
pub mod feed;
pub mod hold;
pub mod listing;
pub mod query;
mod value;

use std::sync::atomic::{AtomicBool, Ordering};

use gateway_core::PERIOD_MAX_MS;
use gateway_core::calendar::{Calendar, Day, Period};
use gateway_core::ledger::{ID_BYTES_MAX, KEEP_DAYS_MAX, KEEP_DAYS_MIN, Ledger, Terms};
use lazy_static::lazy_static;

use crate::server::args::Args;
use crate::server::call::now_ms;
use crate::server::config::{Number, Text};
use crate::server::counter::Counter;
use crate::server::events::Event;
use crate::server::shared::MainThread;
use crate::server::{Call, Error, Str, log};

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

/// For how long a ledger remembers ids: of charges, and of holds that have ended.
pub static IDEMPOTENCY_MS: Number = Number::new("idempotency-ms", 86_400_000, 1_000, PERIOD_MAX_MS as i64);

/// The largest version of a change that this node has seen in any ledger.
static LAST_VERSION: Counter = Counter::new();

/// How far ahead of the clock a version may be for others to follow it. A ledger that is further ahead stays alone.
const VERSION_AHEAD_MAX_US: u64 = 24 * 3_600_000_000;

/// Takes notice of a ledger's version.
pub fn saw_version(version: u64) {
    if version > LAST_VERSION.get() && version <= now_ms().unsigned_abs() * 1_000 + VERSION_AHEAD_MAX_US {
        LAST_VERSION.raise(version);
    }
}

/// The version of a change to a ledger that is made now.
pub fn next_version(ledger: &Ledger, now_ms: i64) -> u64 {
    ledger.next_version(now_ms.unsigned_abs() * 1_000, LAST_VERSION.get())
}

/// What goes with a change that is made now, by this node's settings.
pub fn terms(now_ms: i64, version: u64) -> Terms {
    let (keep_days, remember_ms) = (KEEP_DAYS.get() as u32, IDEMPOTENCY_MS.get().unsigned_abs());
    Terms { at_ms: now_ms, keep_days, remember_ms, version }
}

/// The id of a hold or of a charge.
pub fn parse_id<'a>(args: &mut Args<'a>, name: &str) -> Result<Str<'a>, Error> {
    let id = args.string(name)?;
    match id.bytes().len() {
        1..=ID_BYTES_MAX => Ok(id),
        _ => Err(Error::new("not a name of 1 to 512 bytes", name)),
    }
}

/// The day that a time belongs to.
pub fn day_of(at_ms: i64) -> Day {
    CALENDAR.borrow().day_of(at_ms)
}

/// Milliseconds until the period that `now_ms` is in ends; -1 for TOTAL, which never does.
pub fn reset_after_ms(period: Period, now_ms: i64) -> i64 {
    match period {
        Period::Total => -1,
        _ => CALENDAR.borrow().bounds(period, now_ms).1.saturating_sub(now_ms),
    }
}

pub fn not_a_period(given: &[u8]) -> Error {
    Error::new("not DAY, WEEK, MONTH or TOTAL", given)
}

/// Whether the last warning still holds, so that it is not repeated with every other setting that changes.
static WARNED: AtomicBool = AtomicBool::new(false);

/// Warns of an eviction policy that takes ledgers and queues, which is a reset that nobody sees.
pub fn hear_of_policy(call: &mut Call, event: Event) {
    if !matches!(event, Event::ModuleLoaded | Event::ConfigChanged) {
        return;
    }
    let policy = call.server_info(c"memory", c"maxmemory_policy").unwrap_or_default();
    let takes_all = policy.starts_with("allkeys-");
    if takes_all && !WARNED.swap(takes_all, Ordering::Relaxed) {
        log::warning(&format!(
            "maxmemory-policy {policy} may evict ledgers and log queues, and what was spent with them; set one of the \
             volatile policies, or noeviction"
        ));
    }
    WARNED.store(takes_all, Ordering::Relaxed);
}
