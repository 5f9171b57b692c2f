use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::core::{Core, ended};
use super::decisions::Outcome;
use super::delivery::{Delivery, words_of};
use super::handle::Gateway;
use super::ids::new_id;
use super::local::share;
use super::settings::{Mode, duration_of, milliseconds};
use crate::commands::{self, AcquireOptions, Text, acquire, release, renew};
use crate::error::{Error, Unavailable};

/// What [`Gateway::slot`] and [`Gateway::lock`] may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotOptions {
    /// How long it is held without a sign of life. It is renewed every third of this time until it is released. Default: 30 s.
    pub ttl: Duration,
    /// How long to wait for it, first come, first served. Default: not at all.
    pub wait: Duration,
    /// It is not renewed.
    pub no_renew: bool,
}

impl Default for SlotOptions {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(30), wait: Duration::ZERO, no_renew: false }
    }
}

/// One of the slots of a key, or no slot, as its outcome says. With one slot in all it is a lock.
///
/// It is given back by [`release`](Self::release), or, in the background, when it is dropped.
pub struct Slot {
    state: Arc<SlotState>,
}

struct SlotState {
    core: Arc<Core>,
    key: Text,
    most: u64,
    holder: String,
    ttl: Duration,
    is_lock: bool,
    asked: Asked,
    live_until: Mutex<Instant>,
    /// It was released, or nobody has it any more.
    left: AtomicBool,
    lost: watch::Sender<bool>,
}

#[derive(Clone, Copy)]
struct Asked {
    outcome: Outcome,
    reason: Option<&'static str>,
    in_use: u64,
    retry_after: Option<Duration>,
    fencing_token: i64,
}

impl Gateway {
    /// Takes one of so many slots of a key. An error is one of the call: then none is taken, and neither is one if nobody waits for the
    /// answer any more. While the server is away, [`Away::slots`](super::Away::slots) decides.
    pub async fn slot(&self, key: impl AsRef<[u8]>, slots: u64, options: &SlotOptions) -> Result<Slot, Error> {
        Asking::new(&self.core, key.as_ref(), slots, false, options).acquire(options).await
    }

    /// Takes a lock. While the server is away nobody gets it.
    ///
    /// ```no_run
    /// # async fn example(gateway: redis_gateway_client::Gateway) -> Result<(), redis_gateway_client::Error> {
    /// use std::time::Duration;
    ///
    /// use redis_gateway_client::SlotOptions;
    ///
    /// let options = SlotOptions { wait: Duration::from_secs(10), ..Default::default() };
    /// let lock = gateway.lock("lock:export", &options).await?;
    /// if lock.is_ok() {
    ///     tokio::select! {
    ///         () = export(lock.fencing_token()) => {}
    ///         () = lock.lost() => println!("somebody else may have it by now"),
    ///     }
    ///     lock.release().await?;
    /// }
    /// # Ok(())
    /// # }
    /// # async fn export(_: i64) {}
    /// ```
    pub async fn lock(&self, key: impl AsRef<[u8]>, options: &SlotOptions) -> Result<Slot, Error> {
        Asking::new(&self.core, key.as_ref(), 1, true, options).acquire(options).await
    }
}

/// The question for a slot. Whoever leaves before the answer leaves nothing taken.
struct Asking {
    core: Arc<Core>,
    key: Text,
    most: u64,
    holder: String,
    ttl: Duration,
    is_lock: bool,
    asked: bool,
}

impl Drop for Asking {
    fn drop(&mut self) {
        if self.asked {
            self.core.keep(Delivery::new(words_of(&release(&self.key, &self.holder))));
        }
    }
}

impl Asking {
    fn new(core: &Arc<Core>, key: &[u8], most: u64, is_lock: bool, options: &SlotOptions) -> Self {
        let (core, key) = (core.clone(), key.into());
        Self { core, key, most, holder: new_id(), ttl: options.ttl, is_lock, asked: false }
    }

    async fn acquire(mut self, options: &SlotOptions) -> Result<Slot, Error> {
        self.asked = true;
        let (asked, live_until) = match self.ask(options.wait).await {
            Ok(found) => found,
            Err(error) => {
                // An error reply has changed nothing.
                self.asked = error.reply().is_none();
                return Err(error);
            }
        };
        self.asked = false;
        self.core.watch.decided(if self.is_lock { "locks" } else { "slots" }, asked.outcome, asked.reason);
        let state = Arc::new(SlotState {
            core: self.core.clone(),
            key: self.key.clone(),
            most: self.most,
            holder: self.holder.clone(),
            ttl: self.ttl,
            is_lock: self.is_lock,
            asked,
            live_until: Mutex::new(live_until),
            left: AtomicBool::new(asked.outcome == Outcome::Denied),
            lost: watch::Sender::new(false),
        });
        if asked.outcome == Outcome::Admitted && !options.no_renew {
            self.core.spawn(kept_alive(Arc::downgrade(&state)));
        }
        Ok(Slot { state })
    }

    /// Asks until it has a slot, or the wait is over.
    async fn ask(&mut self, wait: Duration) -> Result<(Asked, Instant), Error> {
        let end = Instant::now() + wait;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let asked_at = Instant::now();
            let found = match self.once(left.min(self.core.settings.longest_wait())).await {
                Ok(found) => found,
                Err(Error::Unavailable(away)) if !left.is_zero() && !away.down => {
                    // Only this call was refused.
                    tokio::time::sleep(left.min(Duration::from_millis(50))).await;
                    continue;
                }
                Err(Error::Unavailable(away)) => return Ok((self.decide_alone(&away), Instant::now())),
                Err(error) => return Err(error),
            };
            let mut made = Asked {
                outcome: Outcome::Denied,
                reason: Some("limit"),
                in_use: found.in_use.try_into().unwrap_or_default(),
                retry_after: duration_of(found.retry_after_ms),
                fencing_token: found.fencing_token,
            };
            if found.acquired {
                let mut live_until = asked_at + self.ttl;
                if !left.is_zero() {
                    // Nobody knows for how long it has had it: from now on the time is known.
                    let now = Instant::now();
                    match self.core.run(&renew(&self.key, &self.holder, milliseconds(self.ttl))).await {
                        Ok(true) => live_until = now + self.ttl,
                        Err(Error::Unavailable(_)) => {}
                        _ => continue,
                    }
                }
                made.outcome = Outcome::Admitted;
                made.reason = None;
                return Ok((made, live_until));
            }
            if left.is_zero() || found.retry_after_ms < 0 || self.core.is_closed() {
                return Ok((made, Instant::now()));
            }
        }
    }

    async fn once(&self, wait: Duration) -> Result<commands::Slot, Error> {
        let most = self.most.try_into().unwrap_or(i64::MAX);
        let block_ms = (!wait.is_zero()).then(|| milliseconds(wait));
        let request = acquire(&self.key, most, &self.holder, milliseconds(self.ttl), &AcquireOptions { block_ms });
        if wait.is_zero() {
            return self.core.run(&request).await;
        }
        match self.core.transport.wait(&request, wait).await {
            // All connections on which calls wait are taken, or the wait was ended by the server: it asks now and then instead.
            Err(Error::Unavailable(away)) if matches!(away.reason, "connections" | "unblocked") => {
                tokio::time::sleep(wait.min(Duration::from_millis(100))).await;
                let at_once = AcquireOptions::default();
                self.core.run(&acquire(&self.key, most, &self.holder, milliseconds(self.ttl), &at_once)).await
            }
            found => found,
        }
    }

    fn decide_alone(&self, away: &Unavailable) -> Asked {
        if away.sent {
            self.core.keep(Delivery::new(words_of(&release(&self.key, &self.holder))));
        }
        let settings = &self.core.settings;
        let mut made = Asked {
            outcome: Outcome::Denied,
            reason: Some(away.reason),
            in_use: 0,
            retry_after: Some(settings.pause),
            fencing_token: 0,
        };
        match settings.away.slots {
            _ if self.is_lock => {}
            Mode::Closed => {}
            Mode::Open => made.outcome = Outcome::Degraded,
            Mode::Local => match self.core.slots.take(&self.key, share(self.most, settings.instances), &self.holder) {
                Some(in_use) => {
                    made.outcome = Outcome::Degraded;
                    made.in_use = in_use;
                }
                None => made.reason = Some("local_limit"),
            },
        }
        made
    }
}

impl SlotState {
    fn live_until(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.live_until.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn is_lost(&self) -> bool {
        *self.lost.borrow() || self.asked.outcome == Outcome::Admitted && Instant::now() > *self.live_until()
    }
}

impl Slot {
    /// Whether there was a slot.
    pub fn is_ok(&self) -> bool {
        self.outcome() != Outcome::Denied
    }

    /// What was decided.
    pub fn outcome(&self) -> Outcome {
        self.state.asked.outcome
    }

    /// Why: none if there was a slot; `limit`, `local_limit`, or why the server is away.
    pub fn reason(&self) -> Option<&'static str> {
        self.state.asked.reason
    }

    /// How many slots were taken then.
    pub fn in_use(&self) -> u64 {
        self.state.asked.in_use
    }

    /// The maximum that was asked for.
    pub fn slots(&self) -> u64 {
        self.state.most
    }

    /// When a slot is free by itself; none if waiting does not help.
    pub fn retry_after(&self) -> Option<Duration> {
        self.state.asked.retry_after
    }

    /// Larger than those of all grants before it; 0 without a slot, and while the server is away.
    pub fn fencing_token(&self) -> i64 {
        self.state.asked.fencing_token
    }

    /// The name under which it is taken, new for each.
    pub fn holder(&self) -> &str {
        &self.state.holder
    }

    /// Whether it is not known any more that the slot is still taken: somebody else may have it.
    pub fn is_lost(&self) -> bool {
        !self.is_ok() || self.state.is_lost()
    }

    /// Waits until it is lost: when the server says so, or when its time has passed without a reply of the server.
    pub async fn lost(&self) {
        let mut lost = self.state.lost.subscribe();
        while !self.is_lost() {
            let until = tokio::time::Instant::from_std(*self.state.live_until()) + Duration::from_millis(1);
            tokio::select! {
                _ = lost.wait_for(|lost| *lost) => return,
                () = tokio::time::sleep_until(until), if self.outcome() == Outcome::Admitted => {}
            }
        }
    }

    /// Gives it back. Whether it was still taken, as far as is known. It goes on when nobody waits for it any more; while the server is
    /// away, it is told later.
    pub async fn release(&self) -> Result<bool, Error> {
        if self.state.left.swap(true, Ordering::AcqRel) {
            return Ok(false);
        }
        let own = self.state.clone();
        if own.asked.outcome == Outcome::Degraded {
            own.core.slots.free(&own.key, &own.holder);
            return Ok(true);
        }
        self.state
            .core
            .shield(async move {
                let lost = own.is_lost();
                let request = release(&own.key, &own.holder);
                match own.core.run(&request).await {
                    Err(Error::Unavailable(_)) => {
                        own.core.keep(Delivery::new(words_of(&request)));
                        Ok(!lost)
                    }
                    found => found,
                }
            })
            .await
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let own = &self.state;
        if own.left.swap(true, Ordering::AcqRel) {
            return;
        }
        if own.asked.outcome == Outcome::Degraded {
            own.core.slots.free(&own.key, &own.holder);
        } else {
            own.core.send_soon(Delivery::new(words_of(&release(&own.key, &own.holder))));
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("outcome", &self.outcome())
            .field("reason", &self.reason())
            .field("is_lock", &self.state.is_lock)
            .field("lost", &self.is_lost())
            .finish_non_exhaustive()
    }
}

/// Renews it every third of its time, until it is released or lost.
async fn kept_alive(state: Weak<SlotState>) {
    let Some((mut closing, ttl)) = state.upgrade().map(|own| (own.core.closing(), own.ttl)) else { return };
    let mut pause = ttl / 3;
    loop {
        tokio::select! {
            () = ended(&mut closing) => return,
            () = tokio::time::sleep(pause) => {}
        }
        let Some(own) = state.upgrade().filter(|own| !own.left.load(Ordering::Acquire)) else { return };
        let asked_at = Instant::now();
        pause = ttl / 3;
        match own.core.run(&renew(&own.key, &own.holder, milliseconds(ttl))).await {
            Ok(true) => *own.live_until() = asked_at + ttl,
            Err(error) if error.is_not_now() => pause = ttl / 6,
            _ => {
                if !own.left.load(Ordering::Acquire) {
                    own.lost.send_replace(true);
                    own.core.watch.count("locks_lost", 1);
                }
                return;
            }
        }
    }
}
