//! Integers in the strict form of the server's own commands.

/// Parses an integer as the server's own commands do: an optional minus and decimal digits, without leading zeros, plus
/// sign or spaces.
#[inline]
pub fn parse_int(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [] | [b'0', _, ..] => return None,
        [b'0'] if negative => return None,
        _ => {}
    }
    // Any 19 digits fit a u64.
    if digits.len() > 19 {
        return None;
    }
    let mut magnitude = 0u64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        magnitude = magnitude * 10 + u64::from(digit);
    }
    if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

#[cfg(test)]
mod tests {
    use super::parse_int;

    #[test]
    fn integers_are_strict() {
        for value in [0, 1, -1, 60_000, i64::MAX, i64::MIN] {
            assert_eq!(parse_int(value.to_string().as_bytes()), Some(value));
        }
        for text in
            ["", "-", "+1", " 1", "1 ", "01", "-0", "1.0", "1e3", "0x1", "9223372036854775808", "-9223372036854775809"]
        {
            assert_eq!(parse_int(text.as_bytes()), None, "{text}");
        }
    }
}
