//! Ships the records of a log queue to an object store, each in exactly one object, whatever dies on the way:
//!
//! 1. A batch is leased with GW.LOGPOP. It stays in the queue, and comes back if it is not acknowledged in time.
//! 2. It is written as one object, named by its id, unless there is one already. A batch that comes back has the same
//!    id and the same records, so such an object is this very batch.
//! 3. It is acknowledged with GW.LOGACK.
//!
//! A shipper that dies before 2 has done nothing; one that dies before 3 leaves an acknowledgement to the next.

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
use std::process::ExitCode;
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
    let mut shipper = Shipper {
        queue: Queue::new(&args.redis, &args.key, args.lease_ms)?,
        store: Store::open(&args.store).with_context(|| format!("cannot use the store {}", args.store))?,
        lease: Duration::from_millis(args.lease_ms),
        done: Tally::default(),
    };
    println!("from {} at {} to {}", args.key, args.redis, args.store);
    let ended = shipper.run(args.count);
    println!("{}", shipper.done);
    ended
}

/// What was done.
#[derive(Default)]
struct Tally {
    objects: u64,
    records: u64,
    already_there: u64,
    given_up: u64,
    given_back: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { objects, records, already_there, given_up, given_back } = self;
        write!(
            f,
            "in all: {objects} objects with {records} records, {already_there} batches already there, {given_up} to the \
             dead letters, {given_back} given back"
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
    /// Until the end is asked for; the batch in hand is finished or given back.
    fn run(&mut self, count: u32) -> Result<()> {
        while !stop::requested() {
            if let Some(batch) = self.queue.lease(count)? {
                self.ship(&batch)?;
            }
        }
        Ok(())
    }

    fn ship(&mut self, batch: &Batch) -> Result<()> {
        let Batch { id, records, deliveries } = batch;
        let object = match object::encode(records) {
            Ok(object) => object,
            Err(error) => {
                // It will be no better next time.
                self.queue.give_up(id)?;
                self.done.given_up += 1;
                println!("{id}: {} records, to the dead letters: {error}", records.len());
                return Ok(());
            }
        };
        let name = format!("{id}.jsonl.zst");
        let Some(created) = self.create(id, &name, &object)? else { return Ok(()) };
        self.queue.ack(id)?;
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
            "{id}: {} records, {bytes} bytes in {}, delivery {deliveries}, {what}: {}",
            records.len(),
            object.len(),
            self.store.path(&name)
        );
        Ok(())
    }

    /// A store that fails is tried again for as long as the lease can be extended: that counts no delivery, so an outage
    /// makes no dead letters. `None` where the batch is somebody else's now.
    fn create(&mut self, id: &str, name: &str, object: &[u8]) -> Result<Option<Created>> {
        // With these a lease never ends between two extensions.
        let (time, mut backoff) = (self.lease / 2, Backoff::up_to(self.lease / 4));
        loop {
            let error = match self.store.create(name, object.to_vec(), time) {
                Ok(created) => return Ok(Some(created)),
                Err(error) => error,
            };
            eprintln!("{id}: {error:#}; trying again");
            backoff.pause();
            if stop::requested() {
                self.queue.give_back(id)?;
                self.done.given_back += 1;
                return Ok(None);
            }
            if !self.queue.extend(id)? {
                return Ok(None);
            }
        }
    }
}
