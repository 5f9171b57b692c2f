//! Cheap checks of a question's words against those of the entry that is nearest to it. Embeddings hardly tell "can I" from
//! "can't I", or 10 from 100; words do.

/// Which words have to agree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Guards {
    /// The numbers, in the order in which they stand.
    pub digits: bool,
    /// Whether the number of negations is odd. The words are English.
    pub negation: bool,
}

/// Negations, in lower case, without apostrophes. Words that end in `n't`, with any apostrophe or none, are found by their
/// ending or stand here.
const NEGATIONS: [&[u8]; 22] = [
    b"no",
    b"not",
    b"never",
    b"none",
    b"nobody",
    b"nothing",
    b"nowhere",
    b"neither",
    b"nor",
    b"cannot",
    b"without",
    b"cant",
    b"wont",
    b"dont",
    b"doesnt",
    b"didnt",
    b"isnt",
    b"arent",
    b"wasnt",
    b"couldnt",
    b"shouldnt",
    b"wouldnt",
];

impl Guards {
    /// Whether two questions agree in what is guarded. A question that is empty is not known, and agrees with none.
    pub fn agree(self, one: &[u8], other: &[u8]) -> bool {
        if self == Self::default() {
            return true;
        }
        let is_known = !one.is_empty() && !other.is_empty();
        is_known
            && (!self.digits || numbers(one).eq(numbers(other)))
            && (!self.negation || is_negative(one) == is_negative(other))
    }
}

/// The numbers of a text: digits with points and commas between them. Commas, which group digits, are left out.
fn numbers(text: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    text.split(|byte| !byte.is_ascii_digit() && !b".,".contains(byte))
        .map(|number| {
            let end = number.iter().rposition(u8::is_ascii_digit).map_or(0, |at| at + 1);
            let number = number.get(..end).unwrap_or_default();
            number.iter().copied().filter(|&byte| byte != b',').collect::<Vec<u8>>()
        })
        .filter(|number| number.iter().any(u8::is_ascii_digit))
}

fn is_negative(text: &[u8]) -> bool {
    words(text).filter(|word| NEGATIONS.contains(&word.as_slice()) || word.ends_with(b"n't")).count() % 2 == 1
}

/// The words of a text in lower case, with apostrophes as `'`.
fn words(text: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    // The apostrophe that text processors write, U+2019.
    const CURLY: &[u8] = "\u{2019}".as_bytes();
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut word = Vec::new();
        loop {
            if let Some(after) = rest.strip_prefix(CURLY) {
                word.push(b'\'');
                rest = after;
                continue;
            }
            let Some((&byte, after)) = rest.split_first() else { break };
            // Letters of other scripts than Latin are parts of words, too.
            let is_part = byte.is_ascii_alphanumeric() || byte == b'\'' || !byte.is_ascii();
            if !is_part && !word.is_empty() {
                break;
            }
            rest = after;
            if is_part {
                word.push(byte.to_ascii_lowercase());
            }
        }
        (!word.is_empty()).then_some(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_to_be_the_same() {
        let agree =
            |one: &str, other: &str| Guards { digits: true, negation: false }.agree(one.as_bytes(), other.as_bytes());
        assert!(agree("Send 1,000.50 to A1.", "send 1000.50 to a1") && agree("no numbers", "none here"));
        for (one, other) in
            [("pay 10", "pay 100"), ("pay 10", "pay"), ("2 of 3", "3 of 2"), ("v1.2", "v1.3"), ("1.2", "12")]
        {
            assert!(!agree(one, other) && !agree(other, one), "{one} {other}");
        }
        // What is not known agrees with nothing.
        assert!(!agree("", "") && !agree("a question", ""));
    }

    #[test]
    fn negations_have_to_be_the_same() {
        let agree =
            |one: &str, other: &str| Guards { digits: false, negation: true }.agree(one.as_bytes(), other.as_bytes());
        for (one, other) in [
            ("Can I cancel?", "How do I cancel"),
            ("I can't log in", "I cannot log in"),
            ("it DOESN\u{2019}T work", "It does not work 2"),
            ("not without a card", "with a card"),
        ] {
            assert!(agree(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("Is it safe?", "Is it not safe?"),
            ("Why does it work", "why doesn't it work"),
            ("I dont agree", "I agree"),
            ("mustn't", "must"),
            ("with sugar", "without sugar"),
        ] {
            assert!(!agree(one, other) && !agree(other, one), "{one} {other}");
        }
        assert!(Guards::default().agree(b"", b"not 1"));
    }
}
