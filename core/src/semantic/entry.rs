//! An entry of an index, without its vector.

use super::similarity::Similarity;
use crate::cache::CachedValue;
use crate::memory::allocated_bytes;
use crate::money::Amount;

/// What entries are counted in and cleared by: the group of a category, or of a tag.
pub trait Group: Clone {
    /// The groups of an entry that was set at `created_at_ms`: that of its category, and those of its tags, each once.
    fn of_new(category: &[u8], tags: Vec<&[u8]>, created_at_ms: i64) -> (Self, Box<[Self]>);

    /// The same of an entry that is loaded, and was perhaps saved as cleared.
    fn of_loaded(category: &[u8], tags: Vec<&[u8]>, created_at_ms: i64, was_cleared: bool) -> (Self, Box<[Self]>);

    /// The name of the category or tag.
    fn name(&self) -> &[u8];

    /// Whether its entries have been cleared: no search finds them from then on.
    fn is_cleared(&self) -> bool;

    /// Adds an entry of the category, with the bytes of its value as stored and unpacked.
    fn entry_made(&self, bytes: [u64; 2]);

    /// Subtracts an entry of the category.
    fn entry_gone(&self, bytes: [u64; 2]);

    /// Adds an entry that has the tag.
    fn tagged(&self);

    /// Subtracts an entry that has the tag.
    fn untagged(&self);
}

/// The parts of a new entry.
#[derive(Debug, Clone)]
pub struct New<'a> {
    /// 1 to [`ID_BYTES_MAX`](super::bounds::ID_BYTES_MAX) bytes.
    pub id: &'a [u8],
    /// What a hit replies.
    pub value: &'a [u8],
    /// The shortest value in bytes that is packed if that pays; with 0, none is.
    pub pack_from_bytes: usize,
    /// When it is set, in unix milliseconds.
    pub created_at_ms: i64,
    /// From when on it is no longer served, in unix milliseconds.
    pub expires_at_ms: i64,
    /// The money that each hit saves.
    pub saved: Amount,
    /// The question, empty if it is not known.
    pub text: &'a [u8],
    /// What it is counted in.
    pub category: &'a [u8],
    /// What it is cleared by.
    pub tags: Vec<&'a [u8]>,
}

/// An entry.
pub struct Entry<G: Group> {
    id: Box<[u8]>,
    value: CachedValue,
    created_at_ms: i64,
    category: G,
    extras: Option<Box<Extras<G>>>,
}

/// The parts that most entries do not have.
#[derive(Clone)]
pub(super) struct Extras<G> {
    pub saved: Amount,
    pub text: Box<[u8]>,
    pub tags: Box<[G]>,
    pub rejected: Option<Similarity>,
}

impl<G> Extras<G> {
    fn none() -> Self {
        Self { saved: Amount::ZERO, text: [].into(), tags: [].into(), rejected: None }
    }

    fn if_any(self) -> Option<Box<Self>> {
        let Self { saved, text, tags, rejected } = &self;
        let any = *saved != Amount::ZERO || !text.is_empty() || !tags.is_empty() || rejected.is_some();
        any.then(|| Box::new(self))
    }
}

impl<G: Group> Entry<G> {
    /// The entry, in groups as one that is new on this node.
    pub(super) fn new(new: New) -> Self {
        let (category, tags) = G::of_new(new.category, new.tags, new.created_at_ms);
        let extras = Extras { saved: new.saved, text: new.text.into(), tags, rejected: None };
        let value = CachedValue::new(new.value, new.pack_from_bytes);
        Self::with(new.id.into(), value, new.created_at_ms, category, extras)
    }

    pub(super) fn with(id: Box<[u8]>, value: CachedValue, created_at_ms: i64, category: G, extras: Extras<G>) -> Self {
        Self { id, value, created_at_ms, category, extras: extras.if_any() }.counted()
    }

    fn counted(self) -> Self {
        self.category.entry_made(self.value.sizes());
        self.tags().iter().for_each(G::tagged);
        self
    }

    /// Its name in the index.
    pub fn id(&self) -> &[u8] {
        &self.id
    }

    /// What a hit replies.
    pub fn value(&self) -> &CachedValue {
        &self.value
    }

    /// When it was set, in unix milliseconds.
    pub fn created_at_ms(&self) -> i64 {
        self.created_at_ms
    }

    /// How long ago that was, in milliseconds; 0 if the clock has stepped back.
    pub fn age_ms(&self, now_ms: i64) -> i64 {
        (now_ms - self.created_at_ms).max(0)
    }

    /// What it is counted in.
    pub fn category(&self) -> &G {
        &self.category
    }

    /// What it is cleared by.
    pub fn tags(&self) -> &[G] {
        self.extras.as_ref().map_or(&[], |extras| &extras.tags)
    }

    /// The money that each hit saves.
    pub fn saved(&self) -> Amount {
        self.extras.as_ref().map_or(Amount::ZERO, |extras| extras.saved)
    }

    /// The question, empty if it is not known.
    pub fn text(&self) -> &[u8] {
        self.extras.as_ref().map_or(&[], |extras| &extras.text)
    }

    /// The similarity at and below which it is not served any more.
    pub fn rejected(&self) -> Option<Similarity> {
        self.extras.as_ref().and_then(|extras| extras.rejected)
    }

    /// Whether searches pass over it because it was cleared.
    pub fn is_cleared(&self) -> bool {
        self.category.is_cleared() || self.tags().iter().any(G::is_cleared)
    }

    /// Never to be served again at that similarity or below; what was rejected before stays so. Returns whether that is
    /// new.
    pub(super) fn reject(&mut self, at: Similarity) -> bool {
        let is_new = self.rejected().is_none_or(|before| before < at);
        if is_new {
            self.extras.get_or_insert_with(|| Box::new(Extras::none())).rejected = Some(at);
        }
        is_new
    }

    /// Bytes of the entry, its allocation included.
    pub(super) fn memory_bytes(&self) -> usize {
        let extras = self.extras.as_ref().map_or(0, |extras| {
            let Extras { text, tags, .. } = &**extras;
            allocated_bytes(size_of::<Extras<G>>())
                + allocated_bytes(text.len())
                + allocated_bytes(size_of_val(&**tags))
        });
        allocated_bytes(size_of::<Self>()) + allocated_bytes(self.id.len()) + self.value.memory_bytes() + extras
    }

    /// Visits the value's memory: see [`CachedValue::buffer`].
    pub(super) fn buffer(&mut self, visit: &mut dyn FnMut(&mut Vec<u8>) -> bool) -> bool {
        self.value.buffer(visit)
    }
}

impl<G: Group> Clone for Entry<G> {
    fn clone(&self) -> Self {
        let Self { id, value, created_at_ms, category, extras } = self;
        let (id, value, category) = (id.clone(), value.clone(), category.clone());
        Self { id, value, created_at_ms: *created_at_ms, category, extras: extras.clone() }.counted()
    }
}

impl<G: Group> Drop for Entry<G> {
    fn drop(&mut self) {
        self.category.entry_gone(self.value.sizes());
        self.tags().iter().for_each(G::untagged);
    }
}
