//! Decides a request by all policies of all its accounts, and charges it to all of them or to none.

use smallvec::SmallVec;

use super::account::{Account, live_for_ms};
use super::amounts::Amounts;
use super::bounds::Exceeded;
use super::budget::BudgetQuestion;
use super::moment::Moment;
use super::name::ShortName;
use super::policy::{AccountPolicy, Kind};
use super::row::{Answer, Answered, Figures, Row, Soft, obstacle};
use super::taken::{Admission, Standing};
use crate::calendar::{Day, Period};
use crate::lease::LeasesWith;
use crate::limit::{NEVER, Verdict};
use crate::money::Amount;

/// A request for admission.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The lease id: 1 to 512 bytes.
    pub id: &'a [u8],
    /// How long the lease lasts, in milliseconds: 1 to 366 days.
    pub ttl_ms: u64,
    /// What the request is estimated to use.
    pub amounts: Amounts<'a>,
    /// Only decides the request: nothing is charged, and the policies' tallies stay as they are.
    pub shadow: bool,
    /// Whether the rows of an admitted request are wanted; if so, they are updated after the charge.
    pub rows: bool,
    /// The most holds of a ledger at one time.
    pub holds_max: usize,
}

/// Why a request was not decided. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undecided {
    /// The lease has ended in one of the accounts: it was settled, or its time has passed. A lease id names one
    /// attempt.
    LeaseEnded,
    /// An account cannot take one more hold.
    Exceeded(Exceeded),
}

/// The rows of all policies. Those of one account, or of two small ones, need no allocation.
pub type Rows = SmallVec<[Row; 8]>;

/// Indexes of accounts in the request's list of accounts.
pub type Indexes = SmallVec<[usize; 4]>;

/// The names of budgets whose soft limits are to be announced. Usually there are none.
pub type Told = SmallVec<[ShortName; 1]>;

/// The outcome of a request.
#[derive(Debug)]
pub struct Decision {
    /// Whether it is admitted, and when it would be.
    pub answer: Answer,
    /// Whether all accounts had admitted it before.
    pub repeated: bool,
    /// Whether a policy was asked whose meter the request does not name.
    pub unnamed: bool,
    /// Whether it is the probe of a half-open breaker.
    pub probe: bool,
    /// The accounts that were charged.
    pub charged: Indexes,
    /// The accounts that did what was due by time, which is a change even if the request is refused or only decided.
    pub tidied: Indexes,
}

/// Decides a request, and charges it if all policies of all accounts allow it. `accounts` are the request's accounts,
/// with `None` for an account that does not exist. An account in which the same lease is live is neither asked nor
/// charged again. `rows`, which is empty, gets the answers of all policies, account by account.
///
/// # Errors
/// If the lease has ended in an account, or if an account cannot take one more hold. Nothing was changed.
pub fn admit(
    accounts: &mut [Option<&mut Account>],
    now: &Moment,
    request: &Request,
    ends_after_ms: &dyn Fn(Period) -> i64,
    rows: &mut Rows,
) -> Result<Decision, Undecided> {
    let Request { id, ttl_ms, amounts, shadow, holds_max, .. } = request;
    let now_ms = now.stamp.at_ms;
    accounts.iter().flatten().for_each(|account| account.fetch());
    // Tidying an account does not change the standing of an admission, so it is looked up once.
    let standing = |account: &&mut Account| account.standing(now_ms, id);
    let standings: SmallVec<[Option<Standing>; 4]> =
        accounts.iter().map(|account| account.as_ref().map(standing)).collect();
    if standings.iter().any(|standing| matches!(standing, Some(Standing::Expired | Standing::Settled))) {
        return Err(Undecided::LeaseEnded);
    }
    let is_new = |standing: &Option<Standing>| *standing == Some(Standing::Unknown);
    rows.reserve(accounts.iter().flatten().map(|account| account.policies().len()).sum());
    let (mut charged, mut tidied) = (Indexes::new(), Indexes::new());
    if !shadow {
        for (account, _) in accounts.iter().zip(&standings).filter(|(_, standing)| is_new(standing)) {
            account
                .as_ref()
                .map_or(Ok(()), |account| account.can_hold(now_ms, amounts, *holds_max))
                .map_err(Undecided::Exceeded)?;
        }
    }
    let repeated = standings.iter().any(Option::is_some) && !standings.iter().any(is_new);
    let mut unnamed = false;
    for (index, (account, standing)) in (0..).zip(accounts.iter_mut().zip(&standings)) {
        let Some(account) = account else { continue };
        if is_new(standing) && account.tidy(now) {
            tidied.push(index.into());
        }
        let question = Question { now, known: !is_new(standing), only_asks: *shadow, amounts, ends_after_ms };
        unnamed |= account.decide(index, &question, rows);
    }
    let answer = Answer::of(rows);
    let mut probe = false;
    if answer.admitted && !shadow {
        let mut groups = rows.chunk_by_mut(|one, next| one.account == next.account).peekable();
        for (index, (account, standing)) in accounts.iter_mut().zip(&standings).enumerate() {
            // An account without policies has no rows.
            let is_own = |group: &&mut [Row]| group.first().is_some_and(|row| usize::from(row.account) == index);
            let own = groups.next_if(is_own).filter(|_| request.rows).unwrap_or_default();
            if let Some(account) = account.as_mut().filter(|_| is_new(standing)) {
                probe |= account.charge(now, id, *ttl_ms, amounts, own);
                charged.push(index);
            }
        }
    }
    Ok(Decision { answer, repeated, unnamed, probe, charged, tidied })
}

/// A question to the policies of an account.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// When the question is asked.
    pub now: &'a Moment,
    /// Whether the lease is live in the account. If so, every policy allows the request, and its row shows what is
    /// left.
    pub known: bool,
    /// The request is not sent even if it is admitted, so the policies' tallies stay as they are.
    pub only_asks: bool,
    /// The request's estimates.
    pub amounts: &'a Amounts<'a>,
    /// Milliseconds until the current period of a budget ends; -1 for `TOTAL`.
    pub ends_after_ms: &'a dyn Fn(Period) -> i64,
}

impl Account {
    /// Appends every policy's answer, in the policies' order, as rows of the request's account `index`, and then a row for
    /// a cooldown that is not over. Changes only hints and tallies. Returns whether a policy was asked whose meter the
    /// request does not name.
    ///
    /// If the request does not name the meter of a window or bucket, the question is whether any unit is left, as for a
    /// budget.
    pub fn decide(&mut self, index: u8, question: &Question, rows: &mut Rows) -> bool {
        let &Question { now, known, only_asks, amounts, ends_after_ms } = question;
        let (now_ms, at_ms) = (now.stamp.at_ms, self.time_ms(now.stamp.at_ms));
        let mut unnamed = false;
        for (place, own) in (0..).zip(&mut self.policies) {
            let (mut answered, named) = match own.policy.kind {
                Kind::InFlight { max } => (in_flight(&self.live, at_ms, max), None),
                Kind::Budget { amount, period, soft_percent } => {
                    let estimate = amounts.estimate(&own.policy.meter);
                    let question = BudgetQuestion {
                        budget: amount,
                        period,
                        cost: if known { Some(Amount::ZERO) } else { estimate },
                        soft_percent,
                        ends_after_ms: ends_after_ms(period),
                    };
                    let ledger = self.ledgers.meter(&own.policy.meter);
                    let answered = ledger.map_or(Answered::UNDECIDED, |ledger| question.answer(ledger, now));
                    (answered, Some(estimate.is_some()))
                }
                Kind::Window(_) | Kind::Bucket(_) => {
                    let units = own.policy.estimated_units(amounts);
                    let verdict = own.decide(at_ms, if known { Some(0) } else { units });
                    let answer =
                        |verdict: Verdict| Answered::of(&verdict, own.policy.figures(verdict.limit, verdict.remaining));
                    (verdict.map_or(Answered::UNDECIDED, answer), Some(units.is_some()))
                }
                // A block ends by the server's clock, which the account's clock may be ahead of.
                Kind::Block { until_ms } => {
                    let left_ms = until_ms.map_or(NEVER, |until_ms| until_ms.saturating_sub(now_ms).max(0));
                    (Answered::blocked(left_ms), None)
                }
                Kind::Breaker(_) => (breaker(own, &self.live, at_ms), None),
            };
            if known {
                (answered.allowed, answered.retry_after_ms) = (true, 0);
            } else if !only_asks {
                own.tally.denied += u64::from(!answered.allowed);
                match named {
                    Some(true) => own.tally.named_ms = now_ms,
                    Some(false) => unnamed = true,
                    None => {}
                }
            }
            rows.push(Row::new(index, place, own.policy.shadow, answered));
        }
        if let Some(target) = &self.target
            && target.cooldown_until_ms > at_ms
            && !known
        {
            let answered = Answered::blocked(target.cooldown_until_ms - at_ms);
            rows.push(Row::new(index, Row::COOLDOWN, false, answered));
        }
        unnamed
    }

    /// The name of what a row of this account calls its `policy`: the policy's, or that of what else is in the way.
    pub fn name_of(&self, policy: u8) -> Option<&[u8]> {
        match obstacle(policy) {
            Some(obstacle) => Some(obstacle.as_bytes()),
            None => self.policies().get(usize::from(policy)).map(|own| &*own.name),
        }
    }

    /// The budgets at or above their soft limits that were not announced yet in their current period. From now on they
    /// count as announced.
    pub fn tell_soft(&mut self, now: &Moment) -> Told {
        let Self { policies, ledgers, .. } = self;
        let mut names = Told::new();
        for own in policies.iter_mut().filter(|own| own.untold(now.day).is_some()) {
            let Kind::Budget { amount: budget, period, soft_percent } = own.policy.kind else { continue };
            let cost = Some(Amount::ZERO);
            let question = BudgetQuestion { budget, period, cost, soft_percent, ends_after_ms: 0 };
            let ledger = ledgers.meter(&own.policy.meter);
            if ledger.is_some_and(|ledger| question.answer(ledger, now).soft == Soft::Above) {
                own.set_told(now.day);
                names.push(own.name.clone());
            }
        }
        names
    }

    /// Notes that another node has announced, on the day `today`, what [`Self::tell_soft`] returned there.
    pub fn set_told(&mut self, name: &[u8], today: Day) {
        self.policies.iter_mut().filter(|own| *own.name == *name).for_each(|own| own.set_told(today));
    }
}

#[cold]
fn breaker(own: &mut AccountPolicy, live: &LeasesWith<Admission>, at_ms: i64) -> Answered {
    let probes = !own.policy.shadow;
    own.breaker_mut().map_or(Answered::UNDECIDED, |(breaker, threshold)| {
        let verdict = breaker.decide(at_ms, threshold, probes, |id| live_for_ms(live, at_ms, id));
        Answered::of(&verdict, Figures::Units { limit: verdict.limit, remaining: verdict.remaining })
    })
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
