//! An index in pieces, as a rewritten AOF has it: none is long, whatever the size of the index. Each is saved as an index of
//! its own.

use super::entry::Group;
use super::index::Index;
use super::saved::{save_entry, save_head};
use crate::codec::{Corrupt, Decoder, Encoded, Reader as _, Writer};
use crate::stored::{Stored, load_versioned};

/// A piece ends with the entry that makes it longer than this, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

impl<G: Group> Index<G> {
    /// Writes the index in pieces; none if it has no entries.
    pub fn save_pieces(&self, write: &mut dyn FnMut(&Encoded)) {
        let mut row = 0;
        while row < self.len() {
            let (mut entries, mut count) = (Encoded::default(), 0);
            while row < self.len() && entries.0.len() < PIECE_BYTES {
                save_entry(self, row, &mut entries);
                (row, count) = (row + 1, count + 1);
            }
            let mut piece = Encoded::default();
            piece.uint(Self::ENCODING.into());
            save_head(self, &mut piece);
            piece.uint(count);
            piece.0.extend_from_slice(&entries.0);
            write(&piece);
        }
    }

    /// Reads a piece that [`Self::save_pieces`] wrote, as an index of its own, for [`Self::append`].
    ///
    /// # Errors
    /// If it is cut short, out of bounds, or contradicts itself.
    pub fn load_piece(payload: &[u8]) -> Result<Self, Corrupt> {
        let mut from = Decoder::new(payload);
        let encoding = u32::try_from(from.uint()?).unwrap_or(u32::MAX);
        let piece = load_versioned(&mut from, encoding)?;
        from.finish().map(|()| piece)
    }
}
