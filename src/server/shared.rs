//! State of the whole module beside the keys.

use std::sync::{Mutex, MutexGuard, TryLockError};

/// A value that commands, configuration and load callbacks share. They run one at a time on the server's main thread, so
/// the lock is never waited for.
///
/// Code that runs elsewhere (`Drop` of a data type) must not touch one.
pub struct MainThread<T>(Mutex<T>);

impl<T> MainThread<T> {
    pub const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Panics, into the guard, if it is already borrowed: waiting for oneself would stop the server for good.
    pub fn borrow(&self) -> MutexGuard<'_, T> {
        match self.0.try_lock() {
            Ok(guard) => guard,
            // A panic while it was borrowed: the value is as good as any that a panic left behind.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => panic!("shared state is borrowed twice"),
        }
    }
}
