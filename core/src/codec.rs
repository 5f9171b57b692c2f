//! How a value is written: the form that the RDB file, the rewritten AOF and the digest share.
//!
//! A type writes its fields to a [`Writer`] and reads them from a [`Reader`], whether those are the server's RDB stream, a
//! byte vector or a digest.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

/// The error of a saved value that cannot be loaded: cut short, out of bounds, or contradicting itself.
///
/// Says what is wrong, for the server's log. The client that sent it (`RESTORE`) gets the server's own
/// `ERR Bad data format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corrupt(pub &'static str);

impl std::fmt::Display for Corrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Corrupt {}

/// Takes a value's fields in a fixed order.
pub trait Writer {
    /// An unsigned integer.
    fn uint(&mut self, value: u64);
    /// A signed integer.
    fn int(&mut self, value: i64);
    /// A byte string.
    fn bytes(&mut self, value: &[u8]);

    /// A wide integer (money, exact bucket levels) as its high and low halves.
    fn int128(&mut self, value: i128) {
        // Each cast keeps one half and drops the other.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let (high, low) = ((value >> 64) as i64, value as u64);
        self.int(high);
        self.uint(low);
    }
}

/// Returns the fields in the order in which they were written. Every failure is [`Corrupt`], never a panic.
pub trait Reader {
    /// An unsigned integer.
    ///
    /// # Errors
    /// If there is none.
    fn uint(&mut self) -> Result<u64, Corrupt>;
    /// A signed integer.
    ///
    /// # Errors
    /// If there is none.
    fn int(&mut self) -> Result<i64, Corrupt>;
    /// A byte string of at most `max_len` bytes.
    ///
    /// # Errors
    /// If there is none, or a longer one.
    fn bytes(&mut self, max_len: usize) -> Result<Vec<u8>, Corrupt>;

    /// A wide integer.
    ///
    /// # Errors
    /// If there is none.
    fn int128(&mut self) -> Result<i128, Corrupt> {
        let high = self.int()?;
        let low = self.uint()?;
        Ok((i128::from(high) << 64) | i128::from(low))
    }

    /// An unsigned integer of at most `max`. `what` is the error if it is larger.
    ///
    /// # Errors
    /// If there is none, or a larger one.
    fn uint_max(&mut self, max: u64, what: &'static str) -> Result<u64, Corrupt> {
        match self.uint()? {
            value if value <= max => Ok(value),
            _ => Err(Corrupt(what)),
        }
    }

    /// A unix time in milliseconds, not negative and not beyond the year 9999. `what` is the error if it is.
    ///
    /// # Errors
    /// If there is none, or one out of range.
    fn time_ms(&mut self, what: &'static str) -> Result<i64, Corrupt> {
        match self.int()? {
            value if (0..=crate::TIME_MAX_MS).contains(&value) => Ok(value),
            _ => Err(Corrupt(what)),
        }
    }
}

/// Appends `value` as a LEB128 varint: seven bits a byte, low bits first, the high bit set on all but the last byte.
/// (<https://en.wikipedia.org/wiki/LEB128>)
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        // The low seven bits.
        #[allow(clippy::cast_possible_truncation)]
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    #[allow(clippy::cast_possible_truncation)]
    out.push(value as u8);
}

/// Reads a varint at `*at` and moves `*at` behind it. `None` if the bytes end early or do not fit 64 bits.
pub fn get_varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A signed integer as an unsigned one for a varint: small negatives stay short.
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// Turns [`zigzag`] back.
pub fn unzigzag(zigzag: u64) -> i64 {
    (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed()
}

/// A value written to memory: tagged fields, one after the other. For whole values in a rewritten AOF, and for tests.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Encoded(pub Vec<u8>);

const TAG_UINT: u8 = b'u';
const TAG_INT: u8 = b'i';
const TAG_BYTES: u8 = b'b';

impl Writer for Encoded {
    fn uint(&mut self, value: u64) {
        self.0.push(TAG_UINT);
        put_varint(&mut self.0, value);
    }

    fn int(&mut self, value: i64) {
        self.0.push(TAG_INT);
        put_varint(&mut self.0, zigzag(value));
    }

    fn bytes(&mut self, value: &[u8]) {
        self.0.push(TAG_BYTES);
        put_varint(&mut self.0, value.len() as u64);
        self.0.extend_from_slice(value);
    }
}

/// Reads what [`Encoded`] wrote.
#[derive(Debug)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Decoder<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Checks that everything was read: trailing bytes mean that the writer and the reader disagree.
    ///
    /// # Errors
    /// If there are trailing bytes.
    pub fn finish(&self) -> Result<(), Corrupt> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(Corrupt("trailing bytes")) }
    }

    fn field(&mut self, tag: u8) -> Result<u64, Corrupt> {
        if self.bytes.get(self.at) != Some(&tag) {
            return Err(Corrupt("a field of another kind, or none"));
        }
        self.at += 1;
        get_varint(self.bytes, &mut self.at).ok_or(Corrupt("a broken integer"))
    }
}

impl Reader for Decoder<'_> {
    fn uint(&mut self) -> Result<u64, Corrupt> {
        self.field(TAG_UINT)
    }

    fn int(&mut self) -> Result<i64, Corrupt> {
        self.field(TAG_INT).map(unzigzag)
    }

    fn bytes(&mut self, max_len: usize) -> Result<Vec<u8>, Corrupt> {
        let len = usize::try_from(self.field(TAG_BYTES)?).map_err(|_| Corrupt("a length out of bounds"))?;
        if len > max_len {
            return Err(Corrupt("a length out of bounds"));
        }
        let end = self.at.checked_add(len).ok_or(Corrupt("a length out of bounds"))?;
        let slice = self.bytes.get(self.at..end).ok_or(Corrupt("a byte string cut short"))?;
        self.at = end;
        Ok(slice.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn written_fields_are_read_back(uint: u64, int: i64, wide: i128, bytes: Vec<u8>) {
            let mut out = Encoded::default();
            out.uint(uint);
            out.int(int);
            out.int128(wide);
            out.bytes(&bytes);
            let mut reader = Decoder::new(&out.0);
            prop_assert_eq!(reader.uint(), Ok(uint));
            prop_assert_eq!(reader.int(), Ok(int));
            prop_assert_eq!(reader.int128(), Ok(wide));
            prop_assert_eq!(reader.bytes(bytes.len()), Ok(bytes));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let mut reader = Decoder::new(&bytes);
            while reader.bytes(16).is_ok() || reader.int().is_ok() || reader.uint().is_ok() {}
        }
    }

    #[test]
    fn a_varint_over_64_bits_is_refused() {
        let mut at = 0;
        assert_eq!(get_varint(&[0xff; 10], &mut at), None);
        let mut max = Vec::new();
        put_varint(&mut max, u64::MAX);
        at = 0;
        assert_eq!(get_varint(&max, &mut at), Some(u64::MAX));
    }
}
