use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::admission::{Admission, Asked, Group, HowCalled, Standing};
use super::core::Core;
use super::decisions::Outcome;
use super::handle::Gateway;
use super::ids::new_id;
use super::local::share;
use super::settings::{Mode, duration_of, milliseconds};
use crate::commands::{self, Amount, Amounts, PolicyPutOptions, Request, Rows, Text, policy_put};
use crate::error::{Error, ReplyError, ReplyErrorKind, Unavailable};

/// The most accounts in one call.
const ACCOUNTS: usize = 16;

/// What [`Gateway::admit`](super::Gateway::admit) may be told.
#[derive(Clone, Debug, Default)]
pub struct AdmitOptions {
    /// How long the admission lives without a sign of life. It is kept alive until it ends. Default:
    /// [`Settings::lease_ttl`](super::Settings::lease_ttl).
    pub ttl: Option<Duration>,
    /// The name of this attempt: new for each, and never of what comes from a client's request. Default: made at random.
    pub lease_id: Option<String>,
    /// Which policies' rows to reply. [`Rows::Detail`] has what headers need, and is the default; [`Rows::Refused`] is cheaper.
    pub rows: Option<Rows>,
    /// Deny if one of the accounts does not exist. If [`Settings::plans`](super::Settings::plans) knows a plan for it, it is made.
    pub require: bool,
    /// It is not kept alive.
    pub no_keep_alive: bool,
    /// Attributes of its tokens for [`Settings::observer`](super::Settings::observer), such as `gen_ai.request.model`.
    pub attributes: Vec<(String, String)>,
}

impl Gateway {
    /// Asks whether a request may go on: all limits and budgets of its accounts at once, which are charged with the estimates. An error
    /// is one of the call: then nothing is charged, and neither is anything if nobody waits for the answer any more.
    ///
    /// Estimates are by meter, from 0 to 10^18; the meter `usd` is the money that is booked if the server forgets the admission.
    pub async fn admit<A: Into<Text>>(
        &self,
        accounts: impl IntoIterator<Item = A>,
        estimates: Amounts,
        options: &AdmitOptions,
    ) -> Result<Admission, Error> {
        let accounts = accounts.into_iter().map(Into::into).collect();
        let asked = admit(self.core.clone(), accounts, estimates, options.clone());
        self.core.finish(asked).await
    }
}

pub(super) fn prepare(
    core: &Core,
    groups: Vec<Group>,
    estimates: Amounts,
    options: &AdmitOptions,
) -> Result<Asked, Error> {
    if estimates.values().any(|amount| *amount < Amount::ZERO) {
        return Err(Error::Reply(ReplyError::new("ERR", "amount out of range: estimate")));
    }
    Ok(Asked {
        lease_id: options.lease_id.clone().unwrap_or_else(new_id),
        estimates,
        ttl: options.ttl.unwrap_or(core.settings.lease_ttl),
        admitted_at: SystemTime::now(),
        keep_until: Instant::now() + core.settings.lease_cap,
        outcome: Outcome::Denied,
        reason: None,
        retry_after: None,
        rows: Vec::new(),
        groups,
        target: None,
        attributes: Some(options.attributes.clone()),
    })
}

/// Accounts that can be named in one call, in their order.
pub(super) fn grouped(core: &Core, accounts: Vec<Text>) -> Vec<Group> {
    let mut made: Vec<(u16, Group)> = Vec::new();
    for account in accounts {
        let place = core.transport.place_of(&account);
        match made.iter_mut().rev().find(|(other, group)| *other == place && group.accounts.len() < ACCOUNTS) {
            Some((_, group)) => group.accounts.push(account),
            None => made.push((place, Group { accounts: vec![account], standing: Standing::Not })),
        }
    }
    made.into_iter().map(|(_, group)| group).collect()
}

pub(super) async fn admit(
    core: Arc<Core>,
    accounts: Vec<Text>,
    estimates: Amounts,
    options: AdmitOptions,
) -> Result<Admission, Error> {
    let mut asked = prepare_for(&core, accounts, estimates, &options)?;
    ask_each(&core, &mut asked, &options, None).await?;
    Ok(decided(&core, asked, &options))
}

pub(super) fn prepare_for(
    core: &Core,
    accounts: Vec<Text>,
    estimates: Amounts,
    options: &AdmitOptions,
) -> Result<Asked, Error> {
    if accounts.is_empty() {
        return Err(Error::Reply(ReplyError::new("ERR", "at least one: account")));
    }
    prepare(core, grouped(core, accounts), estimates, options)
}

pub(super) fn decided(core: &Arc<Core>, asked: Asked, options: &AdmitOptions) -> Admission {
    core.watch.decided("admission", asked.outcome, asked.reason);
    Admission::new(core, asked, !options.no_keep_alive)
}

/// The answer to a question that was sent together with others.
pub(super) type Answer = Option<Result<redis::Value, Error>>;

/// Asks slot by slot. An error is one of the call; then nothing is admitted. `first` is the answer of the first slot, if it has been
/// asked.
pub(super) async fn ask_each(
    core: &Arc<Core>,
    asked: &mut Asked,
    options: &AdmitOptions,
    mut first: Answer,
) -> Result<(), Error> {
    for at in 0..asked.groups.len() {
        asked.groups[at].standing = Standing::Maybe;
        match ask_group(core, asked, at, options, first.take()).await {
            Ok(found) => {
                asked.rows.extend(found.rows);
                if !found.admitted {
                    asked.groups[at].standing = Standing::Not;
                    asked.reason = Some("limit");
                    asked.retry_after = duration_of(found.retry_after_ms);
                    return undo(core, asked).await;
                }
                asked.groups[at].standing = Standing::Live;
            }
            Err(Error::Unavailable(away)) => {
                if !away.sent {
                    asked.groups[at].standing = Standing::Not;
                }
                decide_alone(core, asked, &away).await;
                return Ok(());
            }
            Err(error) => {
                if error.reply().is_some() {
                    asked.groups[at].standing = Standing::Not;
                }
                if matches!(error.kind(), Some(ReplyErrorKind::NoAccount { .. })) {
                    asked.reason = Some("no_account");
                    return undo(core, asked).await;
                }
                undo(core, asked).await?;
                return Err(error);
            }
        }
    }
    asked.outcome = Outcome::Admitted;
    Ok(())
}

/// What a group is asked.
pub(super) fn question(asked: &Asked, at: usize, options: &AdmitOptions) -> Request<commands::Admission> {
    commands::admit(
        &asked.groups[at].accounts,
        &asked.lease_id,
        milliseconds(asked.ttl),
        &commands::AdmitOptions {
            amounts: asked.estimates.clone(),
            require: options.require,
            rows: Some(options.rows.unwrap_or(Rows::Detail)),
            ..Default::default()
        },
    )
}

async fn ask_group(
    core: &Arc<Core>,
    asked: &Asked,
    at: usize,
    options: &AdmitOptions,
    mut first: Answer,
) -> Result<commands::Admission, Error> {
    let accounts = &asked.groups[at].accounts;
    let request = question(asked, at, options);
    let mut made = 0;
    loop {
        let found = match first.take() {
            Some(answer) => answer.and_then(|reply| request.decode(reply)),
            None => core.run(&request).await,
        };
        match found.as_ref().err().and_then(Error::kind) {
            // An answer was lost for so long that the lease has ended meanwhile.
            Some(ReplyErrorKind::LeaseEnded { .. }) => {
                return Err(Error::Unavailable(Unavailable::new("timeout", true, true)));
            }
            Some(ReplyErrorKind::NoAccount { account }) if made < accounts.len() => {
                if !make(core, account).await? {
                    return found;
                }
                made += 1;
            }
            _ => return found,
        }
    }
}

/// Makes an account from its plan, unless another gateway is quicker. Whether there is a plan.
async fn make(core: &Arc<Core>, account: &str) -> Result<bool, Error> {
    let plan = core.settings.plans.as_ref().and_then(|plans| plans(account.as_bytes()));
    let Some(plan) = plan else { return Ok(false) };
    let options = PolicyPutOptions { nx: true, idle_ms: plan.idle.map(milliseconds) };
    core.run(&policy_put(account, &plan.policies, &options)).await?;
    Ok(true)
}

/// Decides while the server is away.
async fn decide_alone(core: &Arc<Core>, asked: &mut Asked, away: &Unavailable) {
    let settings = &core.settings;
    asked.reason = Some(away.reason);
    match settings.away.admission {
        Mode::Open => {
            asked.outcome = Outcome::Degraded;
            return;
        }
        Mode::Local => {
            let limit = share(settings.away.local.requests, settings.instances);
            let key = [b"admission:", &asked.groups[0].accounts[0][..]].concat();
            let taken = core.windows.take(&key, limit, settings.away.local.window, 1, false);
            if taken.allowed {
                asked.outcome = Outcome::Degraded;
                return;
            }
            asked.reason = Some("local_limit");
            asked.retry_after = taken.retry_after;
        }
        Mode::Closed => asked.retry_after = Some(settings.pause),
    }
    // What the server refuses of it is counted.
    let _ = undo(core, asked).await;
}

/// Gives back what the slots before have admitted, and what may have been admitted.
pub(super) async fn undo(core: &Arc<Core>, asked: &mut Asked) -> Result<(), Error> {
    let mut known = Vec::new();
    for delivery in asked.deliveries(&asked.zeros(), HowCalled::default()) {
        if delivery.early {
            core.keep(delivery);
        } else {
            known.push(delivery);
        }
    }
    for group in &mut asked.groups {
        group.standing = Standing::Not;
    }
    core.deliver_all(known).await.map(|_| ())
}
