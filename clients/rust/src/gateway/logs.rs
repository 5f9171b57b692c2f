use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use super::core::{Buffered, Core, code_of, ended};
use super::delivery::passed;
use super::handle::Gateway;
use super::ids::new_id;
use crate::commands::{LogPushOptions, log_push};
use crate::error::{Error, ReplyErrorKind};

/// The server remembers the id of a push for `gw.log-id-ms`, ten minutes by default.
const REMEMBERED: Duration = Duration::from_secs(540);
/// The most bytes of a batch: small enough to arrive within the time-out over a slow network, and to hold up no other command of the
/// server for long. A longer record is pushed alone.
const BATCH_BYTES: usize = 512 * 1024;

/// What [`Gateway::logs`] may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// The most records in the buffer. Default: 10,000.
    pub records: usize,
    /// The most bytes in the buffer. Default: 16 MiB.
    pub bytes: usize,
    /// So many records are pushed together. Range: 1 and more. Default: 500.
    pub batch: usize,
    /// The longest time that a record waits, unless the server is away. Default: a second.
    pub every: Duration,
    /// The records may be anything. Else the server checks that each is valid JSON.
    pub any_bytes: bool,
    /// If the server's queue is full, keep the records here, instead of dropping the queue's oldest ones.
    pub reject: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            records: 10_000,
            bytes: 16 * 1024 * 1024,
            batch: 500,
            every: Duration::from_secs(1),
            any_bytes: false,
            reject: false,
        }
    }
}

/// A buffer in front of a log queue. Nobody waits for it, and it takes what its bounds allow. Clones share everything.
#[derive(Clone)]
pub struct Logs {
    pub(super) state: Arc<LogsInner>,
}

pub(super) struct LogsInner {
    core: Arc<Core>,
    key: Vec<u8>,
    options: LogOptions,
    buffer: Mutex<Buffer>,
    full: Notify,
    /// Held by whoever pushes: two would push the same batch.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Buffer {
    records: VecDeque<Vec<u8>>,
    bytes: usize,
    /// It is being pushed.
    batch: Option<Batch>,
    dropped: usize,
    closed: bool,
}

impl Buffer {
    fn len(&self) -> usize {
        self.records.len() + self.batch.as_ref().map_or(0, |batch| batch.records.len())
    }
}

/// Records that are pushed together, under one id, until the server has taken them.
#[derive(Clone)]
struct Batch {
    records: Vec<Vec<u8>>,
    id: String,
    /// When it may have arrived for the first time. If its records are pushed one by one: when the first of them may have.
    first_sent: Option<SystemTime>,
    /// One of them was refused, so each gets a push of its own.
    one_by_one: bool,
}

impl Gateway {
    /// A buffer in front of the log queue under a key.
    pub fn logs(&self, key: impl AsRef<[u8]>, options: LogOptions) -> Logs {
        let state = Arc::new(LogsInner {
            core: self.core.clone(),
            key: key.as_ref().to_vec(),
            options: LogOptions { batch: options.batch.max(1), ..options },
            buffer: Mutex::default(),
            full: Notify::new(),
            turn: tokio::sync::Mutex::new(()),
        });
        let buffered = Arc::downgrade(&state);
        self.core.add_log_buffer(buffered);
        self.core.spawn(push_always(Arc::downgrade(&state)));
        Logs { state }
    }
}

impl Logs {
    /// Takes a record. It waits for nothing and raises nothing: if the buffer is full, its oldest records are dropped, and counted; after
    /// the end so is every record.
    pub fn push(&self, record: impl Into<Vec<u8>>) {
        let record = record.into();
        let options = &self.state.options;
        let mut buffer = self.state.buffer();
        if buffer.closed {
            drop(buffer);
            self.state.drop_records(1, "closed");
            return;
        }
        buffer.bytes += record.len();
        buffer.records.push_back(record);
        let mut dropped = 0;
        while buffer.records.len() > options.records || buffer.bytes > options.bytes {
            let Some(oldest) = buffer.records.pop_front() else { break };
            buffer.bytes -= oldest.len();
            dropped += 1;
        }
        let full = buffer.records.len() >= options.batch || buffer.bytes >= BATCH_BYTES;
        drop(buffer);
        if dropped > 0 {
            self.state.drop_records(dropped, "buffer_full");
        }
        if full {
            self.state.full.notify_one();
        }
    }

    /// How many records the server has not taken yet.
    pub fn len(&self) -> usize {
        self.state.buffer().len()
    }

    /// Whether the server has taken all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many records had no room in the buffer or the queue, or were refused by the server.
    pub fn dropped(&self) -> usize {
        self.state.buffer().dropped
    }

    /// Pushes all there is, and tells whether the server has taken it.
    pub async fn flush(&self) -> bool {
        let own = self.state.clone();
        self.state.core.shield(async move { Ok(own.flush().await) }).await.unwrap_or_default()
    }
}

impl LogsInner {
    fn buffer(&self) -> std::sync::MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn drop_records(&self, count: usize, reason: &'static str) {
        self.buffer().dropped += count;
        self.core.watch.log_dropped(count, reason);
    }

    async fn flush(&self) -> bool {
        let _turn = self.turn.lock().await;
        loop {
            let Some(mut batch) = self.next_batch() else { return true };
            let done = self.push_batch(&mut batch).await;
            self.buffer().batch = (!done).then_some(batch);
            if !done {
                return false;
            }
        }
    }

    /// The batch that is being pushed, or the oldest records, as many as a batch may have.
    fn next_batch(&self) -> Option<Batch> {
        let mut buffer = self.buffer();
        if let Some(batch) = &buffer.batch {
            return Some(batch.clone());
        }
        let (mut count, mut size) = (0, 0);
        for record in buffer.records.iter().take(self.options.batch) {
            if count > 0 && size + record.len() > BATCH_BYTES {
                break;
            }
            size += record.len();
            count += 1;
        }
        if count == 0 {
            return None;
        }
        let records = buffer.records.drain(..count).collect();
        buffer.bytes -= size;
        let batch = Batch { records, id: new_id(), first_sent: None, one_by_one: false };
        buffer.batch = Some(batch.clone());
        Some(batch)
    }

    /// Whether the batch is done with: taken, or refused for good.
    async fn push_batch(&self, batch: &mut Batch) -> bool {
        if !batch.one_by_one {
            match self.push_once(batch).await {
                Some(done) => return done,
                // One of them cannot be stored. From now on each gets its own push, so that the others are: none of them has arrived
                // yet, and none may be pushed under the batch's id again.
                None => {
                    batch.one_by_one = true;
                    batch.first_sent = None;
                }
            }
        }
        while let Some(record) = batch.records.first() {
            let id = format!("{}:{}", batch.id, batch.records.len());
            let mut one = Batch { records: vec![record.clone()], id, first_sent: batch.first_sent, one_by_one: false };
            let done = self.push_once(&mut one).await.unwrap_or(true);
            batch.first_sent = one.first_sent;
            if !done {
                return false;
            }
            batch.first_sent = None;
            batch.records.remove(0);
            self.buffer().batch = Some(batch.clone());
        }
        true
    }

    /// None if one of several records was refused.
    async fn push_once(&self, batch: &mut Batch) -> Option<bool> {
        if batch.first_sent.is_some_and(|at| passed(at) > REMEMBERED) {
            // It may have arrived, and the server may have forgotten its id: to send it again could store it twice.
            self.drop_records(batch.records.len(), "unknown");
            return Some(true);
        }
        let options = LogPushOptions {
            json: !self.options.any_bytes,
            reject: self.options.reject,
            id: Some(batch.id.as_str().into()),
            ..Default::default()
        };
        let began = SystemTime::now();
        match self.core.background.run(&log_push(&self.key, &batch.records, &options)).await {
            Ok(pushed) => {
                if pushed.dropped > 0 {
                    self.drop_records(pushed.dropped as usize, "queue_full");
                }
                Some(true)
            }
            Err(Error::Unavailable(away)) => {
                if away.sent {
                    batch.first_sent.get_or_insert(began);
                }
                Some(false)
            }
            Err(error) if error.kind() == Some(&ReplyErrorKind::QueueFull) || error.is_not_now() => Some(false),
            Err(error) if batch.records.len() == 1 => {
                log::error!("a log record was refused: {}", code_of(&error));
                self.drop_records(1, "refused");
                Some(true)
            }
            Err(_) => None,
        }
    }

    /// Pushes what there is, once. What the server does not take within the time is dropped, and counted.
    async fn end(&self, until: tokio::time::Instant) {
        if std::mem::replace(&mut self.buffer().closed, true) {
            return;
        }
        if tokio::time::timeout_at(until, self.flush()).await.unwrap_or_default() {
            return;
        }
        let left = {
            let mut buffer = self.buffer();
            let left = buffer.len();
            buffer.records.clear();
            buffer.bytes = 0;
            buffer.batch = None;
            left
        };
        if left > 0 {
            self.drop_records(left, "closed");
        }
    }
}

impl Buffered for LogsInner {
    fn len(&self) -> usize {
        self.buffer().len()
    }

    fn close(self: Arc<Self>, until: tokio::time::Instant) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move { self.end(until).await })
    }
}

/// Pushes when a batch is full, or some time after the last push, until the gateway closes or the buffer is dropped empty.
async fn push_always(state: Weak<LogsInner>) {
    let mut closing = match state.upgrade() {
        Some(own) => own.core.closing(),
        None => return,
    };
    while let Some(own) = state.upgrade() {
        let every = own.options.every;
        tokio::select! {
            () = ended(&mut closing) => return,
            () = own.full.notified() => {}
            () = tokio::time::sleep(every) => {}
        }
        if !own.flush().await {
            // The server is away, or its queue full.
            tokio::select! {
                () = ended(&mut closing) => return,
                () = tokio::time::sleep(every) => {}
            }
        }
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logs").field("len", &self.len()).field("dropped", &self.dropped()).finish_non_exhaustive()
    }
}
