//! One lease.

use std::sync::Arc;

/// The order of leases: by their ends, then by their tokens. Tokens are unique, so no two leases are equal.
pub(super) type Order = (i64, u64);

/// A holder's lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease<T> {
    /// The holder's name. Shared between the two indexes.
    pub holder: Arc<[u8]>,
    /// When it ends, in unix milliseconds. Before 1970 if the clock stepped back that far.
    pub expires_at_ms: i64,
    /// The fencing token.
    pub token: u64,
    /// Further data of the holder.
    pub payload: T,
}

impl<T> Lease<T> {
    pub(super) fn order(&self) -> Order {
        (self.expires_at_ms, self.token)
    }
}
