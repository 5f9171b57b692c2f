//! Ships the records of log queues to an object store or a database, each once, even if processes die at any point:
//!
//! 1. A batch is leased with GW.LOGPOP. It stays in the queue, and comes back if it is not acknowledged in time.
//! 2. Records that cannot be stored, ever, are given up: they become a dead letter of their own, and from then on the
//!    batch has the other records, in every delivery.
//! 3. The batch is stored under its id unless something is stored under that id: as one object with the id in its name,
//!    or in one transaction with the id in a table. A batch that comes back has the same id and the same records.
//! 4. The batch is acknowledged with GW.LOGACK.
//!
//! A process that dies before step 3 has stored nothing; one that dies before step 4 leaves the acknowledgement to the
//! next. One that was away for longer than its lease cannot change anything: each command names the delivery that it got.
//!
//! An object has one batch and not several: after a crash each of several batches would come back alone, to any process,
//! and nothing would tell in which object it is.

mod columns;
mod key;
mod object;
mod put;
mod queue;
mod queues;
mod rows;
pub mod settings;
mod store;
mod table;
mod target;
mod worker;

use std::sync::{Arc, Mutex};

use crate::nodes::Seed;
use crate::supervise::Job;
use queues::Queues;
use settings::Ship;
use worker::Worker;

/// The jobs of a part of the configuration, which was checked, each with its name.
pub fn jobs(config: &Ship, seed: &Seed) -> Vec<(String, Job)> {
    let queues = Arc::new(Queues::new(seed.clone(), config.queues.as_ref()));
    let columns = Arc::new(Mutex::new(config.columns.as_ref().map(|columns| columns.as_ref().clone())));
    let count = queues.jobs(*config.threads.as_ref());
    let title = match &**config.queues.as_ref() {
        [first] => first.clone(),
        [first, ..] => format!("{first}, …"),
        [] => String::new(),
    };
    let jobs = (0..count).map(|index| {
        let worker = Worker {
            part: config.clone(),
            seed: seed.clone(),
            queues: Arc::clone(&queues),
            columns: Arc::clone(&columns),
            share: (index, count),
        };
        let job: Job = Box::new(move |stop, reporter| worker.run(stop, reporter));
        (if count == 1 { format!("ship {title}") } else { format!("ship {title} {}/{count}", index + 1) }, job)
    });
    jobs.collect()
}
