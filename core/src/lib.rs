//! The algorithms and values of redis-gateway.
//!
//! Pure Rust: no Redis, no clock, no I/O. Time is always an argument, in unix milliseconds, so that tests check every rule
//! in microseconds against a naive model, at any date and with any steps of the clock.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod admission;
pub mod breaker;
pub mod bucket;
pub mod cache;
pub mod calendar;
pub mod canonical;
mod chunks;
pub mod codec;
pub mod glob;
mod indexed;
pub mod integer;
pub mod json;
pub mod latency;
pub mod lease;
pub mod ledger;
pub mod limit;
pub mod memory;
pub mod money;
mod ordered;
pub mod queue;
mod recent;
pub mod semantic;
pub mod slot;
pub mod stored;
pub mod top;
pub mod window;

/// The end of the year 9999 in unix milliseconds: the latest time any value may hold. Far enough for every use, and
/// small enough that sums of two times and a window never overflow.
pub const TIME_MAX_MS: i64 = 253_402_300_799_999;

/// The largest count of requests or tokens in one call, and the largest limit or burst: 2^53, the largest integer that
/// every client language holds exactly.
pub const UNITS_MAX: u64 = 1 << 53;

/// The longest window or period in milliseconds: 366 days.
pub const PERIOD_MAX_MS: u64 = 366 * 24 * 3_600_000;
