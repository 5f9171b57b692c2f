//! The thin safe layer over the server's module API. It knows none of the commands and types above it.
//!
//! A command handler sees a [`Call`]: its arguments as byte slices of the server's own strings, typed keys, a clock, a
//! reply and one way to replicate. A data type implements [`Value`], and this layer turns it into the server's callbacks.
//!
//! All `unsafe` code is here; outside, only the functions that the macros `entry!`, `retry!` and `module!` expand to contain
//! any. Whatever could panic in a function that the server calls runs under the panic [`guard`]: handlers, tasks, listeners
//! and the callbacks of data types and text settings. Code outside it only reads or writes an atomic, or replies an
//! error.

pub mod alarm;
// Unit tests run without a server, and so without its allocator.
#[cfg(not(test))]
pub mod alloc;
mod api;
pub mod args;
mod ask;
pub mod blocked;
pub mod call;
mod clock;
mod cluster;
pub mod command;
pub mod config;
pub mod counter;
pub mod digest;
pub mod effect;
pub mod error;
pub mod events;
pub mod guard;
pub mod info;
pub mod key;
pub mod log;
pub mod module;
pub mod rdb;
pub mod reply;
pub mod scan;
pub mod shared;
pub mod timer;
pub mod types;
pub mod value;

pub use args::{Key, Str};
pub use call::Call;
pub use error::{Error, Outcome};
pub use value::Value;
