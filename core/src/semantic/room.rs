//! What an index removes to stay within its bounds, and what it sheds because nobody can find it any more.

use super::bounds::REMOVED_MAX;
use super::entry::Group;
use super::index::Index;

/// The bounds of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most entries.
    pub max_entries: usize,
    /// The most bytes: see [`Index::weight_bytes`].
    pub max_bytes: usize,
}

impl<G: Group> Index<G> {
    /// The bytes that count towards [`Limits::max_bytes`]: what the entries, their vectors and their rows take, without what
    /// buffers have in reserve.
    pub fn weight_bytes(&self) -> usize {
        self.entry_bytes() + self.len() * self.row_weight_bytes()
    }

    /// The bytes of a row in all lists, and in the table of ids.
    fn row_weight_bytes(&self) -> usize {
        const TABLE_BYTES: usize = 12;
        let lists = size_of::<f32>() + size_of::<i64>() + size_of::<u32>() + size_of::<usize>();
        self.signs.row_bytes() + self.codes.row_bytes() + lists + TABLE_BYTES
    }

    /// Up to [`REMOVED_MAX`] entries to be removed after the entry `kept` was set: those that have expired, and then those
    /// that were not used for longest until the bounds are kept. If an index is further
    /// above its bounds than that, because they were lowered or by one large value, later sets remove the rest. Those that were
    /// cleared are not looked for here: see [`Index::cleared`].
    pub fn to_remove(&self, now_ms: i64, kept: &[u8], limits: Limits) -> Vec<Box<[u8]>> {
        let Some(kept) = self.row_of(kept) else { return Vec::new() };
        let (mut entries, mut bytes) = (self.len(), self.weight_bytes());
        let is_out = |row: usize| row != kept && self.is_expired(row, now_ms);
        let mut rows: Vec<usize> = (0..entries).filter(|&row| is_out(row)).take(REMOVED_MAX).collect();
        for &row in &rows {
            entries -= 1;
            bytes -= self.row_bytes(row);
        }
        if entries > limits.max_entries || bytes > limits.max_bytes {
            for row in self.least_used(kept, &rows) {
                if rows.len() == REMOVED_MAX || (entries <= limits.max_entries && bytes <= limits.max_bytes) {
                    break;
                }
                entries -= 1;
                bytes -= self.row_bytes(row);
                rows.push(row);
            }
        }
        rows.into_iter().filter_map(|row| self.entries.get(row)).map(|entry| entry.id().into()).collect()
    }

    /// The entries of up to `rows` rows before `end` that were cleared, and the row to go on before, 0 at the end. From the
    /// last row to the first, an entry that is there all the time is met, whatever is set or removed meanwhile.
    pub fn cleared(&self, end: usize, rows: usize) -> (Vec<Box<[u8]>>, usize) {
        let end = end.min(self.len());
        let start = end.saturating_sub(rows);
        let met = self.entries.get(start..end).unwrap_or_default().iter();
        (met.filter(|entry| entry.is_cleared()).map(|entry| entry.id().into()).collect(), start)
    }

    /// The entries that were not used for longest, [`REMOVED_MAX`] of them if there are as many; the first is the next to
    /// go.
    fn least_used(&self, kept: usize, but: &[usize]) -> Vec<usize> {
        let rows = self.used.iter().map(|used| self.idle(used)).enumerate();
        let mut rows: Vec<(u32, usize)> = rows
            .filter(|(row, _)| *row != kept && !but.contains(row))
            .map(|(row, idle)| (u32::MAX - idle, row))
            .collect();
        if rows.len() > REMOVED_MAX {
            rows.select_nth_unstable(REMOVED_MAX);
            rows.truncate(REMOVED_MAX);
        }
        rows.sort_unstable();
        rows.into_iter().map(|(_, row)| row).collect()
    }

    /// The bytes that go with the entry of a row.
    fn row_bytes(&self, row: usize) -> usize {
        self.row_weight_bytes() + self.entries.get(row).map_or(0, |entry| entry.memory_bytes())
    }

    pub(super) fn is_expired(&self, row: usize, now_ms: i64) -> bool {
        self.expires_at_ms.get(row).is_none_or(|&at_ms| at_ms <= now_ms)
    }

    pub(super) fn is_cleared(&self, row: usize) -> bool {
        self.entries.get(row).is_none_or(|entry| entry.is_cleared())
    }
}
