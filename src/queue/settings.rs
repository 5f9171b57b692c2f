//! The family's settings.

use crate::server::config::Number;

/// The bounds of a queue, for pushes that name none.
pub static MAX_RECORDS: Number = Number::new("log-max-records", 100_000, 1, 1 << 40);
pub static MAX_BYTES: Number = Number::new("log-max-bytes", 256 << 20, 1, 1 << 50).in_bytes();

/// The deliveries after which a batch becomes a dead letter, for pops that name no number.
pub static MAX_DELIVERIES: Number = Number::new("log-max-deliveries", 10, 1, 1_000_000);
