//! State of the whole module, which only the server's main thread touches.

use std::cell::{RefCell, RefMut};

/// A value for the main thread alone, where all commands and configuration callbacks run.
///
/// Code that may run elsewhere (`free` of a data type, background threads) must not touch one.
pub struct MainThread<T>(RefCell<T>);

// SAFETY: the server runs commands, configuration and load callbacks one at a time on its main thread, and forked
// children have a copy of their own.
unsafe impl<T> Sync for MainThread<T> {}

impl<T> MainThread<T> {
    pub const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    /// Panics, into the guard, if it is already borrowed: no command calls another.
    pub fn borrow(&self) -> RefMut<'_, T> {
        self.0.borrow_mut()
    }
}
