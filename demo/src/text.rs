//! Numbers in a readable form.

/// A number with separated thousands: `19,366`.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        let pairs = [(0, "0"), (999, "999"), (1_000, "1,000"), (19_366, "19,366"), (1_234_567, "1,234,567")];
        for (number, text) in pairs {
            assert_eq!(grouped(number), text);
        }
    }
}
