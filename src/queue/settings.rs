//! The family's settings.

use gateway_core::PERIOD_MAX_MS;
use gateway_core::queue::Limits;

use crate::server::config::Number;

/// The bounds of a queue, for pushes that do not name any.
pub static MAX_RECORDS: Number = Number::new("log-max-records", 100_000, 1, 1 << 40);
pub static MAX_BYTES: Number = Number::new("log-max-bytes", 64 << 20, 1, 1 << 50).in_bytes();

/// The bounds of a queue's dead letters.
pub static MAX_DEAD_RECORDS: Number = Number::new("log-max-dead-records", 100_000, 0, 1 << 40);
pub static MAX_DEAD_BYTES: Number = Number::new("log-max-dead-bytes", 16 << 20, 0, 1 << 50).in_bytes();

/// The number of deliveries after which a batch becomes a dead letter, for pops that do not name one.
pub static MAX_DELIVERIES: Number = Number::new("log-max-deliveries", 10, 1, 1_000_000);

/// How long the id of a push is remembered, in milliseconds.
pub static ID_MS: Number = Number::new("log-id-ms", 600_000, 1, PERIOD_MAX_MS.cast_signed());

pub fn limits() -> Limits {
    Limits { max_records: MAX_RECORDS.get().unsigned_abs(), max_bytes: MAX_BYTES.get().unsigned_abs() }
}

pub fn dead_limits() -> Limits {
    Limits { max_records: MAX_DEAD_RECORDS.get().unsigned_abs(), max_bytes: MAX_DEAD_BYTES.get().unsigned_abs() }
}
