use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant, SystemTime};

use redis::Value;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinSet;

use super::decisions::Settlement;
use super::delivery::Delivery;
use super::figures::Watch;
use super::ids::jitter;
use super::kept::KeptQueue;
use super::local::{LocalSlots, LocalWindows};
use super::settings::Settings;
use super::telling::in_trace;
use super::transport::Transport;
use super::way::Way;
use crate::commands::Request;
use crate::error::{Error, ReplyErrorKind, Unavailable};

/// So many are sent at once.
const BATCH: usize = 100;
/// The time-out of what nobody waits for.
const BACKGROUND_TIMEOUT: Duration = Duration::from_secs(3);

/// What other processes have left is looked for this often.
const ADOPT_EVERY: Duration = Duration::from_secs(60);

/// What all parts of a gateway share: the way to the server, what runs in the background, what is counted and kept.
pub(super) struct Core {
    pub(super) settings: Settings,
    pub(super) watch: Watch,
    pub(super) transport: Arc<Transport>,
    /// For what nobody waits for and may be large, such as log records: connections of its own with a time-out of seconds. How it goes
    /// says nothing about the request path, so it does not open that circuit.
    pub(super) background: Arc<Transport>,
    pub(super) windows: LocalWindows,
    pub(super) slots: LocalSlots,
    pub(super) kept: KeptQueue,
    runtime: Handle,
    /// Turns true when the gateway closes.
    closing: watch::Sender<bool>,
    /// Something was kept.
    added: Notify,
    /// Held while what is kept is sent.
    sending: tokio::sync::Mutex<()>,
    living: Mutex<HashMap<u64, Weak<dyn Running>>>,
    next_living: AtomicU64,
    log_buffers: Mutex<Vec<Weak<dyn Buffered>>>,
}

/// What has to be ended when the gateway closes, unless it has ended by then.
pub(super) trait Running: Send + Sync {
    /// Ends it in the background. `figure` counts it.
    fn ended_by(&self, figure: &'static str);
}

/// A buffer that is flushed when the gateway closes.
pub(super) trait Buffered: Send + Sync {
    /// How many records wait in it.
    fn len(&self) -> usize;

    /// Sends what there is, once, until then.
    fn close(self: Arc<Self>, until: tokio::time::Instant) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// What is undone if nobody is there any more to take it.
pub(super) trait GiveBack {
    fn give_back(self);
}

struct Parcel<T: GiveBack>(Option<T>);

impl<T: GiveBack> Drop for Parcel<T> {
    fn drop(&mut self) {
        if let Some(unwanted) = self.0.take() {
            unwanted.give_back();
        }
    }
}

impl Core {
    pub(super) fn new(way: &Way, settings: Settings, runtime: Handle) -> Arc<Self> {
        let patient = Settings {
            timeout: settings.timeout.max(BACKGROUND_TIMEOUT),
            connect_timeout: settings.connect_timeout.max(BACKGROUND_TIMEOUT),
            // Its calls are few, so they need no circuit: each of them tries.
            failures: u32::MAX,
            ..settings.clone()
        };
        let made = Arc::new(Self {
            transport: Transport::new(way, &settings),
            background: Transport::new(way, &patient),
            watch: Watch::new(settings.observer.clone()),
            windows: LocalWindows::default(),
            slots: LocalSlots::default(),
            kept: KeptQueue::new(&settings.kept),
            runtime,
            closing: watch::Sender::new(false),
            added: Notify::new(),
            sending: tokio::sync::Mutex::new(()),
            living: Mutex::default(),
            next_living: AtomicU64::new(0),
            log_buffers: Mutex::default(),
            settings,
        });
        made.runtime.spawn(send_always(Arc::downgrade(&made), made.closing.subscribe()));
        made
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.closing.borrow()
    }

    /// Turns true when the gateway closes.
    pub(super) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    /// Runs something in the background, also if it is asked for where no runtime is.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }

    /// Sends a request on the request path.
    pub(super) async fn run<T>(&self, request: &Request<T>) -> Result<T, Error> {
        self.transport.run(request).await
    }

    /// Does it to its end, also if nobody waits for it any more: then it is given back.
    pub(super) async fn finish<T: GiveBack + Send + 'static>(
        self: &Arc<Self>,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, receiver) = oneshot::channel::<Result<Parcel<T>, Error>>();
        self.spawn(in_trace(async move {
            let made = work.await.map(|made| Parcel(Some(made)));
            // If nobody is there, the parcel gives back what is in it.
            drop(sender.send(made));
        }));
        match receiver.await {
            Ok(Ok(mut parcel)) => parcel.0.take().ok_or_else(closed),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(closed()),
        }
    }

    /// The same for what needs no giving back.
    pub(super) async fn shield<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        self.runtime.spawn(in_trace(work)).await.unwrap_or_else(|_| Err(closed()))
    }

    // What must arrive.

    /// Tells the server at once, or keeps it for later if the server is away.
    pub(super) async fn deliver(self: &Arc<Self>, delivery: Delivery) -> Result<Settlement, Error> {
        let (settlement, charges) = self.deliver_one(delivery).await?;
        if charges.is_empty() {
            return Ok(settlement);
        }
        self.watch.count("settlements_unknown", 1);
        let mut made = Settlement::Charged;
        for charge in charges {
            if let (Settlement::Kept | Settlement::GivenUp, _) = self.deliver_one(charge).await? {
                made = Settlement::Kept;
            }
        }
        Ok(made)
    }

    /// The charges are those that come instead.
    async fn deliver_one(self: &Arc<Self>, mut delivery: Delivery) -> Result<(Settlement, Vec<Delivery>), Error> {
        if delivery.is_too_old(&self.settings.kept) {
            return Ok((self.give_up(&delivery), Vec::new()));
        }
        let call = delivery.call();
        if self.kept.count() > 0 && self.transport.known_node(&call).is_some_and(|node| node.circuit.is_open()) {
            return Ok((self.keep(delivery), Vec::new()));
        }
        let began = SystemTime::now();
        let reply = self.transport.send(&call).await;
        if let Err(error) = &reply
            && error.is_not_now()
        {
            if error.unavailable().is_some_and(|away| away.sent) {
                delivery.may_have_arrived(began);
            }
            return Ok((self.keep(delivery), Vec::new()));
        }
        if !is_unknown(&reply) {
            return Ok((settlement_of(&reply?), Vec::new()));
        }
        if self.asks_again(&mut delivery) {
            delivery.may_have_arrived(began);
            return Ok((self.keep(delivery), Vec::new()));
        }
        if delivery.fallback.is_empty() {
            return Ok((Settlement::Unknown, Vec::new()));
        }
        if !delivery.may_book(&self.settings.kept) {
            return Ok((self.give_up(&delivery), Vec::new()));
        }
        Ok((Settlement::Charged, delivery.charges()))
    }

    /// The outcome of the first one, unless another was kept. An error of one holds up no other: it is returned at the end.
    pub(super) async fn deliver_all(self: &Arc<Self>, all: Vec<Delivery>) -> Result<Settlement, Error> {
        let mut made = Settlement::Nothing;
        let mut failed = None;
        for (at, delivery) in all.into_iter().enumerate() {
            match self.deliver(delivery).await {
                Ok(found) if at == 0 || matches!(found, Settlement::Kept | Settlement::GivenUp) => made = found,
                Ok(_) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(made), Err)
    }

    /// UNKNOWN is no answer yet. At the end there is no time for another one.
    fn asks_again(&self, delivery: &mut Delivery) -> bool {
        delivery.ask_again() && !self.is_closed()
    }

    /// Keeps it, and sees to it that it is sent.
    pub(super) fn keep(&self, delivery: Delivery) -> Settlement {
        if !self.kept.add(delivery) {
            self.watch.count("kept_dropped", 1);
            return Settlement::GivenUp;
        }
        self.watch.count("kept", 1);
        Settlement::Kept
    }

    /// The same for what the server has not been asked yet: it is sent at once.
    pub(super) fn send_soon(&self, delivery: Delivery) -> Settlement {
        let kept = self.keep(delivery);
        self.added.notify_one();
        kept
    }

    fn give_up(&self, delivery: &Delivery) -> Settlement {
        self.watch.count("kept_given_up", 1);
        log::error!("a {} was given up: the server was away for too long", delivery.name());
        Settlement::GivenUp
    }

    /// Tries once to send what is kept, and returns how much was taken.
    pub(super) async fn send_kept(self: &Arc<Self>) -> usize {
        let _turn = self.sending.lock().await;
        // A process that is killed meanwhile leaves the first without the second.
        self.kept.under_way(true);
        let taken = self.send_each().await;
        self.kept.under_way(false);
        taken
    }

    async fn send_each(self: &Arc<Self>) -> usize {
        let mut taken = 0;
        // The nodes that do not answer, or refuse whatever comes: each is waited for once.
        let mut silent: Vec<Option<String>> = Vec::new();
        let mut left = self.kept.count();
        while left > 0 {
            let batch = self.kept.first(BATCH.min(left));
            if batch.is_empty() {
                break;
            }
            left -= batch.len();
            let mut sent = JoinSet::new();
            for (place, delivery) in batch {
                let call = delivery.call();
                let node = self.background.known_node(&call).map(|node| node.address.clone());
                if delivery.is_too_old(&self.settings.kept) {
                    self.give_up(&delivery);
                    self.kept.done(place, Vec::new());
                } else if silent.contains(&node) {
                    self.kept.later(place, delivery);
                } else {
                    let own = self.clone();
                    sent.spawn(async move {
                        let began = SystemTime::now();
                        let reply = own.background.send(&call).await;
                        own.answered(place, delivery, reply, began).then_some(()).ok_or(node)
                    });
                }
            }
            let (mut refused, mut some) = (Vec::new(), false);
            while let Some(found) = sent.join_next().await {
                match found {
                    Ok(Ok(())) => {
                        taken += 1;
                        some = true;
                    }
                    Ok(Err(node)) => refused.push(node),
                    Err(_) => {}
                }
            }
            // Of a node that has taken some, the others may be refused for what they are.
            if !some || self.background.nodes().len() > 1 {
                silent.extend(refused);
            }
        }
        taken
    }

    /// What comes of a kept call. Whether the server has taken it, or will never do so.
    fn answered(&self, place: u64, mut delivery: Delivery, reply: Result<Value, Error>, began: SystemTime) -> bool {
        if let Err(error) = &reply
            && error.is_not_now()
        {
            if error.unavailable().is_some_and(|away| away.sent) {
                delivery.may_have_arrived(began);
            }
            if delivery.is_too_old(&self.settings.kept) {
                self.give_up(&delivery);
                self.kept.done(place, Vec::new());
            } else {
                self.kept.later(place, delivery);
            }
            return false;
        }
        if !is_unknown(&reply) {
            if let Err(error) = &reply {
                self.watch.count("kept_refused", 1);
                log::error!("a kept {} was refused: {}", delivery.name(), code_of(error));
            } else {
                self.watch.count("kept_sent", 1);
            }
            self.kept.done(place, Vec::new());
        } else if self.asks_again(&mut delivery) {
            delivery.may_have_arrived(began);
            self.kept.later(place, delivery);
        } else if !delivery.fallback.is_empty() && !delivery.may_book(&self.settings.kept) {
            self.give_up(&delivery);
            self.kept.done(place, Vec::new());
        } else {
            if !delivery.fallback.is_empty() {
                self.watch.count("settlements_unknown", 1);
            }
            self.kept.done(place, delivery.charges());
        }
        true
    }

    // Admissions that nobody has settled.

    pub(super) fn lives(&self, admission: Weak<dyn Running>) -> u64 {
        let number = self.next_living.fetch_add(1, Ordering::Relaxed);
        self.living().insert(number, admission);
        number
    }

    pub(super) fn lives_no_more(&self, number: u64) {
        self.living().remove(&number);
    }

    fn living(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Weak<dyn Running>>> {
        self.living.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn add_log_buffer(&self, buffer: Weak<dyn Buffered>) {
        self.log_buffers().push(buffer);
    }

    /// How many log records wait to be sent, in all buffers.
    pub(super) fn log_records(&self) -> usize {
        self.log_buffers().iter().filter_map(Weak::upgrade).map(|logs| logs.len()).sum()
    }

    fn log_buffers(&self) -> std::sync::MutexGuard<'_, Vec<Weak<dyn Buffered>>> {
        self.log_buffers.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Settles what is still running at what it has used so far, and sends what there is to send.
    pub(super) async fn close(self: &Arc<Self>, longest: Duration) {
        if self.closing.send_replace(true) {
            return;
        }
        let until = tokio::time::Instant::now() + longest;
        let mut logs = JoinSet::new();
        for one in self.log_buffers().drain(..).filter_map(|one| one.upgrade()) {
            logs.spawn(one.close(until));
        }
        let living: Vec<_> = self.living().values().filter_map(Weak::upgrade).collect();
        for one in living {
            one.ended_by("admissions_closed");
        }
        let own = self.clone();
        let all = async move {
            // The second time for charges that take the place of settlements that nobody knows.
            if own.kept.count() > 0 && own.send_kept().await > 0 && own.kept.count() > 0 {
                own.send_kept().await;
            }
        };
        let _ = tokio::time::timeout_at(until, all).await;
        while logs.join_next().await.is_some() {}
        if self.kept.count() > 0 {
            log::warn!("{} settlements and charges were not sent", self.kept.count());
        }
        self.kept.close();
        self.transport.close();
        self.background.close();
    }
}

/// Sends what is kept as soon as something is, and then from time to time, until the gateway closes or is dropped.
async fn send_always(core: Weak<Core>, mut closing: watch::Receiver<bool>) {
    let mut adopted: Option<Instant> = None;
    while let Some(own) = core.upgrade() {
        if adopted.is_none_or(|at| at.elapsed() > ADOPT_EVERY) {
            adopted = Some(Instant::now());
            let (_, given_up) = own.kept.adopt();
            if given_up > 0 {
                own.watch.count("kept_given_up", given_up as u64);
                log::error!("{given_up} settlements and charges were given up: they were left too long ago");
            }
        }
        if own.kept.count() > 0 {
            own.send_kept().await;
        }
        let every = own.settings.kept.every.mul_f64(0.75 + 0.5 * jitter());
        tokio::select! {
            () = ended(&mut closing) => return,
            _ = tokio::time::timeout(every, own.added.notified()) => {}
        }
    }
}

/// Waits until the gateway closes.
pub(super) async fn ended(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}

fn closed() -> Error {
    Error::Unavailable(Unavailable::new("closed", false, false))
}

/// What a log line may say of an error: its text may name keys.
pub(super) fn code_of(error: &Error) -> &str {
    error.reply().map_or("no reply", |error| error.code.as_str())
}

fn is_unknown(reply: &Result<Value, Error>) -> bool {
    match reply {
        Ok(Value::BulkString(word)) => word == b"UNKNOWN",
        Ok(Value::SimpleString(word)) => word == "UNKNOWN",
        Err(error) => error.kind() == Some(&ReplyErrorKind::NoHold),
        _ => false,
    }
}

fn settlement_of(reply: &Value) -> Settlement {
    let word = match reply {
        Value::BulkString(word) => &word[..],
        Value::SimpleString(word) => word.as_bytes(),
        _ => b"",
    };
    match word {
        b"LATE" => Settlement::Late,
        b"REPEATED" => Settlement::Repeated,
        _ => Settlement::Settled,
    }
}
