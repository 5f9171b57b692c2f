use std::fmt;

use redis::{ErrorKind, RedisError};

use crate::error::{Error, ReplyError, ReplyErrorKind};

/// The server is away: no reply in time, no connection, or a reply that says that it cannot serve now.
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

impl Unavailable {
    pub(crate) fn new(reason: &'static str, sent: bool, down: bool) -> Self {
        Self { reason, sent, down }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server is away: {}", self.reason)
    }
}

/// Replies that say that the server cannot serve now. None of them has changed anything. Whether the server as a whole is away.
fn away_code(code: &str) -> Option<(&'static str, bool)> {
    Some(match code {
        "LOADING" => ("loading", true),
        "READONLY" => ("readonly", true),
        "MASTERDOWN" => ("masterdown", true),
        "CLUSTERDOWN" => ("clusterdown", true),
        "NOREPLICAS" => ("noreplicas", true),
        "MISCONF" => ("misconf", true),
        "BUSY" => ("busy", true),
        "UNBLOCKED" => ("unblocked", false),
        "TRYAGAIN" => ("tryagain", false),
        "OOM" => ("oom", false),
        _ => return None,
    })
}

/// The error of a reply: the server's absence, if it says so.
pub(super) fn away_reply(error: ReplyError) -> Error {
    match away_code(&error.code) {
        Some((reason, down)) => Error::Unavailable(Unavailable::new(reason, false, down)),
        None => Error::Reply(error),
    }
}

/// The error of a connection that could not be made: nothing was sent.
pub(super) fn not_connected(error: RedisError) -> Error {
    if error.kind() == ErrorKind::AuthenticationFailed {
        return Error::Reply(ReplyError::new("WRONGPASS", error.detail().unwrap_or_default()));
    }
    match Error::from(error) {
        Error::Reply(error) => away_reply(error),
        Error::Redis(error) => {
            let reason = if error.is_timeout() { "timeout" } else { "connection" };
            Error::Unavailable(Unavailable::new(reason, false, true))
        }
        other => other,
    }
}

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
    pub(super) fn is_not_now(&self) -> bool {
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
