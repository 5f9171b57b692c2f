//! What a command can refuse with. The same mistake gives the same words in every command.

use std::borrow::Cow;
use std::ops::RangeInclusive;

/// A handler's result: the reply has been written, or an error is to be replied and nothing was changed.
pub type Outcome = Result<(), Error>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Cow<'static, str>);

impl Error {
    /// The server's own words for a key that holds another type.
    pub const WRONG_TYPE: Error =
        Error(Cow::Borrowed("WRONGTYPE Operation against a key holding the wrong kind of value"));
    /// The server's own words for a write on a replica.
    pub const READ_ONLY: Error = Error(Cow::Borrowed("READONLY You can't write against a read only replica."));
    /// The server checks the arity first; this is for calls that its check cannot see through.
    pub const ARITY: Error = Error(Cow::Borrowed("ERR wrong number of arguments"));

    /// `ERR <what>: <argument>`. `argument` may be a client's own bytes: what is not printable ASCII is shown as '?',
    /// and no more than 64 bytes of it.
    pub fn new(what: &str, argument: impl AsRef<[u8]>) -> Self {
        let argument = argument.as_ref();
        let shown = argument.iter().take(64).map(|&b| if (0x20..0x7f).contains(&b) { char::from(b) } else { '?' });
        Error(format!("ERR {what}: {}", shown.collect::<String>()).into())
    }

    /// An error with a code of its own, where a client must branch on it.
    pub const fn coded(text: &'static str) -> Self {
        Error(Cow::Borrowed(text))
    }

    pub fn not_in<T: std::fmt::Display>(range: RangeInclusive<T>, argument: &str) -> Self {
        Self::new(&format!("not an integer from {} to {}", range.start(), range.end()), argument)
    }

    pub fn text(&self) -> &str {
        &self.0
    }
}
