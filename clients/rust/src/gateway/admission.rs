use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::OnceCell;

use super::core::{Core, GiveBack, Running, ended};
use super::decisions::{Denied, Outcome, Settlement, status_of};
use super::delivery::{Delivery, words_of};
use super::settings::milliseconds;
use crate::commands::{
    AddCostOptions, Admission as Decision, AdmissionRow, Amount, Amounts, SettleOptions, Text, add_cost, keep_alive,
    settle,
};
use crate::error::{Error, ReplyError};
use crate::headers::{HeaderOptions, admission_headers};

/// The meter of money.
const MONEY: &str = "usd";

/// What is known of an admission in a group of accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The server has certainly not admitted it.
    Not,
    /// It may have.
    Maybe,
    Live,
}

/// Accounts of one slot, and what is known of the admission there.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) accounts: Vec<Text>,
    pub(super) standing: Standing,
}

/// What is told of the call of a target.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HowCalled {
    /// Nobody knows whether it has answered.
    pub(super) silent: bool,
    pub(super) failed: bool,
    /// For how long the provider wants no further call.
    pub(super) cooldown: Option<Duration>,
    pub(super) took: Option<Duration>,
}

/// The question, and what became of it. It does not change afterwards.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) lease_id: String,
    pub(super) estimates: Amounts,
    pub(super) ttl: Duration,
    pub(super) admitted_at: SystemTime,
    pub(super) keep_until: Instant,
    pub(super) outcome: Outcome,
    pub(super) reason: Option<&'static str>,
    pub(super) retry_after: Option<Duration>,
    pub(super) rows: Vec<AdmissionRow>,
    pub(super) groups: Vec<Group>,
    /// The target of an attempt. Its money is booked to it alone if the server does not know the lease.
    pub(super) target: Option<Text>,
    /// Those of its tokens; none if others tell of them.
    pub(super) attributes: Option<Vec<(String, String)>>,
}

impl Asked {
    pub(super) fn is_ok(&self) -> bool {
        self.outcome != Outcome::Denied
    }

    /// What the server has to be told at the end.
    pub(super) fn deliveries(&self, used: &Amounts, how: HowCalled) -> Vec<Delivery> {
        let money = used.get(MONEY.as_bytes()).or_else(|| self.estimates.get(MONEY.as_bytes())).copied();
        let at_ms = self.admitted_at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |at| at.as_millis() as i64);
        let mut made = Vec::new();
        for group in &self.groups {
            if group.standing == Standing::Not && !self.is_ok() {
                continue;
            }
            let mut charges = Vec::new();
            if let Some(spent) = money.filter(|spent| *spent > Amount::ZERO) {
                let options = AddCostOptions {
                    at_ms: Some(at_ms),
                    id: Some(self.lease_id.as_str().into()),
                    ..Default::default()
                };
                // Of several targets that were asked the money is the chosen one's.
                let billed = match &self.target {
                    Some(target) if group.accounts.contains(target) => std::slice::from_ref(target),
                    Some(_) => &[],
                    None => &group.accounts[..],
                };
                charges.extend(billed.iter().map(|account| words_of(&add_cost(account, spent, &options))));
            }
            if group.standing == Standing::Not {
                // The server has certainly not heard of it.
                made.extend(charges.into_iter().map(Delivery::new));
                continue;
            }
            let options = SettleOptions {
                amounts: used.clone(),
                failed: how.failed,
                cooldown_ms: how.cooldown.filter(|_| how.failed).map(milliseconds),
                took_ms: how.took.map(|took| took.as_millis() as i64),
            };
            let mut delivery = Delivery::new(words_of(&settle(&group.accounts, &self.lease_id, &options)));
            delivery.fallback = charges;
            // If the question is still on its way, it is admitted later: it has to be settled then, and not charged now.
            delivery.early = group.standing == Standing::Maybe;
            made.push(delivery);
        }
        made
    }

    fn tell_tokens(&self, core: &Core, used: &Amounts) {
        if let Some(attributes) = &self.attributes {
            core.watch.used(used, attributes);
        }
    }

    /// Nothing was used, and the request does not count.
    pub(super) fn zeros(&self) -> Amounts {
        let mut made: Amounts = self.estimates.keys().map(|meter| (meter.clone(), Amount::ZERO)).collect();
        made.insert("requests".into(), Amount::ZERO);
        made
    }
}

/// What the gateway keeps of an admission. The application has an [`Admission`] with it.
pub(super) struct AdmissionState {
    pub(super) core: Arc<Core>,
    pub(super) asked: Asked,
    used: Mutex<Used>,
    lost: AtomicBool,
    /// It has ended, or its end is under way without anybody who waits for it.
    left: AtomicBool,
    settled: OnceCell<Settlement>,
    living: AtomicU64,
}

#[derive(Default)]
struct Used {
    amounts: Amounts,
    /// A piece of its answer was passed on.
    began: bool,
    /// Of an attempt: it was not ended as a failure.
    succeeded: bool,
}

impl AdmissionState {
    fn used(&self) -> std::sync::MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn amounts(&self) -> Amounts {
        self.used().amounts.clone()
    }

    pub(super) fn has_begun(&self) -> bool {
        self.used().began
    }

    pub(super) fn has_answered(&self) -> bool {
        let used = self.used();
        used.began || used.amounts.values().any(|amount| *amount > Amount::ZERO)
    }

    /// It is ended otherwise than as a failure, unless it has ended before.
    pub(super) fn succeeded(&self) {
        if !self.has_ended() {
            self.used().succeeded = true;
        }
    }

    pub(super) fn has_succeeded(&self) -> bool {
        self.used().succeeded
    }

    /// What was used so far, by all meters that are named.
    pub(super) fn tell(&self, amounts: Amounts) {
        self.used().amounts.extend(amounts);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.left.load(Ordering::Acquire) || self.settled.initialized()
    }

    /// Ends it at these amounts, or at what was told. Of several calls at the same time one does it, and the others get its result.
    pub(super) async fn end(self: &Arc<Self>, amounts: Option<Amounts>, how: HowCalled) -> Result<Settlement, Error> {
        let own = self.clone();
        // It goes on when nobody waits for it any more.
        self.core
            .shield(async move {
                let settled = own.settled.get_or_try_init(|| async {
                    if own.left.load(Ordering::Acquire) {
                        return Ok(Settlement::Kept);
                    }
                    let mut amounts = amounts.unwrap_or_else(|| own.amounts());
                    if how.silent {
                        // Neither a success of the target nor a failure.
                        amounts.entry("requests".into()).or_insert(Amount::ZERO);
                    }
                    let settlement = own.core.deliver_all(own.asked.deliveries(&amounts, how)).await?;
                    own.core.watch.settled(settlement.name());
                    own.asked.tell_tokens(&own.core, &amounts);
                    own.core.lives_no_more(own.living.load(Ordering::Relaxed));
                    Ok(settlement)
                });
                match settled.await {
                    Ok(settlement) => Ok(*settlement),
                    Err(error) => {
                        own.core.watch.count("settlements_refused", 1);
                        Err(error)
                    }
                }
            })
            .await
    }

    /// Whoever asked has left before the answer.
    pub(super) fn undo_in_background(&self) {
        if self.settled.initialized() || self.left.swap(true, Ordering::AcqRel) {
            return;
        }
        self.core.lives_no_more(self.living.load(Ordering::Relaxed));
        for delivery in self.asked.deliveries(&self.asked.zeros(), HowCalled::default()) {
            self.core.send_soon(delivery);
        }
    }
}

impl Running for AdmissionState {
    /// Nobody settles it any more, so it is settled in the background at what is known. `figure` counts it.
    fn ended_by(&self, figure: &'static str) {
        if !self.asked.is_ok() || self.settled.initialized() || self.left.swap(true, Ordering::AcqRel) {
            return;
        }
        self.core.lives_no_more(self.living.load(Ordering::Relaxed));
        self.core.watch.count(figure, 1);
        let mut amounts = self.amounts();
        self.asked.tell_tokens(&self.core, &amounts);
        let silent = self.asked.target.is_some() && !self.has_answered();
        self.used().succeeded = true;
        if silent {
            // Neither a success of the target nor a failure.
            amounts.entry("requests".into()).or_insert(Amount::ZERO);
        }
        for delivery in self.asked.deliveries(&amounts, HowCalled::default()) {
            self.core.send_soon(delivery);
        }
    }
}

/// A request that was admitted, denied, or, while the server is away, let through as degraded.
///
/// It is settled once: by [`settle`](Self::settle), or when it is dropped. Dropping cannot wait, so then it is settled in the
/// background, at what was told by then, logged at the level `debug` and counted as `admissions_dropped`. Meters whose use nobody
/// tells keep their estimates.
pub struct Admission {
    pub(super) state: Arc<AdmissionState>,
}

impl Admission {
    pub(super) fn new(core: &Arc<Core>, asked: Asked, keep_alive: bool) -> Self {
        let state = Arc::new(AdmissionState {
            core: core.clone(),
            asked,
            used: Mutex::default(),
            lost: AtomicBool::new(false),
            left: AtomicBool::new(false),
            settled: OnceCell::new(),
            living: AtomicU64::new(u64::MAX),
        });
        if state.asked.is_ok() {
            let running = Arc::downgrade(&state);
            state.living.store(core.lives(running), Ordering::Relaxed);
            if keep_alive && state.asked.groups.iter().any(|group| group.standing != Standing::Not) {
                core.spawn(kept_alive(Arc::downgrade(&state), state.asked.ttl));
            }
        }
        Self { state }
    }

    /// Whether the request may go on: it is admitted or degraded.
    pub fn is_ok(&self) -> bool {
        self.state.asked.is_ok()
    }

    /// The admission, or why it was denied: for `?`.
    pub fn ok(self) -> Result<Self, Denied> {
        if self.is_ok() { Ok(self) } else { Err(self.denied()) }
    }

    pub(super) fn denied(&self) -> Denied {
        Denied { reason: self.reason().unwrap_or_default(), retry_after: self.retry_after(), status: self.status() }
    }

    /// What was decided.
    pub fn outcome(&self) -> Outcome {
        self.state.asked.outcome
    }

    /// Why: none if it was admitted; `limit`, `local_limit`, `no_account`; or why the server is away, such as `timeout`.
    pub fn reason(&self) -> Option<&'static str> {
        self.state.asked.reason
    }

    /// How long a denied request has to wait; none if waiting does not help.
    pub fn retry_after(&self) -> Option<Duration> {
        self.state.asked.retry_after
    }

    /// The HTTP status: 200, 429 if a limit refuses, 403 without an account, 503 if the server is away.
    pub fn status(&self) -> u16 {
        status_of(self.outcome(), self.reason())
    }

    /// The name of this attempt.
    pub fn lease_id(&self) -> &str {
        &self.state.asked.lease_id
    }

    /// What the policies say, as [`AdmitOptions::rows`](super::AdmitOptions::rows) asks for.
    pub fn rows(&self) -> &[AdmissionRow] {
        &self.state.asked.rows
    }

    /// The rows of the policies that do not allow it.
    pub fn refusals(&self) -> impl Iterator<Item = &AdmissionRow> {
        self.rows().iter().filter(|row| !row.allowed)
    }

    /// The headers of the HTTP response, by name: Retry-After, IETF's `RateLimit` and `RateLimit-Policy`, OpenAI's and Anthropic's. They
    /// need rows with details, as they are replied by default.
    pub fn headers(&self, options: &HeaderOptions<'_>) -> Vec<(String, String)> {
        let retry_after_ms = match self.retry_after() {
            _ if self.is_ok() => 0,
            Some(wait) => wait.as_millis() as i64,
            None => -1,
        };
        let told = Decision { admitted: self.is_ok(), retry_after_ms, rows: self.rows().to_vec() };
        admission_headers(&told, SystemTime::now(), options)
    }

    /// Whether the lease has ended although it was kept alive: the server has lost it, or the hard cap has come.
    pub fn is_lost(&self) -> bool {
        self.state.lost.load(Ordering::Acquire)
    }

    /// How it has ended; none if it has not.
    pub fn settlement(&self) -> Option<Settlement> {
        self.state.settled.get().copied()
    }

    /// Tells what the request has used so far of a meter, in all. Later words replace earlier ones. An amount below 0 is refused, with
    /// the server's words.
    pub fn use_so_far(&self, meter: impl Into<Text>, amount: Amount) -> Result<(), Error> {
        if amount < Amount::ZERO {
            return Err(Error::Reply(ReplyError::new("ERR", "amount out of range: used")));
        }
        self.state.used().amounts.insert(meter.into(), amount);
        Ok(())
    }

    /// Tells that the model was not asked, or refused: the request counts, but has used nothing.
    pub fn unused(&self) {
        let zeros = self.state.asked.estimates.keys().map(|meter| (meter.clone(), Amount::ZERO));
        self.state.used().amounts.extend(zeros);
    }

    /// Tells that a piece of the answer was passed on.
    pub fn began(&self) {
        self.state.used().began = true;
    }

    /// Ends the admission at what was told. Only the first call does something; the others return how that went. It goes on when nobody
    /// waits for it any more. If the server refuses it, that is the error, and it can be settled again.
    pub async fn settle(&self) -> Result<Settlement, Error> {
        self.state.end(None, HowCalled::default()).await
    }

    /// Ends it as if it had never been: nothing is charged, and limits get back what it took.
    pub async fn undo(&self) -> Result<Settlement, Error> {
        self.state.end(Some(self.state.asked.zeros()), HowCalled::default()).await
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if self.is_ok() && !self.state.has_ended() {
            log::debug!("an admission was dropped: it is settled in the background");
            self.state.ended_by("admissions_dropped");
        }
    }
}

impl GiveBack for Admission {
    fn give_back(self) {
        self.state.undo_in_background();
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission")
            .field("outcome", &self.outcome())
            .field("reason", &self.reason())
            .field("settlement", &self.settlement())
            .finish_non_exhaustive()
    }
}

/// Prolongs the lease every third of its time, while the admission lives, and until the hard cap.
async fn kept_alive(state: Weak<AdmissionState>, ttl: Duration) {
    let mut pause = ttl / 3;
    loop {
        let Some(mut closing) = state.upgrade().map(|own| own.core.closing()) else { return };
        tokio::select! {
            () = ended(&mut closing) => return,
            () = tokio::time::sleep(pause) => {}
        }
        let Some(own) = state.upgrade().filter(|own| !own.has_ended()) else { return };
        if Instant::now() >= own.asked.keep_until {
            own.lose();
            return;
        }
        let (mut live, mut known) = (false, true);
        for group in own.asked.groups.iter().filter(|group| group.standing != Standing::Not) {
            let request = keep_alive(&group.accounts, &own.asked.lease_id, milliseconds(ttl));
            match own.core.run(&request).await {
                Ok(found) => live |= found != 0,
                Err(error) => known &= !error.is_not_now(),
            }
        }
        pause = ttl / 3;
        if !known {
            own.core.watch.count("keep_alive_failed", 1);
            pause = ttl / 6;
        } else if !live {
            own.lose();
            return;
        }
    }
}

impl AdmissionState {
    /// One that is degraded may go on without a lease.
    fn lose(&self) {
        if !self.has_ended() && self.asked.outcome == Outcome::Admitted {
            self.lost.store(true, Ordering::Release);
            self.core.watch.count("leases_lost", 1);
        }
    }
}
