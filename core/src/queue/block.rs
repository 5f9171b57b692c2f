//! A block: consecutive records in one buffer.

use crate::codec::{get_varint, put_varint};
use crate::memory::allocated_bytes;

/// The most a block of several records holds, in bytes of its buffer. Large enough that allocations and bookkeeping
/// vanish beside the records, small enough to be moved, written or freed in one go.
pub(super) const BLOCK_BYTES: usize = 64 * 1024;

/// Records one after the other, each behind its length as a varint. Appended at the end, taken from the front.
#[derive(Debug, Clone, Default)]
pub(super) struct Block {
    buffer: Vec<u8>,
    /// Where in the buffer the oldest record still here begins.
    start: usize,
    /// Records still here.
    len: u64,
    /// Their own bytes, without the lengths.
    bytes: u64,
}

impl Block {
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The records still here, each behind its length: what [`read_record`] reads.
    pub fn encoded(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    pub fn buffer(&self) -> &Vec<u8> {
        &self.buffer
    }

    /// For moving the buffer to another address; its contents are the block's.
    pub fn buffer_mut(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Does a record of that length still belong in here? A long one that has the block to itself fills it.
    pub fn has_room(&self, record_len: usize) -> bool {
        self.buffer.is_empty() || self.buffer.len() + encoded_len(record_len) <= BLOCK_BYTES
    }

    /// Appends a record the block has room for. A buffer that must grow doubles, but reserves `spacious_bytes` at once.
    pub fn push(&mut self, record: &[u8], spacious_bytes: usize) {
        self.reserve(encoded_len(record.len()), spacious_bytes);
        put_varint(&mut self.buffer, record.len() as u64);
        self.buffer.extend_from_slice(record);
        self.len += 1;
        self.bytes += record.len() as u64;
    }

    fn reserve(&mut self, more: usize, spacious_bytes: usize) {
        if self.buffer.len() + more <= self.buffer.capacity() {
            return;
        }
        // Moving what is left to the front costs less than was popped before it, so a short queue that is pushed to and
        // popped from for ever stays in a small buffer.
        if self.start >= self.buffer.len().div_ceil(2) {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let needed = self.buffer.len() + more;
        if needed > self.buffer.capacity() {
            let generous = needed.max(2 * self.buffer.capacity()).max(spacious_bytes);
            let capacity = allocated_bytes(generous).min(BLOCK_BYTES).max(needed);
            self.buffer.reserve_exact(capacity - self.buffer.len());
        }
    }

    /// Gives back what the buffer has too much, where the allocator can use it: nothing more will be appended.
    pub fn close(&mut self) {
        if allocated_bytes(self.buffer.len()) < allocated_bytes(self.buffer.capacity()) {
            self.buffer.shrink_to_fit();
        }
    }

    /// Removes the oldest `count` records, or all; returns their bytes.
    pub fn skip(&mut self, count: u64) -> u64 {
        let mut at = self.start;
        let mut skipped_bytes = 0;
        for _ in 0..count {
            let Some(record) = read_record(&self.buffer, &mut at) else { break };
            skipped_bytes += record.len() as u64;
            self.len -= 1;
        }
        self.start = at;
        self.bytes -= skipped_bytes;
        skipped_bytes
    }

    /// How many of the oldest records it takes to hold at least `bytes`; all where that is not enough.
    pub fn oldest_holding(&self, bytes: u64) -> u64 {
        let (mut at, mut count, mut held) = (self.start, 0, 0);
        while held < bytes {
            let Some(record) = read_record(&self.buffer, &mut at) else { break };
            held += record.len() as u64;
            count += 1;
        }
        count
    }
}

/// Reads the record that begins at `*at` and moves `*at` behind it. `None`, and `*at` means nothing, where there is no
/// whole record.
pub(super) fn read_record<'a>(encoded: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let len = usize::try_from(get_varint(encoded, at)?).ok()?;
    let end = at.checked_add(len)?;
    let record = encoded.get(*at..end)?;
    *at = end;
    Some(record)
}

/// A record's bytes and those of its length.
fn encoded_len(record_len: usize) -> usize {
    let bits = usize::BITS - record_len.leading_zeros();
    record_len + bits.div_ceil(7).max(1) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoded_length_is_foretold() {
        for len in (0..300).chain([16_383, 16_384, 65_532, 65_533, 2_097_151, 2_097_152]) {
            let mut block = Block::default();
            block.push(&vec![7; len], 0);
            assert_eq!(block.encoded().len(), encoded_len(len), "{len}");
        }
    }

    #[test]
    fn a_block_is_full_at_its_last_byte() {
        let mut block = Block::default();
        block.push(&[7; 30_000], 0);
        let rest = BLOCK_BYTES - block.encoded().len();
        assert!(block.has_room(rest - 3) && !block.has_room(rest - 2));
        block.push(&vec![7; rest - 3], 0);
        assert_eq!((block.buffer.len(), block.buffer.capacity()), (BLOCK_BYTES, BLOCK_BYTES));
        assert!(!block.has_room(0));
    }

    #[test]
    fn popped_bytes_are_reused_before_the_buffer_grows() {
        let mut block = Block::default();
        block.push(&[7; 100], 0);
        for round in 0..10_000u64 {
            block.push(&round.to_le_bytes(), 0);
            block.skip(1);
        }
        assert_eq!(read_record(block.encoded(), &mut 0), Some(9_999u64.to_le_bytes().as_slice()));
        assert!(block.buffer.capacity() <= 256, "{}", block.buffer.capacity());
    }
}
