//! Frees large indexes on a thread of its own, a little at a time: to free 100,000 entries takes longer than a client should
//! wait for DEL. The thread does not use the server's API, and nobody else has what it frees.

use std::sync::mpsc::{Sender, channel};
use std::thread::{Builder, sleep};
use std::time::Duration;

use gateway_core::stored::Stored as _;
use lazy_static::lazy_static;

use super::member::SemanticIndex;
use crate::server::guard::guarded;

lazy_static! {
    /// Started with the first index. `None` if the system cannot start a thread.
    static ref WORKER: Option<Sender<SemanticIndex>> = start();
}

/// Indexes with fewer allocations are freed at once.
const FREED_ALLOCATIONS_MAX: usize = 64;

/// Entries that are freed in one go, and the pause before each: the client that deletes an index has its reply before the
/// thread begins, and the thread keeps the allocator's locks from nobody for long.
const ENTRIES: usize = 512;
const PAUSE: Duration = Duration::from_millis(1);

pub fn free(index: SemanticIndex) {
    if index.allocations() > FREED_ALLOCATIONS_MAX
        && let Some(worker) = &*WORKER
    {
        // Sending fails only after the thread has ended, and it ends only with the process.
        let _ = worker.send(index);
    }
}

fn start() -> Option<Sender<SemanticIndex>> {
    let (sender, receiver) = channel::<SemanticIndex>();
    let run = move || {
        for mut index in receiver {
            guarded(|| {
                sleep(PAUSE);
                while index.free_some(ENTRIES) {
                    sleep(PAUSE);
                }
            });
        }
    };
    Builder::new().name("gw-semantic".to_owned()).spawn(run).ok().map(|_| sender)
}
