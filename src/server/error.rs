//! Errors a command can return. The same mistake gives the same words in every command.

use std::borrow::Cow;
use std::fmt::Display;
use std::ops::RangeInclusive;

/// A handler's result: either it has written its reply, or it returns an error to be replied and has changed nothing.
pub type Outcome = Result<(), Error>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Cow<'static, str>);

impl Error {
    /// The server's own words for a key that holds another type.
    pub const WRONG_TYPE: Error =
        Error(Cow::Borrowed("WRONGTYPE Operation against a key holding the wrong kind of value"));
    /// The server checks the arity first; this is for calls that its check cannot see through.
    pub const ARITY: Error = Error(Cow::Borrowed("ERR wrong number of arguments"));
    /// The guard has caught a panic and logged it.
    pub const INTERNAL: Error = Error(Cow::Borrowed("ERR internal error: see the server log"));

    /// `ERR <what>: <argument>`. `argument` may be a client's own bytes: at most 64 of them are shown, and those that are
    /// not printable ASCII as '?'.
    pub fn new(what: &str, argument: impl AsRef<[u8]>) -> Self {
        Self::coded_for("ERR", what, argument)
    }

    /// As [`Self::new`], with a code of its own.
    pub fn coded_for(code: &str, what: &str, argument: impl AsRef<[u8]>) -> Self {
        let argument = argument.as_ref();
        let shown = argument.iter().take(64).map(|&b| if (0x20..0x7f).contains(&b) { char::from(b) } else { '?' });
        Error(format!("{code} {what}: {}", shown.collect::<String>()).into())
    }

    /// An error with a code of its own, for errors that a client must branch on.
    pub const fn coded(text: &'static str) -> Self {
        Error(Cow::Borrowed(text))
    }

    /// An integer that is none, or is out of `range`.
    pub fn not_in<T: Display>(range: RangeInclusive<T>, argument: &str) -> Self {
        Self::new(&format!("not an integer from {} to {}", range.start(), range.end()), argument)
    }

    /// A name that is empty or longer than `max_bytes`.
    pub fn not_a_name(max_bytes: usize, argument: &str) -> Self {
        Self::new(&format!("not a name of 1 to {max_bytes} bytes"), argument)
    }

    /// A byte string that is longer than `max_bytes`.
    pub fn longer_than(max_bytes: usize, argument: &str) -> Self {
        Self::new(&format!("longer than {max_bytes} bytes"), argument)
    }

    /// More than `max` of what `things` names.
    pub fn more_than(max: usize, things: &str, argument: impl AsRef<[u8]>) -> Self {
        Self::new(&format!("more than {max} {things}"), argument)
    }

    pub fn missing_value(argument: impl AsRef<[u8]>) -> Self {
        Self::new("missing value", argument)
    }

    pub fn missing_option(option: &str) -> Self {
        Self::new("missing option", option)
    }

    pub fn unknown_option(given: impl AsRef<[u8]>) -> Self {
        Self::new("unknown option", given)
    }

    /// An option that cannot stand beside another that was given.
    pub fn conflicting_option(option: &str) -> Self {
        Self::new("conflicting option", option)
    }

    /// An option that means nothing without another one.
    pub fn only_with(needed: &str, option: &str) -> Self {
        Self::new(&format!("only with {needed}"), option)
    }

    pub fn text(&self) -> &str {
        &self.0
    }
}
