//! The log queue: GW.LOGPUSH; GW.LOGPOP, GW.LOGPEEK, GW.LOGLEN; GW.LOGACK, GW.LOGNACK, GW.LOGEXTEND, GW.LOGDEAD for
//! leased batches; GW.LOGSTATS.

pub mod batch;
pub mod effect;
pub mod pop;
pub mod push;
pub mod stats;
mod value;
mod wait;
mod worker;

use crate::server::config::Number;
use crate::server::stats::Counter;

/// The bounds of a queue whose pushes name none.
pub static MAX_RECORDS: Number = Number::new("log-max-records", 100_000, 1, 1 << 40);
pub static MAX_BYTES: Number = Number::new("log-max-bytes", 256 << 20, 1, 1 << 50).in_bytes();

/// After how many deliveries a batch goes to the dead letters, where the pop that leases it does not say.
pub static MAX_DELIVERIES: Number = Number::new("log-max-deliveries", 10, 1, 1_000_000);

/// The largest time in a batch's name that this node has given out or heard of, under any key: a key that is deleted and
/// made anew while the clock has stepped back still names no two batches alike.
static LAST_ID_US: Counter = Counter::new();
