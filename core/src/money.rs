//! Exact money: amounts are integer counts of 1e-12 of the account's currency, which hold every published price per token
//! without rounding. Sums of such counts do not drift, whatever their order or number.

use std::fmt;

/// Decimal places kept: one unit of the currency is 10^12 picos.
const PLACES: usize = 12;
const PICOS_PER_UNIT: u64 = 1_000_000_000_000;

/// The longest text that is parsed as an amount, in bytes. The longest double, written out in full, has 1,079.
pub const TEXT_MAX_BYTES: usize = 2_048;

/// An amount of money, as a count of picos (1e-12) of the account's currency.
///
/// Amounts that are parsed, loaded or added up with [`checked_add`](Amount::checked_add) lie within [`Amount::MAX`] of zero.
/// An `i128` holds 10^8 such amounts: differences and short sums of them are exact, too, even outside that range.
///
/// Aligned to 8 bytes like everything that it is stored with: the 16 of an `i128` would add half as much to a policy in
/// padding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(Rust, packed(8))]
pub struct Amount(i128);

/// Why a text is not an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AmountError {
    /// Not a decimal number. NaN and infinities are not, either.
    NotANumber,
    /// Further from zero than [`Amount::MAX`].
    OutOfRange,
    /// Longer than [`TEXT_MAX_BYTES`].
    TooLong,
}

impl fmt::Display for AmountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AmountError::NotANumber => "not an amount",
            AmountError::OutOfRange => "amount out of range",
            AmountError::TooLong => "amount too long",
        })
    }
}

impl std::error::Error for AmountError {}

impl Amount {
    /// Nothing.
    pub const ZERO: Amount = Amount(0);
    /// One unit of the currency.
    pub const ONE: Amount = Amount(PICOS_PER_UNIT as i128);

    /// The largest amount: 10^18 units of the currency.
    pub const MAX: Amount = Amount(10i128.pow(18) * PICOS_PER_UNIT as i128);

    /// The amount of a count of picos; `None` if it is further from zero than [`Amount::MAX`].
    pub fn from_picos(picos: i128) -> Option<Amount> {
        (picos.unsigned_abs() <= Self::MAX.0.unsigned_abs()).then_some(Amount(picos))
    }

    /// The amount of a count of billionths (1e-9).
    pub const fn from_billionths(count: u64) -> Amount {
        Amount(count as i128 * 1_000)
    }

    /// The count of picos.
    pub const fn picos(self) -> i128 {
        self.0
    }

    /// Parses a decimal: an optional sign, digits with an optional point (before, between or after them), and an optional
    /// exponent: `0.002`, `.5`, `5.`, `+1`, `1.5e-07`. Places beyond the twelfth are rounded half to even, once, as a
    /// whole.
    /// Spaces, underscores and hexadecimals are not accepted. Takes time linear in the text's length.
    ///
    /// # Errors
    /// If the text is not such a decimal, too long, or out of range.
    pub fn parse(text: &[u8]) -> Result<Amount, AmountError> {
        if text.len() > TEXT_MAX_BYTES {
            return Err(AmountError::TooLong);
        }
        let (negative, number) = split_sign(text);
        let picos = match parse_short(number) {
            Some(picos) => picos,
            None => parse_any(number)?,
        };
        Ok(Amount(if negative { -picos } else { picos }))
    }

    /// The sum; `None` if it is further from zero than [`Amount::MAX`].
    pub fn checked_add(self, other: Amount) -> Option<Amount> {
        self.0.checked_add(other.0).and_then(Self::from_picos)
    }

    /// The difference; `None` if it is further from zero than [`Amount::MAX`].
    pub fn checked_sub(self, other: Amount) -> Option<Amount> {
        self.0.checked_sub(other.0).and_then(Self::from_picos)
    }

    /// Exact unless it leaves an `i128`: see [`Amount`].
    pub fn saturating_add(self, other: Amount) -> Amount {
        Amount(self.0.saturating_add(other.0))
    }

    /// Exact unless it leaves an `i128`: see [`Amount`].
    pub fn saturating_sub(self, other: Amount) -> Amount {
        Amount(self.0.saturating_sub(other.0))
    }

    /// The amount as a plain decimal, on the stack: no exponent, no zeros after the last place, never `-0`.
    pub fn to_text(self) -> AmountText {
        let picos = self.0.unsigned_abs();
        // A 128-bit division costs many times a 64-bit one, and few amounts need it.
        let (units, fraction) = match u64::try_from(picos) {
            Ok(picos) => (u128::from(picos / PICOS_PER_UNIT), picos % PICOS_PER_UNIT),
            Err(_) => (picos / u128::from(PICOS_PER_UNIT), (picos % u128::from(PICOS_PER_UNIT)) as u64),
        };
        let mut text = AmountText { bytes: [b'0'; AMOUNT_TEXT_BYTES], start: POINT, end: POINT };
        if fraction != 0 {
            text.set_places(fraction);
        }
        match u64::try_from(units) {
            Ok(units) => text.push_digits(units, 1),
            Err(_) => {
                let low = 10u128.pow(18);
                text.push_digits((units % low) as u64, 18);
                text.push_digits((units / low) as u64, 1);
            }
        }
        if self.0 < 0 {
            text.push(b'-');
        }
        text
    }

    /// Appends [`to_text`](Amount::to_text).
    pub fn write_to(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.to_text().as_bytes());
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(self.to_text().as_bytes()).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The sign, 27 digits (`i128::MIN` has 39 digits, 12 of them places), the point and the places; rounded up.
const AMOUNT_TEXT_BYTES: usize = 48;

/// The index of the point.
const POINT: usize = AMOUNT_TEXT_BYTES - PLACES - 1;

/// An amount written out, without an allocation: a reply is sent from it.
#[derive(Debug, Clone)]
pub struct AmountText {
    /// Units to the left of [`POINT`], written from right to left; places to its right. Unused bytes are '0'.
    bytes: [u8; AMOUNT_TEXT_BYTES],
    start: usize,
    end: usize,
}

impl AmountText {
    /// The text, in ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    fn push(&mut self, byte: u8) {
        self.start -= 1;
        self.bytes[self.start] = byte;
    }

    /// `value` with at least `width` digits.
    fn push_digits(&mut self, mut value: u64, width: usize) {
        let widest = self.start - width;
        while value != 0 {
            self.push(b'0' + (value % 10) as u8);
            value /= 10;
        }
        self.start = self.start.min(widest);
    }

    /// The point, and the picos of a fraction that is not zero.
    fn set_places(&mut self, mut picos: u64) {
        self.bytes[POINT] = b'.';
        for pair in self.bytes[POINT + 1..].rchunks_exact_mut(2) {
            pair.copy_from_slice(&PAIRS[(picos % 100) as usize]);
            picos /= 100;
        }
        self.end = AMOUNT_TEXT_BYTES;
        while self.bytes[self.end - 1] == b'0' {
            self.end -= 1;
        }
    }
}

/// "00" to "99": one division gives two digits.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut value = 0;
    while value < pairs.len() {
        pairs[value] = [b'0' + (value / 10) as u8, b'0' + (value % 10) as u8];
        value += 1;
    }
    pairs
};

fn split_sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

/// The fast path, for nearly every request: at most eighteen digits, twelve of them places, no exponent. `None` for any
/// other text, valid or not.
fn parse_short(number: &[u8]) -> Option<i128> {
    const SCALE: [u64; PLACES + 1] = {
        let mut scale = [PICOS_PER_UNIT; PLACES + 1];
        let mut places = 1;
        while places <= PLACES {
            scale[places] = scale[places - 1] / 10;
            places += 1;
        }
        scale
    };
    if number.len() > 19 {
        return None;
    }
    let mut value = 0u64;
    let mut point = None;
    for (at, &byte) in number.iter().enumerate() {
        match byte {
            b'0'..=b'9' => value = value * 10 + u64::from(byte - b'0'),
            b'.' if point.is_none() => point = Some(at),
            _ => return None,
        }
    }
    let digits = number.len() - usize::from(point.is_some());
    if !(1..=18).contains(&digits) {
        return None;
    }
    let places = point.map_or(0, |at| number.len() - at - 1);
    let scale = *SCALE.get(places)?;
    Some(i128::from(value) * i128::from(scale))
}

/// Parses any unsigned decimal.
fn parse_any(number: &[u8]) -> Result<i128, AmountError> {
    let (mantissa, exponent) = match number.iter().position(|&byte| byte == b'e' || byte == b'E') {
        Some(at) => (&number[..at], parse_exponent(&number[at + 1..])?),
        None => (number, 0),
    };
    let (whole, fraction) = match mantissa.iter().position(|&byte| byte == b'.') {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, &[][..]),
    };
    let digits = || whole.iter().chain(fraction);
    if whole.is_empty() && fraction.is_empty() || !digits().all(u8::is_ascii_digit) {
        return Err(AmountError::NotANumber);
    }

    // How many digits, from the first on, are worth a pico or more. The others are rounded.
    let kept = whole.len() as i64 + exponent + PLACES as i64;
    let mut picos = 0u128;
    let mut first_dropped = 0;
    let mut dropped_behind_it = false;
    let mut at = 0i64;
    for &byte in digits() {
        let digit = byte - b'0';
        if at < kept {
            picos = times_ten(picos)? + u128::from(digit);
        } else if at == kept {
            first_dropped = digit;
        } else {
            dropped_behind_it |= digit != 0;
        }
        at += 1;
    }
    while at < kept && picos != 0 {
        picos = times_ten(picos)?;
        at += 1;
    }
    if first_dropped > 5 || first_dropped == 5 && (dropped_behind_it || picos % 2 == 1) {
        picos += 1;
    }
    i128::try_from(picos).ok().filter(|&picos| picos <= Amount::MAX.0).ok_or(AmountError::OutOfRange)
}

fn times_ten(picos: u128) -> Result<u128, AmountError> {
    if picos > Amount::MAX.0.unsigned_abs() {
        return Err(AmountError::OutOfRange);
    }
    Ok(picos * 10)
}

/// A signed exponent, limited to ±10^9: beyond that, no text of [`TEXT_MAX_BYTES`] brings a number other than zero back
/// into the range, or up to a pico.
fn parse_exponent(text: &[u8]) -> Result<i64, AmountError> {
    let (negative, digits) = split_sign(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(AmountError::NotANumber);
    }
    let value = digits.iter().fold(0, |value: i64, &byte| (value * 10 + i64::from(byte - b'0')).min(1_000_000_000));
    Ok(if negative { -value } else { value })
}

#[cfg(test)]
#[path = "money_tests.rs"]
mod tests;
