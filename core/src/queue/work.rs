//! Work that changes leave for other threads.

use super::block::Block;
use super::pack::Job;

/// Work left after changes, for any thread: blocks to compress, and large numbers of blocks to free.
#[derive(Debug, Clone, Default)]
pub struct Work {
    pub(super) jobs: Vec<Job>,
    pub(super) freed: Vec<Block>,
}

impl Work {
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.freed.is_empty()
    }
}
