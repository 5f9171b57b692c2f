//! Checks whether a record is a JSON text, and if not, at which byte it breaks.
//!
//! The parser is serde_json's, used without building values. It keeps one byte for each open bracket instead of recursing,
//! so neither depth nor size does harm. It accepts RFC 8259 as written: any value at the top, numbers of any size, `\u`
//! escapes of half a surrogate pair, repeated names. A byte order mark is an error.

use serde::de::{Deserialize, IgnoredAny};
use std::io;

/// The error of bytes that are not one JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonError {
    /// The offset of the first wrong byte: no JSON text begins with the bytes up to it. The length of the bytes if they end
    /// early. The start of the malformed sequence in malformed UTF-8.
    pub at: usize,
}

impl std::fmt::Display for JsonError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not valid JSON at byte {}", self.at)
    }
}

impl std::error::Error for JsonError {}

/// Checks that the bytes are exactly one JSON text (RFC 8259) in UTF-8, with nothing but white space around it. Takes
/// linear time.
///
/// # Errors
/// If they are not.
pub fn check(bytes: &[u8]) -> Result<(), JsonError> {
    let utf8 = std::str::from_utf8(bytes);
    if utf8.is_ok() && serde_json::from_slice::<IgnoredAny>(bytes).is_ok() {
        return Ok(());
    }
    // A character that is cut off by the end is not an error of its own: the text ends early, which the parser notices.
    let malformed = utf8.err().map(|error| error.error_len().map_or(bytes.len(), |_| error.valid_up_to()));
    let at = [malformed, grammar_break(bytes)].into_iter().flatten().min().unwrap_or(bytes.len());
    Err(JsonError { at })
}

/// The offset at which the grammar is violated, if any byte above 0x7f counts as part of a character.
///
/// The line and column in serde_json's errors do not distinguish a wrong last byte from a missing next one, and are off by
/// one byte for some errors. But the parser takes one byte at a time: if it gets them singly, the last byte it took is the
/// wrong one, unless it asked for more at the end.
fn grammar_break(bytes: &[u8]) -> Option<usize> {
    let mut source = OneByOne { rest: bytes, ended: false };
    let mut parser = serde_json::Deserializer::from_reader(&mut source);
    IgnoredAny::deserialize(&mut parser).and_then(|_| parser.end()).err()?;
    let taken = bytes.len() - source.rest.len();
    let last = if source.ended { bytes.len() } else { taken.saturating_sub(1) };
    Some(wrong_hex_digit(bytes.get(..taken).unwrap_or(bytes)).unwrap_or(last))
}

struct OneByOne<'a> {
    rest: &'a [u8],
    /// Whether more was wanted than there was.
    ended: bool,
}

impl io::Read for OneByOne<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.ended |= self.rest.is_empty();
        let one = buffer.len().min(1);
        self.rest.read(buffer.get_mut(..one).unwrap_or_default())
    }
}

/// The four digits of a `\u` escape: the parser takes all of them before it checks any. Finds the first wrong one among
/// the last bytes taken.
fn wrong_hex_digit(taken: &[u8]) -> Option<usize> {
    const ESCAPE_LEN: usize = "\\u0000".len();
    (taken.len().saturating_sub(ESCAPE_LEN)..taken.len()).find_map(|start| {
        let digits = taken.get(start..)?.strip_prefix(b"\\u")?;
        // An even number of backslashes is that many halves of `\\`, and the u a letter.
        let backslashes = taken.iter().take(start + 1).rev().take_while(|byte| **byte == b'\\').count();
        let wrong = digits.iter().take(4).position(|digit| !digit.is_ascii_hexdigit())?;
        (backslashes % 2 == 1).then_some(start + 2 + wrong)
    })
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
