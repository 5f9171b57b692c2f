//! What a stored value is: how it is saved, loaded, compared and measured.
//!
//! A value is saved together with the version of its encoding. For a value that is a key of its own the server keeps that
//! version; a value inside another value carries it itself, see [`save_nested`].

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use crate::codec::{Corrupt, Reader, Writer};
use crate::memory::allocated_bytes;

/// A value that is stored under a key, or inside another such value.
pub trait Stored: Sized {
    /// The version of the encoding that [`save`](Self::save) writes: 0 to 1,023, the versions that an RDB file has room
    /// for.
    const ENCODING: u32;

    /// The oldest version that [`load`](Self::load) reads.
    const ENCODING_MIN: u32 = 0;

    /// Writes the value in version [`Self::ENCODING`].
    fn save(&self, out: &mut dyn Writer);

    /// Reads a value in version `encoding`, which is within [`Self::ENCODING_MIN`] and [`Self::ENCODING`]. Callers that
    /// have the version from outside use [`load_versioned`], which checks it.
    ///
    /// # Errors
    /// [`Corrupt`] if the fields are cut short, out of bounds or contradict each other.
    fn load(from: &mut dyn Reader, encoding: u32) -> Result<Self, Corrupt>;

    /// Writes what makes two values equal. Only needed if [`save`](Self::save) may differ for equal values.
    fn digest(&self, out: &mut dyn Writer) {
        self.save(out);
    }

    /// Bytes allocated behind the value itself.
    fn memory_bytes(&self) -> usize;

    /// Bytes that the value takes in all, if it is allocated on its own.
    fn total_bytes(&self) -> usize {
        allocated_bytes(size_of::<Self>()) + self.memory_bytes()
    }

    /// Allocations to free with the value, at least. The server frees a value with more than 64 in the background, so
    /// dropping a value may touch nothing shared but atomics.
    fn allocations(&self) -> usize {
        1
    }

    /// Visits the value's buffers from index `from` on, for defragmentation, until `visit` returns false. Returns the
    /// index to go on from, `None` at the end. A visitor may move a buffer; it leaves the contents as they are.
    fn buffers(&mut self, _from: usize, _visit: &mut dyn FnMut(&mut Vec<u8>) -> bool) -> Option<usize> {
        None
    }
}

/// Nothing, for containers whose values have no more to say.
impl Stored for () {
    const ENCODING: u32 = 0;

    fn save(&self, _out: &mut dyn Writer) {}

    fn load(_from: &mut dyn Reader, _encoding: u32) -> Result<Self, Corrupt> {
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

/// Reads a value in version `encoding`, if that is one that this code reads.
///
/// # Errors
/// [`Corrupt`] for an unknown version, and as [`Stored::load`].
pub fn load_versioned<T: Stored>(from: &mut dyn Reader, encoding: u32) -> Result<T, Corrupt> {
    if encoding > T::ENCODING {
        return Err(Corrupt("written by a newer version of this module; upgrade this server's"));
    }
    if encoding < T::ENCODING_MIN {
        return Err(Corrupt("written by an unreleased version of this module, in an encoding that has been replaced"));
    }
    T::load(from, encoding)
}

/// Saves a value inside another value, behind the version of its encoding. So a type's encoding can change without
/// changing that of every type that contains it.
pub fn save_nested<T: Stored>(value: &T, out: &mut dyn Writer) {
    out.uint(T::ENCODING.into());
    value.save(out);
}

/// Reads what [`save_nested`] wrote, in the version that it was saved with.
///
/// # Errors
/// As [`load_versioned`].
pub fn load_nested<T: Stored>(from: &mut dyn Reader) -> Result<T, Corrupt> {
    let encoding = u32::try_from(from.uint()?).unwrap_or(u32::MAX);
    load_versioned(from, encoding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Decoder, Encoded};

    /// Version 1 had no `second`.
    #[derive(Debug, PartialEq, Eq)]
    struct Pair {
        first: u64,
        second: u64,
    }

    impl Stored for Pair {
        const ENCODING: u32 = 2;
        const ENCODING_MIN: u32 = 1;

        fn save(&self, out: &mut dyn Writer) {
            out.uint(self.first);
            out.uint(self.second);
        }

        fn load(from: &mut dyn Reader, encoding: u32) -> Result<Self, Corrupt> {
            let first = from.uint()?;
            Ok(Self { first, second: if encoding < 2 { 0 } else { from.uint()? } })
        }

        fn memory_bytes(&self) -> usize {
            0
        }
    }

    #[test]
    fn a_nested_value_is_read_in_the_version_it_was_saved_with() {
        let load = |fields: &[u64]| {
            let mut out = Encoded::default();
            fields.iter().for_each(|&field| out.uint(field));
            load_nested::<Pair>(&mut Decoder::new(&out.0))
        };
        assert_eq!(load(&[2, 7, 8]), Ok(Pair { first: 7, second: 8 }));
        assert_eq!(load(&[1, 7]), Ok(Pair { first: 7, second: 0 }));
        for unknown in [0, 3, 1 << 32, (1 << 32) + 1, u64::MAX] {
            assert!(load(&[unknown, 7, 8]).is_err(), "{unknown}");
        }
        let mut out = Encoded::default();
        save_nested(&Pair { first: 7, second: 8 }, &mut out);
        assert_eq!(load_nested(&mut Decoder::new(&out.0)), Ok(Pair { first: 7, second: 8 }));
    }
}
