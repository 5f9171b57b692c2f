//! The look-up, the counting and the reply of GW.CACHEGET and GW.CACHEFETCH.

use gateway_core::cache::{CachedValue, State, category_of};
use gateway_core::money::Amount;
use lazy_static::lazy_static;

use super::category::{Category, Counters};
use super::entry::Entry;
use crate::server::shared::MainThread;
use crate::server::{Call, Error, Key, Outcome, Str};
use crate::stats::STATS;

/// What a call asks for.
pub struct Question<'a> {
    pub key: Key<'a>,
    /// Whether the reply is more than the value alone.
    pub detailed: bool,
    pub category: Option<Str<'a>>,
}

impl<'a> Question<'a> {
    /// The category that a miss counts in.
    pub fn category_name(&self) -> &'a [u8] {
        self.category.map_or_else(|| category_of(self.key.bytes()), |category| category.bytes())
    }

    /// The counters of a miss.
    pub fn counters(&self) -> &'static Counters {
        Category::asked_for(self.category_name()).counters()
    }
}

/// Replies the value, if there is one to serve. The token of a lease to refresh it, or 0, comes from `refresh` if the value
/// is stale. Returns whether there was a value.
pub fn reply_found(call: &Call, question: &Question, refresh: impl FnOnce(&Entry) -> u64) -> Result<bool, Error> {
    // The clock is read first (docs/src/internals/decisions.md, "The clock is read before the entry").
    let now_ms = call.now_ms();
    let Some(found) = call.look_up::<Entry>(question.key)?.filter(|found| !found.get().is_cleared()) else {
        return Ok(false);
    };
    let entry = found.get();
    let state = entry.state(now_ms);
    if state == State::Expired {
        return Ok(false);
    }
    count_hit(entry, state);
    if question.detailed {
        let token = if state == State::Stale { refresh(entry) } else { 0 };
        Meta { token, ..Meta::of(entry, state, found.expires_at_ms(), now_ms) }.reply(call, Some(entry))?;
    } else {
        reply_value(call, entry.value())?;
    }
    Ok(true)
}

pub fn reply_miss(call: &Call, question: &Question, meta: Meta) -> Outcome {
    STATS.cache_misses.add(1);
    question.counters().misses.add(1);
    if question.detailed {
        return meta.reply(call, None);
    }
    call.reply().null();
    Ok(())
}

fn count_hit(entry: &Entry, state: State) {
    let Counters { hits, stale_hits, .. } = entry.category().counters();
    match state {
        State::Fresh => {
            STATS.cache_hits.add(1);
            hits.add(1);
        }
        State::Stale | State::Expired => {
            STATS.cache_stale_hits.add(1);
            stale_hits.add(1);
        }
    }
    let saved = entry.saved();
    if saved != Amount::ZERO {
        entry.category().counters().add_saved(saved);
    }
}

pub fn reply_value(call: &Call, value: &CachedValue) -> Outcome {
    lazy_static! {
        /// The buffer that values are unpacked into, one after the other. It grows to the longest of them.
        static ref ROOM: MainThread<Vec<u8>> = MainThread::new(Vec::new());
    }
    match value.plain() {
        Some(plain) => call.reply().bytes(plain),
        None => call.reply().bytes(
            value
                .get(&mut ROOM.borrow())
                .map_err(|_| Error::coded("ERR internal error: the value cannot be unpacked"))?,
        ),
    };
    Ok(())
}

/// What `META` adds to the value.
pub struct Meta {
    state: &'static str,
    age_ms: i64,
    ttl_ms: i64,
    token: u64,
}

impl Meta {
    pub const MISS: Meta = Meta { state: "MISS", age_ms: 0, ttl_ms: 0, token: 0 };

    /// The caller has the lease, for another `left_ms`.
    pub fn leader(token: u64, left_ms: u64) -> Self {
        Meta { ttl_ms: left_ms as i64, token, ..Self::MISS }
    }

    /// Another caller has the lease, for another `left_ms`.
    pub fn pending(left_ms: u64) -> Self {
        Meta { state: "PENDING", ttl_ms: left_ms as i64, ..Self::MISS }
    }

    fn of(entry: &Entry, state: State, expires_at_ms: Option<i64>, now_ms: i64) -> Self {
        let life = entry.life();
        let (state, until_ms) = match state {
            State::Fresh => ("HIT", life.fresh_until_ms),
            State::Stale | State::Expired => ("STALE", life.ends_at_ms()),
        };
        // EXPIRE may end the key, and so the value, earlier.
        let until_ms = expires_at_ms.map_or(until_ms, |end_ms| end_ms.min(until_ms));
        Self { state, age_ms: entry.age_ms(now_ms), ttl_ms: (until_ms - now_ms).max(0), token: 0 }
    }

    fn reply(&self, call: &Call, entry: Option<&Entry>) -> Outcome {
        call.reply().array(5).bytes(self.state);
        match entry {
            Some(entry) => reply_value(call, entry.value())?,
            None => {
                call.reply().null();
            }
        }
        call.reply().int(self.age_ms).int(self.ttl_ms).count(self.token);
        Ok(())
    }
}
