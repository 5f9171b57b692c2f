//! The client's own exact money, for comparison with the server's sums. It shares no code with the module, on purpose.

use anyhow::{Result, anyhow, ensure};
use std::fmt;
use std::iter::Sum;
use std::ops::Add;
use std::str::FromStr;

/// Decimal places of the currency that are counted.
const PLACES: usize = 12;
const PICOS_PER_UNIT: u128 = 1_000_000_000_000;

/// A non-negative amount of money, as a count of 1e-12 of the currency.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Picos(u128);

impl Picos {
    /// The price of `count` things that cost this much each.
    pub fn times(self, count: u64) -> Self {
        Self(self.0 * u128::from(count))
    }

    /// This percentage of the amount, rounded down. `percent` may be above 100.
    pub fn percent(self, percent: u64) -> Self {
        Self(self.0 * u128::from(percent) / 100)
    }

    /// The amount as a signed number.
    pub fn count(self) -> Result<i128> {
        i128::try_from(self.0).map_err(|_| anyhow!("amount out of range: {self}"))
    }
}

impl Add for Picos {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sum for Picos {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), Self::add)
    }
}

impl FromStr for Picos {
    type Err = anyhow::Error;

    /// Reads a plain decimal of at most twelve places, such as `12` or `0.0000025`, the form of the server's replies.
    fn from_str(text: &str) -> Result<Self> {
        let (units, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        ensure!(all_digits(units) && all_digits(fraction) && fraction.len() <= PLACES, "not an amount: {text}");
        let units: u128 = units.parse()?;
        let fraction: u128 = format!("{fraction:0<PLACES$}").parse()?;
        let picos = units.checked_mul(PICOS_PER_UNIT).and_then(|units| units.checked_add(fraction));
        picos.map(Self).ok_or_else(|| anyhow!("amount out of range: {text}"))
    }
}

impl fmt::Display for Picos {
    /// A plain decimal without trailing zeros, the form of the server's replies.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:0PLACES$}", self.0 / PICOS_PER_UNIT, self.0 % PICOS_PER_UNIT);
        f.pad(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl fmt::Debug for Picos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picos(text: &str) -> Picos {
        text.parse().unwrap()
    }

    #[test]
    fn decimals_read_and_write_alike() {
        for text in ["0", "1", "10", "0.0000025", "0.00001", "0.000000000001", "12.5", "340282366920938463463374607"] {
            assert_eq!(picos(text).to_string(), text);
        }
        assert_eq!(picos("1.500").to_string(), "1.5");
        assert_eq!(picos("00.10").to_string(), "0.1");
    }

    #[test]
    fn texts_other_than_exact_amounts_are_refused() {
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e-7", " 1", "1,5", "NaN", "0.0000000000001"] {
            assert!(text.parse::<Picos>().is_err(), "{text}");
        }
        assert!("340282366920938463463374608".parse::<Picos>().is_err());
    }

    /// A sum that binary floating point gets wrong.
    #[test]
    fn sums_are_exact() {
        let sum: Picos = std::iter::repeat_n(picos("0.0000015"), 100_000).sum();
        assert_eq!(sum.to_string(), "0.15");
        assert_eq!((picos("0.0000025").times(1_234_567) + picos("0.00001").times(3)).to_string(), "3.0864475");
    }

    #[test]
    fn parts_round_down() {
        assert_eq!(picos("0.000000000003").percent(50), picos("0.000000000001"));
        assert_eq!(picos("2").percent(250), picos("5"));
    }
}
