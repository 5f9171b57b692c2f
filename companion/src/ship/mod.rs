//! Ships the records of log queues to an object store, each in exactly one object, even if processes die at any point:
//!
//! 1. A batch is leased with GW.LOGPOP. It stays in the queue, and comes back if it is not acknowledged in time.
//! 2. Records that are not JSON cannot be in an object, so they are given up: they become a dead letter of their own,
//!    and from then on the batch has the other records, in every delivery.
//! 3. The batch is written as one object, named by its id, unless the object exists. A batch that comes back has the
//!    same id and the same records, so an existing object is of the same batch.
//! 4. The batch is acknowledged with GW.LOGACK.
//!
//! A process that dies before step 3 has stored nothing; one that dies before step 4 leaves the acknowledgement to the
//! next. One that was away for longer than its lease cannot change anything: each command names the delivery that it got.

mod key;
mod object;
mod queue;
pub mod settings;
mod store;

use std::time::Duration;

use anyhow::{Context, Result};
use url::Url;

use crate::nodes::Seed;
use crate::stop::{Backoff, Stop};
use crate::supervise::{Job, Reporter};
use key::Template;
use queue::{Batch, Queue};
use settings::{Format, Ship};
use store::{Created, Store};

/// What ships one queue, as often as it is started.
struct Shipper {
    server: String,
    queue: String,
    to: Url,
    format: Format,
    key: Template,
    records: u32,
    lease: Duration,
}

/// The jobs of a part of the configuration, which was checked: one for each queue, with its name.
///
/// # Errors
/// If the configuration was not checked.
pub fn jobs(config: &Ship, server: &str) -> Result<Vec<(String, Job)>> {
    let jobs = config.queues.as_ref().iter().map(|queue| {
        let shipper = Shipper {
            server: server.to_owned(),
            queue: queue.clone(),
            to: store::address(config.to.as_ref())?,
            format: config.format,
            key: Template::parse(config.key.as_ref()).map_err(anyhow::Error::msg)?,
            records: *config.records.as_ref(),
            lease: *config.lease.as_ref(),
        };
        let job: Job = Box::new(move |stop, reporter| shipper.run(stop, reporter));
        Ok((format!("ship {queue}"), job))
    });
    jobs.collect()
}

impl Shipper {
    /// Runs until the end is requested; the batch in hand is finished or given back.
    fn run(&self, stop: &Stop, reporter: &Reporter) -> Result<()> {
        let store = Store::open(&self.to).with_context(|| format!("cannot use the store {}", self.to))?;
        let mut queue = Queue::new(Seed::new(&self.server)?, &self.queue, self.lease, stop, reporter);
        while !stop.is_requested() {
            let batch = queue.lease(self.records)?;
            if let Some(batch) = batch {
                self.ship(&mut queue, &store, &batch, stop, reporter)?;
            }
            reporter.well();
        }
        Ok(())
    }

    fn ship(&self, queue: &mut Queue, store: &Store, batch: &Batch, stop: &Stop, reporter: &Reporter) -> Result<()> {
        let Batch { id, delivery, records } = batch;
        let poison = object::poison(records);
        if !poison.is_empty() {
            // They cannot be stored later either. This comes before the object, which must not change once it exists.
            let indexes: Vec<usize> = poison.iter().map(|record| record.index).collect();
            if !queue.give_up(batch, &indexes)? {
                lost(queue, batch);
                return Ok(());
            }
            poison.iter().for_each(|record| {
                tracing::warn!(queue = queue.key(), batch = %id, "to the dead letters: {record}");
            });
        }
        let is_poison = |index: usize| poison.iter().any(|record| record.index == index);
        let healthy = records.iter().enumerate().filter(|(index, _)| !is_poison(*index));
        let healthy: Vec<&[u8]> = healthy.map(|(_, record)| &**record).collect();
        if healthy.is_empty() {
            return Ok(());
        }
        let object = object::encode(self.format, &healthy).context("cannot compress")?;
        let name = format!("{}.{}", self.key.name(&self.queue, id), object::ending(self.format));
        let Some(created) = self.create(queue, store, batch, (&name, &object), stop, reporter)? else { return Ok(()) };
        if !queue.ack(batch)? {
            // The object exists all the same: it is the other process's object, too.
            lost(queue, batch);
        }
        let records = healthy.len();
        let is_new = created == Created::Now;
        tracing::info!(queue = queue.key(), batch = %id, delivery, records, bytes = object.len(), name, is_new, "shipped");
        Ok(())
    }

    /// A failing store is tried again for as long as the lease can be extended. That does not count as a delivery, so
    /// an outage makes no dead letters. `None` if another process has the batch now.
    fn create(
        &self,
        queue: &mut Queue,
        store: &Store,
        batch: &Batch,
        (name, object): (&str, &[u8]),
        stop: &Stop,
        reporter: &Reporter,
    ) -> Result<Option<Created>> {
        // With these times a lease never ends between two extensions.
        let (time, mut backoff) = (self.lease / 2, Backoff::up_to(self.lease / 4));
        loop {
            let error = match store.create(name, object.to_vec(), time) {
                Ok(created) => return Ok(Some(created)),
                Err(error) => error,
            };
            tracing::warn!(queue = queue.key(), batch = %batch.id, error = format!("{error:#}"), "the store is away; trying again");
            reporter.waiting(&format_args!("{error:#}"));
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
fn lost(queue: &Queue, batch: &Batch) {
    tracing::info!(queue = queue.key(), batch = %batch.id, delivery = batch.delivery, "no longer in the queue");
}
