//! The thin safe layer over the server's module API, and the only place with `unsafe`.
//!
//! A command handler sees a [`Call`]: its arguments as byte slices of the server's own strings, typed keys, a clock, a
//! reply writer and one way to replicate. A data type implements [`Value`], and this layer turns it into the server's
//! callbacks. Everything that the server calls passes the panic [`guard`].

/// Calls a function of the server's module API by its name without the `RedisModule_` prefix.
///
/// The pointers are filled in when the module loads. One that this server does not have panics, which the guard turns
/// into an error reply; those that only newer servers have are looked up with `raw::RedisModule_…` and matched.
macro_rules! api {
    ($name:ident($($argument:expr_2021),* $(,)?)) => {
        redis_module::raw::$name.unwrap()($($argument),*)
    };
}

// Unit tests run without a server, and so without its allocator.
#[cfg(not(test))]
pub mod alloc;
pub mod args;
pub mod blocked;
pub mod call;
pub mod command;
pub mod config;
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
pub mod stats;
pub mod timer;
pub mod value;

pub use args::{Key, Str};
pub use call::Call;
pub use error::{Error, Outcome};
pub use value::Value;
