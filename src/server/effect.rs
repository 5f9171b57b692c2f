//! Effects: what a command did, in the form that replicas and the AOF get.
//!
//! An effect is the family's internal command, the key, one argument of space-separated words (a letter for the
//! operation, then numbers with absolute times), and, if an operation needs them, values as further arguments. See
//! docs/src/internals/decisions.md, "Effects instead of requests" and "One text for an effect's words".
//!
//! An effect outlives the version that wrote it: an AOF is replayed after an upgrade, and a replica is upgraded before its
//! primary. So an operation changes in one way only:
//!
//! - New words are appended, and are optional when read ([`Words::int_or`], [`Words::optional`]): without them an effect
//!   means what it meant to the version that wrote it.
//! - The words that are there keep their order and their meaning. Anything else is a new operation, with a letter of its
//!   own; the old letter stays readable.
//! - More words than this version knows, or an operation that it does not know, come from a newer version. Such an effect
//!   is refused and logged, never applied in part.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use std::ffi::CStr;
use std::ops::RangeInclusive;

use super::args::parse_int;
use super::error::Error;
use super::log;

/// The words of one effect.
pub struct Effect {
    command: &'static CStr,
    text: [u8; TEXT_MAX],
    len: usize,
}

/// Room for five integers of up to 20 digits. Values of any length travel as arguments of their own.
const TEXT_MAX: usize = 112;

impl Effect {
    /// An operation with integers.
    pub fn of<const N: usize>(command: &'static CStr, operation: u8, integers: [i64; N]) -> Self {
        let mut effect = Self::new(command, operation);
        integers.into_iter().for_each(|value| effect.int(value));
        effect
    }

    pub fn new(command: &'static CStr, operation: u8) -> Self {
        let mut text = [0; TEXT_MAX];
        text[0] = operation;
        Self { command, text, len: 1 }
    }

    pub fn int(&mut self, value: i64) {
        self.word(itoa::Buffer::new().format(value).as_bytes());
    }

    /// Appends a word without spaces. All words of an effect together are shorter than its buffer.
    pub fn word(&mut self, word: &[u8]) {
        let end = self.len + 1 + word.len();
        debug_assert!(end <= TEXT_MAX, "an effect's words outgrow their buffer");
        if let Some([space, room @ ..]) = self.text.get_mut(self.len..end) {
            *space = b' ';
            room.copy_from_slice(word);
            self.len = end;
        }
    }

    pub(super) fn command(&self) -> &CStr {
        self.command
    }

    pub(super) fn text(&self) -> &[u8] {
        &self.text[..self.len]
    }
}

/// Reads an effect's words back. They come from our own primary or AOF, or from a tool that copies those, but every word
/// is checked.
pub struct Words<'a>(std::slice::Split<'a, u8, fn(&u8) -> bool>);

impl<'a> Words<'a> {
    /// The operation, which the first word names, and the words after it.
    pub fn new(text: &'a [u8]) -> Result<(u8, Self), Error> {
        let mut words = text.split((|&byte| byte == b' ') as fn(&u8) -> bool);
        match words.next() {
            Some(&[operation]) => Ok((operation, Words(words))),
            _ => Err(malformed()),
        }
    }

    pub fn word(&mut self) -> Result<&'a [u8], Error> {
        self.0.next().ok_or_else(malformed)
    }

    /// A word that older versions did not write.
    pub fn optional(&mut self) -> Option<&'a [u8]> {
        self.0.next()
    }

    pub fn int<T>(&mut self, range: RangeInclusive<T>) -> Result<T, Error>
    where
        T: Copy + PartialOrd + TryFrom<i64>,
    {
        integer(self.word()?, &range)
    }

    /// An integer that older versions did not write, or what its absence means in their effects.
    pub fn int_or<T>(&mut self, range: RangeInclusive<T>, default: T) -> Result<T, Error>
    where
        T: Copy + PartialOrd + TryFrom<i64>,
    {
        self.optional().map_or(Ok(default), |word| integer(word, &range))
    }

    /// Checks that no word is left: further words are those of a newer version.
    pub fn end(mut self) -> Result<(), Error> {
        self.0.next().map_or(Ok(()), |_| Err(newer()))
    }
}

fn integer<T>(word: &[u8], range: &RangeInclusive<T>) -> Result<T, Error>
where
    T: Copy + PartialOrd + TryFrom<i64>,
{
    let value = parse_int(word).and_then(|value| T::try_from(value).ok());
    value.filter(|value| range.contains(value)).ok_or_else(malformed)
}

/// Refuses an effect that no version of this module wrote.
pub fn malformed() -> Error {
    Error::coded("ERR malformed effect: this command is written by the module for its replicas and AOF")
}

/// Refuses an effect with an operation or with words that this version does not know. An operator has to know: this node
/// now differs from the one that wrote the effect.
pub fn newer() -> Error {
    log::warning(
        "an effect was refused: it is malformed, or was written by a newer version; upgrade this server's module",
    );
    malformed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_as_they_went() {
        let mut effect = Effect::of(c"GW._TEST", b'W', [1_700_000_000_000, i64::MAX, -1]);
        effect.word(b"2026-11");
        assert_eq!(effect.text(), b"W 1700000000000 9223372036854775807 -1 2026-11");
        let (operation, mut words) = Words::new(effect.text()).unwrap();
        assert_eq!((operation, words.int(0..=i64::MAX)), (b'W', Ok(1_700_000_000_000)));
        assert_eq!(words.int(0..=5), Err(malformed()));
        assert_eq!(words.int(-1..=5), Ok(-1));
        assert_eq!(words.word(), Ok(&b"2026-11"[..]));
        assert_eq!(words.end(), Ok(()));
    }

    #[test]
    fn anything_else_is_malformed() {
        for text in ["", "WW", " ", "W"] {
            let read = Words::new(text.as_bytes()).and_then(|(_, mut words)| words.int(0..=9i64));
            assert_eq!(read, Err(malformed()), "{text:?}");
        }
    }

    /// An operation that has gained two integers and a word since it was first written.
    #[test]
    fn an_effect_of_an_older_version_applies_and_one_of_a_newer_version_is_refused() {
        let read = |text: &'static str| {
            let (_, mut words) = Words::new(text.as_bytes())?;
            let all = (words.int(0..=9)?, words.int_or(0..=9, 7)?, words.int_or(-9..=9, -1)?, words.optional());
            words.end().map(|()| all)
        };
        assert_eq!(read("W 1"), Ok((1, 7, -1, None)));
        assert_eq!(read("W 1 2"), Ok((1, 2, -1, None)));
        assert_eq!(read("W 1 2 3 word"), Ok((1, 2, 3, Some(&b"word"[..]))));
        // Words that an older version did not write may be missing, but not wrong.
        for text in ["W", "W 1 ", "W 1 10", "W 1 x", "W 1 2 10", "W 1 2 3 word more", "W 1 2 3 word "] {
            assert_eq!(read(text), Err(malformed()), "{text}");
        }
    }
}
