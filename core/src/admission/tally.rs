//! What this node has seen of a policy.

/// What this node has seen of a policy since it created or loaded the account. It is not part of the value: it is
/// neither saved nor compared, and a copy's tally starts from zero.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that the policy refused or, for a shadow policy, would have refused.
    pub denied: u64,
    /// When a request or a settlement last named the policy's meter, in unix milliseconds by the server's clock; 0 if
    /// that never happened.
    pub named_ms: i64,
}

impl Clone for Tally {
    fn clone(&self) -> Self {
        Self::default()
    }
}
