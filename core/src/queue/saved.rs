//! The queue as it is stored, block by block; compressed blocks are written compressed.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use super::batch::{Batch, BatchId, Batches};
use super::block::Block;
use super::bounds::{COUNT_MAX, TIME_MAX_US};
use super::ids::Ids;
use super::value::{Counts, Queue};
use crate::codec::{Corrupt, Decoder, Encoded, Reader, Writer};
use crate::memory::allocated_bytes;
use crate::stored::Stored;

/// The kinds of parts that make up a queue in a rewritten AOF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Counts and times. Comes first.
    Head,
    /// Ids of pushes.
    Ids,
    /// A block of records that are in no batch.
    Waiting,
    /// A batch that is leased or has come back.
    Leased,
    /// A dead letter.
    Dead,
}

impl Queue {
    /// Writes the queue part by part, and passes each part to `emit`.
    pub fn save_parts(&self, emit: &mut dyn FnMut(Part, Encoded)) {
        let mut emit = |part, save: &dyn Fn(&mut Encoded)| {
            let mut out = Encoded::default();
            save(&mut out);
            emit(part, out);
        };
        emit(Part::Head, &|out| self.save_head(out));
        for (first, count) in self.ids.parts() {
            emit(Part::Ids, &|out| self.ids.save_some(first, count, out));
        }
        for block in &self.blocks {
            emit(Part::Waiting, &|out| block.save(out));
        }
        for (part, batches) in [(Part::Leased, self.leased.batches()), (Part::Dead, &self.dead)] {
            for (id, batch) in batches.iter() {
                emit(part, &|out| batch.save(id, out));
            }
        }
    }

    /// Reads a part that [`Self::save_parts`] wrote. Parts are read in the order in which they were written.
    ///
    /// # Errors
    /// [`Corrupt`] if the part's fields are cut short, out of bounds or contradict each other, or if bytes are left. Then
    /// the queue is as before.
    pub fn load_part(&mut self, part: Part, payload: &[u8]) -> Result<(), Corrupt> {
        let mut from = Decoder::new(payload);
        let loaded = self.read_part(part, &mut from)?;
        from.finish()?;
        self.add(loaded);
        Ok(())
    }

    fn read_part(&self, part: Part, from: &mut dyn Reader) -> Result<Loaded, Corrupt> {
        Ok(match part {
            Part::Head => Loaded::Head(Head::load(from)?),
            Part::Ids => {
                let mut ids = self.ids.clone();
                ids.load(from)?;
                Loaded::Ids(ids)
            }
            Part::Waiting => Loaded::Waiting(Block::load(from)?),
            Part::Leased | Part::Dead => {
                let (id, batch) = Batch::load(from)?;
                let others = if part == Part::Leased { self.leased.batches() } else { &self.dead };
                if others.get(id).is_some() {
                    return Err(Corrupt("a batch twice"));
                }
                if part == Part::Leased { Loaded::Leased(id, batch) } else { Loaded::Dead(id, batch) }
            }
        })
    }

    fn add(&mut self, loaded: Loaded) {
        match loaded {
            Loaded::Head(Head { counts, at_ms, last_id_us, ids_for_ms }) => {
                (self.counts, self.at_ms, self.last_id_us) = (counts, at_ms, last_id_us);
                self.ids.set_for_ms(ids_for_ms);
            }
            Loaded::Ids(ids) => self.ids = ids,
            Loaded::Waiting(block) => {
                if let Some(full) = self.blocks.back_mut() {
                    self.work.jobs.extend(full.close());
                }
                self.waiting += block.size();
                self.blocks.push_back(block);
            }
            Loaded::Leased(id, batch) => {
                self.last_id_us = self.last_id_us.max(id.time_us());
                self.leased.insert(id, batch);
            }
            Loaded::Dead(id, mut batch) => {
                self.last_id_us = self.last_id_us.max(id.time_us());
                batch.close(&mut self.work.jobs);
                self.dead.insert(id, batch);
            }
        }
    }

    fn save_head(&self, out: &mut dyn Writer) {
        self.counts.all().into_iter().for_each(|count| out.uint(count));
        out.int(self.at_ms);
        out.uint(self.last_id_us);
        self.ids.save_head(out);
    }
}

/// A part that was read, and is not yet in a queue.
enum Loaded {
    Head(Head),
    /// All ids so far.
    Ids(Ids),
    Waiting(Block),
    Leased(BatchId, Batch),
    Dead(BatchId, Batch),
}

struct Head {
    counts: Counts,
    at_ms: i64,
    last_id_us: u64,
    ids_for_ms: u64,
}

impl Head {
    fn load(from: &mut dyn Reader) -> Result<Self, Corrupt> {
        let mut count = || from.uint_max(COUNT_MAX, "a count out of bounds");
        let counts = Counts {
            pushed: count()?,
            popped: count()?,
            acked: count()?,
            redelivered: count()?,
            dropped: count()?,
            dead_lettered: count()?,
            dead_dropped: count()?,
        };
        let at_ms = from.time_ms("the time of a change")?;
        let last_id_us = from.uint_max(TIME_MAX_US, "the last batch's id")?;
        Ok(Self { counts, at_ms, last_id_us, ids_for_ms: Ids::load_for_ms(from)? })
    }
}

impl Stored for Queue {
    const ENCODING: u32 = 2;
    const ENCODING_MIN: u32 = 2;

    fn save(&self, out: &mut dyn Writer) {
        self.save_head(out);
        self.ids.save(out);
        out.uint(self.blocks.len() as u64);
        self.blocks.iter().for_each(|block| block.save(out));
        for batches in [self.leased.batches(), &self.dead] {
            out.uint(batches.len() as u64);
            batches.iter().for_each(|(id, batch)| batch.save(id, out));
        }
    }

    fn load(from: &mut dyn Reader, _encoding: u32) -> Result<Self, Corrupt> {
        let mut queue = Self::new();
        let mut load = |part, from: &mut dyn Reader| queue.read_part(part, from).map(|loaded| queue.add(loaded));
        load(Part::Head, from)?;
        load(Part::Ids, from)?;
        for part in [Part::Waiting, Part::Leased, Part::Dead] {
            for _ in 0..from.uint()? {
                load(part, from)?;
            }
        }
        Ok(queue)
    }

    /// Writes counts, records with their times, and batches, independent of which blocks the records lie in.
    fn digest(&self, out: &mut dyn Writer) {
        self.save_head(out);
        self.ids.save(out);
        out.uint(self.waiting.records);
        for block in &self.blocks {
            block.visit(COUNT_MAX, &mut |record, at_ms| {
                out.int(at_ms);
                out.bytes(record);
            });
        }
        for batches in [self.leased.batches(), &self.dead] {
            out.uint(batches.len() as u64);
            batches.iter().for_each(|(id, batch)| batch.digest(id, out));
        }
    }

    /// Looks at a sample of the blocks if there are more than 2,000, and of the batches if there are many, so that the
    /// time is bounded.
    fn memory_bytes(&self) -> usize {
        const BLOCKS_MAX: usize = 2_000;
        let step = self.blocks.len() / BLOCKS_MAX + 1;
        let seen = (0..self.blocks.len()).step_by(step).filter_map(|index| self.blocks.get(index));
        let (count, bytes) = seen.fold((0, 0), |(count, bytes), block| (count + 1, bytes + block.memory_bytes()));
        let waiting = (bytes as u128 * self.blocks.len() as u128).checked_div(count).unwrap_or(0) as usize;
        let list = allocated_bytes(self.blocks.capacity() * size_of::<Block>());
        waiting + list + self.leased.memory_bytes() + self.dead.memory_bytes() + self.ids.memory_bytes()
    }

    /// Looks at the first 64 blocks and batches only.
    fn allocations(&self) -> usize {
        const SEEN_MAX: usize = 64;
        let batches = [self.leased.batches(), &self.dead];
        let seen = batches.into_iter().flat_map(|batches| batches.iter().take(SEEN_MAX));
        let of_batches: usize = seen.map(|(_, batch)| 1 + 3 * batch.blocks.len()).sum();
        let waiting: usize = self.blocks.iter().take(SEEN_MAX).map(Block::allocations).sum();
        waiting
            + self.blocks.len()
            + self.ids.allocations()
            + of_batches
            + batches.map(Batches::len).iter().sum::<usize>()
    }

    fn buffers(&mut self, from: usize, visit: &mut dyn FnMut(&mut Vec<u8>) -> bool) -> Option<usize> {
        let blocks = self.blocks.iter_mut().chain(self.leased.blocks_mut()).chain(self.dead.blocks_mut());
        let mut buffers = blocks.flat_map(Block::buffers_mut).enumerate().skip(from).peekable();
        while let Some((index, buffer)) = buffers.next() {
            let go_on = visit(buffer);
            if !go_on && buffers.peek().is_some() {
                return Some(index + 1);
            }
            if !go_on {
                return None;
            }
        }
        None
    }
}
