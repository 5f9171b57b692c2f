//! Rows of bytes, all of one length, in buffers that are small enough to be moved, and to grow, in microseconds.

use crate::memory::allocated_bytes;

const CHUNK_BYTES: usize = 64 * 1024;

/// The rows. One that is removed leaves its place to the last one.
#[derive(Debug)]
pub(super) struct Rows {
    row_bytes: usize,
    /// Rows in each buffer but the last.
    per_chunk: usize,
    chunks: Vec<Vec<u8>>,
}

impl Rows {
    /// No rows, for such of `row_bytes`, at least 1.
    pub fn new(row_bytes: usize) -> Self {
        Self { row_bytes, per_chunk: (CHUNK_BYTES / row_bytes).max(1), chunks: Vec::new() }
    }

    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    pub fn push(&mut self, row: &[u8]) {
        debug_assert_eq!(row.len(), self.row_bytes);
        let full = self.per_chunk * self.row_bytes;
        if self.chunks.last().is_none_or(|chunk| chunk.len() == full) {
            self.chunks.push(Vec::new());
        }
        if let Some(chunk) = self.chunks.last_mut() {
            if chunk.len() == chunk.capacity() {
                // Twice as long as before, but never longer than a full one.
                let len = (2 * chunk.len()).clamp(row.len(), full);
                chunk.reserve_exact(len - chunk.len());
            }
            chunk.extend_from_slice(row);
        }
    }

    pub fn get(&self, at: usize) -> &[u8] {
        let from = at % self.per_chunk * self.row_bytes;
        self.chunks
            .get(at / self.per_chunk)
            .and_then(|chunk| chunk.get(from..from + self.row_bytes))
            .unwrap_or_default()
    }

    pub fn set(&mut self, at: usize, row: &[u8]) {
        let from = at % self.per_chunk * self.row_bytes;
        let chunk = self.chunks.get_mut(at / self.per_chunk);
        if let Some(place) = chunk.and_then(|chunk| chunk.get_mut(from..from + self.row_bytes)) {
            place.copy_from_slice(row);
        }
    }

    pub fn swap_remove(&mut self, at: usize) {
        let Some(mut last) = self.chunks.pop() else { return };
        let row = last.split_off(last.len() - self.row_bytes);
        let was_last = at == self.chunks.len() * self.per_chunk + last.len() / self.row_bytes;
        if !last.is_empty() {
            self.chunks.push(last);
        }
        if !was_last {
            self.set(at, &row);
        }
    }

    /// The rows, several at a time.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.chunks.iter().map(Vec::as_slice)
    }

    pub fn buffers_mut(&mut self) -> impl Iterator<Item = &mut Vec<u8>> {
        self.chunks.iter_mut()
    }

    pub fn memory_bytes(&self) -> usize {
        let full = self.chunks.len().saturating_sub(1) * allocated_bytes(self.per_chunk * self.row_bytes);
        let last = self.chunks.last().map_or(0, |chunk| allocated_bytes(chunk.capacity()));
        allocated_bytes(self.chunks.capacity() * size_of::<Vec<u8>>()) + full + last
    }

    pub fn allocations(&self) -> usize {
        self.chunks.len() + 1
    }
}

impl Clone for Rows {
    /// Of a copy, too, no buffer is larger than it was.
    fn clone(&self) -> Self {
        let mut copy = Self::new(self.row_bytes);
        self.chunks.iter().for_each(|chunk| {
            let mut copied = Vec::with_capacity(chunk.capacity());
            copied.extend_from_slice(chunk);
            copy.chunks.push(copied);
        });
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_of_a_list() {
        for row_bytes in [8, 1_000, 40_000, 70_000] {
            let (mut rows, mut list) = (Rows::new(row_bytes), Vec::<Vec<u8>>::new());
            for step in 0..600_usize {
                let row = vec![step as u8; row_bytes];
                match step % 5 {
                    3 if !list.is_empty() => {
                        rows.swap_remove(step * 7 % list.len());
                        list.swap_remove(step * 7 % list.len());
                    }
                    4 if !list.is_empty() => {
                        rows.set(step * 3 % list.len(), &row);
                        let at = step * 3 % list.len();
                        list[at] = row;
                    }
                    _ => {
                        rows.push(&row);
                        list.push(row);
                    }
                }
                assert!((0..list.len()).all(|at| rows.get(at) == list[at]));
                if step > 500 {
                    let bytes = list.len() * row_bytes;
                    assert!(rows.memory_bytes() <= bytes + bytes / 4 + 2 * CHUNK_BYTES, "{}", rows.memory_bytes());
                }
            }
            assert!(rows.chunks().flatten().eq(list.iter().flatten()));
            assert!(rows.clone().chunks().eq(rows.chunks()));
            (0..list.len()).for_each(|_| rows.swap_remove(0));
            assert_eq!(rows.chunks().count(), 0);
        }
    }
}
