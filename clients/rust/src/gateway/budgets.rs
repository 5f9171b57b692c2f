use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::OnceCell;

use super::core::{Core, GiveBack};
use super::decisions::{BudgetDecision, Outcome, Settlement, TightestBudget};
use super::delivery::{Delivery, words_of};
use super::handle::Gateway;
use super::ids::new_id;
use super::settings::{Mode, duration_of, milliseconds};
use crate::commands::{
    self, AddCostOptions, Amount, Budget, ReserveOptions, Text, WithinBudgetOptions, add_cost, cancel, commit,
};
use crate::error::{Error, Unavailable};

/// What [`Gateway::charge`] may be told.
#[derive(Clone, Debug, Default)]
pub struct ChargeOptions {
    /// Names the charge: a repeat with the same id changes nothing. Default: made at random.
    pub id: Option<String>,
    /// To which time it belongs. Default: now.
    pub at: Option<SystemTime>,
}

impl Gateway {
    /// Whether a ledger is within its budgets, and would be with so much more. An error is one of the call: while the server is away,
    /// [`Away::budgets`](super::Away::budgets) decides.
    pub async fn within_budget(
        &self,
        key: impl AsRef<[u8]>,
        budgets: &[Budget],
        more: Option<Amount>,
    ) -> Result<BudgetDecision, Error> {
        let request = commands::within_budget(key, budgets, &WithinBudgetOptions { estimate: more });
        let made = match self.core.run(&request).await {
            Ok(found) => decided(
                found.within,
                TightestBudget {
                    period: found.period,
                    budget: found.budget,
                    spent: found.spent,
                    held: found.held,
                    remaining: found.remaining,
                    reset_after: duration_of(found.reset_after_ms),
                },
            ),
            Err(Error::Unavailable(away)) => alone(&self.core, &away),
            Err(error) => return Err(error),
        };
        self.core.watch.decided("budgets", made.outcome, made.reason);
        Ok(made)
    }

    /// Charges a ledger, once, whatever happens to the reply: while the server is away it is kept, and sent later with its time. An error
    /// is one of the call.
    pub async fn charge(
        &self,
        key: impl AsRef<[u8]>,
        amount: Amount,
        options: &ChargeOptions,
    ) -> Result<Settlement, Error> {
        let own = AddCostOptions {
            at_ms: Some(unix_ms(options.at.unwrap_or_else(SystemTime::now))),
            id: Some(options.id.clone().unwrap_or_else(new_id).into()),
            ..Default::default()
        };
        let delivery = Delivery::new(words_of(&add_cost(key, amount, &own)));
        let core = self.core.clone();
        self.core.shield(async move { core.deliver(delivery).await }).await
    }

    /// Sets money aside for a request, for so long, if all budgets have room for it. An error is one of the call; then nothing stays set
    /// aside, and neither does anything if nobody waits for the answer any more.
    pub async fn reserve(
        &self,
        key: impl AsRef<[u8]>,
        estimate: Amount,
        budgets: &[Budget],
        ttl: Duration,
    ) -> Result<Hold, Error> {
        let id = new_id();
        let options = ReserveOptions { ttl_ms: Some(milliseconds(ttl)), id: Some(id.as_str().into()) };
        let request = commands::reserve(&key, estimate, budgets, &options);
        let (core, key) = (self.core.clone(), Text::from(key.as_ref()));
        self.core
            .finish(async move {
                let (made, known) = match core.run(&request).await {
                    Ok(found) => (
                        decided(
                            found.granted,
                            TightestBudget {
                                period: found.period,
                                budget: found.budget,
                                spent: found.spent,
                                held: found.held,
                                remaining: found.remaining,
                                reset_after: duration_of(found.reset_after_ms),
                            },
                        ),
                        true,
                    ),
                    Err(Error::Unavailable(away)) => (alone(&core, &away), away.sent),
                    Err(error) => return Err(error),
                };
                core.watch.decided("budgets", made.outcome, made.reason);
                let hold = HoldState {
                    core: core.clone(),
                    key,
                    id,
                    estimate,
                    at: SystemTime::now(),
                    known,
                    left: AtomicBool::new(false),
                    ended: OnceCell::new(),
                };
                if known && made.outcome == Outcome::Denied && made.tightest.is_none() {
                    core.keep(hold.cancelled()); // The server may have granted it.
                }
                Ok(Hold { decision: made, state: Arc::new(hold) })
            })
            .await
    }
}

fn unix_ms(at: SystemTime) -> i64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |at| at.as_millis() as i64)
}

fn decided(within: bool, tightest: TightestBudget) -> BudgetDecision {
    BudgetDecision {
        outcome: if within { Outcome::Admitted } else { Outcome::Denied },
        reason: (!within).then_some("limit"),
        tightest: Some(tightest),
    }
}

fn alone(core: &Core, away: &Unavailable) -> BudgetDecision {
    let open = core.settings.away.budgets == Mode::Open;
    BudgetDecision {
        outcome: if open { Outcome::Degraded } else { Outcome::Denied },
        reason: Some(away.reason),
        tightest: None,
    }
}

/// Money that is set aside for a request, or is not, as its decision says.
///
/// It ends once: by [`commit`](Self::commit) or [`cancel`](Self::cancel), or when it is dropped. Then what it has cost is not known,
/// so its estimate is committed, in the background.
pub struct Hold {
    decision: BudgetDecision,
    state: Arc<HoldState>,
}

struct HoldState {
    core: Arc<Core>,
    key: Text,
    id: String,
    estimate: Amount,
    at: SystemTime,
    /// The server may know it.
    known: bool,
    left: AtomicBool,
    ended: OnceCell<Settlement>,
}

impl HoldState {
    fn cancelled(&self) -> Delivery {
        Delivery::new(words_of(&cancel(&self.key, &self.id)))
    }

    /// A commit, or, if the server does not know the hold (any more), a charge under its id.
    fn committed(&self, actual: Amount) -> Delivery {
        let options =
            AddCostOptions { at_ms: Some(unix_ms(self.at)), id: Some(self.id.as_str().into()), ..Default::default() };
        let charge = words_of(&add_cost(&self.key, actual, &options));
        if !self.known {
            return Delivery::new(charge);
        }
        let mut made = Delivery::new(words_of(&commit(&self.key, &self.id, actual)));
        made.fallback = vec![charge];
        made
    }
}

impl Hold {
    /// What was decided, with the tightest budget.
    pub fn decision(&self) -> &BudgetDecision {
        &self.decision
    }

    /// Whether the request may go on.
    pub fn is_ok(&self) -> bool {
        self.decision.is_ok()
    }

    /// The hold's id, also that of its charge.
    pub fn id(&self) -> &str {
        &self.state.id
    }

    /// How it has ended; none if it has not.
    pub fn settlement(&self) -> Option<Settlement> {
        self.state.ended.get().copied()
    }

    async fn end(&self, actual: Option<Amount>) -> Result<Settlement, Error> {
        if !self.is_ok() {
            return Ok(Settlement::Nothing);
        }
        let own = self.state.clone();
        self.state
            .core
            .shield(async move {
                let delivery = match actual {
                    Some(actual) => own.committed(actual),
                    None if !own.known => return Ok(Settlement::Nothing),
                    None => own.cancelled(),
                };
                own.ended.get_or_try_init(|| own.core.deliver(delivery)).await.copied()
            })
            .await
    }

    /// Charges what it has cost. Only the first end of a hold does something; the others return how that went. If the server does not
    /// know the hold any more, the money is charged under its id.
    pub async fn commit(&self, actual: Amount) -> Result<Settlement, Error> {
        self.end(Some(actual)).await
    }

    /// Gives it back: nothing is charged.
    pub async fn cancel(&self) -> Result<Settlement, Error> {
        self.end(None).await
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let state = &self.state;
        if self.is_ok() && !state.ended.initialized() && !state.left.swap(true, Ordering::AcqRel) {
            log::debug!("a hold was dropped: its estimate is committed in the background");
            state.core.send_soon(state.committed(state.estimate));
        }
    }
}

impl GiveBack for Hold {
    fn give_back(self) {
        if self.is_ok() && self.state.known && !self.state.left.swap(true, Ordering::AcqRel) {
            self.state.core.send_soon(self.state.cancelled());
        }
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").field("decision", &self.decision).finish_non_exhaustive()
    }
}
