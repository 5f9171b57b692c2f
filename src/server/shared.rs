//! The module's state outside the keys.
//!
//! Three kinds of statics hold it, each for one purpose. A plain `static`, if its first value can be made at compile time.
//! `lazy_static!`, if that takes running code: the first use, often a setting's default at load, makes the value.
//! `OnceLock`, if the value comes from elsewhere, as the module's declaration does when it is loaded.

use std::sync::{Mutex, MutexGuard, TryLockError};

/// A value that commands, settings and load callbacks share. They run one at a time on the server's main thread, so nobody
/// ever waits for the lock.
///
/// Code that may run on other threads (`Drop` of a data type) must not use it.
pub struct MainThread<T>(Mutex<T>);

impl<T> MainThread<T> {
    pub const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Panics, into the guard, if the value is already borrowed: to wait for it would stop the server for good.
    pub fn borrow(&self) -> MutexGuard<'_, T> {
        match self.0.try_lock() {
            Ok(guard) => guard,
            // There was a panic while it was borrowed. The value is as usable as everything else that a panic leaves behind.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => panic!("shared state is borrowed twice"),
        }
    }
}
