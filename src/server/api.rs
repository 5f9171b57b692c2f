//! Calls into the server's module API.

/// Calls a function of the server's module API by its name without the `RedisModule_` prefix.
///
/// The pointers are filled in when the module loads. A function that this server does not have panics, and the guard turns
/// that into an error reply. Functions that only newer servers have are looked up with `raw::RedisModule_…` and matched.
macro_rules! api {
    ($name:ident($($argument:expr),* $(,)?)) => {
        redis_module::raw::$name.unwrap()($($argument),*)
    };
}
pub(super) use api;
