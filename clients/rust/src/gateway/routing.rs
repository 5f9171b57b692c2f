use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::admission::{Admission, AdmissionState, Asked, Group, HowCalled, Standing};
use super::admitter::{AdmitOptions, Answer, ask_each, decided, prepare, prepare_for, question, undo};
use super::core::{Core, GiveBack};
use super::decisions::{Denied, Outcome, Settlement};
use super::handle::Gateway;
use super::ids::jitter;
use super::local::share;
use super::node::Call;
use super::settings::{Mode, duration_of, milliseconds};
use crate::commands::{self, Amounts, Pick, Request, RouteRows, Routed, Text, route};
use crate::error::{Error, ReplyError, ReplyErrorKind, Unavailable};

/// The most targets in one call.
const TARGETS: usize = 64;
/// The most accounts of a settlement.
const ACCOUNTS: usize = 16;

/// What [`Gateway::route`] and [`Gateway::request`] may be told.
#[derive(Clone, Debug, Default)]
pub struct RouteOptions {
    /// How the target is chosen. Default: [`Pick::First`] for `route`, and [`Pick::Fast`] for `request`.
    pub pick: Option<Pick>,
    /// The most targets that a request tries. Default: 3.
    pub attempts: Option<usize>,
    /// For so long after it was admitted a request begins attempts. Default: for ever.
    pub within: Option<Duration>,
    /// Those of an admission. `lease_id` is that of `route`, and of the accounts' admission of `request`.
    pub admit: AdmitOptions,
}

/// A call of one target: an admission for it, to which it dereferences.
///
/// [`settle`](Self::settle) ends it as a success of the target, and [`fail`](Self::fail) as a failure. Dropped, it says nothing about
/// the target unless that is known to have answered, because [`Admission::began`] or a use above 0 was told.
pub struct Attempt {
    admission: Admission,
    target: Option<Text>,
    began: Instant,
}

impl Attempt {
    /// The key of the target to call; none if no target has room.
    pub fn target(&self) -> Option<&Text> {
        self.target.as_ref()
    }

    /// Ends the attempt as a success of the target, with the time that it took.
    pub async fn settle(&self) -> Result<Settlement, Error> {
        self.admission.state.succeeded();
        let how = HowCalled { took: Some(self.began.elapsed()), ..Default::default() };
        self.admission.state.end(None, how).await
    }

    /// Ends the attempt as a failure of the target. `retry_after` is for how long the provider wants no further call.
    pub async fn fail(&self, retry_after: Option<Duration>) -> Result<Settlement, Error> {
        let state = &self.admission.state;
        let amounts = state.amounts().is_empty().then(|| state.asked.zeros());
        state.end(amounts, HowCalled { failed: true, cooldown: retry_after, ..Default::default() }).await
    }

    /// Ends an attempt that was broken off, by an error that is not the target's or because its client has left. If the target had
    /// answered by then, that counts as a success; if not, it says nothing about the target, and the limits on its requests get this
    /// one back. Other meters keep their estimates.
    pub async fn break_off(&self) -> Result<Settlement, Error> {
        self.admission.state.succeeded();
        let silent = !self.admission.state.has_answered();
        self.admission.state.end(None, HowCalled { silent, ..Default::default() }).await
    }
}

impl Deref for Attempt {
    type Target = Admission;

    fn deref(&self) -> &Admission {
        &self.admission
    }
}

impl GiveBack for Attempt {
    fn give_back(self) {
        self.admission.give_back();
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt").field("admission", &self.admission).finish_non_exhaustive()
    }
}

impl Gateway {
    /// Picks one of several targets that has room for a request, and charges the estimates to it. An error is one of the call: then
    /// nothing is charged, and neither is anything if nobody waits for the answer any more.
    pub async fn route<A: Into<Text>>(
        &self,
        targets: impl IntoIterator<Item = A>,
        estimates: Amounts,
        options: &RouteOptions,
    ) -> Result<Attempt, Error> {
        let targets = targets.into_iter().map(Into::into).collect();
        let pick = options.pick.unwrap_or(Pick::First);
        let asked = prepare(&self.core, Vec::new(), estimates, &options.admit)?;
        self.core.finish(pick_one(self.core.clone(), asked, targets, pick, options.admit.clone())).await
    }

    /// Admits a request for its accounts. [`RoutedRequest::next`] then goes from target to target until one serves it.
    ///
    /// ```no_run
    /// # use redis_gateway_client::{Amount, Error, Gateway, RouteOptions};
    /// # async fn call(_: &redis_gateway_client::Text) -> Result<u32, Option<std::time::Duration>> { Ok(1) }
    /// # async fn example(gateway: Gateway) -> Result<(), Box<dyn std::error::Error>> {
    /// let estimates = [("tokens".into(), Amount::from(1_500))].into();
    /// let targets = ["{gpt}:eu", "{gpt}:us"];
    /// let mut request = gateway.request(["{ml}:key:7"], targets, estimates, &RouteOptions::default()).await?;
    /// loop {
    ///     let attempt = request.next().await??; // Denied: the accounts may not, or no target is left.
    ///     match call(attempt.target().unwrap()).await {
    ///         Ok(tokens) => {
    ///             attempt.use_so_far("tokens", tokens.into())?;
    ///             attempt.settle().await?;
    ///             break;
    ///         }
    ///         Err(retry_after) => attempt.fail(retry_after).await?,
    ///     };
    /// }
    /// request.settle().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn request<A: Into<Text>, T: Into<Text>>(
        &self,
        accounts: impl IntoIterator<Item = A>,
        targets: impl IntoIterator<Item = T>,
        estimates: Amounts,
        options: &RouteOptions,
    ) -> Result<RoutedRequest, Error> {
        let accounts = accounts.into_iter().map(Into::into).collect();
        let targets = targets.into_iter().map(Into::into).collect();
        self.core.finish(begin(self.core.clone(), accounts, targets, estimates, options.clone())).await
    }
}

/// Asks for the accounts' admission and for the first target: in one round trip, if one server has all of them. Else the target is
/// asked for later.
async fn begin(
    core: Arc<Core>,
    accounts: Vec<Text>,
    targets: Vec<Text>,
    estimates: Amounts,
    options: RouteOptions,
) -> Result<RoutedRequest, Error> {
    let own = options.admit.clone();
    let options = RouteOptions { admit: AdmitOptions { lease_id: None, ..options.admit }, ..options };
    let pick = options.pick.unwrap_or(Pick::Fast);
    let mut asked = prepare_for(&core, accounts, estimates.clone(), &own)?;
    let mut picked = prepare(&core, Vec::new(), estimates, &options.admit)?;
    picked.attributes = None; // The accounts' admission tells of the tokens of all attempts.
    let mut first = None;
    let parts = grouped(&core, &targets);
    let mut together = (None, None);
    if let ([_], [part]) = (&asked.groups[..], &parts[..]) {
        let calls = [Call::of(&question(&asked, 0, &own)), Call::of(&target_question(&picked, part, pick))];
        let [home, other] = [&calls[0], &calls[1]].map(|call| core.transport.known_node(call));
        if home.zip(other).is_some_and(|(home, other)| Arc::ptr_eq(&home, &other)) {
            let mut answers = core.transport.send_together(calls.into()).await.into_iter();
            together = (answers.next(), answers.next());
        }
    }
    let was_together = together.1.is_some();
    let admitted = ask_each(&core, &mut asked, &own, together.0).await;
    if was_together {
        let may = admitted.is_ok() && asked.is_ok();
        let found = ask_targets(&core, &mut picked, &targets, pick, together.1, may).await;
        if may && found.is_ok() {
            core.watch.decided("route", picked.outcome, picked.reason);
            first = Some(attempt_of(&core, picked, &options.admit));
        } else {
            // What was picked for accounts that refuse is free again at once.
            for delivery in picked.deliveries(&picked.zeros(), HowCalled::default()) {
                core.send_soon(delivery);
            }
        }
        if let (Ok(()), Err(error)) = (&admitted, found) {
            let _ = undo(&core, &mut asked).await;
            return Err(error);
        }
    }
    admitted?;
    let admission = decided(&core, asked, &own);
    Ok(RoutedRequest { core, admission, targets, options, began: Instant::now(), first, attempts: Vec::new() })
}

/// Targets that can be named in one call. Those of different slots cannot be compared: the first that admits it is taken.
fn grouped(core: &Core, targets: &[Text]) -> Vec<Vec<Text>> {
    let mut made: Vec<(u16, Vec<Text>)> = Vec::new();
    for target in targets {
        let place = core.transport.place_of(target);
        match made.iter_mut().find(|(other, part)| *other == place && part.len() < TARGETS) {
            Some((_, part)) => part.push(target.clone()),
            None => made.push((place, vec![target.clone()])),
        }
    }
    made.into_iter().map(|(_, part)| part).collect()
}

async fn pick_one(
    core: Arc<Core>,
    mut asked: Asked,
    targets: Vec<Text>,
    pick: Pick,
    options: AdmitOptions,
) -> Result<Attempt, Error> {
    if targets.is_empty() {
        return Err(Error::Reply(ReplyError::new("ERR", "at least one: target")));
    }
    ask_targets(&core, &mut asked, &targets, pick, None, true).await?;
    core.watch.decided("route", asked.outcome, asked.reason);
    Ok(attempt_of(&core, asked, &options))
}

fn attempt_of(core: &Arc<Core>, asked: Asked, options: &AdmitOptions) -> Attempt {
    let target = asked.target.clone();
    let admission = Admission::new(core, asked, !options.no_keep_alive);
    Attempt { admission, target, began: Instant::now() }
}

/// What the targets of a slot are asked.
fn target_question(asked: &Asked, part: &[Text], pick: Pick) -> Request<Routed> {
    let own =
        commands::RouteOptions { amounts: asked.estimates.clone(), pick: Some(pick), rows: Some(RouteRows::Refused) };
    route(part, &asked.lease_id, milliseconds(asked.ttl), &own)
}

/// Asks slot by slot. An error is one of the call; then nothing is admitted. `first` is the answer of the first slot, if it has been
/// asked, and `alone` whether something may be let through without the server.
async fn ask_targets(
    core: &Arc<Core>,
    asked: &mut Asked,
    targets: &[Text],
    pick: Pick,
    mut first: Answer,
    alone: bool,
) -> Result<(), Error> {
    let parts = grouped(core, targets);
    let mut missing = 0;
    for part in &parts {
        let request = target_question(asked, part, pick);
        let found = match first.take() {
            Some(answer) => answer.and_then(|reply| request.decode(reply)),
            None => core.run(&request).await,
        };
        let away = match found {
            Ok(found) => {
                if let Some(target) = found.target {
                    asked.groups = vec![Group { accounts: vec![target.clone()], standing: Standing::Live }];
                    asked.target = Some(target);
                    asked.outcome = Outcome::Admitted;
                    asked.reason = None;
                    asked.retry_after = None;
                    return Ok(());
                }
                asked.rows.extend(found.rows);
                let wait = duration_of(found.retry_after_ms);
                asked.retry_after = [asked.retry_after, wait].into_iter().flatten().min();
                continue;
            }
            Err(Error::Unavailable(away)) => away,
            Err(error) => match error.kind() {
                Some(ReplyErrorKind::NoAccount { .. }) => {
                    missing += 1;
                    continue;
                }
                // An answer was lost for so long that the lease has ended meanwhile.
                Some(ReplyErrorKind::LeaseEnded { .. }) => Unavailable::new("timeout", true, true),
                _ => return Err(error),
            },
        };
        // Nobody knows which of them has been charged, if any.
        if away.sent {
            let standing = Standing::Maybe;
            asked.groups = part.chunks(ACCOUNTS).map(|some| Group { accounts: some.to_vec(), standing }).collect();
        }
        if alone {
            decide_alone(core, asked, targets, pick, &away);
        }
        return Ok(());
    }
    asked.reason = Some(if missing == parts.len() { "no_account" } else { "limit" });
    Ok(())
}

/// Decides while the server is away.
fn decide_alone(core: &Arc<Core>, asked: &mut Asked, targets: &[Text], pick: Pick, away: &Unavailable) {
    let settings = &core.settings;
    asked.reason = Some(away.reason);
    asked.retry_after = Some(settings.pause);
    let first = if pick == Pick::First { 0 } else { (jitter() * targets.len() as f64) as usize };
    let mut order = targets[first..].iter().chain(&targets[..first]);
    let chosen = match settings.away.admission {
        Mode::Open => order.next(),
        Mode::Closed => None,
        Mode::Local => {
            let limit = share(settings.away.local.requests, settings.instances);
            let chosen = order.find(|target| {
                let key = [b"route:", &target[..]].concat();
                core.windows.take(&key, limit, settings.away.local.window, 1, false).allowed
            });
            if chosen.is_none() {
                asked.reason = Some("local_limit");
            }
            chosen
        }
    };
    let Some(target) = chosen else {
        for delivery in asked.deliveries(&asked.zeros(), HowCalled::default()) {
            core.keep(delivery);
        }
        asked.groups = Vec::new();
        return;
    };
    asked.outcome = Outcome::Degraded;
    asked.retry_after = None;
    asked.target = Some(target.clone());
    if !asked.groups.iter().any(|group| group.accounts.contains(target)) {
        asked.groups.push(Group { accounts: vec![target.clone()], standing: Standing::Not });
    }
}

/// A request that is paid by accounts and served by one of several targets: see [`Gateway::request`].
///
/// [`settle`](Self::settle) has its accounts pay what all attempts have used. Dropped, they pay what was known by then, in the
/// background.
pub struct RoutedRequest {
    core: Arc<Core>,
    admission: Admission,
    targets: Vec<Text>,
    options: RouteOptions,
    began: Instant,
    /// The first attempt, if its target was asked for together with the accounts, and until it is begun.
    first: Option<Attempt>,
    attempts: Vec<Arc<AdmissionState>>,
}

impl RoutedRequest {
    /// That of the accounts.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// The next attempt, at a target that has not been tried. None is left if it was denied: the accounts may not, all targets have
    /// failed or refuse, the bound of attempts or of time is reached, or one of them has answered.
    pub async fn next(&mut self) -> Result<Result<Attempt, Denied>, Error> {
        if !self.admission.is_ok() {
            return Ok(Err(self.admission.denied()));
        }
        let failed = Denied { reason: "every_target_failed", retry_after: None, status: 503 };
        let tried = self.attempts.len();
        let late = self.options.within.is_some_and(|within| self.began.elapsed() > within);
        // Once the client has a piece of an answer, no other target can go on with it.
        let answered = self.attempts.iter().any(|attempt| attempt.has_succeeded() || attempt.has_begun());
        if self.targets.is_empty() || tried >= self.options.attempts.unwrap_or(3) || late || answered {
            return Ok(Err(failed));
        }
        let pick = self.options.pick.unwrap_or(Pick::Fast);
        let estimates = self.admission.state.asked.estimates.clone();
        let attempt = match self.first.take() {
            Some(first) => Attempt { began: Instant::now(), ..first },
            None => {
                let own = self.options.admit.clone();
                let mut asked = prepare(&self.core, Vec::new(), estimates, &own)?;
                asked.attributes = None;
                self.core.finish(pick_one(self.core.clone(), asked, self.targets.clone(), pick, own)).await?
            }
        };
        let Some(target) = attempt.target().filter(|_| attempt.is_ok()) else {
            return Ok(Err(if tried == 0 { attempt.denied() } else { failed }));
        };
        self.targets.retain(|other| other != target);
        self.attempts.push(attempt.admission.state.clone());
        Ok(Ok(attempt))
    }

    /// What all attempts have used together. A meter of which none of them has told anything keeps the request's estimate; of one that
    /// some have told, the others count at their estimates. None if all have failed before they used anything.
    fn used(&self) -> Option<Amounts> {
        let spending = |attempt: &&Arc<AdmissionState>| attempt.has_succeeded() || !attempt.amounts().is_empty();
        if !self.attempts.is_empty() && !self.attempts.iter().any(|attempt| spending(&attempt)) {
            return None;
        }
        let mut made = Amounts::new();
        let told: Vec<Amounts> = self.attempts.iter().map(|attempt| attempt.amounts()).collect();
        for meter in told.iter().flat_map(|amounts| amounts.keys()) {
            if made.contains_key(meter) {
                continue;
            }
            let estimates = &self.admission.state.asked.estimates;
            let of = |attempt: &Arc<AdmissionState>| {
                attempt.amounts().get(meter).or(estimates.get(meter)).copied().unwrap_or_default()
            };
            made.insert(meter.clone(), self.attempts.iter().filter(spending).map(of).sum());
        }
        Some(made)
    }

    /// Has the accounts pay what all attempts have used, once. If all have failed before they used anything, they pay nothing.
    pub async fn settle(&self) -> Result<Settlement, Error> {
        if let Some(unused) = &self.first {
            unused.undo().await?; // Its target was not called.
        }
        match self.used() {
            Some(used) => self.admission.state.end(Some(used), HowCalled::default()).await,
            None => self.admission.undo().await,
        }
    }
}

impl GiveBack for RoutedRequest {
    fn give_back(mut self) {
        if let Some(unused) = self.first.take() {
            unused.give_back();
        }
        self.admission.state.undo_in_background();
    }
}

impl Drop for RoutedRequest {
    fn drop(&mut self) {
        if let Some(unused) = self.first.take() {
            unused.give_back();
        }
        match self.used() {
            Some(used) => self.admission.state.tell(used),
            None => self.admission.state.tell(self.admission.state.asked.zeros()),
        }
    }
}

impl fmt::Debug for RoutedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutedRequest")
            .field("admission", &self.admission)
            .field("attempts", &self.attempts.len())
            .finish_non_exhaustive()
    }
}
