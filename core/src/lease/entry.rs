//! One lease.

use std::sync::Arc;

use crate::chunks::{Item, Order};
use crate::indexed::Named;
use crate::memory::allocated_bytes;
use crate::stored::Stored;

/// A holder's lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease<T> {
    /// The holder's name.
    pub holder: Arc<[u8]>,
    /// When it ends, in unix milliseconds. Before 1970 if the clock stepped back that far.
    pub expires_at_ms: i64,
    /// The fencing token.
    pub token: u64,
    /// Further data of the holder.
    pub payload: T,
}

impl<T> Lease<T> {
    /// Leases are in the order of their ends, then of their tokens, which are unique.
    pub(super) fn order(&self) -> Order {
        (self.expires_at_ms, self.token)
    }
}

impl<T: Stored> Lease<T> {
    /// Bytes allocated behind the struct. A name's allocation has two counters before it.
    pub(super) fn memory_bytes(&self) -> usize {
        allocated_bytes(16 + self.holder.len()) + self.payload.memory_bytes()
    }
}

impl<T: Stored> Item for Lease<T> {
    /// Bytes allocated behind the leases.
    type Sum = usize;

    fn order(&self) -> Order {
        Lease::order(self)
    }

    fn shift_back(&mut self, by_ms: i64) {
        self.expires_at_ms -= by_ms;
    }

    fn add_to(&self, bytes: &mut usize) {
        *bytes += self.memory_bytes();
    }

    fn sub_from(&self, bytes: &mut usize) {
        *bytes -= self.memory_bytes();
    }
}

impl<T: Stored> Named for Lease<T> {
    fn name(&self) -> (u8, &[u8]) {
        (0, &self.holder)
    }
}
