//! Bytes in buffers whose sizes an allocator does not round up.
//!
//! Pieces have up to 8 KB: larger buffers waste more (docs/src/internals/decisions.md, "Compressed bytes in pieces").

use crate::memory::{allocated_bytes, whole_bytes};

const PIECE_BYTES_MAX: usize = 8 * 1024;

/// The pieces, in order.
#[derive(Debug)]
pub(super) struct Pieces(Box<[Vec<u8>]>);

impl Pieces {
    pub fn of(mut bytes: &[u8]) -> Self {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(piece_bytes(bytes.len()));
            pieces.push(piece.to_vec());
            bytes = rest;
        }
        Self(pieces.into())
    }

    pub fn append_to(&self, out: &mut Vec<u8>) {
        out.reserve(self.0.iter().map(Vec::len).sum());
        self.0.iter().for_each(|piece| out.extend_from_slice(piece));
    }

    /// Bytes allocated.
    pub fn memory_bytes(&self) -> usize {
        let list = allocated_bytes(size_of_val(&*self.0));
        list + self.0.iter().map(|piece| allocated_bytes(piece.capacity())).sum::<usize>()
    }

    /// Allocations to free.
    pub fn allocations(&self) -> usize {
        1 + self.0.len()
    }

    pub fn buffers_mut(&mut self) -> impl Iterator<Item = &mut Vec<u8>> {
        self.0.iter_mut()
    }
}

/// How many of `len` bytes go into the next piece: all of them, if another piece for the rest would cost more than it
/// saves.
fn piece_bytes(len: usize) -> usize {
    let whole = whole_bytes(len).min(PIECE_BYTES_MAX);
    let apart = whole + allocated_bytes(len - whole) + size_of::<Vec<u8>>();
    match len > PIECE_BYTES_MAX || apart < allocated_bytes(len) {
        true => whole,
        false => len,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_bytes_and_little_more() {
        for len in (0..3_000).chain((3_000..600_000).step_by(997)) {
            let bytes: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            let pieces = Pieces::of(&bytes);
            let mut read = Vec::new();
            pieces.append_to(&mut read);
            assert_eq!(read, bytes);
            let bound = allocated_bytes(len).min(len + len / 25) + 160 + len / 200;
            assert!(pieces.memory_bytes() <= bound, "{len}: {}", pieces.memory_bytes());
        }
    }
}
