use std::fmt;

use redis::{RedisError, ServerError, Value};

pub use crate::reply_errors::ReplyErrorKind;
use crate::reply_errors::{classify, is_bare};

/// An error reply of the server.
///
/// `kind` has a variant for each error that a program may want to tell apart, with the fields of its text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplyError {
    /// What it is about.
    pub kind: ReplyErrorKind,
    /// The code, such as `WRONGTYPE`, or `ERR`.
    pub code: String,
    /// The text behind the code.
    pub text: String,
    /// The server cannot serve now: to be treated as away.
    pub away: bool,
    /// The same call may succeed after a moment.
    pub retry: bool,
}

impl ReplyError {
    /// The error of a line such as `NOACCOUNT no such account: user:42`. A line without a code has the code `ERR`.
    pub fn of(line: &str) -> Self {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let code = word.bytes().all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == b'_');
        if word.is_empty() || !code || is_bare(word) { Self::new("ERR", line) } else { Self::new(word, rest) }
    }

    /// The error with this code and text.
    pub fn new(code: &str, text: &str) -> Self {
        let (kind, away, retry) = classify(code, text);
        Self { kind, code: code.to_owned(), text: text.to_owned(), away, retry }
    }
}

impl From<&ServerError> for ReplyError {
    fn from(error: &ServerError) -> Self {
        match error.details() {
            // Words in capitals that are no code look like one to redis-rs.
            Some(details) => Self::of(&format!("{} {details}", error.code())),
            None => Self::of(error.code()),
        }
    }
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        if self.text.is_empty() { Ok(()) } else { write!(f, " {}", self.text) }
    }
}

impl std::error::Error for ReplyError {}

/// A reply of a shape that this version of the client does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnexpectedReply {
    /// What it should have been.
    pub expected: String,
    /// The type of what came.
    pub got: &'static str,
}

impl UnexpectedReply {
    pub(crate) fn new(expected: &str, reply: &Value) -> Self {
        let got = match reply {
            Value::Nil => "nil",
            Value::Int(_) => "an integer",
            Value::BulkString(_) | Value::SimpleString(_) | Value::Okay | Value::VerbatimString { .. } => "a string",
            Value::Array(_) | Value::Set(_) => "an array",
            Value::Map(_) => "a map",
            Value::Boolean(_) => "a boolean",
            Value::Double(_) => "a double",
            _ => "something else",
        };
        Self { expected: expected.to_owned(), got }
    }
}

impl fmt::Display for UnexpectedReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}, got {}", self.expected, self.got)
    }
}

impl std::error::Error for UnexpectedReply {}

/// The server is away: no reply in time, no connection, or a reply that says that it cannot serve now.
#[cfg(feature = "gateway")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unavailable {
    /// Such as `timeout`, `connection`, `connections` (all are taken), `circuit_open`, `loading`, `oom`.
    pub reason: &'static str,
    /// The server may have done what it was asked to.
    pub sent: bool,
    /// It is the server as a whole. Else only this call was refused: `oom`, `tryagain`, `connections`.
    pub down: bool,
}

#[cfg(feature = "gateway")]
impl Unavailable {
    pub(crate) fn new(reason: &'static str, sent: bool, down: bool) -> Self {
        Self { reason, sent, down }
    }
}

#[cfg(feature = "gateway")]
impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server is away: {}", self.reason)
    }
}

/// Why a call has no result.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The server has refused it.
    Reply(ReplyError),
    /// The reply has a shape that this version of the client does not know.
    Unexpected(UnexpectedReply),
    /// There is no reply: an error of redis-rs, such as a lost connection.
    Redis(RedisError),
    /// The server is away. Of a [`Gateway`](crate::Gateway) alone.
    #[cfg(feature = "gateway")]
    Unavailable(Unavailable),
}

impl Error {
    /// The error reply, if it is one.
    pub fn reply(&self) -> Option<&ReplyError> {
        match self {
            Self::Reply(error) => Some(error),
            _ => None,
        }
    }

    /// What the error reply is about, if it is one.
    pub fn kind(&self) -> Option<&ReplyErrorKind> {
        self.reply().map(|error| &error.kind)
    }
}

#[cfg(feature = "gateway")]
impl Error {
    /// Why the server is away, if it is that.
    pub fn unavailable(&self) -> Option<&Unavailable> {
        match self {
            Self::Unavailable(away) => Some(away),
            _ => None,
        }
    }

    /// What must arrive is to be sent again later: the server is away, or refuses whatever comes, because of how it or its users are
    /// set up, or because of a bug.
    pub(crate) fn is_not_now(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Reply(error) => matches!(
                error.kind,
                ReplyErrorKind::NotAuthenticated
                    | ReplyErrorKind::NoPermission
                    | ReplyErrorKind::ModuleMissing
                    | ReplyErrorKind::InternalError
            ),
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reply(error) => error.fmt(f),
            Self::Unexpected(error) => error.fmt(f),
            Self::Redis(error) => error.fmt(f),
            #[cfg(feature = "gateway")]
            Self::Unavailable(away) => away.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Redis(error) => Some(error),
            _ => None,
        }
    }
}

impl From<UnexpectedReply> for Error {
    fn from(error: UnexpectedReply) -> Self {
        Self::Unexpected(error)
    }
}

impl From<RedisError> for Error {
    /// Error replies become [`Error::Reply`]; everything else stays as it is.
    fn from(error: RedisError) -> Self {
        match error.clone().into_server_errors().as_deref() {
            Some([(_, first), ..]) => Self::Reply(ReplyError::from(first)),
            _ => match error.code() {
                Some(code) => Self::Reply(ReplyError::new(code, error.detail().unwrap_or_default())),
                None => Self::Redis(error),
            },
        }
    }
}
