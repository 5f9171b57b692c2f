//! A fake of the server with the module, in memory, with a clock that tests set: for the tests of programs that use a gateway
//! (feature `testing`).
//!
//! It listens on a port of 127.0.0.1, so the client is exactly what runs in production, async or blocking:
//!
//! ```
//! use std::time::Duration;
//!
//! use redis_gateway_client::commands::allow;
//! use redis_gateway_client::testing::Fake;
//!
//! let fake = Fake::start()?;
//! let mut connection = fake.client().get_connection()?;
//! let twice_a_minute = allow("user:42", 2, &Default::default());
//! for allowed in [true, true, false] {
//!     assert_eq!(twice_a_minute.query(&mut connection)?.allowed, allowed);
//! }
//! fake.advance(Duration::from_secs(60));
//! assert!(twice_a_minute.query(&mut connection)?.allowed);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! It has the commands that a gateway uses. To any other, and to options that it does not have, it replies an error that names them,
//! and [`Fake::missing`] lists them: use a real server for such a test.
//!
//! It differs from a server in this:
//!
//! - GW.ROUTE takes the first target that has room, whatever PICK says.
//! - No call waits for another: one with BLOCK or WAIT is answered after 10 ms, as if the time that it may wait were over.
//! - Accounts whose IDLE time has passed stay.
//! - There is no check of passwords and permissions, and one database.
//! - Its clock stands still but for [`Fake::advance`]. The clock of the gateway's own time-outs and pauses is the real one: a test
//!   whose tokio clock is paused does not work with it.

mod account;
mod admissions;
mod cache;
mod charges;
mod dates;
mod execute;
mod fills;
mod ledger;
mod limits;
mod logs;
mod policies;
mod policy;
mod server;
mod state;
mod wire;
mod words;

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use self::server::Server;
use self::state::State;
use crate::Text;

/// The beginning of 2026, in unix milliseconds.
const BEGIN: i64 = 1_767_225_600_000;
/// The clock goes no further, so that every time computed from it is an integer.
const END: i64 = 1 << 52;

/// A server in memory, for tests. It ends when it is dropped. Threads may share it.
pub struct Fake {
    server: Server,
}

impl Fake {
    /// Starts one on a free port, which knows nothing yet. Its clock begins at the beginning of 2026, UTC.
    ///
    /// # Errors
    ///
    /// There is no free port, or no thread.
    pub fn start() -> std::io::Result<Self> {
        Ok(Self { server: Server::start(BEGIN)? })
    }

    /// A client of it, such as [`Gateway::new`](crate::Gateway::new) takes.
    pub fn client(&self) -> redis::Client {
        redis::Client::open(self.url()).expect("the address of a server on this machine is one")
    }

    /// Its address, such as `redis://127.0.0.1:40123`: for programs that make their client themselves.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.server.port)
    }

    /// The server's clock.
    pub fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.server.shared.lock().state.now.try_into().unwrap_or_default())
    }

    /// Sets the clock on, by whole milliseconds: at once, for all that it knows.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        let state = &mut self.server.shared.lock().state;
        state.now = state.now.saturating_add(by).min(END);
    }

    /// Whether the server is away: then its connections are closed, and so are new ones, at once. No call reaches it any more when this
    /// has returned; what it knows, it keeps. For all that a client can tell, the call by which it finds its connection closed may have
    /// arrived.
    ///
    /// A gateway goes on as it does without a server. After [`Settings::failures`](crate::Settings::failures) failures in a row it asks
    /// again only when [`Settings::pause`](crate::Settings::pause) is over, also if the server is back before.
    pub fn set_away(&self, away: bool) {
        self.server.shared.lock().set_away(away);
    }

    /// All commands that were sent since it was started or [flushed](Self::flush), each with its arguments, the last one last. What clients
    /// say on each new connection is not among them.
    pub fn calls(&self) -> Vec<Vec<Text>> {
        self.server.shared.lock().state.calls.clone()
    }

    /// What was asked of it that it does not have, such as `GW.TOP`: commands, kinds of policies and options.
    pub fn missing(&self) -> Vec<String> {
        self.server.shared.lock().state.missing.clone()
    }

    /// Forgets everything but the clock.
    pub fn flush(&self) {
        let state = &mut self.server.shared.lock().state;
        *state = State::new(state.now);
    }
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fake").field("url", &self.url()).finish_non_exhaustive()
    }
}
