//! Counters of this node. They start at 0 with the server; they are neither saved nor replicated.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter that only the server's main thread writes, so that an addition needs no lock.
pub struct Counter(AtomicU64);

impl Counter {
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub fn add(&self, count: u64) {
        self.0.store(self.get().wrapping_add(count), Ordering::Relaxed);
    }

    pub fn sub(&self, count: u64) {
        self.0.store(self.get().wrapping_sub(count), Ordering::Relaxed);
    }

    /// Raises the count to `least` if it is below.
    pub fn raise(&self, least: u64) {
        self.0.store(self.get().max(least), Ordering::Relaxed);
    }

    /// Sets the count back.
    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
