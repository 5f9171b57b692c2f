//! Private servers for the tests, the demo and the benchmarks.
//!
//! A [`Server`] is a real Redis or Valkey process with the module loaded: on a free port of 127.0.0.1, in a temporary
//! directory of its own, ended when the value is dropped. The environment chooses the binary (see [`Binary`]), so that
//! the
//! same test runs against every server of the matrix.
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
mod caller;
mod client;
mod clock;
mod cluster;
mod error;
mod paths;
mod proxy;
mod random;
mod routes;
mod sentinel;
mod server;
mod wait;

pub use binary::{Binary, Flavour};
pub use caller::{Caller, Outcome};
pub use client::{await_in_sync, digest, info, replication_offset, reply_line, server_time_ms, state, time_ms};
pub use clock::Clock;
pub use cluster::{Cluster, Layout, SLOTS, key_slot, slot_of, tag_of};
pub use error::Error;
pub use paths::{module_path, project_root};
pub use proxy::{Direction, Links, Proxy};
pub use random::{Random, seed};
pub use redis;
pub use routes::Discovery;
pub use sentinel::{SENTINEL_NAME, Watched};
pub use server::{Options, Server};
pub use wait::{DEADLINE, await_until, live};
