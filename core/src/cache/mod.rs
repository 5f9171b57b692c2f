//! The response cache's rules: which category an entry is in, how long it is fresh and how long it is served.

pub mod clears;
mod dictionary;
pub mod flight;
pub mod marks;
pub mod packed;
mod packer;
mod value;

use std::collections::HashMap;

use crate::{PERIOD_MAX_MS, TIME_MAX_MS};

pub use value::{CachedValue, VALUE_BYTES_MAX};

/// The longest name of a category in bytes.
pub const CATEGORY_BYTES_MAX: usize = 64;

/// The category of keys that name none, or one that is longer than [`CATEGORY_BYTES_MAX`].
pub const DEFAULT_CATEGORY: &[u8] = b"default";

/// How long an entry lives by default, in milliseconds: an hour.
pub const DEFAULT_TTL_MS: u64 = 3_600_000;

/// The longest time to live, and to be served stale, in seconds: 366 days.
pub const TTL_MAX_S: u64 = PERIOD_MAX_MS / 1_000;

/// Each name once, in the order in which they come first.
pub fn without_repeats(names: &mut Vec<&[u8]>) {
    let mut kept: Vec<&[u8]> = Vec::with_capacity(names.len());
    names.retain(|name| {
        let is_new = !kept.contains(name);
        if is_new {
            kept.push(name);
        }
        is_new
    });
}

/// The longest tag in bytes.
pub const TAG_BYTES_MAX: usize = 256;
/// The most tags of an entry.
pub const TAGS_MAX: usize = 16;

/// The category of an entry that is set without one: the key's part before the first ':'.
pub fn category_of(key: &[u8]) -> &[u8] {
    let head = key.get(..=CATEGORY_BYTES_MAX).unwrap_or(key);
    match head.iter().position(|&byte| byte == b':') {
        None | Some(0) => DEFAULT_CATEGORY,
        Some(end) => head.get(..end).unwrap_or(DEFAULT_CATEGORY),
    }
}

/// The state of an entry, which follows from its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is served.
    Fresh,
    /// It is served, and should be refreshed.
    Stale,
    /// It is no longer served. Its key may still exist: for the rest of the millisecond in which it expires, or for
    /// longer if another command has postponed the key's expiry.
    Expired,
}

/// When an entry is fresh, stale and expired. It ends with the key's own expiry, so that TTL means what it says. If
/// another command brings the expiry forward, the entry ends earlier; if it postpones the expiry, the entry does not
/// last longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// How long it is fresh, from when it was set or touched, in milliseconds.
    pub ttl_ms: u64,
    /// How long it is served after that, in milliseconds.
    pub stale_ms: u64,
    /// Until when it is fresh, in unix milliseconds.
    pub fresh_until_ms: i64,
}

impl Life {
    /// The life of an entry that is set at `from_ms`.
    pub fn new(from_ms: i64, ttl_ms: u64, stale_ms: u64) -> Self {
        Self { ttl_ms, stale_ms, fresh_until_ms: from_ms.saturating_add_unsigned(ttl_ms).min(TIME_MAX_MS) }
    }

    /// Its state at `now_ms`.
    pub fn state(&self, now_ms: i64) -> State {
        match now_ms {
            now_ms if now_ms < self.fresh_until_ms => State::Fresh,
            now_ms if now_ms < self.ends_at_ms() => State::Stale,
            _ => State::Expired,
        }
    }

    /// When the key is to expire, in unix milliseconds.
    pub fn ends_at_ms(&self) -> i64 {
        self.fresh_until_ms.saturating_add_unsigned(self.stale_ms).min(TIME_MAX_MS)
    }

    /// The life as if the entry had been set at `now_ms`, but never shorter than before: the clock may have stepped back.
    pub fn touched(&self, now_ms: i64) -> Self {
        let touched = Self::new(now_ms, self.ttl_ms, self.stale_ms);
        Self { fresh_until_ms: touched.fresh_until_ms.max(self.fresh_until_ms), ..touched }
    }
}

/// A time for each category: to live, or to be served stale.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lifetimes(HashMap<Box<[u8]>, u64>);

impl Lifetimes {
    /// Reads `category=seconds` pairs with spaces between them, such as `models=3600 sessions=300`, each at least
    /// `least_s`.
    ///
    /// # Errors
    /// What is wrong, and with which pair.
    pub fn parse(text: &str, least_s: u64) -> Result<Self, String> {
        let mut lifetimes = HashMap::new();
        for pair in text.split_ascii_whitespace() {
            let (category, seconds) = pair.split_once('=').ok_or_else(|| format!("not category=seconds: {pair}"))?;
            if category.is_empty() || category.len() > CATEGORY_BYTES_MAX {
                return Err(format!("a category's name has 1 to {CATEGORY_BYTES_MAX} bytes: {pair}"));
            }
            let in_range = |seconds: &u64| (least_s..=TTL_MAX_S).contains(seconds);
            let seconds = seconds.parse().ok().filter(in_range);
            let seconds = seconds.ok_or_else(|| format!("not seconds from {least_s} to {TTL_MAX_S}: {pair}"))?;
            if lifetimes.insert(category.as_bytes().into(), seconds * 1_000).is_some() {
                return Err(format!("a category named twice: {category}"));
            }
        }
        Ok(Self(lifetimes))
    }

    /// A category's time in milliseconds, if it has one.
    pub fn of_ms(&self, category: &[u8]) -> Option<u64> {
        self.0.get(category).copied()
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
    fn a_value_is_fresh_then_stale_then_expired() {
        let states = |life: Life| [0, 999, 1_000, 1_001, 1_049, 1_050, 1_051].map(|now_ms| life.state(now_ms));
        use State::{Expired, Fresh, Stale};
        assert_eq!(states(Life::new(900, 100, 50)), [Fresh, Fresh, Stale, Stale, Stale, Expired, Expired]);
        assert_eq!(states(Life::new(900, 100, 0)), [Fresh, Fresh, Expired, Expired, Expired, Expired, Expired]);
    }

    #[test]
    fn lifetimes_are_read_and_checked() {
        let lifetimes = Lifetimes::parse(" models=3600  sessions=300 ", 1).unwrap();
        assert_eq!(lifetimes.of_ms(b"sessions"), Some(300_000));
        assert_eq!(lifetimes.of_ms(b"other"), None);
        assert_eq!(Lifetimes::parse("", 1), Ok(Lifetimes::default()));
        assert!(Lifetimes::parse("models=0", 0).is_ok());
        for text in ["models", "models=", "=1", "models=0", "models=-1", "models=1.5", "models=31622401", "a=1 a=2"] {
            assert!(Lifetimes::parse(text, 1).is_err(), "{text}");
        }
        assert!(Lifetimes::parse(&format!("{}=1", "c".repeat(65)), 1).is_err());
    }
}
