//! A panic must never cross into the server: it would take every client's data with it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::counter::Counter;
use super::log;

/// Panics in commands, timers and events that the guard has caught.
pub static INTERNAL_ERRORS: Counter = Counter::new();

/// Runs `body`. A panic gives `None`, after the hook of [`install`] has logged its message and place.
///
/// Unwind safety: after a panic the state that `body` worked on may be half changed, but it is memory-safe, and the
/// alternative is to lose all of it.
pub fn guarded<T>(body: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(body)).ok()
}

/// Sends panics to the server's log instead of standard error.
pub fn install() {
    std::panic::set_hook(Box::new(|panic| log::warning(&format!("internal error, please report it: {panic}"))));
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_panic_becomes_none() {
        assert_eq!(super::guarded(|| 1), Some(1));
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        assert_eq!(super::guarded(|| -> u8 { panic!("on purpose") }), None);
        std::panic::set_hook(hook);
    }
}
