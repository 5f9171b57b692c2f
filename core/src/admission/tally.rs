//! What this node has seen of a policy.

/// What this node has seen of a policy since it made or loaded the account. It is no part of the value: it is neither saved
/// nor compared, and the tally of a copy starts anew.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that the policy did not allow; for a shadow policy, those that it would have refused.
    pub denied: u64,
    /// When a request or a settlement last named the policy's meter, in unix milliseconds by the server's clock; 0 if none
    /// has.
    pub named_ms: i64,
}

impl Clone for Tally {
    fn clone(&self) -> Self {
        Self::default()
    }
}
