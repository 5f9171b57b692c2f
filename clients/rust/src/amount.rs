use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

use redis::{RedisWrite, ToRedisArgs, ToSingleRedisArg};

/// Digits behind the point.
const PLACES: i64 = 12;
/// 1 in units of 10^-12.
const ONE: i128 = 10_i128.pow(PLACES as u32);
/// The largest amount that the server takes.
const MOST: i128 = 10_i128.pow(18) * ONE;
/// The most bytes of an amount's text.
const LONGEST: usize = 2048;

/// An amount of money or of any meter: an exact decimal with 12 places.
///
/// The server takes -10^18 to 10^18, and so does everything here that makes an amount. Sums and differences are exact, and may go
/// beyond; they panic only far outside of what a sum of amounts can be (above 1.7 · 10^26).
///
/// ```
/// use redis_gateway_client::Amount;
///
/// let price: Amount = "0.0000015".parse()?;
/// assert_eq!((price + price + Amount::from(2)).to_string(), "2.000003");
/// assert_eq!(Amount::try_from(0.1)?.to_string(), "0.1");
/// # Ok::<(), redis_gateway_client::AmountError>(())
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(i128);

/// Why a text or a number is no amount, in the words of the server's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AmountError {
    /// It has more than 2,048 bytes.
    Long,
    /// It is no decimal such as `-1.5e3`.
    Form,
    /// It is below -10^18 or above 10^18.
    Range,
}

impl fmt::Display for AmountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Long => "amount too long",
            Self::Form => "not an amount",
            Self::Range => "amount out of range",
        })
    }
}

impl std::error::Error for AmountError {}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The amount of so many units of 10^-12, if the server takes it.
    pub fn from_trillionths(units: i128) -> Result<Self, AmountError> {
        if (-MOST..=MOST).contains(&units) { Ok(Self(units)) } else { Err(AmountError::Range) }
    }

    /// The amount in units of 10^-12.
    pub fn trillionths(self) -> i128 {
        self.0
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The nearest float, for displays: sums of floats are not exact.
    pub fn to_f64(self) -> f64 {
        self.to_string().parse().unwrap_or(f64::NAN)
    }

    /// Reads what a server replies: a plain decimal, which may be a sum beyond what it takes as an amount.
    pub(crate) fn replied(text: &str) -> Option<Self> {
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let decimal = |text: &str| text.bytes().all(|letter| letter.is_ascii_digit());
        if whole.is_empty() || !decimal(whole) || !decimal(fraction) || fraction.len() > PLACES as usize {
            return None;
        }
        let units: i128 = format!("{whole}{fraction:0<12}").parse().ok()?;
        Some(Self(if negative { -units } else { units }))
    }
}

impl FromStr for Amount {
    type Err = AmountError;

    /// Takes what the server takes, and rounds as it does: half to even, to 12 places.
    fn from_str(text: &str) -> Result<Self, AmountError> {
        if text.len() > LONGEST {
            return Err(AmountError::Long);
        }
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let (number, power) = match unsigned.find(['e', 'E']) {
            Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
            None => (unsigned, None),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let decimal = |text: &str| text.bytes().all(|letter| letter.is_ascii_digit());
        if !decimal(whole) || !decimal(fraction) || whole.len() + fraction.len() == 0 {
            return Err(AmountError::Form);
        }
        let power = power.map_or(Ok(0), exponent)?;
        let digits = format!("{whole}{fraction}");
        let digits = digits.trim_start_matches('0');
        if digits.is_empty() {
            return Ok(Self::ZERO);
        }
        // The place of the first digit decides whether it is far out of range or far too small, before anything is computed.
        let last = power - fraction.len() as i64;
        let first = last + digits.len() as i64 - 1;
        if first < -PLACES - 2 {
            return Ok(Self::ZERO);
        }
        if first > 18 {
            return Err(AmountError::Range);
        }
        let units = rounded(digits.as_bytes(), last + PLACES);
        Self::from_trillionths(if negative { -units } else { units })
    }
}

/// The number that digits make with so many zeros appended, or, if `shift` is below 0, so many digits cut off: half to even.
fn rounded(digits: &[u8], shift: i64) -> i128 {
    let value = |digits: &[u8]| digits.iter().fold(0_i128, |sum, digit| sum * 10 + i128::from(digit - b'0'));
    if shift >= 0 {
        return value(digits) * 10_i128.pow(shift as u32);
    }
    let kept = (digits.len() as i64 + shift).max(0) as usize;
    let made = value(&digits[..kept]);
    // With more digits cut off than there are, the first of them is a 0.
    let cut = if digits.len() as i64 + shift < 0 { &b"0"[..] } else { &digits[kept..] };
    let half = cut[0].cmp(&b'5').then_with(|| if cut[1..].iter().all(|&digit| digit == b'0') { 0 } else { 1 }.cmp(&0));
    made + i128::from(half.is_gt() || half.is_eq() && made % 2 == 1)
}

/// The number behind the e. One too long for an integer is as good as a million.
fn exponent(text: &str) -> Result<i64, AmountError> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|letter| letter.is_ascii_digit()) {
        return Err(AmountError::Form);
    }
    let size = digits.parse().unwrap_or(1_000_000_i64).min(1_000_000);
    Ok(if negative { -size } else { size })
}

impl TryFrom<f64> for Amount {
    type Error = AmountError;

    /// The amount of the shortest text that reads as the same float, so 0.1 is 0.1.
    fn try_from(number: f64) -> Result<Self, AmountError> {
        format!("{number:e}").parse()
    }
}

impl TryFrom<f32> for Amount {
    type Error = AmountError;

    fn try_from(number: f32) -> Result<Self, AmountError> {
        format!("{number:e}").parse()
    }
}

impl TryFrom<i64> for Amount {
    type Error = AmountError;

    fn try_from(number: i64) -> Result<Self, AmountError> {
        Self::from_trillionths(i128::from(number) * ONE)
    }
}

impl TryFrom<u64> for Amount {
    type Error = AmountError;

    fn try_from(number: u64) -> Result<Self, AmountError> {
        Self::from_trillionths(i128::from(number) * ONE)
    }
}

impl TryFrom<&str> for Amount {
    type Error = AmountError;

    fn try_from(text: &str) -> Result<Self, AmountError> {
        text.parse()
    }
}

impl From<i32> for Amount {
    fn from(number: i32) -> Self {
        Self(i128::from(number) * ONE)
    }
}

impl From<u32> for Amount {
    fn from(number: u32) -> Self {
        Self(i128::from(number) * ONE)
    }
}

impl Add for Amount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.checked_add(other.0).expect("a sum of amounts"))
    }
}

impl Sub for Amount {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.checked_sub(other.0).expect("a difference of amounts"))
    }
}

impl Neg for Amount {
    type Output = Self;

    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Amount {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Amount {
    /// A plain decimal without zeros at its end, as the server writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.0.unsigned_abs();
        let (whole, fraction) = (size / ONE as u128, size % ONE as u128);
        let mut text = whole.to_string();
        if fraction > 0 {
            let digits = format!("{fraction:012}");
            text.push('.');
            text.push_str(digits.trim_end_matches('0'));
        }
        f.pad_integral(self.0 >= 0, "", &text)
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ToRedisArgs for Amount {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        out.write_arg(self.to_string().as_bytes());
    }
}

impl ToSingleRedisArg for Amount {}
