//! Reading records, and handing them out without a lease.

use super::block::Block;
use super::size::Size;
use super::value::{Queue, count};

impl Queue {
    /// How many records [`Self::peek`] and [`Self::pop`] should take at `now_ms`: up to `count`, with up to `max_bytes`
    /// in all, but at least one if the queue has any.
    pub fn measure(&self, now_ms: i64, count: u64, max_bytes: u64) -> u64 {
        measured(self.oldest_blocks(now_ms), count, max_bytes)
    }

    /// Passes the `count` oldest records and their times to `visit`: those of batches that have come back, then those in no
    /// batch.
    pub fn peek(&self, now_ms: i64, count: u64, visit: &mut dyn FnMut(&[u8], i64)) {
        let mut left = count;
        for block in self.oldest_blocks(now_ms) {
            if left == 0 {
                break;
            }
            block.visit(left, visit);
            left = left.saturating_sub(block.size().records);
        }
    }

    fn oldest_blocks(&self, now_ms: i64) -> impl Iterator<Item = &Block> {
        let returned = self.leased.returned(self.lease_clock_ms(now_ms));
        returned.flat_map(|(_, batch)| &batch.blocks).chain(&self.blocks)
    }

    /// Expands the block that a pop of `count` records takes in part, so that the next pop need not do it again. Does not
    /// change the value.
    pub fn warm(&mut self, count: u64) {
        let mut left = count;
        for block in &mut self.blocks {
            if left < block.size().records {
                if left > 0 {
                    block.expand();
                }
                return;
            }
            left -= block.size().records;
        }
    }

    /// Removes the `records` oldest records, in the order of [`Self::peek`]. A batch that has come back and is removed
    /// in part is dissolved: its other records wait in front of all others.
    pub fn pop(&mut self, now_ms: i64, records: u64) {
        self.move_exhausted(now_ms);
        let mut left = records;
        while left > 0 {
            let Some((id, _)) = self.leased.returned(now_ms).next() else { break };
            let Some(batch) = self.leased.remove(id) else { break };
            count(&mut self.counts.redelivered, left.min(batch.size.records));
            let mut rest = Vec::new();
            for mut block in batch.blocks {
                left -= block.skip(left).records;
                if block.size().records > 0 {
                    rest.push(block);
                }
            }
            for block in rest.into_iter().rev() {
                self.waiting += block.size();
                self.blocks.push_front(block);
            }
        }
        let popped = self.remove_front(left);
        count(&mut self.counts.popped, popped.records);
    }
}

/// How many records of the blocks fit into `max_bytes`: up to `count`, but at least one.
pub(super) fn measured<'a>(blocks: impl Iterator<Item = &'a Block>, count: u64, max_bytes: u64) -> u64 {
    let mut taken = Size::default();
    for block in blocks {
        let size = block.size();
        if taken.records + size.records <= count && taken.bytes + size.bytes <= max_bytes {
            taken += size;
            continue;
        }
        for len in block.lens() {
            if taken.records == count || (taken.bytes + len > max_bytes && taken.records > 0) {
                return taken.records;
            }
            taken += Size { records: 1, bytes: len };
        }
    }
    taken.records
}
