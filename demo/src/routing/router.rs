//! What a client asks before and tells after each call to a deployment.

use super::deployments::Answer;
use anyhow::Result;
use std::time::Duration;

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The index of a deployment.
    To(usize),
    /// To none for so long.
    Wait(Duration),
}

pub trait Router {
    /// Chooses a deployment for a request of so many tokens, apart from those that have failed it.
    ///
    /// # Errors
    /// An error of the server or the connection, or a reply that cannot be right.
    fn choose(&mut self, tokens: u64, failed: &[usize]) -> Result<Choice>;

    /// Tells how the call ended to which the last choice led.
    ///
    /// # Errors
    /// As for a choice.
    fn tell(&mut self, deployment: usize, tokens: u64, answer: Answer) -> Result<()>;
}
