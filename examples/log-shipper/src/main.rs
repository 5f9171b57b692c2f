//! Ships the records of log queues to an object store, each in exactly one object, even if processes die at any point:
//!
//! 1. A batch is leased with GW.LOGPOP. It stays in the queue, and comes back if it is not acknowledged in time.
//! 2. Records that are not JSON cannot be in an object, so they are given up: they become a dead letter of their own,
//!    and from then on the batch has the other records, in every delivery.
//! 3. The batch is written as one object, named by its id, unless the object exists. A batch that comes back has the
//!    same id and the same records, so an existing object is of the same batch.
//! 4. The batch is acknowledged with GW.LOGACK.
//!
//! A shipper that dies before step 3 has stored nothing; one that dies before step 4 leaves the acknowledgement to the
//! next. A shipper that was away for longer than its lease cannot change anything: each command names the delivery that
//! it got.

mod args;
mod object;
mod queue;
mod stop;
mod store;

use anyhow::{Context, Result};
use args::Args;
use clap::Parser;
use queue::{Batch, Queue};
use std::fmt;
use std::panic::resume_unwind;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;
use stop::Backoff;
use store::{Created, Store};

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    stop::on_signals()?;
    let shippers = args.keys.iter().map(|key| Shipper::new(args, key)).collect::<Result<Vec<_>>>()?;
    println!("from {} at {} to {}", args.keys.join(" "), args.redis, args.store);
    let ended: Vec<(Tally, Result<()>)> = thread::scope(|scope| {
        let ship = |mut shipper: Shipper| {
            let ended = shipper.run(args.count);
            if ended.is_err() {
                // Nobody would notice that one queue of several is no longer shipped.
                stop::request();
            }
            (shipper.done, ended)
        };
        let running: Vec<_> = shippers.into_iter().map(|shipper| scope.spawn(move || ship(shipper))).collect();
        running.into_iter().map(|shipper| shipper.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    let mut all = Tally::default();
    ended.iter().for_each(|(done, _)| all.add(done));
    println!("{all}");
    let mut ended = args.keys.iter().zip(ended);
    ended.try_for_each(|(key, (_, ended))| ended.with_context(|| format!("queue {key}")))
}

/// Counts of the work done.
#[derive(Default)]
struct Tally {
    objects: u64,
    records: u64,
    already_there: u64,
    given_up: u64,
    given_back: u64,
    lost: u64,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.objects += other.objects;
        self.records += other.records;
        self.already_there += other.already_there;
        self.given_up += other.given_up;
        self.given_back += other.given_back;
        self.lost += other.lost;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { objects, records, already_there, given_up, given_back, lost } = self;
        write!(
            f,
            "in all: {objects} objects with {records} records, {already_there} batches already there, {given_up} \
             records to the dead letters, {given_back} batches given back, {lost} no longer this shipper's"
        )
    }
}

struct Shipper {
    queue: Queue,
    store: Store,
    lease: Duration,
    done: Tally,
}

impl Shipper {
    fn new(args: &Args, key: &str) -> Result<Self> {
        Ok(Self {
            queue: Queue::new(&args.redis, key, args.lease_ms)?,
            store: Store::open(&args.store).with_context(|| format!("cannot use the store {}", args.store))?,
            lease: Duration::from_millis(args.lease_ms),
            done: Tally::default(),
        })
    }

    /// Runs until a signal requests the end; the batch in hand is finished or given back.
    fn run(&mut self, count: u32) -> Result<()> {
        while !stop::requested() {
            if let Some(batch) = self.queue.lease(count)? {
                self.ship(&batch)?;
            }
        }
        Ok(())
    }

    fn ship(&mut self, batch: &Batch) -> Result<()> {
        let poison = object::poison(&batch.records);
        if !poison.is_empty() {
            // They cannot be stored later either. This comes before the object, which must not change once it exists.
            let indexes: Vec<usize> = poison.iter().map(|record| record.index).collect();
            if !self.queue.give_up(batch, &indexes)? {
                return self.lost(batch);
            }
            self.done.given_up += poison.len() as u64;
            poison.iter().for_each(|record| println!("{}: to the dead letters: {record}", batch.id));
        }
        let is_poison = |index: usize| poison.iter().any(|record| record.index == index);
        let healthy = batch.records.iter().enumerate().filter(|(index, _)| !is_poison(*index));
        let records: Vec<_> = healthy.map(|(_, record)| record.clone()).collect();
        if records.is_empty() {
            return Ok(());
        }
        let Batch { id, delivery, .. } = batch;
        let object = object::encode(&records).context("cannot compress")?;
        let name = format!("{id}.jsonl.zst");
        let Some(created) = self.create(batch, &name, &object)? else { return Ok(()) };
        if !self.queue.ack(batch)? {
            // The object exists all the same: it is the other shipper's object, too.
            self.lost(batch)?;
        }
        let what = match created {
            Created::Now => {
                self.done.objects += 1;
                self.done.records += records.len() as u64;
                "written"
            }
            Created::Before => {
                self.done.already_there += 1;
                "already there"
            }
        };
        let bytes: usize = records.iter().map(Vec::len).sum();
        println!(
            "{id}: {} records, {bytes} bytes in {}, delivery {delivery}, {what}: {}",
            records.len(),
            object.len(),
            self.store.path(&name)
        );
        Ok(())
    }

    /// This shipper's lease has ended, and another one has the batch or has acknowledged it. Or a command was repeated
    /// that had been carried out before.
    fn lost(&mut self, batch: &Batch) -> Result<()> {
        self.done.lost += 1;
        println!("{}: no longer in the queue as delivery {}", batch.id, batch.delivery);
        Ok(())
    }

    /// A failing store is tried again for as long as the lease can be extended. That does not count as a delivery, so
    /// an outage makes no dead letters. `None` if another shipper has the batch now.
    fn create(&mut self, batch: &Batch, name: &str, object: &[u8]) -> Result<Option<Created>> {
        // With these times a lease never ends between two extensions.
        let (time, mut backoff) = (self.lease / 2, Backoff::up_to(self.lease / 4));
        loop {
            let error = match self.store.create(name, object.to_vec(), time) {
                Ok(created) => return Ok(Some(created)),
                Err(error) => error,
            };
            eprintln!("{}: {error:#}; trying again", batch.id);
            backoff.pause();
            if stop::requested() {
                self.queue.give_back(batch)?;
                self.done.given_back += 1;
                return Ok(None);
            }
            if !self.queue.extend(batch)? {
                self.lost(batch)?;
                return Ok(None);
            }
        }
    }
}
