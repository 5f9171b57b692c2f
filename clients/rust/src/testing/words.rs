//! The words of a call, taken from the left, and how it ends without a reply of its own.

use super::wire::Reply;
use crate::{Amount, Text};

/// The largest integer of an argument.
pub(super) const MOST: i64 = 1 << 53;
/// The longest time: a year, in milliseconds.
pub(super) const LONGEST: i64 = 31_622_400_000;

pub(super) enum Stop {
    /// An error reply, as the server has it.
    Refused(String),
    /// What the fake does not have.
    Missing(String),
}

pub(super) type Done<T = Reply> = Result<T, Stop>;

/// An error with the code ERR.
pub(super) fn refused<T>(problem: &str, argument: impl std::fmt::Display) -> Done<T> {
    Err(Stop::Refused(format!("ERR {problem}: {argument}")))
}

pub(super) fn missing<T>(what: impl Into<String>) -> Done<T> {
    Err(Stop::Missing(what.into()))
}

pub(super) fn unknown_option<T>(option: &str) -> Done<T> {
    refused("unknown option", option)
}

pub(super) fn whole(word: &Text, name: &str, range: std::ops::RangeInclusive<i64>) -> Done<i64> {
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    let decimal = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let found = word.as_str().filter(|_| decimal).and_then(|text| text.parse().ok());
    match found.filter(|number| range.contains(number)) {
        Some(number) => Ok(number),
        None => refused(&format!("not an integer from {} to {}", range.start(), range.end()), name),
    }
}

/// An amount of any sign.
pub(super) fn signed(word: &Text, name: &str) -> Done<Amount> {
    // What is no UTF-8 is no amount, as is the empty text.
    word.as_str().unwrap_or_default().parse().or_else(|error: crate::AmountError| refused(&error.to_string(), name))
}

pub(super) fn unsigned(word: &Text, name: &str) -> Done<Amount> {
    let made = signed(word, name)?;
    if made < Amount::ZERO { refused("negative amount", name) } else { Ok(made) }
}

pub(super) struct Words(std::vec::IntoIter<Text>);

impl Words {
    pub(super) fn new(all: Vec<Text>) -> Self {
        Self(all.into_iter())
    }

    pub(super) fn more(&self) -> bool {
        self.0.len() > 0
    }

    pub(super) fn take(&mut self, name: &str) -> Done<Text> {
        self.0.next().map_or_else(|| refused("missing value", name), Ok)
    }

    /// The next word in upper case.
    pub(super) fn option(&mut self) -> Done<String> {
        Ok(upper(&self.take("option")?))
    }

    /// The next option, until there is none.
    pub(super) fn next_option(&mut self) -> Option<String> {
        self.0.next().map(|word| upper(&word))
    }

    /// The next word in upper case, left where it is; empty if there is none.
    pub(super) fn peek(&self) -> String {
        self.0.as_slice().first().map(upper).unwrap_or_default()
    }

    pub(super) fn rest(&mut self) -> Vec<Text> {
        self.0.by_ref().collect()
    }

    pub(super) fn name(&mut self, option: &str, longest: usize) -> Done<Text> {
        let found = self.take(option)?;
        if (1..=longest).contains(&found.len()) {
            Ok(found)
        } else {
            refused(&format!("not a name of 1 to {longest} bytes"), option)
        }
    }

    pub(super) fn integer(&mut self, option: &str, range: std::ops::RangeInclusive<i64>) -> Done<i64> {
        whole(&self.take(option)?, option, range)
    }

    /// A time in milliseconds, above 0.
    pub(super) fn time(&mut self, option: &str) -> Done<i64> {
        self.integer(option, 1..=LONGEST)
    }

    pub(super) fn amount(&mut self, name: &str) -> Done<Amount> {
        unsigned(&self.take(name)?, name)
    }

    /// A key, and further ones after WITH and their number.
    pub(super) fn keys(&mut self, most: i64) -> Done<Vec<Text>> {
        let mut found = vec![self.take("account")?];
        if self.peek() == "WITH" {
            self.option()?;
            for _ in 0..self.integer("numkeys", 1..=most)? {
                let key = self.take("account")?;
                if found.contains(&key) {
                    return refused("repeated key", key);
                }
                found.push(key);
            }
        }
        Ok(found)
    }
}

pub(super) fn upper(word: &Text) -> String {
    word.to_string().to_uppercase()
}
