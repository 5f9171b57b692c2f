//! Routing: picks one of several accounts that can serve a request, and charges it to that one alone.
//!
//! A target is an account; its limits are its policies. A target that refuses the request is passed over. Of those that
//! admit it, [`Pick`] says which one is taken. The decision and the charge are one step, so that requests that are
//! decided at once do not all see the same room.
//!
//! # Spreading
//!
//! Targets that are about as good as the best one are as good as it: a share of room that is smaller by less than a
//! [`ROOM_TIE`]th of the limit, or a load that is larger by less than a [`FAST_TIE`]th. By room, the one of them with the
//! fewest requests in flight is taken. What is equal then is decided by the lease id, so that requests spread, and none
//! of the targets is preferred for its place in the list.
//!
//! Only the node that decides picks. Its replicas are told which target was charged.
//!
//! # Cost
//!
//! O(n) in the policies of the targets that are asked: with [`Pick::First`] up to the first that admits.

use std::ops::Range;

use smallvec::SmallVec;

use super::account::Account;
use super::decide::{Indexes, Question, Request, Rows, Undecided};
use super::moment::Moment;
use super::policy::Kind;
use super::row::{Answer, Answered, Figures, Row, Soft};
use super::taken::Standing;
use crate::calendar::Period;
use crate::limit::NEVER;
use crate::recent::fingerprint;

/// The most targets in one request.
pub const TARGETS_MAX: usize = 64;

/// A free share within this part of the whole of the largest one is as good.
const ROOM_TIE: u64 = 64;

/// A load within this part of the smallest one above it is as good.
const FAST_TIE: u128 = 16;

/// The share of a target all of whose policies are unused, or that has none.
const WHOLE: u64 = 1 << 32;

/// Which one of the targets that admit a request is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// The first in the order of the request.
    First,
    /// The one with the largest free share of its tightest policy.
    Room,
    /// The one with the smallest product of its latency and its requests in flight with this one.
    Fast,
}

/// The outcome of routing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The index of the target that serves the request; `None` if all refuse.
    pub target: Option<usize>,
    /// Whether that target had admitted it before. Nothing was charged.
    pub repeated: bool,
    /// The shortest wait of the targets if all refuse: -1 if waiting does not help; 0 if one admits it.
    pub retry_after_ms: i64,
    /// What refuses first of each target that was asked and refuses: if none admits the request, of all targets in turn.
    /// [`Account::name_of`] has its name.
    pub refused_by: SmallVec<[u8; TARGETS_MAX]>,
    /// What the target's answers say.
    pub noted: Noted,
    /// Whether the request is the probe of a half-open breaker.
    pub probe: bool,
    /// The targets that did what was due by time, which is a change of those that were not taken, too.
    pub tidied: Indexes,
}

/// What is worth to be counted of the answers of the target that was taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Noted {
    /// It has a policy whose meter the request does not name.
    pub unnamed: bool,
    /// A shadow policy would have refused.
    pub would_deny: bool,
    /// A budget is at its soft limit or above, with the request.
    pub soft: bool,
}

/// A target that admits the request.
struct Candidate {
    index: usize,
    /// Its rows among all rows. Empty if they are not wanted.
    rows: Range<usize>,
    noted: Noted,
    /// Its free share, by [`Pick::Room`].
    share: u64,
    /// By [`Pick::Fast`].
    load: u128,
    live: u64,
}

/// Routes a request: decides it by the policies of each target, up to the first that admits it or all of them, and charges
/// it to the one that is picked. `targets` are at most [`TARGETS_MAX`], with `None` for one that does not exist, which
/// refuses. If the lease is live in a target, that target has the request already, and none is asked. `rows`, which is
/// empty, gets the answers of the targets that were asked, target by target, if the request wants rows.
///
/// # Errors
/// If the lease has ended in a target. Nothing was changed.
pub fn route(
    targets: &mut [Option<&mut Account>],
    now: &Moment,
    request: &Request,
    pick: Pick,
    ends_after_ms: &dyn Fn(Period) -> i64,
    rows: &mut Rows,
) -> Result<Route, Undecided> {
    let Request { id, ttl_ms, amounts, .. } = request;
    let mut found = None;
    for (index, target) in targets.iter().enumerate() {
        match target.as_ref().map(|target| target.standing(now.stamp.at_ms, id)) {
            Some(Standing::Expired | Standing::Settled) => return Err(Undecided::LeaseEnded),
            Some(Standing::Live) => found = found.or(Some(index)),
            Some(Standing::Unknown) | None => {}
        }
    }
    let mut route = Route {
        target: found,
        repeated: found.is_some(),
        retry_after_ms: 0,
        refused_by: SmallVec::new(),
        noted: Noted::default(),
        probe: false,
        tidied: Indexes::new(),
    };
    let question = Question { now, known: route.repeated, only_asks: route.repeated, amounts, ends_after_ms };
    if let Some(index) = found {
        if let Some(Some(target)) = targets.get_mut(index).filter(|_| request.rows) {
            target.decide(index as u8, &question, rows);
        }
        return Ok(route);
    }

    let mut candidates = SmallVec::<[Candidate; 8]>::new();
    let mut shortest_ms = NEVER;
    for (index, target) in targets.iter_mut().enumerate() {
        let from = rows.len();
        let unnamed = match target {
            Some(target) => {
                if target.tidy(now) {
                    route.tidied.push(index);
                }
                ask(target, index, &question, request.holds_max, rows)
            }
            None => {
                rows.push(Row::new(index as u8, Row::NO_ACCOUNT, false, Answered::UNDECIDED));
                false
            }
        };
        let own = rows.get(from..).unwrap_or_default();
        let answer = Answer::of(own);
        if let Some(target) = target.as_ref().filter(|_| answer.admitted) {
            let (share, load, live) = match pick {
                Pick::First => (0, 0, 0),
                Pick::Room => (free_share(target, own), 0, target.in_flight(now.stamp.at_ms)),
                Pick::Fast => (0, target.routing_load(now.stamp.at_ms), 0),
            };
            let rows = if request.rows { from..from + own.len() } else { from..from };
            let would_deny = own.iter().any(|row| row.shadow && !row.allowed);
            let soft = own.iter().any(|row| row.soft != Soft::Below);
            candidates.push(Candidate { index, rows, noted: Noted { unnamed, would_deny, soft }, share, load, live });
        } else {
            // -1 is the longest wait: as an unsigned integer it is the largest.
            shortest_ms = shortest_ms.cast_unsigned().min(answer.retry_after_ms.cast_unsigned()).cast_signed();
            route.refused_by.extend(own.iter().find(|row| row.refuses()).map(|row| row.policy));
        }
        if !request.rows {
            rows.truncate(from);
        }
        if pick == Pick::First && !candidates.is_empty() {
            break;
        }
    }

    let Some(picked) = best(pick, candidates, id) else {
        route.retry_after_ms = shortest_ms;
        return Ok(route);
    };
    if let Some(Some(target)) = targets.get_mut(picked.index) {
        let own = rows.get_mut(picked.rows).unwrap_or_default();
        route.probe = target.charge(now, id, *ttl_ms, amounts, own);
        (route.target, route.noted) = (Some(picked.index), picked.noted);
    }
    Ok(route)
}

/// Appends the rows of a target. Returns whether one of its policies has a meter that the request does not name.
fn ask(target: &mut Account, index: usize, question: &Question, holds_max: usize, rows: &mut Rows) -> bool {
    let unnamed = target.decide(index as u8, question, rows);
    let now_ms = question.now.stamp.at_ms;
    if target.can_hold(now_ms, question.amounts, holds_max).is_err() {
        let answered = Answered::blocked(target.hold_ends_after_ms(now_ms));
        rows.push(Row::new(index as u8, Row::HOLDS, false, answered));
    }
    unnamed
}

/// The smallest free share of a target's policies. Blocks and breakers limit no amount, and shadow policies nothing.
fn free_share(target: &Account, rows: &[Row]) -> u64 {
    let limits = |row: &&Row| {
        let own = target.policies().get(usize::from(row.policy));
        !row.shadow && own.is_some_and(|own| !matches!(own.policy.kind, Kind::Block { .. } | Kind::Breaker(_)))
    };
    let shares = rows.iter().filter(limits).map(|row| match row.figures {
        Figures::Units { limit, remaining } => share(limit.into(), remaining.into()),
        Figures::Money { limit, remaining } => {
            share(limit.picos().max(0).unsigned_abs(), remaining.picos().max(0).unsigned_abs())
        }
    });
    shares.min().unwrap_or(WHOLE)
}

fn share(limit: u128, remaining: u128) -> u64 {
    let remaining = remaining.min(limit);
    match (u32::try_from(limit), u32::try_from(remaining)) {
        (Ok(0), _) => 0,
        (Ok(limit), Ok(remaining)) => (u64::from(remaining) << 32) / u64::from(limit),
        _ => {
            // A share has 33 bits; 80 bits of a limit are precise enough for it.
            let dropped = (u128::BITS - limit.leading_zeros()).saturating_sub(80);
            u64::try_from(((remaining >> dropped) << 32) / (limit >> dropped)).unwrap_or(WHOLE).min(WHOLE)
        }
    }
}

fn best(pick: Pick, mut candidates: SmallVec<[Candidate; 8]>, id: &[u8]) -> Option<Candidate> {
    match pick {
        Pick::First => {}
        Pick::Room => {
            let most = candidates.iter().map(|it| it.share).max()?;
            candidates.retain(|it| it.share + WHOLE / ROOM_TIE > most);
            let fewest = candidates.iter().map(|it| it.live).min()?;
            candidates.retain(|it| it.live == fewest);
        }
        Pick::Fast => {
            let least = candidates.iter().map(|it| it.load).min()?;
            candidates.retain(|it| it.load <= least + least / FAST_TIE);
        }
    }
    let place = match candidates.len() {
        0 => return None,
        1 => 0,
        // The remainder of a 64-bit number by one of 64 at most.
        len => (fingerprint(id) % len as u64) as usize,
    };
    Some(candidates.swap_remove(place))
}
