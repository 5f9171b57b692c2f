//! The log queue: records of bytes in the order in which they came, limited in number and size, handed out for good or
//! on a lease.
//!
//! Records lie in blocks of up to 64 KB, oldest block first: a push copies to the end of a buffer, and operations on
//! many records go block by block. Running the queue's [`Work`], on any thread, compresses full blocks. Neither
//! compression nor the boundaries of blocks are part of the value: queues with the same records, batches and counts are
//! equal.
//!
//! A leased batch is taken out of the blocks and kept by its id. Leases end by time alone: a batch whose lease has
//! ended is delivered again before any other record, and nothing has to happen at that moment. Batches that came back
//! too often, and records that were given up, are dead letters, which have limits of their own.

mod batch;
mod block;
mod bounds;
mod dead;
mod due;
mod garbage;
mod ids;
mod leased;
mod leasing;
mod pack;
mod pieces;
mod push;
mod rates;
mod saved;
mod size;
mod take;
mod value;
mod work;

pub use batch::{Batch, BatchId};
pub use bounds::{BATCH_RECORDS_MAX, COUNT_MAX, DELIVERIES_MAX, until_ms};
pub use due::Tally;
pub use garbage::Garbage;
pub use ids::IDS_MAX;
pub use leasing::{BatchLease, Next};
pub use push::{Limits, PushError, PushPlan, WhenFull};
pub use saved::Part;
pub use size::Size;
pub use value::{Counts, Queue};
pub use work::Work;

#[cfg(test)]
mod tests;
