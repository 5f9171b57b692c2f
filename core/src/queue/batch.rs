//! Batches: records handed out together under an id, until they are acknowledged.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use std::collections::BTreeMap;
use std::fmt;

use super::block::Block;
use super::bounds::{BATCH_RECORDS_MAX, COUNT_MAX, DELIVERIES_MAX, TIME_MAX_US};
use super::pack::Job;
use super::size::Size;
use crate::TIME_MAX_MS;
use crate::codec::{Corrupt, Reader, Writer};
use crate::memory::allocated_bytes;

/// The id of a batch, unique for ever: a clock in microseconds that grows with each id of a node, and a number that
/// differs for each node and for each of its restarts. (Kulkarni et al., "Logical Physical Clocks", 2014.) Ids of one
/// node sort by age.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId {
    time_us: u64,
    node: u32,
}

impl BatchId {
    /// The length of an id as text, in bytes: hexadecimal digits.
    pub const TEXT_BYTES: usize = 24;

    /// The id of a new batch, after `last_us`, the largest time in any id that this node knows of.
    pub fn next(last_us: u64, now_ms: i64, node: u32) -> Self {
        let time_us = last_us.saturating_add(1).max(now_ms.unsigned_abs().saturating_mul(1_000));
        Self { time_us: time_us.min(TIME_MAX_US), node }
    }

    /// The clock, in unix microseconds.
    pub fn time_us(&self) -> u64 {
        self.time_us
    }

    /// Parses an id; `None` if the text is not one.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digits = std::str::from_utf8(text).ok().filter(|text| text.len() == Self::TEXT_BYTES)?;
        if digits.bytes().any(|digit| !matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let (time, node) = digits.split_at_checked(16)?;
        let time_us = u64::from_str_radix(time, 16).ok().filter(|time_us| *time_us <= TIME_MAX_US)?;
        Some(Self { time_us, node: u32::from_str_radix(node, 16).ok()? })
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:08x}", self.time_us, self.node)
    }
}

/// Records that were handed out together.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub(super) blocks: Vec<Block>,
    pub(super) size: Size,
    /// When the lease ends, in unix milliseconds; from then on the batch can be delivered again.
    pub(super) due_ms: i64,
    /// The number of the latest delivery. It never goes back, so it tells deliveries apart.
    pub(super) deliveries: u64,
    /// The deliveries before the batch was last requeued, which `deliveries_max` does not count.
    pub(super) deliveries_before: u64,
    /// After this number of deliveries the batch becomes a dead letter instead of being delivered again.
    pub(super) deliveries_max: u64,
    /// Which records of the latest delivery were taken out since, by ascending index in that delivery. A request that
    /// is sent again therefore takes out no other records.
    pub(super) taken: Vec<u32>,
}

impl Batch {
    /// The batch's records and their bytes.
    pub fn size(&self) -> Size {
        self.size
    }

    /// When the lease ends, in unix milliseconds.
    pub fn due_ms(&self) -> i64 {
        self.due_ms
    }

    /// The number of the latest delivery.
    pub fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// Whether `delivery` is the latest delivery; `None` stands for the latest. A consumer with an earlier delivery has
    /// lost the batch to another consumer.
    pub fn is_latest(&self, delivery: Option<u64>) -> bool {
        delivery.is_none_or(|delivery| delivery == self.deliveries)
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.deliveries - self.deliveries_before >= self.deliveries_max
    }

    /// Whether any of these records of the latest delivery is still in the batch.
    ///
    /// # Errors
    /// Returns an index that the delivery did not have.
    pub fn has_any(&self, indexes: &[u32]) -> Result<bool, u32> {
        let delivered = self.size.records + self.taken.len() as u64;
        match indexes.iter().find(|&&index| u64::from(index) >= delivered) {
            Some(&index) => Err(index),
            None => Ok(indexes.iter().any(|index| self.taken.binary_search(index).is_err())),
        }
    }

    /// Moves those of these records of the latest delivery that are still in the batch to new blocks.
    pub(super) fn take(&mut self, indexes: &[u32]) -> Vec<Block> {
        let mut wanted: Vec<u32> = indexes.to_vec();
        wanted.sort_unstable();
        let (mut rest, mut out) = (Vec::new(), Vec::<Block>::new());
        let (mut index, mut taken) = (0, Vec::new());
        let mut taken_before = self.taken.iter().copied().peekable();
        for block in std::mem::take(&mut self.blocks) {
            let mut kept = Block::default();
            let spacious_bytes = usize::try_from(block.size().bytes).unwrap_or(usize::MAX);
            block.visit(COUNT_MAX, &mut |record, at_ms| {
                while taken_before.next_if_eq(&index).is_some() {
                    index += 1;
                }
                if wanted.binary_search(&index).is_err() {
                    kept.push(record, at_ms, spacious_bytes);
                } else {
                    taken.push(index);
                    append(&mut out, record, at_ms);
                }
                index += 1;
            });
            if kept.size() == block.size() {
                rest.push(block);
            } else if kept.size().records > 0 {
                rest.push(kept);
            }
        }
        self.blocks = rest;
        self.taken.append(&mut taken);
        self.taken.sort_unstable();
        out.iter().for_each(|block| self.size -= block.size());
        out
    }

    pub(super) fn add(&mut self, block: Block) {
        self.size += block.size();
        self.blocks.push(block);
    }

    /// Passes the records and their times to `visit`, oldest first.
    pub fn visit(&self, visit: &mut dyn FnMut(&[u8], i64)) {
        self.blocks.iter().for_each(|block| block.visit(COUNT_MAX, visit));
    }

    pub(super) fn close(&mut self, jobs: &mut Vec<Job>) {
        jobs.extend(self.blocks.iter_mut().filter_map(Block::close));
    }

    pub(super) fn save(&self, id: BatchId, out: &mut dyn Writer) {
        out.uint(id.time_us);
        out.uint(id.node.into());
        self.save_delivery(out);
        out.uint(self.blocks.len() as u64);
        self.blocks.iter().for_each(|block| block.save(out));
    }

    fn save_delivery(&self, out: &mut dyn Writer) {
        out.int(self.due_ms);
        out.uint(self.deliveries);
        out.uint(self.deliveries_before);
        out.uint(self.deliveries_max);
        out.uint(self.taken.len() as u64);
        self.taken.iter().for_each(|&index| out.uint(index.into()));
    }

    pub(super) fn load(from: &mut dyn Reader) -> Result<(BatchId, Self), Corrupt> {
        let time_us = from.uint_max(TIME_MAX_US, "a batch's id")?;
        let node = from.uint()?.try_into().map_err(|_| Corrupt("a batch's id"))?;
        let mut batch = Self { due_ms: from.int()?, ..Self::default() };
        if !(-TIME_MAX_MS..=TIME_MAX_MS).contains(&batch.due_ms) {
            return Err(Corrupt("a lease out of bounds"));
        }
        batch.deliveries = from.uint_max(COUNT_MAX, "deliveries")?;
        batch.deliveries_before = from.uint_max(batch.deliveries, "deliveries before those that count")?;
        batch.deliveries_max = from.uint_max(DELIVERIES_MAX, "a maximum of deliveries")?;
        for _ in 0..from.uint_max(BATCH_RECORDS_MAX.into(), "more records than a batch has")? {
            let index = from.uint_max(u64::from(BATCH_RECORDS_MAX) - 1, "an index of no record")?;
            let index = index.try_into().map_err(|_| Corrupt("an index of no record"))?;
            if batch.taken.last().is_some_and(|last| *last >= index) {
                return Err(Corrupt("indexes of records that do not ascend"));
            }
            batch.taken.push(index);
        }
        for _ in 0..from.uint()? {
            batch.add(Block::load(from)?);
        }
        if batch.blocks.is_empty() {
            return Err(Corrupt("a batch without records"));
        }
        let delivered = batch.size.records + batch.taken.len() as u64;
        if batch.taken.last().is_some_and(|&last| u64::from(last) >= delivered) {
            return Err(Corrupt("a record was taken out that was not delivered"));
        }
        Ok((BatchId { time_us, node }, batch))
    }

    pub(super) fn digest(&self, id: BatchId, out: &mut dyn Writer) {
        out.uint(id.time_us);
        out.uint(id.node.into());
        self.save_delivery(out);
        out.uint(self.size.records);
        self.visit(&mut |record, at_ms| {
            out.int(at_ms);
            out.bytes(record);
        });
    }
}

/// Appends a record to the last of the blocks, or to a new one.
fn append(blocks: &mut Vec<Block>, record: &[u8], at_ms: i64) {
    match blocks.last_mut().filter(|block| block.has_room(record.len())) {
        Some(block) => block.push(record, at_ms, 0),
        None => {
            let mut block = Block::default();
            block.push(record, at_ms, 0);
            blocks.push(block);
        }
    }
}

/// Batches by their ids.
#[derive(Debug, Clone, Default)]
pub(super) struct Batches {
    pub(super) by_id: BTreeMap<BatchId, Batch>,
    size: Size,
}

impl Batches {
    pub fn insert(&mut self, id: BatchId, batch: Batch) {
        self.size += batch.size;
        if let Some(before) = self.by_id.insert(id, batch) {
            self.size -= before.size;
        }
    }

    pub fn remove(&mut self, id: BatchId) -> Option<Batch> {
        let batch = self.by_id.remove(&id)?;
        self.size -= batch.size;
        Some(batch)
    }

    /// Removes and returns the oldest batch.
    pub fn pop(&mut self) -> Option<Batch> {
        let (_, batch) = self.by_id.pop_first()?;
        self.size -= batch.size;
        Some(batch)
    }

    pub fn get(&self, id: BatchId) -> Option<&Batch> {
        self.by_id.get(&id)
    }

    pub fn size(&self) -> Size {
        self.size
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The id of the oldest batch.
    pub fn first_id(&self) -> Option<BatchId> {
        self.by_id.first_key_value().map(|(id, _)| *id)
    }

    /// The batches by age.
    pub fn iter(&self) -> impl Iterator<Item = (BatchId, &Batch)> {
        self.by_id.iter().map(|(id, batch)| (*id, batch))
    }

    pub fn blocks_mut(&mut self) -> impl Iterator<Item = &mut Block> {
        self.by_id.values_mut().flat_map(|batch| &mut batch.blocks)
    }

    /// Bytes allocated, including those of the blocks. If there are more than 500 batches or 2,000 blocks, only the
    /// oldest are looked at and the others are assumed to be like them, so that the time is bounded. The standard map
    /// has about one node for 8 entries.
    pub fn memory_bytes(&self) -> usize {
        const BATCHES_MAX: usize = 500;
        const BLOCKS_MAX: usize = 2_000;
        // The weight of a batch in addition to that of its records.
        const BATCH_BYTES: u64 = 256;
        let node = allocated_bytes(11 * (size_of::<BatchId>() + size_of::<Batch>()) + 16);
        let (mut blocks, mut bytes, mut weight) = (0, 0, 0);
        for batch in self.by_id.values().take(BATCHES_MAX) {
            if blocks > BLOCKS_MAX {
                break;
            }
            blocks += batch.blocks.len();
            bytes += allocated_bytes(batch.blocks.capacity() * size_of::<Block>());
            bytes += allocated_bytes(batch.taken.capacity() * size_of::<u32>());
            bytes += batch.blocks.iter().map(Block::memory_bytes).sum::<usize>();
            weight += batch.size.bytes + BATCH_BYTES;
        }
        let weight_of_all = u128::from(self.size.bytes) + u128::from(BATCH_BYTES) * self.len() as u128;
        let bytes_of_all = (bytes as u128 * weight_of_all).checked_div(weight.into()).unwrap_or(0);
        self.len().div_ceil(8) * node + bytes_of_all as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_sort_by_age() {
        let first = BatchId::next(0, 1_770_000_000_000, 7);
        let second = BatchId::next(first.time_us, 1_770_000_000_000, 7);
        // The clock steps back, the id does not.
        let third = BatchId::next(second.time_us, 5, 7);
        assert!(first < second && second < third);
        assert_eq!(first.to_string(), "000649ce3d40a00000000007");
        for id in [first, second, third] {
            assert!(id.to_string().len() == BatchId::TEXT_BYTES);
            assert_eq!(BatchId::parse(id.to_string().as_bytes()), Some(id));
        }
        for text in [
            "",
            "000649ce3d40a0000000000",
            "000649CE3D40A00000000007",
            "+00649ce3d40a00000000007",
            "ffffffffffffffff00000007",
            "é",
        ] {
            assert_eq!(BatchId::parse(text.as_bytes()), None, "{text}");
        }
    }
}
