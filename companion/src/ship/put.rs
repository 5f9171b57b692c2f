//! What becomes of a batch that is to be stored.

use std::fmt;

/// A batch is stored, or has been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    Now,
    Before,
}

/// What became of a batch.
pub enum Put {
    Stored(Stored),
    /// These records cannot be stored, ever. The others can be without them.
    Refused(Vec<Poison>),
}

/// A record that can never be stored: its index, from 0, and the reason.
#[derive(Debug)]
pub struct Poison {
    pub index: usize,
    pub reason: String,
}

impl fmt::Display for Poison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {}: {}", self.index, self.reason)
    }
}
