//! What an account has learnt as a target of routing, besides what its policies count.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use crate::codec::{Corrupt, Reader, Writer};
use crate::latency::Latency;
use crate::stored::{Stored, load_nested, save_nested};

/// How a call went, as its settlement says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Whether it failed.
    pub failed: bool,
    /// For how long no call is to be sent, in milliseconds: 1 to 366 days, or 0 if the provider has not said.
    pub cooldown_ms: u64,
    /// How long it took in milliseconds, at most 366 days.
    pub took_ms: Option<u64>,
}

/// The cooldown and the latency of an account. Boxed, since few accounts have them.
#[derive(Debug, Clone, Default)]
pub(super) struct Target {
    /// No request is admitted before this time, by the account's clock.
    pub cooldown_until_ms: i64,
    pub latency: Latency,
}

impl Stored for Target {
    const ENCODING: u32 = 0;

    fn save(&self, out: &mut dyn Writer) {
        out.int(self.cooldown_until_ms);
        save_nested(&self.latency, out);
    }

    fn load(from: &mut dyn Reader, _encoding: u32) -> Result<Self, Corrupt> {
        let cooldown_until_ms = from.time_ms("a cooldown's end")?;
        Ok(Self { cooldown_until_ms, latency: load_nested(from)? })
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}
