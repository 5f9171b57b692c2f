//! The response cache's rules: which category an entry is in, and how long it lives.

use std::collections::HashMap;

use crate::PERIOD_MAX_MS;

/// The longest name of a category in bytes.
pub const CATEGORY_BYTES_MAX: usize = 64;

/// The category of keys that name none, or a longer one than [`CATEGORY_BYTES_MAX`].
pub const DEFAULT_CATEGORY: &[u8] = b"default";

/// How long an entry lives where nothing else is configured: an hour.
pub const DEFAULT_TTL_MS: u64 = 3_600_000;

/// The longest time to live in seconds: 366 days.
pub const TTL_MAX_S: u64 = PERIOD_MAX_MS / 1_000;

/// The category of an entry that is set without one: the key's part before the first ':'.
pub fn category_of(key: &[u8]) -> &[u8] {
    match key.iter().take(CATEGORY_BYTES_MAX + 1).position(|&byte| byte == b':') {
        None | Some(0) => DEFAULT_CATEGORY,
        Some(end) => key.get(..end).unwrap_or(DEFAULT_CATEGORY),
    }
}

/// Times to live by category.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lifetimes(HashMap<Box<[u8]>, u64>);

impl Lifetimes {
    /// Reads `category=seconds` pairs with spaces between them, such as `models=3600 sessions=300`. The error says what is
    /// wrong and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lifetimes = HashMap::new();
        for pair in text.split_ascii_whitespace() {
            let (category, seconds) = pair.split_once('=').ok_or_else(|| format!("not category=seconds: {pair}"))?;
            if category.is_empty() || category.len() > CATEGORY_BYTES_MAX {
                return Err(format!("a category's name has 1 to {CATEGORY_BYTES_MAX} bytes: {pair}"));
            }
            let in_range = |seconds: &u64| (1..=TTL_MAX_S).contains(seconds);
            let seconds = seconds.parse().ok().filter(in_range);
            let seconds = seconds.ok_or_else(|| format!("not seconds from 1 to {TTL_MAX_S}: {pair}"))?;
            if lifetimes.insert(category.as_bytes().into(), seconds * 1_000).is_some() {
                return Err(format!("a category named twice: {category}"));
            }
        }
        Ok(Self(lifetimes))
    }

    /// The time to live in milliseconds of a category's entries.
    pub fn ttl_ms(&self, category: &[u8]) -> u64 {
        self.0.get(category).copied().unwrap_or(DEFAULT_TTL_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_in_the_category_before_its_first_colon() {
        for (key, category) in [
            ("models:gpt", "models"),
            ("llm_response:a:b", "llm_response"),
            ("plain", "default"),
            (":x", "default"),
            ("", "default"),
        ] {
            assert_eq!(category_of(key.as_bytes()), category.as_bytes(), "{key}");
        }
        let longest = [b'c'; CATEGORY_BYTES_MAX];
        assert_eq!(category_of(&[&longest[..], b":k"].concat()), longest);
        assert_eq!(category_of(&[&longest[..], b"c:k"].concat()), DEFAULT_CATEGORY);
    }

    #[test]
    fn lifetimes_are_read_and_checked() {
        let lifetimes = Lifetimes::parse(" models=3600  sessions=300 ").unwrap();
        assert_eq!(lifetimes.ttl_ms(b"sessions"), 300_000);
        assert_eq!(lifetimes.ttl_ms(b"other"), DEFAULT_TTL_MS);
        assert_eq!(Lifetimes::parse(""), Ok(Lifetimes::default()));
        for text in ["models", "models=", "=1", "models=0", "models=-1", "models=1.5", "models=31622401", "a=1 a=2"] {
            assert!(Lifetimes::parse(text).is_err(), "{text}");
        }
        assert!(Lifetimes::parse(&format!("{}=1", "c".repeat(65))).is_err());
    }
}
