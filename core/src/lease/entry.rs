//! One lease.

use std::sync::Arc;

use crate::chunks::{Item, Order};
use crate::indexed::Named;

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

impl<T> Item for Lease<T> {
    type Sum = ();

    fn order(&self) -> Order {
        Lease::order(self)
    }

    fn shift_back(&mut self, by_ms: i64) {
        self.expires_at_ms -= by_ms;
    }

    fn add_to(&self, (): &mut ()) {}

    fn sub_from(&self, (): &mut ()) {}
}

impl<T> Named for Lease<T> {
    fn name(&self) -> (u8, &[u8]) {
        (0, &self.holder)
    }
}
