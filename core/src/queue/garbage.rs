//! Frees memory incrementally.
//!
//! It frees in steps with pauses, since even a thread of its own can delay the server if the machine has no core to
//! spare (docs/src/internals/decisions.md, "Freed in steps, with pauses").

use super::block::Block;
use super::pack::Job;
use super::value::Queue;
use super::work::Work;

/// Blocks freed in one step: less than 0.1 ms of work.
const BLOCKS_PER_STEP: usize = 64;

/// Queues and blocks to be freed, on any thread.
#[derive(Debug, Default)]
pub struct Garbage {
    queues: Vec<Queue>,
    blocks: Vec<Block>,
}

impl Garbage {
    /// Whether nothing is left to free.
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.blocks.is_empty()
    }

    /// Adds a queue to be freed.
    pub fn add(&mut self, queue: Queue) {
        self.queues.push(queue);
    }

    pub(super) fn add_blocks(&mut self, blocks: Vec<Block>) {
        self.blocks.extend(blocks);
    }

    /// Frees some memory, in less than 0.1 ms.
    pub fn free_some(&mut self) {
        for _ in 0..BLOCKS_PER_STEP {
            let Some(queue) = self.queues.last_mut().filter(|_| self.blocks.is_empty()) else {
                self.blocks.pop();
                continue;
            };
            if queue.blocks.pop_back().is_some() {
                continue;
            }
            match queue.leased.pop().or_else(|| queue.dead.pop()) {
                Some(batch) => self.blocks.extend(batch.blocks),
                None => drop(self.queues.pop()),
            }
        }
        if self.blocks.is_empty() {
            self.blocks = Vec::new();
        }
    }
}

impl Work {
    /// Compresses the blocks that are full; blocks to be freed go to `garbage`.
    pub fn run(self, garbage: &mut Garbage) {
        garbage.add_blocks(self.freed);
        self.jobs.into_iter().for_each(Job::run);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BatchId, BatchLease};
    use super::*;

    #[test]
    fn a_queue_is_freed_in_steps_whatever_it_holds() {
        let mut queue = Queue::new();
        let record = [7; 1_000];
        for number in 0..100 {
            for _ in 0..200 {
                queue.push(1_000, 0, [&record[..]], 0);
            }
            let lease = BatchLease { id: BatchId::next(0, 1_000 + number, 7), until_ms: 2_000, deliveries_max: 3 };
            queue.lease(1_000, lease, 130);
            if number % 2 == 0 {
                queue.dead_letter(1_000, lease.id);
            }
        }
        let batches = queue.leased.batches().iter().chain(queue.dead.iter());
        let blocks = queue.blocks.len() + batches.map(|(_, batch)| batch.blocks.len()).sum::<usize>();
        let mut garbage = Garbage::default();
        garbage.add(queue.clone());
        garbage.add_blocks(queue.blocks.into());
        let mut steps = 0;
        while !garbage.is_empty() {
            garbage.free_some();
            steps += 1;
        }
        assert!(steps >= blocks / BLOCKS_PER_STEP, "{blocks} blocks in {steps} steps");
        assert!(steps < 3 * blocks / BLOCKS_PER_STEP, "{blocks} blocks in {steps} steps");
    }
}
