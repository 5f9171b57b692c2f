use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::core::{Core, ended};
use super::delivery::{Delivery, Words, words_of};
use super::handle::Gateway;
use super::settings::milliseconds;
use crate::commands::{
    Batch, LogExtendOptions, LogLeaseOptions, LogNackOptions, log_ack, log_extend, log_lease, log_nack,
};
use crate::error::Error;

/// What [`Gateway::lease_batch`] may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// How long the batch is leased without a sign of life. It is renewed every third of this time until it ends. Default: 30 s.
    pub lease: Duration,
    /// The most records. Default: 500.
    pub count: u32,
    /// How long to wait for records. Default: not at all.
    pub wait: Duration,
    /// After so many deliveries the batch goes to the dead letters. Default: never.
    pub max_deliveries: Option<u32>,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self { lease: Duration::from_secs(30), count: 500, wait: Duration::ZERO, max_deliveries: None }
    }
}

/// Records of a log queue that are leased for a piece of work.
///
/// [`done`](Self::done) acknowledges them. Dropped without it, because the work has failed or was cancelled, they are given back in the
/// background. All of that names the delivery: if the batch was lost, and another has it by now, that one is left alone.
pub struct LogBatch {
    state: Arc<BatchState>,
}

struct BatchState {
    core: Arc<Core>,
    key: Vec<u8>,
    batch: Batch,
    lease: Duration,
    left: AtomicBool,
    lost: AtomicBool,
}

impl Gateway {
    /// Leases the oldest records of a log queue, or none if there are none within the wait. An error is one of the call, or that the
    /// server is away. What comes when nobody waits for it any more is given back.
    pub async fn lease_batch(&self, key: impl AsRef<[u8]>, options: &BatchOptions) -> Result<Option<LogBatch>, Error> {
        let (core, key, options) = (self.core.clone(), key.as_ref().to_vec(), *options);
        let (mut sender, receiver) = oneshot::channel();
        self.core.spawn(async move {
            let found = ask(&core, &key, &options, &mut sender).await;
            // Dropped, if nobody is there: then it is given back.
            drop(sender.send(found));
        });
        match receiver.await {
            Ok(found) => found,
            Err(_) => Ok(None),
        }
    }
}

type Asker = oneshot::Sender<Result<Option<LogBatch>, Error>>;

/// A longer wait is made of several calls: so the connection's time-out tells in time that the server is away.
async fn ask(
    core: &Arc<Core>,
    key: &[u8],
    options: &BatchOptions,
    asker: &mut Asker,
) -> Result<Option<LogBatch>, Error> {
    let end = Instant::now() + options.wait;
    loop {
        let wait = end.saturating_duration_since(Instant::now()).min(core.settings.longest_wait());
        let own = LogLeaseOptions {
            count: Some(i64::from(options.count)),
            block_ms: (!wait.is_zero()).then(|| milliseconds(wait)),
            max_deliveries: options.max_deliveries.map(i64::from),
            ..Default::default()
        };
        let request = log_lease(key, milliseconds(options.lease), &own);
        let found = if wait.is_zero() {
            core.background.run(&request).await
        } else {
            match core.background.wait(&request, wait).await {
                Err(Error::Unavailable(away)) if matches!(away.reason, "unblocked" | "connections") => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Ok(None)
                }
                found => found,
            }
        };
        if let Some(batch) = found? {
            let state = Arc::new(BatchState {
                core: core.clone(),
                key: key.to_vec(),
                batch,
                lease: options.lease,
                left: AtomicBool::new(false),
                lost: AtomicBool::new(false),
            });
            core.spawn(kept_alive(Arc::downgrade(&state)));
            return Ok(Some(LogBatch { state }));
        }
        if Instant::now() >= end || asker.is_closed() || core.is_closed() {
            return Ok(None);
        }
    }
}

impl BatchState {
    fn ack(&self) -> Words {
        words_of(&log_ack(
            &self.key,
            &self.batch.batch_id,
            &crate::commands::LogAckOptions { delivery: Some(self.batch.delivery) },
        ))
    }

    fn nack(&self) -> Words {
        let options = LogNackOptions { delivery: Some(self.batch.delivery), ..Default::default() };
        words_of(&log_nack(&self.key, &self.batch.batch_id, &options))
    }
}

impl LogBatch {
    /// The records, oldest first.
    pub fn records(&self) -> &[Vec<u8>] {
        &self.state.batch.records
    }

    /// Unique for ever, and the same at each delivery: a name for what is written of it.
    pub fn id(&self) -> String {
        self.state.batch.batch_id.to_string()
    }

    /// The number of this delivery, 1 the first time.
    pub fn delivery(&self) -> i64 {
        self.state.batch.delivery
    }

    /// Whether the lease has ended, so that another may have it.
    pub fn is_lost(&self) -> bool {
        self.state.lost.load(Ordering::Acquire)
    }

    /// Acknowledges the batch: its records are gone. Whether it was still leased; while the server is away, that is kept and told later,
    /// and true as far as is known.
    pub async fn done(self) -> Result<bool, Error> {
        self.end(self.state.ack()).await
    }

    /// Gives the batch back, to be delivered again.
    pub async fn give_back(self) -> Result<bool, Error> {
        self.end(self.state.nack()).await
    }

    async fn end(&self, words: Words) -> Result<bool, Error> {
        self.state.left.store(true, Ordering::Release);
        let own = self.state.clone();
        self.state
            .core
            .shield(async move {
                let delivery = Delivery::new(words);
                match own.core.background.send(&delivery.call()).await {
                    Ok(reply) => Ok(reply == redis::Value::Int(1)),
                    Err(error) if error.is_not_now() => {
                        own.core.keep(delivery);
                        Ok(!own.lost.load(Ordering::Acquire))
                    }
                    Err(error) => Err(error),
                }
            })
            .await
    }
}

impl Drop for LogBatch {
    fn drop(&mut self) {
        if !self.state.left.swap(true, Ordering::AcqRel) {
            self.state.core.send_soon(Delivery::new(self.state.nack()));
        }
    }
}

impl fmt::Debug for LogBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogBatch")
            .field("records", &self.records().len())
            .field("delivery", &self.delivery())
            .finish_non_exhaustive()
    }
}

/// Renews the lease every third of its time, until the batch ends or is lost.
async fn kept_alive(state: Weak<BatchState>) {
    let Some((mut closing, lease)) = state.upgrade().map(|own| (own.core.closing(), own.lease)) else { return };
    let mut pause = lease / 3;
    loop {
        tokio::select! {
            () = ended(&mut closing) => return,
            () = tokio::time::sleep(pause) => {}
        }
        let Some(own) = state.upgrade().filter(|own| !own.left.load(Ordering::Acquire)) else { return };
        let options = LogExtendOptions { delivery: Some(own.batch.delivery) };
        pause = lease / 3;
        match own.core.background.run(&log_extend(&own.key, &own.batch.batch_id, milliseconds(lease), &options)).await {
            Ok(true) => {}
            Err(error) if error.is_not_now() => pause = lease / 6,
            _ => {
                own.lost.store(true, Ordering::Release);
                return;
            }
        }
    }
}
