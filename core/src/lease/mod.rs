//! Leases: at most `max` holders at once, each until its own expiry, so that whoever crashes leaks nothing.
//!
//! Each grant carries a fencing token that is larger than all before it. A resource that remembers the largest token it has
//! seen can refuse a holder whose lease ran out without its noticing. (Kleppmann, "How to do distributed locking", 2016.)
//!
//! Cost: O(log n) in the holders, and O(1) amortised for those that have expired. A change drops a few hundred of these
//! at most, so that no call has to wait for a hundred thousand.

mod sorted;
mod table;

use std::sync::Arc;

use crate::codec::{Corrupt, Reader, Writer};
use crate::limit::{NEVER, extended_expiry_ms, wait_ms};
use crate::stored::Stored;
use crate::{PERIOD_MAX_MS, TIME_MAX_MS, UNITS_MAX};
pub use table::Lease;
use table::Table;

/// The longest name of a holder in bytes.
pub const HOLDER_BYTES_MAX: usize = 512;

/// How long the last token is remembered after the last lease has ended: a day. Tokens grow with the clock as well, so
/// after that a token could only go back if the clock had, by more than a day.
const TOKEN_KEPT_MS: i64 = 24 * 3_600_000;

/// Tokens per millisecond of the clock. Its product with any time of this century is below 2^53.
const TOKENS_PER_MS: u64 = 1_024;

/// The largest token: 2^62, which no clock and no count reaches.
pub const TOKEN_MAX: u64 = 1 << 62;

/// What goes with a lease, and is saved with it.
pub trait Load: Sized {
    fn save(&self, out: &mut dyn Writer);
    fn load(from: &mut dyn Reader) -> Result<Self, Corrupt>;

    /// Bytes allocated behind the load itself.
    fn memory_bytes(&self) -> usize {
        0
    }
}

impl Load for () {
    fn save(&self, _out: &mut dyn Writer) {}

    fn load(_from: &mut dyn Reader) -> Result<Self, Corrupt> {
        Ok(())
    }
}

/// The answer to a request for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    pub acquired: bool,
    /// Holders at this moment, with this one where it was acquired.
    pub in_use: u64,
    pub max: u64,
    /// Milliseconds until enough leases have expired by themselves; 0 where acquired, -1 where `max` is 0.
    pub retry_after_ms: i64,
    /// The fencing token, 0 where not acquired.
    pub token: u64,
}

/// The holders of one key.
pub type Leases = LeasesWith<()>;

/// The holders of one key, each with a load `T` that goes with its lease.
#[derive(Debug, Clone)]
pub struct LeasesWith<T> {
    table: Table<T>,
    /// As of the last acquisition.
    max: u64,
    last_token: u64,
    /// The time of the last change.
    at_ms: i64,
    /// The key's expiry as last set.
    expires_at_ms: i64,
}

impl<T> Default for LeasesWith<T> {
    fn default() -> Self {
        Self { table: Table::default(), max: 0, last_token: 0, at_ms: 0, expires_at_ms: 0 }
    }
}

impl<T> LeasesWith<T> {
    /// Would `holder` get a lease at `now_ms`? Changes nothing. A holder that has one keeps it, with its token.
    pub fn decide(&self, now_ms: i64, max: u64, holder: &[u8]) -> Grant {
        let in_use = self.in_use(now_ms);
        if let Some(token) = self.token_of(now_ms, holder) {
            return Grant { acquired: true, in_use, max, retry_after_ms: 0, token };
        }
        self.decide_new(now_ms, max, in_use)
    }

    /// As [`Self::decide`], for a holder that has no lease, where [`Self::in_use`] is known.
    pub fn decide_new(&self, now_ms: i64, max: u64, in_use: u64) -> Grant {
        let behind_ms = self.behind_ms(now_ms);
        if in_use < max {
            let token = self.next_token(now_ms);
            return Grant { acquired: true, in_use: in_use + 1, max, retry_after_ms: 0, token };
        }
        let retry_after_ms = match max {
            0 => NEVER,
            // With a lowered maximum, more than one must go.
            _ => self
                .table
                .nth(self.table.len() - (max as usize))
                .map_or(0, |lease| wait_ms(i128::from(lease.expires_at_ms - behind_ms) - i128::from(now_ms))),
        };
        Grant { acquired: false, in_use, max, retry_after_ms, token: 0 }
    }

    /// Gives `holder` a lease of `ttl_ms` from `now_ms` on, whatever the maximum; with `token`, unless it has one already,
    /// which is then extended and keeps its own. Depends on the state and the arguments alone, so that a replica ends with
    /// the same value.
    ///
    /// The token is [`Grant::token`] or a larger one: the caller may know of tokens that were given out under this key
    /// before it was deleted.
    pub fn grant(&mut self, now_ms: i64, max: u64, holder: &[u8], ttl_ms: u64, token: u64)
    where
        T: Default,
    {
        self.settle(now_ms);
        let (token, load) = match self.table.remove(holder).filter(|lease| lease.expires_at_ms > now_ms) {
            Some(lease) => (lease.token, lease.load),
            None => (token.max(self.last_token + 1).min(TOKEN_MAX), T::default()),
        };
        self.max = max;
        self.insert(now_ms, holder.into(), ttl_ms, token, load);
    }

    /// Gives a new holder a lease with a load. Those that have ended stay: their loads are the caller's, with
    /// [`Self::take_ended`]. Its clock never steps back.
    pub fn hold(&mut self, now_ms: i64, holder: Arc<[u8]>, ttl_ms: u64, load: T) {
        self.at_ms = now_ms;
        self.table.remove(&holder);
        let token = (self.last_token + 1).min(TOKEN_MAX);
        self.insert(now_ms, holder, ttl_ms, token, load);
    }

    fn insert(&mut self, now_ms: i64, holder: Arc<[u8]>, ttl_ms: u64, token: u64, load: T) {
        self.last_token = self.last_token.max(token);
        let expires_at_ms = now_ms.saturating_add_unsigned(ttl_ms).min(TIME_MAX_MS);
        self.table.insert(Lease { holder, expires_at_ms, token, load });
        let needed_until_ms = expires_at_ms.saturating_add(TOKEN_KEPT_MS);
        self.expires_at_ms = extended_expiry_ms(self.expires_at_ms, now_ms, needed_until_ms);
    }

    /// A holder's lease, whether or not it has ended.
    pub fn get(&self, holder: &[u8]) -> Option<&Lease<T>> {
        self.table.get(holder)
    }

    /// Takes a holder's lease out, whether or not it has ended.
    pub fn take(&mut self, holder: &[u8]) -> Option<Lease<T>> {
        self.table.remove(holder)
    }

    /// Takes out the lease that ended first, of those that have.
    pub fn take_ended(&mut self, now_ms: i64) -> Option<Lease<T>> {
        self.table.pop_first(now_ms)
    }

    /// Reads what a search for a holder will.
    pub fn fetch(&self) -> u64 {
        self.table.fetch()
    }

    /// Milliseconds until all leases have ended; 0 where there is none.
    pub fn ends_after_ms(&self, now_ms: i64) -> i64 {
        let live_after_ms = now_ms + self.behind_ms(now_ms);
        self.table.last_expiry_ms().map_or(0, |last_ms| wait_ms(i128::from(last_ms) - i128::from(live_after_ms)))
    }

    /// All leases, ended or not.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    /// The token of a holder whose lease has not ended, which is what keeps it.
    pub fn token_of(&self, now_ms: i64, holder: &[u8]) -> Option<u64> {
        let live_after_ms = now_ms + self.behind_ms(now_ms);
        self.table.get(holder).filter(|lease| lease.expires_at_ms > live_after_ms).map(|lease| lease.token)
    }

    /// Ends a holder's lease. As deterministic as [`Self::grant`].
    pub fn release(&mut self, now_ms: i64, holder: &[u8]) {
        self.settle(now_ms);
        self.table.remove(holder);
    }

    /// Where the clock has stepped back since the last change, moves all expiries back with it, so that no lease lasts
    /// longer than it was granted for. Returns whether it had.
    pub fn rewind(&mut self, now_ms: i64) -> bool {
        let behind_ms = self.behind_ms(now_ms);
        if behind_ms > 0 {
            self.table.shift_back(behind_ms);
            self.at_ms = now_ms;
        }
        behind_ms > 0
    }

    /// Holders whose leases have not ended.
    pub fn in_use(&self, now_ms: i64) -> u64 {
        let live_after_ms = now_ms + self.behind_ms(now_ms);
        (self.table.len() - self.table.expired(live_after_ms)) as u64
    }

    pub fn max(&self) -> u64 {
        self.max
    }

    pub fn last_token(&self) -> u64 {
        self.last_token
    }

    /// Each holder whose lease has not ended, with the milliseconds left and its token; the first to end first.
    pub fn holders(&self, now_ms: i64) -> impl Iterator<Item = (&[u8], i64, u64)> + '_ {
        let live_after_ms = now_ms + self.behind_ms(now_ms);
        let live = self.table.expiring(live_after_ms);
        live.map(move |lease| (&*lease.holder, lease.expires_at_ms - live_after_ms, lease.token))
    }

    /// When the key may go: a day after its last lease has ended.
    pub fn expires_at_ms(&self) -> i64 {
        self.expires_at_ms
    }

    fn behind_ms(&self, now_ms: i64) -> i64 {
        (self.at_ms - now_ms).max(0)
    }

    fn next_token(&self, now_ms: i64) -> u64 {
        (self.last_token + 1).max(now_ms.unsigned_abs().saturating_mul(TOKENS_PER_MS))
    }

    /// What every change begins with: the clock's step back, and leases that have ended. Of very many, some are left for
    /// the next changes.
    fn settle(&mut self, now_ms: i64) {
        self.rewind(now_ms);
        self.at_ms = now_ms;
        self.table.drop_expired(now_ms);
    }
}

impl<T: Load> Stored for LeasesWith<T> {
    const ENCODING: u32 = 0;

    fn save(&self, out: &mut dyn Writer) {
        out.uint(self.max);
        out.uint(self.last_token);
        out.int(self.at_ms);
        out.int(self.expires_at_ms);
        out.uint(self.table.len() as u64);
        for lease in self.table.expiring(i64::MIN) {
            out.bytes(&lease.holder);
            out.int(lease.expires_at_ms);
            out.uint(lease.token);
            lease.load.save(out);
        }
    }

    fn load(from: &mut dyn Reader, _encoding: u32) -> Result<Self, Corrupt> {
        let max = from.uint_max(UNITS_MAX, "max")?;
        let last_token = from.uint_max(TOKEN_MAX, "token")?;
        let (at_ms, expires_at_ms) = (from.time_ms("time")?, from.time_ms("expiry")?);
        let mut leases = Self { table: Table::default(), max, last_token, at_ms, expires_at_ms };
        let mut before = (i64::MIN, 0);
        for _ in 0..from.uint()? {
            let holder = from.bytes(HOLDER_BYTES_MAX)?;
            // A lease that a clock's step back has moved may have ended before 1970.
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
            let load = T::load(from)?;
            leases.table.insert(Lease { holder: holder.into(), expires_at_ms, token, load });
        }
        Ok(leases)
    }

    fn memory_bytes(&self) -> usize {
        let loads: usize = self.table.expiring(i64::MIN).map(|lease| lease.load.memory_bytes()).sum();
        self.table.memory_bytes() + loads
    }

    fn allocations(&self) -> usize {
        2 + self.table.len()
    }
}

#[cfg(test)]
mod tests;
