//! Cosine similarity, on the one scale that arguments, replies and encodings share.

use crate::money::{Amount, AmountText};

/// A cosine similarity from -1 to 1, in millionths: 1 for vectors of the same direction. It is compared as it is shown, so
/// that an entry is served exactly if the similarity that is replied is not below the threshold that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Similarity(i32);

const ONE: i32 = 1_000_000;

/// A millionth in the unit of [`Amount::picos`].
const PICOS: i128 = 1_000_000;

impl Similarity {
    /// That of opposite vectors.
    pub const MIN: Self = Self(-ONE);

    /// That of vectors of the same direction.
    pub const MAX: Self = Self(ONE);

    /// The threshold of an index that has none of its own, if a call names none, either. It is high, because a wrong answer
    /// costs more than a call of the model: see docs/src/guides/semantic-cache.md.
    pub const DEFAULT_THRESHOLD: Self = Self(900_000);

    /// The similarity of so many millionths; `None` outside of -1 to 1.
    pub fn from_millionths(millionths: i64) -> Option<Self> {
        i32::try_from(millionths).ok().map(Self).filter(|similarity| (Self::MIN..=Self::MAX).contains(similarity))
    }

    /// The similarity that a decimal gives; `None` outside of -1 to 1, or with more than six decimal places.
    pub fn from_amount(amount: Amount) -> Option<Self> {
        let picos = amount.picos();
        i64::try_from(picos / PICOS).ok().filter(|_| picos % PICOS == 0).and_then(Self::from_millionths)
    }

    /// The nearest similarity to a number that rounding may have moved out of range.
    pub(super) fn nearest(cosine: f64) -> Self {
        // Clamped, so the cast only drops the fraction.
        Self((cosine.clamp(-1.0, 1.0) * f64::from(ONE)).round() as i32)
    }

    /// The similarity in millionths.
    pub fn millionths(self) -> i64 {
        self.0.into()
    }

    /// A plain decimal, such as `0.934512`.
    pub fn to_text(self) -> AmountText {
        Amount::from_picos(i128::from(self.0) * PICOS).unwrap_or(Amount::ZERO).to_text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_of_six_places_are_similarities() {
        for (text, millionths) in
            [("1", 1_000_000), ("-1", -1_000_000), ("0.9", 900_000), ("-0.000001", -1), ("0.123456", 123_456), ("0", 0)]
        {
            let similarity = Similarity::from_amount(Amount::parse(text.as_bytes()).unwrap()).unwrap();
            assert_eq!((similarity.millionths(), similarity.to_text().as_bytes()), (millionths, text.as_bytes()));
        }
        for text in ["1.000001", "-1.1", "0.1234567", "1000000000000"] {
            assert_eq!(Similarity::from_amount(Amount::parse(text.as_bytes()).unwrap()), None, "{text}");
        }
        assert_eq!(Similarity::nearest(1.000_001), Similarity::MAX);
        assert_eq!(Similarity::nearest(0.123_456_7), Similarity(123_457));
    }
}
