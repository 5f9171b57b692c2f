//! The module's state outside the keys.
//!
//! Three kinds of statics hold it, each for one purpose. A plain `static`, if its first value can be made at compile time.
//! `lazy_static!`, if that takes running code: the first use, often a setting's default at load, makes the value.
//! `OnceLock`, if the value comes from elsewhere, as the module's declaration does when it is loaded.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};

/// A value that commands, settings and load callbacks share. They run one at a time on the server's main thread, so nobody
/// ever waits for the lock.
///
/// Code that may run on other threads (`Drop` of a data type) must not use it.
///
/// A mutex of the standard library would do as well, but takes twice the instructions, 14 more, on the path of every refusal
/// and metered command, which GW.TOP may make 2 % dearer at most (docs/src/internals/decisions.md, "Heavy hitters").
pub struct MainThread<T> {
    is_borrowed: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `borrow` gives the value to one caller at a time, whichever thread it is on, as a mutex does.
unsafe impl<T: Send> Sync for MainThread<T> {}

impl<T> MainThread<T> {
    pub const fn new(value: T) -> Self {
        Self { is_borrowed: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Panics, into the guard, if the value is already borrowed: to wait for it would stop the server for good.
    ///
    /// After a panic while it was borrowed the value is as usable as everything else that a panic leaves behind.
    #[inline]
    pub fn borrow(&self) -> Borrowed<'_, T> {
        assert!(!self.is_borrowed.swap(true, Ordering::Acquire), "shared state is borrowed twice");
        Borrowed(self, PhantomData)
    }
}

/// A borrowed value, until it is dropped. It stays on its thread.
pub struct Borrowed<'a, T>(&'a MainThread<T>, PhantomData<*mut T>);

impl<T> Deref for Borrowed<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: while this lives, `is_borrowed` keeps others from the value.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Borrowed<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: while this lives, `is_borrowed` keeps others from the value.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Borrowed<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.0.is_borrowed.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::MainThread;

    #[test]
    fn a_value_is_borrowed_once_at_a_time_and_is_free_after_a_panic() {
        static VALUE: MainThread<Vec<u8>> = MainThread::new(Vec::new());
        VALUE.borrow().push(1);
        let twice = std::panic::catch_unwind(|| {
            let mut first = VALUE.borrow();
            first.push(2);
            drop(VALUE.borrow());
        });
        assert!(twice.is_err());
        assert_eq!(*VALUE.borrow(), [1, 2]);
    }
}
