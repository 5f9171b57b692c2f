//! The queue written down. Blocks are the unit: one that is compressed is written as it is.

use super::batch::{Batch, TIME_MAX_US};
use super::block::Block;
use super::{COUNT_MAX, Queue, VERSION};
use crate::codec::{Corrupt, Encoded, Reader, Writer};

/// A queue in parts of which each is one block or batch, for a rewritten AOF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Counts and times. Comes first.
    Head,
    Waiting,
    Leased,
    Dead,
}

impl Queue {
    pub fn save(&self, out: &mut dyn Writer) {
        self.save_head(out);
        out.uint(self.blocks.len() as u64);
        self.blocks.iter().for_each(|block| block.save(out));
        for batches in [self.leased.batches(), &self.dead] {
            out.uint(batches.len() as u64);
            batches.iter().for_each(|(id, batch)| batch.save(id, out));
        }
    }

    /// Reads what [`Self::save`] of that `version` wrote.
    pub fn load(from: &mut dyn Reader, version: u32) -> Result<Self, Corrupt> {
        if version != VERSION {
            return Err(Corrupt("a queue of an unknown version"));
        }
        let mut queue = Self::new();
        queue.load_part(Part::Head, from)?;
        for part in [Part::Waiting, Part::Leased, Part::Dead] {
            for _ in 0..from.uint()? {
                queue.load_part(part, from)?;
            }
        }
        Ok(queue)
    }

    /// Writes the queue down part by part; `emit` gets each.
    pub fn save_parts(&self, emit: &mut dyn FnMut(Part, Encoded)) {
        let mut emit = |part, save: &dyn Fn(&mut Encoded)| {
            let mut out = Encoded::default();
            save(&mut out);
            emit(part, out);
        };
        emit(Part::Head, &|out| self.save_head(out));
        for block in &self.blocks {
            emit(Part::Waiting, &|out| block.save(out));
        }
        for (part, batches) in [(Part::Leased, self.leased.batches()), (Part::Dead, &self.dead)] {
            for (id, batch) in batches.iter() {
                emit(part, &|out| batch.save(id, out));
            }
        }
    }

    /// Reads a part that [`Self::save_parts`] wrote, behind those that came before.
    pub fn load_part(&mut self, part: Part, from: &mut dyn Reader) -> Result<(), Corrupt> {
        match part {
            Part::Head => self.load_head(from)?,
            Part::Waiting => {
                let block = Block::load(from)?;
                if let Some(full) = self.blocks.back_mut() {
                    self.work.jobs.extend(full.close());
                }
                self.waiting += block.size();
                self.blocks.push_back(block);
            }
            Part::Leased | Part::Dead => {
                let (id, mut batch) = Batch::load(from)?;
                let others = if part == Part::Leased { self.leased.batches() } else { &self.dead };
                if others.get(id).is_some() {
                    return Err(Corrupt("a batch twice"));
                }
                self.last_id_us = self.last_id_us.max(id.time_us());
                if part == Part::Leased {
                    self.leased.insert(id, batch);
                } else {
                    batch.close(&mut self.work.jobs);
                    self.dead.insert(id, batch);
                }
            }
        }
        Ok(())
    }

    fn save_head(&self, out: &mut dyn Writer) {
        self.counts.all().into_iter().for_each(|count| out.uint(count));
        out.int(self.at_ms);
        out.uint(self.last_id_us);
    }

    fn load_head(&mut self, from: &mut dyn Reader) -> Result<(), Corrupt> {
        let mut count = || from.uint_max(COUNT_MAX, "a count out of bounds");
        let counts = super::Counts {
            pushed: count()?,
            popped: count()?,
            acked: count()?,
            redelivered: count()?,
            dropped: count()?,
            buried: count()?,
        };
        let at_ms = from.time_ms("the time of a change")?;
        let last_id_us = from.uint_max(TIME_MAX_US, "the last batch's name")?;
        (self.counts, self.at_ms, self.last_id_us) = (counts, at_ms, last_id_us);
        Ok(())
    }

    /// What makes two queues equal: counts, records with their times, batches; however their blocks came about.
    pub fn digest(&self, out: &mut dyn Writer) {
        self.save_head(out);
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
}
