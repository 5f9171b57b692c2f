//! The log queue, for a consumer of leased batches.

use std::time::Duration;

use gateway_core::queue::BatchId;
use redis_gateway_client::Error;
use redis_gateway_client::commands::{
    LogAckOptions, LogExtendOptions, LogLeaseOptions, LogNackOptions, Request, log_ack, log_extend, log_lease,
    log_nack, log_stats,
};

use crate::caller::Caller;
use crate::nodes::Seed;
use crate::stop::Stop;
use crate::supervise::Reporter;

/// How long a pop waits at the server for records, if it waits. The end of the run has to wait for it.
const BLOCK: Duration = Duration::from_secs(1);

pub struct Batch {
    pub id: BatchId,
    pub records: Vec<Vec<u8>>,
    /// The number of this delivery. A command that names it changes nothing if the batch has been delivered again since.
    pub delivery: i64,
}

/// Every call here can be repeated, and goes on through restarts, failovers and moves of the queue.
pub struct Queue<'a> {
    stop: &'a Stop,
    reporter: &'a Reporter,
    caller: Caller,
    key: String,
    lease_ms: i64,
}

impl<'a> Queue<'a> {
    pub fn new(seed: Seed, key: &str, lease: Duration, stop: &'a Stop, reporter: &'a Reporter) -> Self {
        let lease_ms = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
        Self { stop, reporter, caller: Caller::new(seed, BLOCK), key: key.to_owned(), lease_ms }
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    /// Leases up to so many records and bytes; `None` if there are none. If `waits`, a short time may pass before.
    pub fn lease(&mut self, count: u32, bytes: u32, waits: bool) -> anyhow::Result<Option<Batch>> {
        let block_ms = i64::try_from(BLOCK.as_millis()).ok().filter(|_| waits);
        let (count, max_bytes) = (Some(count.into()), Some(bytes.into()));
        let options = LogLeaseOptions { count, max_bytes, block_ms, ..Default::default() };
        let Some(batch) = self.call(&log_lease(&self.key, self.lease_ms, &options))? else { return Ok(None) };
        let id = BatchId::parse(batch.batch_id.as_ref()).ok_or_else(|| anyhow::anyhow!("not the id of a batch"))?;
        Ok(Some(Batch { id, records: batch.records, delivery: batch.delivery }))
    }

    /// Whether a batch is as large as it can be, or the oldest record has waited for `linger`.
    pub fn is_worth_it(&mut self, count: u32, bytes: u32, linger: Duration) -> Result<bool, Error> {
        let Some(stats) = self.call(&log_stats(&self.key))? else { return Ok(false) };
        // The bytes are told of waiting and leased records together.
        let records = i128::from(stats.length) + i128::from(stats.leased);
        let waiting_bytes = i128::from(stats.record_bytes) * i128::from(stats.length) / records.max(1);
        let is_full = stats.length >= count.into() || waiting_bytes >= bytes.into();
        let is_old = u128::from(stats.oldest_age_ms.unsigned_abs()) >= linger.as_millis();
        Ok(stats.length > 0 && (is_full || is_old))
    }

    /// Acknowledges the batch, which is stored. This and the next methods return false if another shipper has the batch
    /// now.
    pub fn ack(&mut self, batch: &Batch) -> Result<bool, Error> {
        let options = LogAckOptions { delivery: Some(batch.delivery) };
        self.call(&log_ack(&self.key, batch.id.to_string(), &options))
    }

    /// Gives the batch back, so that another shipper may have it.
    pub fn give_back(&mut self, batch: &Batch) -> Result<bool, Error> {
        let options = LogNackOptions { delivery: Some(batch.delivery), ..Default::default() };
        self.call(&log_nack(&self.key, batch.id.to_string(), &options))
    }

    /// Gives up records that somebody has to look at. Repeated, it gives up no others: the indexes are those of the
    /// delivery.
    pub fn give_up(&mut self, batch: &Batch, indexes: &[usize]) -> Result<bool, Error> {
        // A batch has 10,000 records at most.
        let indexes = indexes.iter().filter_map(|&index| i64::try_from(index).ok()).collect();
        let options = LogNackOptions { delivery: Some(batch.delivery), dead: true, indexes, ..Default::default() };
        self.call(&log_nack(&self.key, batch.id.to_string(), &options))
    }

    /// Starts the batch's lease again.
    pub fn extend(&mut self, batch: &Batch) -> Result<bool, Error> {
        let options = LogExtendOptions { delivery: Some(batch.delivery) };
        self.call(&log_extend(&self.key, batch.id.to_string(), self.lease_ms, &options))
    }

    fn call<T>(&mut self, request: &Request<T>) -> Result<T, Error> {
        self.caller.insist(request, self.stop, self.reporter)
    }
}
