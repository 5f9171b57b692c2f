//! Leases: at most `max` holders at once, each until its own expiry, so that a holder that crashes leaks nothing.
//!
//! Each grant carries a fencing token that is larger than all before it. A resource that remembers the largest token it has
//! seen can refuse a holder that has not noticed that its lease ended. (Kleppmann, "How to do distributed locking", 2016.)
//!
//! Cost: O(log n) in the holders, and O(1) amortised for each lease that has ended. A change drops a few hundred ended
//! leases at most, so that no call has to wait for a hundred thousand.

mod entry;
mod leases;
mod line;
mod table;

pub use entry::Lease;
pub use leases::{Grant, HOLDER_BYTES_MAX, Leases, LeasesWith, TOKEN_MAX};
pub use line::{Line, Place};

#[cfg(test)]
mod line_tests;
#[cfg(test)]
mod tests;
