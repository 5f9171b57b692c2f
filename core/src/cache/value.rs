//! A cached value as it is stored: as it came, or packed.

use super::packed;
use crate::codec::{Corrupt, Reader, Writer};
use crate::memory::allocated_bytes;

/// The longest value in bytes: the longest argument that the server accepts by default.
pub const VALUE_BYTES_MAX: usize = 512 << 20;

/// The value.
#[derive(Debug, Clone)]
pub struct CachedValue {
    bytes: Box<[u8]>,
    /// The value's length if it is packed, else 0.
    unpacked_len: u32,
}

impl CachedValue {
    /// A value of any bytes. `pack_from_bytes` is the shortest value that is packed if that pays; with 0, none is.
    pub fn new(value: &[u8], pack_from_bytes: usize) -> Self {
        match packed(value, pack_from_bytes) {
            Some(packed) => Self { bytes: packed, unpacked_len: value.len() as u32 },
            None => Self { bytes: value.into(), unpacked_len: 0 },
        }
    }

    /// Becomes another value, in the same memory if it is stored in the same number of bytes.
    pub fn overwrite(&mut self, value: &[u8], pack_from_bytes: usize) {
        match packed(value, pack_from_bytes) {
            Some(packed) => *self = Self { bytes: packed, unpacked_len: value.len() as u32 },
            None => {
                match self.bytes.len() == value.len() {
                    true => self.bytes.copy_from_slice(value),
                    false => self.bytes = value.into(),
                }
                self.unpacked_len = 0;
            }
        }
    }

    /// The value's length in bytes.
    pub fn len(&self) -> usize {
        match self.unpacked_len {
            0 => self.bytes.len(),
            len => len as usize,
        }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes that the value is stored in.
    pub fn stored_len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of the value: as stored, and unpacked.
    pub fn sizes(&self) -> [u64; 2] {
        [self.stored_len() as u64, self.len() as u64]
    }

    /// The value. A packed one is unpacked into `room`.
    ///
    /// # Errors
    /// Never, since packed values are checked when they are loaded.
    pub fn get<'a>(&'a self, room: &'a mut Vec<u8>) -> Result<&'a [u8], Corrupt> {
        match self.unpacked_len {
            0 => Ok(&self.bytes),
            len => packed::unpack(&self.bytes, len as usize, room),
        }
    }

    /// The value, if it is not packed.
    pub fn plain(&self) -> Option<&[u8]> {
        (self.unpacked_len == 0).then_some(&self.bytes)
    }

    /// Writes the value as it is stored.
    pub fn save(&self, out: &mut dyn Writer) {
        out.uint(u64::from(self.unpacked_len));
        out.bytes(&self.bytes);
    }

    /// Writes the value as it came: nodes may differ in whether they pack.
    pub fn digest(&self, out: &mut dyn Writer) {
        if let Ok(value) = self.get(&mut Vec::new()) {
            out.bytes(value);
        }
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// If it is cut short, too long, or does not unpack.
    pub fn load(from: &mut dyn Reader) -> Result<Self, Corrupt> {
        let unpacked_len = from.uint_max(packed::PACKED_MAX as u64, "a packed value too long")? as u32;
        let bytes = from.bytes(VALUE_BYTES_MAX)?.into_boxed_slice();
        if unpacked_len > 0 {
            packed::unpack(&bytes, unpacked_len as usize, &mut Vec::new())?;
        }
        Ok(Self { bytes, unpacked_len })
    }

    /// Bytes allocated.
    pub fn memory_bytes(&self) -> usize {
        allocated_bytes(self.bytes.len())
    }

    /// Visits the value's memory, for defragmentation: a visitor may move it, and leaves the contents as they are. Returns
    /// whether to go on.
    pub fn buffer(&mut self, visit: &mut dyn FnMut(&mut Vec<u8>) -> bool) -> bool {
        let mut bytes = std::mem::take(&mut self.bytes).into_vec();
        let go_on = visit(&mut bytes);
        self.bytes = bytes.into_boxed_slice();
        go_on
    }
}

/// The packed value, if it is long enough to be packed and that pays.
fn packed(value: &[u8], from_bytes: usize) -> Option<Box<[u8]>> {
    let worth_it = from_bytes > 0 && value.len() >= from_bytes;
    worth_it.then(|| packed::pack(value)).flatten().map(Vec::into_boxed_slice)
}
