//! A value's fields as bytes without tags, so that nearly any bytes are fields: what a mutation changes is then what a
//! loader reads, and not the form around it.

use gateway_core::codec::{Corrupt, Reader, Writer, get_varint, put_varint};

/// Reads fields: integers are varints (signed ones zigzag), byte strings their length and their bytes.
pub struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }
}

impl Reader for Fields<'_> {
    fn uint(&mut self) -> Result<u64, Corrupt> {
        get_varint(self.bytes, &mut self.at).ok_or(Corrupt("a broken integer"))
    }

    fn int(&mut self) -> Result<i64, Corrupt> {
        let zigzag = self.uint()?;
        Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }

    fn bytes(&mut self, max_len: usize) -> Result<Vec<u8>, Corrupt> {
        let len = usize::try_from(self.uint()?).ok().filter(|len| *len <= max_len);
        let end = len.and_then(|len| self.at.checked_add(len)).ok_or(Corrupt("a length out of bounds"))?;
        let bytes = self.bytes.get(self.at..end).ok_or(Corrupt("a byte string cut short"))?;
        self.at = end;
        Ok(bytes.to_vec())
    }
}

/// Writes what [`Fields`] reads.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Written(pub Vec<u8>);

impl Writer for Written {
    fn uint(&mut self, value: u64) {
        put_varint(&mut self.0, value);
    }

    fn int(&mut self, value: i64) {
        self.uint(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    fn bytes(&mut self, value: &[u8]) {
        self.uint(value.len() as u64);
        self.0.extend_from_slice(value);
    }
}
