//! One request, decided by all policies of all its accounts, and charged to all of them or to none.

use smallvec::SmallVec;

use super::account::Account;
use super::amounts::Amounts;
use super::bounds::Exceeded;
use super::budget::BudgetQuestion;
use super::moment::Moment;
use super::policy::{AccountPolicy, Kind};
use super::row::{Answer, Answered, Figures, Row, Soft};
use super::taken::{Admission, Standing};
use crate::calendar::Period;
use crate::lease::LeasesWith;
use crate::money::Amount;

/// A request for admission.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The lease id: 1 to 512 bytes.
    pub id: &'a [u8],
    /// How long the lease lasts, in milliseconds: 1 to 366 days.
    pub ttl_ms: u64,
    /// What the request will use, as estimated.
    pub amounts: Amounts<'a>,
    /// The request is only decided: nothing is charged.
    pub shadow: bool,
}

/// The rows of all policies. Those of one key, or of a key and its team, need no allocation.
pub type Rows = SmallVec<[Row; 8]>;

/// Indexes of accounts in the request's list of accounts.
pub type Indexes = SmallVec<[usize; 4]>;

/// What became of a request.
#[derive(Debug)]
pub struct Decision {
    /// Whether it is admitted, and when it would be.
    pub answer: Answer,
    /// The answers of all policies, account by account.
    pub rows: Rows,
    /// All accounts had admitted it before.
    pub repeated: bool,
    /// The accounts that were charged.
    pub charged: Indexes,
    /// The accounts that did what was due by time: a change, even if the request is refused or only decided.
    pub tidied: Indexes,
}

/// Decides a request, and charges it if all policies of all accounts allow it. `accounts` are the request's accounts,
/// `None` for one that does not exist. An account that has admitted the same lease before is neither asked nor charged
/// again.
///
/// # Errors
/// If an account cannot take one more hold. Nothing was changed.
pub fn admit(
    accounts: &mut [Option<&mut Account>],
    now: &Moment,
    request: &Request,
    ends_after_ms: &dyn Fn(Period) -> i64,
) -> Result<Decision, Exceeded> {
    let Request { id, ttl_ms, amounts, shadow } = request;
    let now_ms = now.stamp.at_ms;
    accounts.iter().flatten().for_each(|account| account.fetch());
    // An admission stands the same before its account is tidied and after, so it is looked up once.
    let standing = |account: &&mut Account| account.standing(now_ms, id);
    let standings: SmallVec<[Option<Standing>; 4]> =
        accounts.iter().map(|account| account.as_ref().map(standing)).collect();
    let is_new = |standing: &Option<Standing>| *standing == Some(Standing::Unknown);
    let policies = accounts.iter().flatten().map(|account| account.policies().len()).sum();
    let (mut rows, mut charged, mut tidied) = (Rows::with_capacity(policies), Indexes::new(), Indexes::new());
    if !shadow {
        for (account, _) in accounts.iter().zip(&standings).filter(|(_, standing)| is_new(standing)) {
            account.as_ref().map_or(Ok(()), |account| account.can_hold(now_ms, amounts))?;
        }
    }
    let repeated = standings.iter().any(Option::is_some) && !standings.iter().any(is_new);
    for (index, (account, standing)) in (0..).zip(accounts.iter_mut().zip(&standings)) {
        let Some(account) = account else { continue };
        if is_new(standing) && account.tidy(now) {
            tidied.push(index.into());
        }
        account.decide(index, now, !is_new(standing), amounts, ends_after_ms, &mut rows);
    }
    let answer = Answer::of(&rows);
    if answer.admitted && !shadow {
        let mut groups = rows.chunk_by_mut(|one, next| one.account == next.account).peekable();
        for (index, (account, standing)) in accounts.iter_mut().zip(&standings).enumerate() {
            // An account without policies has no rows.
            let is_own = |group: &&mut [Row]| group.first().is_some_and(|row| usize::from(row.account) == index);
            let own = groups.next_if(is_own).unwrap_or_default();
            if let Some(account) = account.as_mut().filter(|_| is_new(standing)) {
                account.charge(now, id, *ttl_ms, amounts, own);
                charged.push(index);
            }
        }
    }
    Ok(Decision { answer, rows, repeated, charged, tidied })
}

impl Account {
    /// Appends every policy's answer, in the policies' order, as rows of the request's account `index`. Changes nothing
    /// but hints. `ends_after_ms` tells how long a budget's current period lasts.
    ///
    /// `known` is for a request that was admitted before: every policy allows it, and shows what is left.
    ///
    /// A window or bucket whose meter the request does not name is asked whether any unit is left, as a budget is.
    pub fn decide(
        &mut self,
        index: u8,
        now: &Moment,
        known: bool,
        amounts: &Amounts,
        ends_after_ms: &dyn Fn(Period) -> i64,
        rows: &mut Rows,
    ) {
        let at_ms = self.time_ms(now.stamp.at_ms);
        for (place, own) in (0..).zip(&mut self.policies) {
            let mut answered = match own.policy.kind {
                Kind::InFlight { max } => in_flight(&self.live, at_ms, max),
                Kind::Budget { amount, period, soft_percent } => {
                    let question = BudgetQuestion {
                        budget: amount,
                        period,
                        cost: if known { Some(Amount::ZERO) } else { amounts.estimate(&own.policy.meter) },
                        soft_percent,
                        ends_after_ms: ends_after_ms(period),
                    };
                    let ledger = self.ledgers.meter(&own.policy.meter);
                    ledger.map_or(Answered::UNDECIDED, |ledger| question.answer(ledger, now))
                }
                Kind::Window(_) | Kind::Bucket(_) => {
                    let units = if known { Some(0) } else { amounts.estimated_units(&own.policy.meter) };
                    own.decide(at_ms, units).map_or(Answered::UNDECIDED, Answered::from)
                }
            };
            if known {
                (answered.allowed, answered.retry_after_ms) = (true, 0);
            }
            rows.push(Row::new(index, place, own.policy.shadow, answered));
        }
    }

    /// How many budgets have reached their soft limit.
    pub fn above_soft(&self, now: &Moment) -> usize {
        let is_above = |own: &&AccountPolicy| match own.policy.kind {
            Kind::Budget { amount: budget, period, soft_percent } if soft_percent > 0 => {
                let cost = Some(Amount::ZERO);
                let question = BudgetQuestion { budget, period, cost, soft_percent, ends_after_ms: 0 };
                let ledger = self.ledgers.meter(&own.policy.meter);
                ledger.is_some_and(|ledger| question.answer(ledger, now).soft == Soft::Above)
            }
            _ => false,
        };
        self.policies.iter().filter(is_above).count()
    }
}

fn in_flight(live: &LeasesWith<Admission>, at_ms: i64, max: u64) -> Answered {
    let in_use = live.in_use(at_ms);
    let grant = live.decide_new(at_ms, max, in_use);
    Answered {
        allowed: grant.acquired,
        soft: Soft::Below,
        figures: Figures::Units { limit: max, remaining: max.saturating_sub(in_use) },
        retry_after_ms: grant.retry_after_ms,
        reset_after_ms: live.ends_after_ms(at_ms),
    }
}
