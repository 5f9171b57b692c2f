//! What an ended admission took, in as few bytes as it needs.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use smallvec::SmallVec;

use super::taken::{Admission, Taken};
use crate::calendar::Day;
use crate::codec::{get_varint, put_varint, unzigzag, zigzag};
use crate::memory::allocated_bytes;
use crate::money::Amount;

/// With the tag and the length, 24 bytes.
const INLINE_BYTES_MAX: usize = 22;

const DAY_MS: i64 = 86_400_000;

/// An [`Admission`] as variable-length integers. Days and times are written as differences from a time that the caller
/// knows. Two policies' units and one estimate take some 19 bytes, which need no allocation.
#[derive(Debug, Clone)]
pub(super) enum Packed {
    Inline { len: u8, bytes: [u8; INLINE_BYTES_MAX] },
    Boxed(Box<[u8]>),
}

impl Default for Packed {
    fn default() -> Self {
        Packed::Inline { len: 0, bytes: [0; INLINE_BYTES_MAX] }
    }
}

impl Packed {
    /// Packs an admission whose lease ended at about `near_ms`.
    pub fn new(admission: &Admission, near_ms: i64) -> Self {
        let mut out = Vec::with_capacity(2 * INLINE_BYTES_MAX);
        put_varint(&mut out, zigzag(i64::from(admission.day.number()) - near_ms.div_euclid(DAY_MS)));
        put_varint(&mut out, admission.taken.len() as u64);
        let mut before_ms = near_ms;
        for taken in &admission.taken {
            put_varint(&mut out, taken.serial);
            put_varint(&mut out, taken.units);
            put_varint(&mut out, zigzag(taken.at_ms.wrapping_sub(before_ms)));
            before_ms = taken.at_ms;
        }
        for estimate in &admission.estimates {
            let [low, high] = halves(estimate.picos().cast_unsigned());
            put_varint(&mut out, high);
            put_varint(&mut out, low);
        }
        let mut bytes = [0; INLINE_BYTES_MAX];
        match (bytes.get_mut(..out.len()), u8::try_from(out.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(&out);
                Packed::Inline { len, bytes }
            }
            _ => Packed::Boxed(out.into_boxed_slice()),
        }
    }

    /// The admission; `None` if it was not packed with the same `near_ms`, and that shows.
    pub fn unpack(&self, near_ms: i64) -> Option<Admission> {
        let bytes = match self {
            Packed::Inline { len, bytes } => bytes.get(..usize::from(*len))?,
            Packed::Boxed(bytes) => bytes,
        };
        let mut at = 0;
        let day = unzigzag(get_varint(bytes, &mut at)?).checked_add(near_ms.div_euclid(DAY_MS))?;
        let day = Day::from_number(i32::try_from(day).ok()?)?;
        let (mut taken, mut before_ms) = (SmallVec::new(), near_ms);
        for _ in 0..get_varint(bytes, &mut at)? {
            let (serial, units) = (get_varint(bytes, &mut at)?, get_varint(bytes, &mut at)?);
            before_ms = before_ms.wrapping_add(unzigzag(get_varint(bytes, &mut at)?));
            taken.push(Taken { serial, units, at_ms: before_ms });
        }
        let mut estimates = SmallVec::new();
        while at < bytes.len() {
            let (high, low) = (get_varint(bytes, &mut at)?, get_varint(bytes, &mut at)?);
            let picos = (u128::from(high) << 64 | u128::from(low)).cast_signed();
            estimates.push(Amount::from_picos(picos)?);
        }
        Some(Admission { day, taken, estimates })
    }

    /// Whether it is an allocation of its own.
    pub fn is_boxed(&self) -> bool {
        matches!(self, Packed::Boxed(_))
    }

    /// Bytes that it has allocated.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Packed::Inline { .. } => 0,
            Packed::Boxed(bytes) => allocated_bytes(bytes.len()),
        }
    }
}

/// The low half and the high one.
fn halves(wide: u128) -> [u64; 2] {
    // Each cast keeps one half and drops the other.
    #[allow(clippy::cast_possible_truncation)]
    [wide as u64, (wide >> 64) as u64]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::bounds::{LEDGERS_MAX, POLICIES_MAX};
    use super::*;
    use crate::{TIME_MAX_MS, UNITS_MAX};

    /// Small numbers are as frequent as large ones.
    fn up_to(max: u64) -> impl Strategy<Value = u64> {
        (0..u64::BITS, any::<u64>()).prop_map(move |(shift, number)| (number >> shift).min(max))
    }

    prop_compose! {
        fn admissions()(
            day in Day::MIN.number()..=Day::MAX.number(),
            taken in prop::collection::vec((up_to(u64::MAX), up_to(UNITS_MAX + 1), -TIME_MAX_MS..=TIME_MAX_MS), 0..POLICIES_MAX),
            estimates in prop::collection::vec((0..100, 0..=Amount::MAX.picos()), 0..LEDGERS_MAX),
        ) -> Admission {
            let taken = taken.into_iter().map(|(serial, units, at_ms)| Taken { serial, units, at_ms });
            let estimates = estimates.into_iter().filter_map(|(shift, picos)| Amount::from_picos(picos >> shift));
            Admission { day: Day::from_number(day).unwrap(), taken: taken.collect(), estimates: estimates.collect() }
        }
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(admission in admissions(), near_ms in -TIME_MAX_MS..=TIME_MAX_MS) {
            prop_assert_eq!(Packed::new(&admission, near_ms).unpack(near_ms), Some(admission));
        }
    }

    #[test]
    fn it_takes_three_words() {
        assert_eq!(size_of::<Packed>(), 24);
    }
}
