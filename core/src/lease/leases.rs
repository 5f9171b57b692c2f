//! The holders of one key.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use std::sync::Arc;

use super::entry::Lease;
use super::table::Table;
use crate::codec::{Corrupt, Reader, Writer};
use crate::limit::{NEVER, extended_expiry_ms, wait_ms};
use crate::stored::{Stored, load_versioned};
use crate::{PERIOD_MAX_MS, TIME_MAX_MS, UNITS_MAX};

/// The longest name of a holder in bytes.
pub const HOLDER_BYTES_MAX: usize = 512;

/// How long the last token is remembered after the last lease has ended, in milliseconds: a day. Tokens grow with the
/// clock as well, so after that a token could only go back if the clock went back by more than a day.
pub(super) const TOKEN_KEPT_MS: i64 = 24 * 3_600_000;

/// Tokens per millisecond of the clock. Its product with any time of this century is below 2^53.
const TOKENS_PER_MS: u64 = 1_024;

/// The largest token: 2^62, which no clock and no count reaches.
pub const TOKEN_MAX: u64 = 1 << 62;

/// The answer to a request for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Whether the holder gets a lease, or has one.
    pub acquired: bool,
    /// Holders at this moment, this one included if acquired.
    pub in_use: u64,
    /// The most holders, as asked.
    pub max: u64,
    /// Milliseconds until enough leases have ended by themselves; 0 if acquired, -1 if `max` is 0.
    pub retry_after_ms: i64,
    /// The fencing token, 0 if not acquired.
    pub token: u64,
}

/// The holders of one key.
pub type Leases = LeasesWith<()>;

/// The holders of one key, each with a payload `T` that goes with its lease.
#[derive(Debug, Clone)]
pub struct LeasesWith<T: Stored> {
    table: Table<T>,
    /// As of the last acquisition.
    max: u64,
    last_token: u64,
    /// The time of the last change.
    at_ms: i64,
    /// The key's expiry as last set.
    expires_at_ms: i64,
}

impl<T: Stored> Default for LeasesWith<T> {
    fn default() -> Self {
        Self { table: Table::default(), max: 0, last_token: 0, at_ms: 0, expires_at_ms: 0 }
    }
}

impl<T: Stored> LeasesWith<T> {
    /// Decides whether `holder` gets a lease at `now_ms`; changes nothing. A holder that has a lease keeps it, with its
    /// token.
    pub fn decide(&self, now_ms: i64, max: u64, holder: &[u8]) -> Grant {
        let in_use = self.in_use(now_ms);
        if let Some(token) = self.token_of(now_ms, holder) {
            return Grant { acquired: true, in_use, max, retry_after_ms: 0, token };
        }
        self.decide_new(now_ms, max, in_use)
    }

    /// Like [`Self::decide`], for a holder that has no lease, with `in_use` as [`Self::in_use`] returns it.
    pub fn decide_new(&self, now_ms: i64, max: u64, in_use: u64) -> Grant {
        let behind_ms = self.behind_ms(now_ms);
        if in_use < max {
            let token = self.next_token(now_ms);
            return Grant { acquired: true, in_use: in_use + 1, max, retry_after_ms: 0, token };
        }
        let retry_after_ms = match max {
            0 => NEVER,
            // If the maximum was lowered, more than one lease must end.
            _ => usize::try_from(max)
                .ok()
                .and_then(|max| self.table.nth(self.table.len().saturating_sub(max)))
                .map_or(0, |lease| wait_ms(i128::from(lease.expires_at_ms - behind_ms) - i128::from(now_ms))),
        };
        Grant { acquired: false, in_use, max, retry_after_ms, token: 0 }
    }

    /// Gives `holder` a lease of `ttl_ms` from `now_ms` on, whatever the maximum. A new lease gets `token`; an existing
    /// one is extended and keeps its own. Depends on the state and the arguments alone, so that a replica ends with the
    /// same value.
    ///
    /// The token is [`Grant::token`] or a larger one: the caller may know of tokens that were given out under this key
    /// before it was deleted.
    pub fn grant(&mut self, now_ms: i64, max: u64, holder: &[u8], ttl_ms: u64, token: u64)
    where
        T: Default,
    {
        self.begin_change(now_ms);
        let (token, payload) = match self.table.remove(holder).filter(|lease| lease.expires_at_ms > now_ms) {
            Some(lease) => (lease.token, lease.payload),
            None => (token.max(self.last_token + 1).min(TOKEN_MAX), T::default()),
        };
        self.max = max;
        let lease = self.lease(now_ms, holder.into(), ttl_ms, token, payload);
        self.table.insert(lease);
    }

    /// Gives a new holder a lease with a payload. Leases that have ended stay until the caller takes them with
    /// [`Self::take_ended`]. `now_ms` never steps back here.
    pub fn hold(&mut self, now_ms: i64, holder: Arc<[u8]>, ttl_ms: u64, payload: T) {
        self.at_ms = now_ms;
        let token = (self.last_token + 1).min(TOKEN_MAX);
        let lease = self.lease(now_ms, holder, ttl_ms, token, payload);
        self.table.put(lease);
    }

    /// A lease that is about to be added.
    fn lease(&mut self, now_ms: i64, holder: Arc<[u8]>, ttl_ms: u64, token: u64, payload: T) -> Lease<T> {
        self.last_token = self.last_token.max(token);
        let expires_at_ms = now_ms.saturating_add_unsigned(ttl_ms).min(TIME_MAX_MS);
        let needed_until_ms = expires_at_ms.saturating_add(TOKEN_KEPT_MS);
        self.expires_at_ms = extended_expiry_ms(self.expires_at_ms, now_ms, needed_until_ms);
        Lease { holder, expires_at_ms, token, payload }
    }

    /// A holder's lease, whether or not it has ended.
    pub fn get(&self, holder: &[u8]) -> Option<&Lease<T>> {
        self.table.get(holder)
    }

    /// Takes a holder's lease out, whether or not it has ended.
    pub fn take(&mut self, holder: &[u8]) -> Option<Lease<T>> {
        self.table.remove(holder)
    }

    /// Takes out the lease that ended first, if any has ended.
    pub fn take_ended(&mut self, now_ms: i64) -> Option<Lease<T>> {
        self.table.pop_first(now_ms)
    }

    /// Prefetches what a search for a holder reads; returns a word that depends on it.
    pub fn fetch(&self) -> u64 {
        self.table.fetch()
    }

    /// Milliseconds until all leases have ended; 0 if there is none.
    pub fn ends_after_ms(&self, now_ms: i64) -> i64 {
        let live_after_ms = now_ms + self.behind_ms(now_ms);
        self.table.last_expiry_ms().map_or(0, |last_ms| wait_ms(i128::from(last_ms) - i128::from(live_after_ms)))
    }

    /// The number of leases, ended or not.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no lease, not even an ended one.
    pub fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    /// The token of a holder whose lease has not ended.
    pub fn token_of(&self, now_ms: i64, holder: &[u8]) -> Option<u64> {
        let live_after_ms = now_ms + self.behind_ms(now_ms);
        self.table.get(holder).filter(|lease| lease.expires_at_ms > live_after_ms).map(|lease| lease.token)
    }

    /// Ends a holder's lease. As deterministic as [`Self::grant`].
    pub fn release(&mut self, now_ms: i64, holder: &[u8]) {
        self.begin_change(now_ms);
        self.table.remove(holder);
    }

    /// If the clock has stepped back since the last change, moves all expiries back with it, so that no lease lasts longer
    /// than it was granted for. Returns whether the clock has stepped back.
    pub fn rewind(&mut self, now_ms: i64) -> bool {
        let behind_ms = self.behind_ms(now_ms);
        if behind_ms > 0 {
            self.table.shift_back(behind_ms);
            self.at_ms = now_ms;
        }
        behind_ms > 0
    }

    /// The number of holders whose leases have not ended.
    pub fn in_use(&self, now_ms: i64) -> u64 {
        let live_after_ms = now_ms + self.behind_ms(now_ms);
        (self.table.len() - self.table.expired(live_after_ms)) as u64
    }

    /// The most holders, as of the last acquisition.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The largest token given out.
    pub fn last_token(&self) -> u64 {
        self.last_token
    }

    /// Each holder whose lease has not ended, with the milliseconds left and its token; the first to end first.
    pub fn holders(&self, now_ms: i64) -> impl Iterator<Item = (&[u8], i64, u64)> + '_ {
        let live_after_ms = now_ms + self.behind_ms(now_ms);
        let live = self.table.expiring(live_after_ms);
        live.map(move |lease| (&*lease.holder, lease.expires_at_ms - live_after_ms, lease.token))
    }

    /// The key's expiry in unix milliseconds: a day after its last lease has ended, or later.
    pub fn expires_at_ms(&self) -> i64 {
        self.expires_at_ms
    }

    /// The time of the last change, in unix milliseconds.
    pub fn changed_at_ms(&self) -> i64 {
        self.at_ms
    }

    /// All leases, ended or not; the first to end first.
    pub fn iter(&self) -> impl Iterator<Item = &Lease<T>> {
        self.table.expiring(i64::MIN)
    }

    fn behind_ms(&self, now_ms: i64) -> i64 {
        (self.at_ms - now_ms).max(0)
    }

    fn next_token(&self, now_ms: i64) -> u64 {
        (self.last_token + 1).max(now_ms.unsigned_abs().saturating_mul(TOKENS_PER_MS))
    }

    /// Begins every change: moves expiries back if the clock has stepped back, and drops leases that have ended, up to a
    /// few hundred.
    fn begin_change(&mut self, now_ms: i64) {
        self.rewind(now_ms);
        self.at_ms = now_ms;
        self.table.drop_expired(now_ms);
    }
}

impl<T: Stored> Stored for LeasesWith<T> {
    const ENCODING: u32 = 1;
    const ENCODING_MIN: u32 = 1;

    fn save(&self, out: &mut dyn Writer) {
        out.uint(self.max);
        out.uint(self.last_token);
        out.int(self.at_ms);
        out.int(self.expires_at_ms);
        out.uint(T::ENCODING.into());
        out.uint(self.table.len() as u64);
        for lease in self.table.expiring(i64::MIN) {
            out.bytes(&lease.holder);
            out.int(lease.expires_at_ms);
            out.uint(lease.token);
            lease.payload.save(out);
        }
    }

    fn load(from: &mut dyn Reader, _encoding: u32) -> Result<Self, Corrupt> {
        let max = from.uint_max(UNITS_MAX, "max")?;
        let last_token = from.uint_max(TOKEN_MAX, "token")?;
        let (at_ms, expires_at_ms) = (from.time_ms("time")?, from.time_ms("expiry")?);
        let mut leases = Self { table: Table::default(), max, last_token, at_ms, expires_at_ms };
        // All payloads are in one version.
        let payload_encoding = u32::try_from(from.uint()?).unwrap_or(u32::MAX);
        let mut before = (i64::MIN, 0);
        for _ in 0..from.uint()? {
            let holder = from.bytes(HOLDER_BYTES_MAX)?;
            // If the clock has stepped back, a lease may have ended before 1970.
            let expires_at_ms = from.int()?;
            let token = from.uint_max(last_token, "a token above the last")?;
            let order = (expires_at_ms, token);
            if order <= before || holder.is_empty() || leases.table.get(&holder).is_some() {
                return Err(Corrupt("leases out of order, or a holder twice"));
            }
            if !(-TIME_MAX_MS..=at_ms.saturating_add_unsigned(PERIOD_MAX_MS)).contains(&expires_at_ms) {
                return Err(Corrupt("a lease out of bounds"));
            }
            before = order;
            let payload = load_versioned(from, payload_encoding)?;
            leases.table.insert(Lease { holder: holder.into(), expires_at_ms, token, payload });
        }
        Ok(leases)
    }

    fn memory_bytes(&self) -> usize {
        self.table.memory_bytes()
    }

    fn allocations(&self) -> usize {
        2 + self.table.len()
    }
}
