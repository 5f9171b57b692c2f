//! Private servers for the tests, the demo and the benchmarks.
//!
//! A [`Server`] is a real Redis or Valkey process with the module loaded: on a free port of 127.0.0.1, in a temporary
//! directory of its own, ended with the value that owns it. Which binary it runs is the environment's choice (see
//! [`Binary`]), so that the same test runs against every server of the matrix.
//!
//! ```no_run
//! use gw_testkit::{reply, Server};
//!
//! let server = Server::options().aof().start()?;
//! let mut client = server.connect()?;
//! assert_eq!(reply!(client, "GW.ALLOW", "user:1", 10), "[1, 10, 9, 0, 60000]");
//! # Ok::<(), gw_testkit::Error>(())
//! ```

mod binary;
mod client;
mod server;

pub use binary::{Binary, Flavour};
pub use client::{await_in_sync, digest, info, replication_offset, reply_line};
pub use redis;
pub use server::{Options, Server};

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What went wrong, with what is needed to act on it: the remedy, or the end of the server's log.
///
/// `Debug` prints the same text as `Display`, so that an `unwrap` in a test shows the log as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<redis::RedisError> for Error {
    fn from(error: redis::RedisError) -> Self {
        Self(error.to_string())
    }
}

/// The workspace's root directory, in which this crate was built.
pub fn project_root() -> &'static Path {
    let manifest_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest_dir.parent().unwrap_or(manifest_dir)
}

/// The module to load: `GW_MODULE`, or the release build in the target directory (`CARGO_TARGET_DIR`, or `target`).
///
/// # Errors
/// When there is no such file.
pub fn module_path() -> Result<PathBuf, Error> {
    let path = match std::env::var_os("GW_MODULE") {
        Some(path) => PathBuf::from(path),
        None => {
            let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
            project_root().join(target).join("release").join("libredis_gateway.so")
        }
    };
    // The server resolves the path in its own working directory: hand it an absolute one.
    path.canonicalize().map_err(|error| {
        Error::new(format!("no module at {}: {error}. Build it with `cargo build --release`", path.display()))
    })
}

/// Waits until `condition` holds, asking every few milliseconds.
///
/// # Errors
/// When it did not within `deadline`; `what` names it in the message.
pub fn await_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) -> Result<(), Error> {
    const PAUSE: Duration = Duration::from_millis(3);
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > deadline {
            return Err(Error::new(format!("after {deadline:?} still waiting for: {what}")));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// How much of a long test is run: `full` where GW_LIVE=full, as before a release, or else `short`.
pub fn live(short: u64, full: u64) -> u64 {
    match std::env::var("GW_LIVE") {
        Ok(given) if given == "full" => full,
        _ => short,
    }
}
