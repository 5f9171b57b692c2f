//! How an index is saved.

use super::bounds::{DIMENSIONS_MAX, ENTRIES_MAX, ID_BYTES_MAX, TEXT_BYTES_MAX};
use super::entry::{Entry, Extras, Group};
use super::index::Index;
use super::similarity::Similarity;
use super::vector::Vector;
use crate::cache::{CATEGORY_BYTES_MAX, CachedValue, TAG_BYTES_MAX, TAGS_MAX};
use crate::codec::{Corrupt, Reader, Writer};
use crate::memory::allocated_bytes;
use crate::money::Amount;
use crate::stored::Stored;

/// For a similarity that there is not.
const NONE: i64 = i64::MAX;

fn save_similarity(similarity: Option<Similarity>, out: &mut dyn Writer) {
    out.int(similarity.map_or(NONE, Similarity::millionths));
}

fn load_similarity(from: &mut dyn Reader) -> Result<Option<Similarity>, Corrupt> {
    match from.int()? {
        NONE => Ok(None),
        millionths => Similarity::from_millionths(millionths).map(Some).ok_or(Corrupt("a similarity out of bounds")),
    }
}

/// What the index has apart from its entries.
pub(super) fn save_head<G: Group>(index: &Index<G>, out: &mut dyn Writer) {
    out.uint(index.dimensions() as u64);
    save_similarity(index.threshold(), out);
}

pub(super) fn load_head<G: Group>(from: &mut dyn Reader) -> Result<Index<G>, Corrupt> {
    let dimensions = from.uint_max(DIMENSIONS_MAX as u64, "too many dimensions")? as usize;
    if dimensions == 0 {
        return Err(Corrupt("no dimensions"));
    }
    let mut index = Index::new(dimensions);
    if let Some(threshold) = load_similarity(from)? {
        index.set_threshold(threshold);
    }
    Ok(index)
}

fn save_all_but_value<G: Group>(index: &Index<G>, row: usize, entry: &Entry<G>, out: &mut dyn Writer) {
    out.bytes(entry.id());
    out.bytes(index.codes.get(row));
    out.int(entry.created_at_ms());
    out.int(index.expires_at_ms.get(row).copied().unwrap_or(0));
    out.int128(entry.saved().picos());
    save_similarity(entry.rejected(), out);
    // The mark is on the group, in memory only. Each entry is saved with its own.
    out.uint(u64::from(entry.is_cleared()));
    out.bytes(entry.text());
    out.bytes(entry.category().name());
    out.uint(entry.tags().len() as u64);
    entry.tags().iter().for_each(|tag| out.bytes(tag.name()));
}

pub(super) fn save_entry<G: Group>(index: &Index<G>, row: usize, out: &mut dyn Writer) {
    if let Some(entry) = index.entries.get(row) {
        save_all_but_value(index, row, entry, out);
        entry.value().save(out);
    }
}

/// Reads `count` entries into an index.
pub(super) fn load_entries<G: Group>(index: &mut Index<G>, count: u64, from: &mut dyn Reader) -> Result<(), Corrupt> {
    if count > ENTRIES_MAX as u64 {
        return Err(Corrupt("too many entries"));
    }
    for _ in 0..count {
        load_entry(index, from)?;
    }
    Ok(())
}

fn load_entry<G: Group>(index: &mut Index<G>, from: &mut dyn Reader) -> Result<(), Corrupt> {
    let id = from.bytes(ID_BYTES_MAX)?;
    if id.is_empty() || index.get(&id).is_some() {
        return Err(Corrupt("an id that is empty, or comes twice"));
    }
    let vector = Vector::from_codes(&from.bytes(DIMENSIONS_MAX)?)?;
    if vector.dimensions() != index.dimensions() {
        return Err(Corrupt("a vector of other dimensions than the index"));
    }
    let created_at_ms = from.time_ms("created at")?;
    let expires_at_ms = from.time_ms("expires at")?;
    let saved = Amount::from_picos(from.int128()?).filter(|saved| *saved >= Amount::ZERO);
    let saved = saved.ok_or(Corrupt("an amount out of bounds"))?;
    let rejected = load_similarity(from)?;
    let was_cleared = from.uint_max(1, "neither cleared nor not")? == 1;
    let text = from.bytes(TEXT_BYTES_MAX)?.into();
    let category = from.bytes(CATEGORY_BYTES_MAX)?;
    let tag_count = from.uint_max(TAGS_MAX as u64, "too many tags")?;
    let tags = (0..tag_count).map(|_| from.bytes(TAG_BYTES_MAX)).collect::<Result<Vec<_>, _>>()?;
    let value = CachedValue::load(from)?;
    let tags = tags.iter().map(Vec::as_slice).collect();
    let (category, tags) = G::of_loaded(&category, tags, created_at_ms, was_cleared);
    let entry = Entry::with(id.into(), value, created_at_ms, category, Extras { saved, text, tags, rejected });
    index.put(&vector, entry, expires_at_ms);
    Ok(())
}

impl<G: Group> Stored for Index<G> {
    const ENCODING: u32 = 0;

    fn save(&self, out: &mut dyn Writer) {
        save_head(self, out);
        out.uint(self.len() as u64);
        (0..self.len()).for_each(|row| save_entry(self, row, out));
    }

    fn load(from: &mut dyn Reader, _encoding: u32) -> Result<Self, Corrupt> {
        let mut index = load_head(from)?;
        let count = from.uint()?;
        // A key goes with its last entry, and a rewritten AOF would not have it.
        if count == 0 {
            return Err(Corrupt("an index without entries"));
        }
        load_entries(&mut index, count, from)?;
        Ok(index)
    }

    /// In the order of the ids: that of the rows is chance. Leaves out when entries were used, which is this node's own, and
    /// whether values are packed.
    fn digest(&self, out: &mut dyn Writer) {
        save_head(self, out);
        let mut rows: Vec<_> = self.entries.iter().enumerate().collect();
        rows.sort_unstable_by_key(|(_, entry)| entry.id());
        for (row, entry) in rows {
            save_all_but_value(self, row, entry, out);
            entry.value().digest(out);
        }
    }

    fn memory_bytes(&self) -> usize {
        let lists = [
            self.inverse_lengths.capacity() * size_of::<f32>(),
            self.expires_at_ms.capacity() * size_of::<i64>(),
            self.used.capacity() * size_of::<u32>(),
            self.entries.capacity() * size_of::<usize>(),
            self.places_bytes(),
        ];
        let lists: usize = lists.into_iter().map(allocated_bytes).sum();
        self.signs.memory_bytes() + self.codes.memory_bytes() + lists + self.entry_bytes()
    }

    /// An entry is at least three of them.
    fn allocations(&self) -> usize {
        self.signs.allocations() + self.codes.allocations() + 5 + 3 * self.len()
    }

    fn buffers(&mut self, from: usize, visit: &mut dyn FnMut(&mut Vec<u8>) -> bool) -> Option<usize> {
        let rows = self.signs.buffers_mut().chain(self.codes.buffers_mut());
        let mut at = 0;
        for buffer in rows {
            at += 1;
            if at > from && !visit(buffer) {
                return Some(at);
            }
        }
        let first = from.saturating_sub(at);
        for entry in self.entries.iter_mut().skip(first) {
            at = at.max(from) + 1;
            if !entry.buffer(visit) {
                return Some(at);
            }
        }
        None
    }
}
