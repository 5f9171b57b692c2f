//! Commands and queries in one line each. They are for tests: on an error they panic, with the command.

use crate::wait::{DEADLINE, await_until};
use redis::{Connection, ErrorKind, RedisResult, ServerErrorKind, Value};
use std::collections::HashMap;

/// Runs a command and converts its reply, to the type that the context infers or that follows an arrow:
/// `call!(client, "GW.LOGPOP", key => Vec<String>)`. Panics on an error.
#[macro_export]
macro_rules! call {
    ($client:expr_2021, $name:expr_2021 $(, $arg:expr_2021)* => $reply:ty) => {{
        let reply: $reply = $crate::call!($client, $name $(, $arg)*);
        reply
    }};
    ($client:expr_2021, $name:expr_2021 $(, $arg:expr_2021)* $(,)?) => {
        match $crate::try_call!($client, $name $(, $arg)*) {
            Ok(reply) => reply,
            Err(error) => panic!("{}: {error}", stringify!($name $($arg)*)),
        }
    };
}

/// Runs a command and returns the `RedisResult`.
#[macro_export]
macro_rules! try_call {
    ($client:expr_2021, $name:expr_2021 $(, $arg:expr_2021)* $(,)?) => {
        $crate::redis::cmd($name)$(.arg($arg))*.query(&mut $client)
    };
}

/// Runs a command and returns its reply, or its error, as one line of text: see [`reply_line`].
///
/// `assert_eq!(reply!(client, "GW.ALLOW", key, 10), "[1, 10, 9, 0, 60000]");`
#[macro_export]
macro_rules! reply {
    ($client:expr_2021, $name:expr_2021 $(, $arg:expr_2021)* $(,)?) => {
        $crate::reply_line($crate::try_call!($client, $name $(, $arg)*))
    };
}

/// A reply in one line that tells the types apart: `3`, `"bulk"`, `OK`, `nil`, `[1, "a"]`, `{"name": 1}` (RESP3), and an
/// error as the server sent it, `ERR unknown option: FOO`. Panics on any other error, such as a lost connection.
pub fn reply_line(reply: RedisResult<Value>) -> String {
    match reply {
        Ok(value) => value_text(&value),
        Err(error) => {
            let code = match error.kind() {
                // Also for errors without a code of their own.
                ErrorKind::Server(ServerErrorKind::ResponseError) => "ERR",
                _ => error.code().unwrap_or_else(|| panic!("no answer from the server: {error}")),
            };
            [Some(code), error.detail()].into_iter().flatten().collect::<Vec<_>>().join(" ")
        }
    }
}

fn value_text(value: &Value) -> String {
    let list = |items: &[Value]| items.iter().map(value_text).collect::<Vec<_>>().join(", ");
    match value {
        Value::Nil => "nil".into(),
        Value::Int(number) => number.to_string(),
        Value::BulkString(bytes) => format!("\"{}\"", bytes.escape_ascii()),
        Value::SimpleString(text) => text.clone(),
        Value::Okay => "OK".into(),
        Value::Array(items) => format!("[{}]", list(items)),
        Value::Map(pairs) => {
            let pairs = pairs.iter().map(|(name, value)| format!("{}: {}", value_text(name), value_text(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        other => format!("{other:?}"),
    }
}

/// The server's own digest of a value (`DEBUG DIGEST-VALUE`), equal for equal values on all servers. All zeros stands
/// for a key that does not exist.
pub fn digest(client: &mut Connection, key: impl redis::ToRedisArgs) -> String {
    let [digest]: [String; 1] = call!(*client, "DEBUG", "DIGEST-VALUE", key);
    digest
}

/// The state by which two servers' keys are compared: the digest of each value, and when it expires.
pub fn state(client: &mut Connection) -> Vec<(String, String, i64)> {
    let mut keys: Vec<String> = call!(*client, "KEYS", "*");
    keys.sort();
    let states = keys.into_iter().map(|key| {
        let expires_at_ms = call!(*client, "PEXPIRETIME", &key);
        (key.clone(), digest(client, &key), expires_at_ms)
    });
    states.collect()
}

/// The server's clock in unix milliseconds.
pub fn server_time_ms(client: &mut Connection) -> i64 {
    time_ms(call!(*client, "TIME"))
}

/// The reply of TIME, in unix milliseconds.
pub fn time_ms([seconds, micros]: [i64; 2]) -> i64 {
    seconds * 1_000 + micros / 1_000
}

/// The fields of a section of INFO.
pub fn info(client: &mut Connection, section: &str) -> HashMap<String, String> {
    try_info(client, section).unwrap_or_else(|error| panic!("INFO {section}: {error}"))
}

/// Like [`info`], of a server that may close the connection: it does when it changes its role.
pub(crate) fn try_info(client: &mut Connection, section: &str) -> RedisResult<HashMap<String, String>> {
    let text: String = try_call!(*client, "INFO", section)?;
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    Ok(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// How many bytes this server has written to its replication stream: unchanged if nothing was replicated, as long as
/// a replica is connected.
pub fn replication_offset(primary: &mut Connection) -> u64 {
    offset(&info(primary, "replication"), "master_repl_offset")
}

/// Waits until the replica has applied all that the primary has written.
pub fn await_in_sync(primary: &mut Connection, replica: &mut Connection) {
    let in_sync = await_until("the replica to catch up", DEADLINE, || {
        let theirs = info(replica, "replication");
        theirs.get("master_link_status").is_some_and(|status| status == "up")
            && offset(&theirs, "slave_repl_offset") == replication_offset(primary)
    });
    in_sync.unwrap();
}

fn offset(replication: &HashMap<String, String>, field: &str) -> u64 {
    replication.get(field).and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {field}: {replication:?}"))
}
