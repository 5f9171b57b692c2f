//! Vectors as they come, as they are stored, and as they are compared.
//!
//! Each dimension of a stored vector is an integer from -127 to 127: the number in units of a 127th of the vector's
//! largest. The unit itself is not needed, because a cosine does not depend on a vector's length; what is kept in its place
//! is the length of the integers. A question's vector has integers from -4,095 to 4,095. So a similarity is that of two
//! vectors of integers, whose product is exact in 32 bits: every processor computes the same.

use super::bounds::DIMENSIONS_MAX;
use crate::codec::Corrupt;

/// The largest integer of a stored vector.
const CODE_MAX: f64 = 127.0;

/// The largest integer of a question's: with it, 4,096 products with codes add up to less than 2^31.
const QUERY_MAX: f64 = 4_095.0;

const _: () = assert!(CODE_MAX as i64 * QUERY_MAX as i64 * DIMENSIONS_MAX as i64 <= i32::MAX as i64);

/// The error of bytes that are not 1 to [`DIMENSIONS_MAX`] finite FP32 numbers, or that are all zero, which is no
/// direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAVector;

/// The numbers, and the largest of their absolute values.
fn numbers(fp32: &[u8]) -> Result<(impl ExactSizeIterator<Item = f64>, f64), NotAVector> {
    let (quads, []) = fp32.as_chunks::<4>() else { return Err(NotAVector) };
    if quads.len() > DIMENSIONS_MAX {
        return Err(NotAVector);
    }
    let numbers = quads.iter().map(|quad| f64::from(f32::from_le_bytes(*quad)));
    // `max` passes over what is not a number, so that is looked for on its own.
    let is_finite = numbers.clone().all(f64::is_finite);
    let largest = numbers.clone().map(f64::abs).fold(0.0, f64::max);
    if is_finite && largest > 0.0 { Ok((numbers, largest)) } else { Err(NotAVector) }
}

/// A vector as an index stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vector(Box<[u8]>);

impl Vector {
    /// The vector of little-endian FP32 numbers.
    ///
    /// # Errors
    /// If the bytes are not such numbers.
    pub fn from_fp32(fp32: &[u8]) -> Result<Self, NotAVector> {
        let (numbers, largest) = numbers(fp32)?;
        // From -127 to 127, so the casts drop nothing.
        Ok(Self(numbers.map(|number| ((number * (CODE_MAX / largest)).round() as i8).cast_unsigned()).collect()))
    }

    /// The vector of the integers of another one, as [`Self::codes`] returns them.
    ///
    /// # Errors
    /// If no vector has these.
    pub fn from_codes(codes: &[u8]) -> Result<Self, Corrupt> {
        let is_code = |&code: &u8| code.cast_signed() != i8::MIN;
        if codes.len() > DIMENSIONS_MAX || codes.iter().all(|&code| code == 0) || !codes.iter().all(is_code) {
            return Err(Corrupt("a vector that is none"));
        }
        Ok(Self(codes.into()))
    }

    /// The integers, in two's complement.
    pub fn codes(&self) -> &[u8] {
        &self.0
    }

    /// The number of dimensions.
    pub fn dimensions(&self) -> usize {
        self.0.len()
    }

    /// A bit for each dimension, padded to whole words of eight bytes: whether its integer is positive.
    pub(super) fn signs(&self) -> Vec<u8> {
        signs(self.0.iter().map(|code| code.cast_signed() > 0))
    }

    pub(super) fn inverse_length(&self) -> f32 {
        let squares: i64 = self.0.iter().map(|code| i64::from(code.cast_signed()).pow(2)).sum();
        // At most 2^26, which f64 holds exactly; the result is rounded once, everywhere alike.
        (1.0 / (squares as f64).sqrt()) as f32
    }
}

/// A question's vector.
#[derive(Debug, Clone)]
pub struct Query {
    pub(super) integers: Box<[i16]>,
    pub(super) signs: Vec<u8>,
    inverse_length: f64,
}

impl Query {
    /// The vector of little-endian FP32 numbers.
    ///
    /// # Errors
    /// If the bytes are not such numbers.
    pub fn from_fp32(fp32: &[u8]) -> Result<Self, NotAVector> {
        let (numbers, largest) = numbers(fp32)?;
        // From -4,095 to 4,095, so the casts drop nothing.
        let integers: Box<[i16]> = numbers.map(|number| (number * (QUERY_MAX / largest)).round() as i16).collect();
        let signs = signs(integers.iter().map(|&integer| integer > 0));
        // At most 2^36, which f64 holds exactly.
        let squares: i64 = integers.iter().map(|&integer| i64::from(integer).pow(2)).sum();
        Ok(Self { integers, signs, inverse_length: 1.0 / (squares as f64).sqrt() })
    }

    /// The number of dimensions.
    pub fn dimensions(&self) -> usize {
        self.integers.len()
    }

    /// The cosine of the angle with a stored vector, from the product of the integers.
    pub(super) fn cosine(&self, product: i32, inverse_length: f32) -> f64 {
        f64::from(product) * f64::from(inverse_length) * self.inverse_length
    }
}

/// The number of bytes of the bits of so many dimensions.
pub(super) fn sign_bytes(dimensions: usize) -> usize {
    dimensions.div_ceil(64) * 8
}

fn signs(positive: impl ExactSizeIterator<Item = bool>) -> Vec<u8> {
    let mut signs = vec![0; sign_bytes(positive.len())];
    for (at, positive) in positive.enumerate() {
        if let Some(byte) = signs.get_mut(at / 8) {
            *byte |= u8::from(positive) << (at % 8);
        }
    }
    signs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fp32(numbers: &[f32]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    #[test]
    fn only_finite_numbers_with_a_direction_are_vectors() {
        for numbers in
            [&[][..], &[0.0], &[0.0, -0.0], &[1.0, f32::NAN], &[1.0, f32::INFINITY], &[1.0; DIMENSIONS_MAX + 1]]
        {
            assert_eq!(Vector::from_fp32(&fp32(numbers)), Err(NotAVector));
            assert!(Query::from_fp32(&fp32(numbers)).is_err());
        }
        assert_eq!(Vector::from_fp32(&[1, 2, 3]), Err(NotAVector));
        // The smallest and the largest numbers, and the most dimensions.
        for numbers in [&[f32::from_bits(1)][..], &[f32::MAX, f32::MIN], &[1.0; DIMENSIONS_MAX]] {
            let vector = Vector::from_fp32(&fp32(numbers)).unwrap();
            assert_eq!(Vector::from_codes(vector.codes()), Ok(vector));
        }
    }

    #[test]
    fn codes_that_no_vector_has_are_corrupt() {
        for codes in [&[][..], &[0, 0], &[1, 0x80], &[1; DIMENSIONS_MAX + 1]] {
            assert!(Vector::from_codes(codes).is_err(), "{codes:?}");
        }
    }

    #[test]
    fn a_vector_is_its_direction() {
        let long = Vector::from_fp32(&fp32(&[300.0, -400.0, 0.0])).unwrap();
        assert_eq!(long, Vector::from_fp32(&fp32(&[3e-30, -4e-30, 0.0])).unwrap());
        assert_eq!(long.codes().iter().map(|code| code.cast_signed()).collect::<Vec<_>>(), [95, -127, 0]);
        assert_eq!(long.signs(), [1, 0, 0, 0, 0, 0, 0, 0]);
    }
}
