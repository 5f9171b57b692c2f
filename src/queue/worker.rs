//! Compresses full blocks and frees large numbers of them on a thread of its own, so that no client waits for that
//! (docs/src/internals/decisions.md, "Compressed on another thread").
//!
//! The thread does not use the server's API. It shares only the blocks it was given with the main thread, in such a way
//! that a forked child finds them complete at any time (see the core's `queue::pack`).

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::Builder;
use std::time::Duration;

use gateway_core::queue::{Garbage, Queue, Work};
use gateway_core::stored::Stored as _;
use lazy_static::lazy_static;

use crate::server::guard::guarded;

lazy_static! {
    /// Started with the first task. `None` if the system cannot start a thread.
    static ref WORKER: Option<Sender<Task>> = start();
}

/// Queues with more allocations than this are slow to free.
const FREED_ALLOCATIONS_MAX: usize = 64;

/// The pause before freeing begins, and between its steps: the client that deletes a queue has its reply before the
/// thread begins.
const PAUSE: Duration = Duration::from_millis(1);

enum Task {
    Work(Work),
    Free(Box<Queue>),
}

/// Submits the work that the last changes of a queue have left. Without a worker, blocks stay as they are.
pub fn submit(queue: &mut Queue) {
    if let Some(work) = queue.take_work() {
        send(Task::Work(work));
    }
}

/// Frees a queue. Freeing a million records takes longer than a client should wait for DEL.
pub fn free(queue: Queue) {
    if queue.allocations() > FREED_ALLOCATIONS_MAX {
        send(Task::Free(Box::new(queue)));
    }
}

fn send(task: Task) {
    if let Some(worker) = &*WORKER {
        // Sending fails only after the thread has ended, and it ends only with the process.
        let _ = worker.send(task);
    }
}

fn start() -> Option<Sender<Task>> {
    let (sender, receiver) = channel();
    Builder::new().name("gw-queues".to_owned()).spawn(move || run(&receiver)).ok().map(|_| sender)
}

fn run(receiver: &Receiver<Task>) {
    let mut garbage = Garbage::default();
    loop {
        let next = match garbage.is_empty() {
            true => receiver.recv().map_err(RecvTimeoutError::from),
            false => receiver.recv_timeout(PAUSE),
        };
        match next {
            Ok(Task::Work(work)) => guarded(|| {
                work.run(&mut garbage);
                // Frees some memory even if pushes keep the thread busy.
                garbage.free_some();
            }),
            Ok(Task::Free(queue)) => guarded(|| garbage.add(*queue)),
            Err(RecvTimeoutError::Timeout) => guarded(|| garbage.free_some()),
            Err(RecvTimeoutError::Disconnected) => return,
        };
    }
}
