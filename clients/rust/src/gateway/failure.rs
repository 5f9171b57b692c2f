use redis::{ErrorKind, RedisError};

use crate::error::{Error, ReplyError, Unavailable};

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
