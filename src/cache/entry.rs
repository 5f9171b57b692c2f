//! A cache entry.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use gateway_core::cache::{CATEGORY_BYTES_MAX, CachedValue, Life, State, TAG_BYTES_MAX, TAGS_MAX, TTL_MAX_S};
use gateway_core::codec::{Corrupt, Reader, Writer};
use gateway_core::memory::allocated_bytes;
use gateway_core::money::Amount;
use gateway_core::stored::Stored;

use super::group::Group;
use super::join;
use super::marks;

/// A cached value. The expiry is that of its key, so that TTL and PEXPIREAT mean what they say.
pub struct Entry {
    value: CachedValue,
    created_at_ms: i64,
    ttl_ms: u64,
    fresh_until_ms: i64,
    category: Arc<Group>,
    extras: Option<Box<Extras>>,
}

/// The parts that most entries do not have.
#[derive(Clone)]
struct Extras {
    stale_ms: u64,
    /// The money that each hit saves.
    saved: Amount,
    tags: Box<[Arc<Group>]>,
}

impl Extras {
    fn if_any(self) -> Option<Box<Self>> {
        let any = self.stale_ms > 0 || self.saved != Amount::ZERO || !self.tags.is_empty();
        any.then(|| Box::new(self))
    }
}

/// The parts of a new entry.
pub struct New<'a> {
    pub value: &'a [u8],
    pub created_at_ms: i64,
    pub life: Life,
    pub saved: Amount,
    pub category: &'a [u8],
    pub tags: Vec<&'a [u8]>,
}

impl New<'_> {
    /// Whether it comes from elsewhere and has been cleared here since it was set.
    pub fn is_cleared(&self) -> bool {
        marks::covers(self.created_at_ms, self.category, self.tags.iter().copied())
    }
}

impl Entry {
    /// `pack_from_bytes` is the shortest value that is packed if that pays; with 0, none is.
    pub fn new(new: New, pack_from_bytes: usize) -> Self {
        let value = CachedValue::new(new.value, pack_from_bytes);
        let (category, tags) = join::of_new(new.category, new.tags, new.created_at_ms);
        Self::with(value, new.created_at_ms, new.life, new.saved, category, tags)
    }

    fn with(
        value: CachedValue,
        created_at_ms: i64,
        life: Life,
        saved: Amount,
        category: Arc<Group>,
        tags: Box<[Arc<Group>]>,
    ) -> Self {
        let Life { ttl_ms, stale_ms, fresh_until_ms } = life;
        let extras = Extras { stale_ms, saved, tags }.if_any();
        Self { value, created_at_ms, ttl_ms, fresh_until_ms, category, extras }.counted()
    }

    fn counted(self) -> Self {
        self.category.entry_made(self.value.sizes());
        self.tags().iter().for_each(|tag| tag.tagged());
        self
    }

    /// Becomes another entry, as if that one had been made and this one dropped. What both have in common stays as it
    /// is, with its counts: mostly the category, and the value's memory if both have the same length
    /// (docs/src/internals/decisions.md, "Values are overwritten in place").
    pub fn overwrite(&mut self, new: New, pack_from_bytes: usize) {
        let shares_category = self.category.name() == new.category && !self.category.is_cleared();
        if !shares_category || !self.tags().is_empty() || !new.tags.is_empty() || new.is_cleared() {
            *self = Self::new(new, pack_from_bytes);
            return;
        }
        self.count_if_expired(new.created_at_ms);
        let before = self.value.sizes();
        self.value.overwrite(new.value, pack_from_bytes);
        self.category.entry_resized(before, self.value.sizes());
        let Life { ttl_ms, stale_ms, fresh_until_ms } = new.life;
        (self.created_at_ms, self.ttl_ms, self.fresh_until_ms) = (new.created_at_ms, ttl_ms, fresh_until_ms);
        self.extras = Extras { stale_ms, saved: new.saved, tags: [].into() }.if_any();
    }

    /// The server does not say why it frees a value; past its expiry it counts as expired.
    fn count_if_expired(&self, now_ms: i64) {
        if now_ms >= self.life().ends_at_ms() && !self.is_cleared() {
            self.category.counters().entry_expired();
        }
    }

    pub fn value(&self) -> &CachedValue {
        &self.value
    }

    pub fn life(&self) -> Life {
        let stale_ms = self.extras.as_ref().map_or(0, |extras| extras.stale_ms);
        Life { ttl_ms: self.ttl_ms, stale_ms, fresh_until_ms: self.fresh_until_ms }
    }

    pub fn state(&self, now_ms: i64) -> State {
        self.life().state(now_ms)
    }

    pub fn set_fresh_until(&mut self, at_ms: i64) {
        self.fresh_until_ms = at_ms;
    }

    pub fn age_ms(&self, now_ms: i64) -> i64 {
        (now_ms - self.created_at_ms).max(0)
    }

    pub fn category(&self) -> &Group {
        &self.category
    }

    pub fn tags(&self) -> &[Arc<Group>] {
        self.extras.as_ref().map_or(&[], |extras| &extras.tags)
    }

    pub fn saved(&self) -> Amount {
        self.extras.as_ref().map_or(Amount::ZERO, |extras| extras.saved)
    }

    /// Whether it was cleared: readers no longer see it, and its memory is freed later.
    pub fn is_cleared(&self) -> bool {
        self.category.is_cleared() || self.tags().iter().any(|tag| tag.is_cleared())
    }

    fn write(&self, out: &mut dyn Writer) {
        out.int(self.created_at_ms);
        out.uint(self.ttl_ms);
        out.uint(self.life().stale_ms);
        out.int(self.fresh_until_ms);
        out.int128(self.saved().picos());
        // The mark is on the group, in memory only. Each entry is saved with its own.
        out.uint(u64::from(self.is_cleared()));
        out.bytes(self.category.name());
        out.uint(self.tags().len() as u64);
        self.tags().iter().for_each(|tag| out.bytes(tag.name()));
    }
}

impl Clone for Entry {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), category: Arc::clone(&self.category), extras: self.extras.clone(), ..*self }
            .counted()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.category.entry_gone(self.value.sizes());
        self.tags().iter().for_each(|tag| tag.untagged());
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        self.count_if_expired(now_ms);
    }
}

impl Stored for Entry {
    const ENCODING: u32 = 0;

    fn save(&self, out: &mut dyn Writer) {
        self.write(out);
        self.value.save(out);
    }

    fn load(from: &mut dyn Reader, _encoding: u32) -> Result<Self, Corrupt> {
        const TTL_MAX_MS: u64 = TTL_MAX_S * 1_000;
        let created_at_ms = from.time_ms("created at")?;
        let ttl_ms = from.uint_max(TTL_MAX_MS, "a time to live out of bounds")?;
        let stale_ms = from.uint_max(TTL_MAX_MS, "a stale time out of bounds")?;
        let life = Life { ttl_ms, stale_ms, fresh_until_ms: from.time_ms("fresh until")? };
        let saved = Amount::from_picos(from.int128()?).filter(|saved| *saved >= Amount::ZERO);
        let saved = saved.ok_or(Corrupt("an amount out of bounds"))?;
        let cleared = from.uint_max(1, "neither cleared nor not")? == 1;
        let category = from.bytes(CATEGORY_BYTES_MAX)?;
        let tag_count = from.uint_max(TAGS_MAX as u64, "too many tags")?;
        let tags = (0..tag_count).map(|_| from.bytes(TAG_BYTES_MAX)).collect::<Result<Vec<_>, _>>()?;
        let value = CachedValue::load(from)?;
        let tags = tags.iter().map(Vec::as_slice).collect();
        let (category, tags) = join::of_loaded(&category, tags, created_at_ms, cleared);
        Ok(Self::with(value, created_at_ms, life, saved, category, tags))
    }

    /// Leaves out whether and how the value is packed: nodes may differ in that.
    fn digest(&self, out: &mut dyn Writer) {
        self.write(out);
        self.value.digest(out);
    }

    fn memory_bytes(&self) -> usize {
        let extras = self
            .extras
            .as_ref()
            .map_or(0, |extras| allocated_bytes(size_of::<Extras>()) + allocated_bytes(size_of_val(&*extras.tags)));
        self.value.memory_bytes() + extras
    }

    fn allocations(&self) -> usize {
        2 + 2 * usize::from(self.extras.is_some())
    }

    fn buffers(&mut self, from: usize, visit: &mut dyn FnMut(&mut Vec<u8>) -> bool) -> Option<usize> {
        if from == 0 {
            self.value.buffer(visit);
        }
        None
    }
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
