//! Compresses closed blocks and frees large numbers of them, on a thread of its own: at 2.7 µs a record compressing
//! costs as much as the push itself, and nobody should wait for it.
//!
//! The thread knows nothing of the server. It shares with the main thread only the blocks it was given, and those in a way
//! that a forked child finds whole at any time (see the core's `queue::pack`).

use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::Builder;
use std::time::Duration;

use gateway_core::queue::{Garbage, Queue, Work};
use gateway_core::stored::Stored as _;

use crate::server::guard::guarded;

static WORKER: OnceLock<Option<Sender<Task>>> = OnceLock::new();

/// A queue of more allocations than that takes noticeably long to free.
const FREED_ALLOCATIONS_MAX: usize = 64;

/// Between two steps of freeing, and before the first: whoever deleted something has its reply before the thread begins.
const PAUSE: Duration = Duration::from_millis(1);

enum Task {
    Work(Work),
    Free(Box<Queue>),
}

/// Hands over what the last changes of a queue left to do. Where there is no thread to be had, blocks stay as they are.
pub fn submit(queue: &mut Queue) {
    if let Some(work) = queue.take_work() {
        send(Task::Work(work));
    }
}

/// Frees a queue: a million records take longer than anybody should wait for a DEL.
pub fn free(queue: Queue) {
    if queue.allocations() > FREED_ALLOCATIONS_MAX {
        send(Task::Free(Box::new(queue)));
    }
}

fn send(task: Task) {
    if let Some(worker) = WORKER.get_or_init(start) {
        // It ends with the process only.
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
                // Pushes that keep the thread busy do not keep it from freeing.
                garbage.free_some();
            }),
            Ok(Task::Free(queue)) => guarded(|| garbage.add(*queue)),
            Err(RecvTimeoutError::Timeout) => guarded(|| garbage.free_some()),
            Err(RecvTimeoutError::Disconnected) => return,
        };
    }
}
