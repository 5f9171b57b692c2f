//! A job: ships its share of a part's queues, one batch after the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::object;
use super::put::{Put, Stored};
use super::queue::{Batch, Queue};
use super::queues::Queues;
use super::settings::Ship;
use super::target::{Columns, Target};
use crate::nodes::Seed;
use crate::stop::{Backoff, Stop};
use crate::supervise::Reporter;

/// How long to wait if none of the queues has anything.
const IDLE: Duration = Duration::from_millis(200);
/// The longest time until a queue that could not be shipped is tried again.
const PAUSE_MAX: Duration = Duration::from_secs(30);

pub struct Worker {
    pub part: Ship,
    pub seed: Seed,
    pub queues: Arc<Queues>,
    pub columns: Columns,
    /// The index of this job among so many.
    pub share: (usize, usize),
}

/// A queue, and what is wrong with it.
struct Line<'a> {
    queue: Queue<'a>,
    backoff: Backoff,
    /// Why it could not be shipped, and when to try again.
    failed: Option<(String, Instant)>,
}

impl Worker {
    /// Runs until the end is requested; the batch in hand is finished or given back. A queue that cannot be shipped does
    /// not hold up the others.
    pub fn run(&self, stop: &Stop, reporter: &Reporter) -> Result<()> {
        let mut target = Target::open(&self.part, Arc::clone(&self.columns))?;
        let mut lines: BTreeMap<String, Line<'_>> = BTreeMap::new();
        let (index, jobs) = self.share;
        while !stop.is_requested() {
            let (names, looked) = self.queues.of(index, jobs);
            lines.retain(|name, _| names.contains(name));
            for name in names {
                lines.entry(name).or_insert_with_key(|name| {
                    let queue = Queue::new(self.seed.clone(), name, *self.part.lease.as_ref(), stop, reporter);
                    Line { queue, backoff: Backoff::up_to(PAUSE_MAX), failed: None }
                });
            }
            let (is_alone, mut is_idle) = (lines.len() == 1, true);
            for line in lines.values_mut().take_while(|_| !stop.is_requested()) {
                is_idle &= !self.serve(line, &mut target, is_alone, stop, reporter);
            }
            let failed = lines.iter().find_map(|(name, line)| Some((name, &line.failed.as_ref()?.0)));
            match (looked, failed) {
                (Err(error), _) => {
                    tracing::warn!(%error, "cannot look for queues; trying again");
                    reporter.waiting(&format_args!("cannot look for queues: {error}"));
                }
                (Ok(()), Some((name, error))) => reporter.waiting(&format_args!("{name}: {error}")),
                (Ok(()), None) => reporter.well(),
            }
            if is_idle {
                stop.pause(IDLE);
            }
        }
        Ok(())
    }

    /// Ships one batch of a queue. Returns false if there was nothing to do.
    fn serve(&self, line: &mut Line<'_>, target: &mut Target, waits: bool, stop: &Stop, reporter: &Reporter) -> bool {
        if line.failed.as_ref().is_some_and(|(_, again)| *again > Instant::now()) {
            return false;
        }
        match self.next(&mut line.queue, target, waits, stop, reporter) {
            Ok(shipped) => {
                line.failed = None;
                line.backoff.reset();
                shipped
            }
            Err(error) => {
                let pause = line.backoff.next();
                let (queue, error) = (line.queue.key(), format!("{error:#}"));
                tracing::error!(queue, error, pause_ms = pause.as_millis() as u64, "cannot be shipped; trying again");
                line.failed = Some((error, Instant::now() + pause));
                false
            }
        }
    }

    fn next(
        &self,
        queue: &mut Queue<'_>,
        target: &mut Target,
        waits: bool,
        stop: &Stop,
        reporter: &Reporter,
    ) -> Result<bool> {
        let Ship { records, bytes, linger, .. } = &self.part;
        let (records, bytes, linger) = (*records.as_ref(), *bytes.as_ref(), *linger.as_ref());
        let lingers = !linger.is_zero();
        if lingers && !queue.is_worth_it(records, bytes, linger)? {
            return Ok(false);
        }
        let Some(batch) = queue.lease(records, bytes, waits && !lingers)? else { return Ok(false) };
        self.ship(queue, target, &batch, stop, reporter)?;
        Ok(true)
    }

    fn ship(
        &self,
        queue: &mut Queue<'_>,
        target: &mut Target,
        batch: &Batch,
        stop: &Stop,
        reporter: &Reporter,
    ) -> Result<()> {
        // Given up before anything is stored under the batch's id, since what is stored does not change any more.
        let mut poison = object::poison(&batch.records);
        let mut kept: Vec<usize> = (0..batch.records.len()).collect();
        let stored = loop {
            if !poison.is_empty() {
                // Positions in what was tried; the server wants those in the delivery.
                poison.iter_mut().for_each(|record| record.index = kept[record.index]);
                let indexes: Vec<usize> = poison.iter().map(|record| record.index).collect();
                if !queue.give_up(batch, &indexes)? {
                    lost(queue, batch);
                    return Ok(());
                }
                for record in &poison {
                    tracing::warn!(queue = queue.key(), batch = %batch.id, "to the dead letters: {record}");
                }
                kept.retain(|index| !indexes.contains(index));
            }
            if kept.is_empty() {
                return Ok(());
            }
            match self.put(queue, target, batch, &kept, stop, reporter)? {
                Some(Put::Refused(refused)) => poison = refused,
                Some(Put::Stored(stored)) => break stored,
                None => return Ok(()),
            }
        };
        if !queue.ack(batch)? {
            // It is stored all the same: under the id that the other process has, too.
            lost(queue, batch);
        }
        let (records, is_new, delivery) = (kept.len(), stored == Stored::Now, batch.delivery);
        tracing::info!(queue = queue.key(), batch = %batch.id, delivery, records, is_new, "shipped");
        Ok(())
    }

    /// A target that fails is tried again for as long as the lease can be extended. That does not count as a delivery, so
    /// an outage makes no dead letters. `None` if another process has the batch now.
    fn put(
        &self,
        queue: &mut Queue<'_>,
        target: &mut Target,
        batch: &Batch,
        kept: &[usize],
        stop: &Stop,
        reporter: &Reporter,
    ) -> Result<Option<Put>> {
        let records: Vec<&[u8]> = kept.iter().map(|&index| &*batch.records[index]).collect();
        // With these times a lease never ends between two extensions.
        let lease = *self.part.lease.as_ref();
        let (time, mut backoff) = (lease / 2, Backoff::up_to(lease / 4));
        loop {
            let error = match target.put(queue.key(), &batch.id, &records, time) {
                Ok(put) => return Ok(Some(put)),
                Err(error) => format!("{error:#}"),
            };
            tracing::warn!(queue = queue.key(), batch = %batch.id, error, "cannot be stored; trying again");
            reporter.waiting(&error);
            if stop.pause(backoff.next()) {
                queue.give_back(batch)?;
                return Ok(None);
            }
            if !queue.extend(batch)? {
                lost(queue, batch);
                return Ok(None);
            }
        }
    }
}

/// This process's lease has ended, and another one has the batch or has acknowledged it. Or a command was repeated that
/// had been carried out before.
fn lost(queue: &Queue<'_>, batch: &Batch) {
    tracing::info!(queue = queue.key(), batch = %batch.id, delivery = batch.delivery, "no longer in the queue");
}
