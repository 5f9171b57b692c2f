//! Accounts that expire when they are no longer used.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use std::num::NonZeroU64;

use crate::codec::{Corrupt, Reader, Writer};
use crate::{PERIOD_MAX_MS, TIME_MAX_MS};

/// How long an account without money outlives its last admission.
///
/// The expiry is up to a quarter of that time later than necessary. So an account in use sets its key's expiry a few
/// times in that time, not with each admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Idle {
    /// 1 ms to 366 days. Not zero, which is how an account that does not expire is saved.
    pub idle_ms: NonZeroU64,
    /// When the account expires, by the server's clock.
    pub expires_at_ms: i64,
}

impl Idle {
    pub fn new(idle_ms: u64, now_ms: i64, busy_ms: i64) -> Self {
        let mut idle = Self { idle_ms: NonZeroU64::new(idle_ms).unwrap_or(NonZeroU64::MIN), expires_at_ms: 0 };
        idle.renew(now_ms, busy_ms);
        idle
    }

    /// Renews the expiry at an admission. `busy_ms` is how long leases are live; the account lives at least as long. An
    /// expiry that is too far away is moved, too: the longest lease has ended since, or the clock has stepped back.
    pub fn renew(&mut self, now_ms: i64, busy_ms: i64) {
        let idle_ms = self.idle_ms.get();
        let needed_until_ms = now_ms.saturating_add(busy_ms.max(idle_ms.cast_signed()));
        let spare_ms = self.expires_at_ms.saturating_sub(needed_until_ms);
        if !(0..=idle_ms.cast_signed()).contains(&spare_ms) {
            let expires_at_ms = needed_until_ms.saturating_add_unsigned(idle_ms / 4);
            self.expires_at_ms = expires_at_ms.min(TIME_MAX_MS);
        }
    }

    pub fn save(idle: Option<&Self>, out: &mut dyn Writer) {
        out.uint(idle.map_or(0, |idle| idle.idle_ms.get()));
        if let Some(idle) = idle {
            out.int(idle.expires_at_ms);
        }
    }

    pub fn load(from: &mut dyn Reader) -> Result<Option<Self>, Corrupt> {
        Ok(match NonZeroU64::new(from.uint_max(PERIOD_MAX_MS, "idle time")?) {
            None => None,
            Some(idle_ms) => Some(Self { idle_ms, expires_at_ms: from.time_ms("expiry")? }),
        })
    }
}
