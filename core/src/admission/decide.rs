//! One request, decided by all policies of all its accounts, and charged to all of them or to none.

use smallvec::SmallVec;

use super::{Account, Amounts, Answer, Full, Moment, Row, Standing};
use crate::calendar::Period;

/// A request for admission.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The lease: 1 to 512 bytes.
    pub id: &'a [u8],
    pub ttl_ms: u64,
    pub amounts: Amounts<'a>,
    /// Only asks.
    pub shadow: bool,
}

/// The answers of all policies. A key's, or a key's and its team's, fit in here.
pub type Rows = SmallVec<[Row; 8]>;

/// Places in the list of a request's accounts.
pub type Places = SmallVec<[usize; 4]>;

/// What became of a request.
#[derive(Debug)]
pub struct Decision {
    pub answer: Answer,
    /// The answers of all policies, account by account.
    pub rows: Rows,
    /// It had been admitted by all accounts before.
    pub repeated: bool,
    /// The accounts that were charged, by their places.
    pub charged: Places,
    /// The accounts that did what was due by time, by their places: a change, even where the request is refused or only
    /// asks.
    pub tidied: Places,
}

/// Decides, and charges where all admit. An account that has admitted the same lease before is not asked and not charged
/// again.
///
/// # Errors
/// Where an account cannot take one more hold. Nothing was changed.
pub fn admit(
    accounts: &mut [&mut Account],
    now: &Moment,
    request: &Request,
    ends_after_ms: &dyn Fn(Period) -> i64,
) -> Result<Decision, Full> {
    let Request { id, ttl_ms, amounts, shadow } = request;
    let now_ms = now.terms.at_ms;
    accounts.iter().for_each(|account| account.fetch());
    // What has ended by time is known before it is tidied up, and after: found out once.
    let is_new: SmallVec<[bool; 4]> =
        accounts.iter().map(|account| account.standing(now_ms, id) == Standing::Unknown).collect();
    let policies = accounts.iter().map(|account| account.policies().len()).sum();
    let (mut rows, mut charged, mut tidied) = (Rows::with_capacity(policies), Places::new(), Places::new());
    if !shadow {
        for (account, _) in accounts.iter().zip(&is_new).filter(|&(_, &is_new)| is_new) {
            account.can_hold(now_ms, amounts)?;
        }
    }
    let repeated = !accounts.is_empty() && !is_new.contains(&true);
    for (place, (account, &is_new)) in accounts.iter_mut().zip(&is_new).enumerate() {
        if is_new && account.tidy(now) {
            tidied.push(place);
        }
        account.decide(now, !is_new, amounts, ends_after_ms, &mut rows);
    }
    let answer = Answer::of(&rows);
    if answer.admitted && !shadow {
        let mut first = 0;
        for (place, (account, &is_new)) in accounts.iter_mut().zip(&is_new).enumerate() {
            let count = account.policies().len();
            if is_new {
                account.charge(now, id, *ttl_ms, amounts, rows.get_mut(first..first + count).unwrap_or_default());
                charged.push(place);
            }
            first += count;
        }
    }
    Ok(Decision { answer, rows, repeated, charged, tidied })
}
