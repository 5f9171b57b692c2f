//! What was spent, by period, and what is held.

use std::collections::HashMap;

use super::account::Account;
use super::dates::{PERIODS, date_of, end_of, first_of, period_of, word_of};
use super::state::State;
use super::wire::Reply;
use super::words::{Done, MOST, Stop, Words, missing, refused, signed, unknown_option, unsigned};
use crate::commands::{Budget, Period};
use crate::{Amount, Text};

#[derive(Clone, Copy, PartialEq)]
enum Held {
    Living,
    Committed,
    Cancelled,
}

struct Hold {
    amount: Amount,
    charged: Amount,
    at: i64,
    end: i64,
    state: Held,
}

#[derive(Default)]
pub(super) struct Ledger {
    /// By period, and when it began.
    sums: HashMap<(Period, i64), Amount>,
    holds: HashMap<Text, Hold>,
    /// What was charged under an id, and when.
    charges: HashMap<Text, (Amount, i64)>,
}

impl Ledger {
    pub(super) fn charge(&mut self, amount: Amount, at: i64) {
        for period in PERIODS {
            *self.sums.entry((period, first_of(period, at))).or_default() += amount;
        }
    }

    pub(super) fn spent(&self, period: Period, at: i64) -> Amount {
        self.sums.get(&(period, first_of(period, at))).copied().unwrap_or_default()
    }

    pub(super) fn held(&self, period: Period, now: i64) -> Amount {
        let living = self.holds.values().filter(|hold| hold.state == Held::Living && hold.end > now);
        living.filter(|hold| first_of(period, hold.at) == first_of(period, now)).map(|hold| hold.amount).sum()
    }

    /// Whether some sum would be one that the server does not have.
    fn overflows(&self, amount: Amount, at: i64) -> bool {
        let sums = PERIODS.into_iter().map(|period| self.spent(period, at) + amount);
        sums.into_iter().any(|sum| Amount::from_trillionths(sum.trillionths()).is_err())
    }

    /// Commits a hold, or cancels it if there is no actual amount.
    fn end(&mut self, id: &Text, actual: Option<Amount>) -> Done {
        if let Some((amount, at)) = self.charges.get(id) {
            let month = self.spent(Period::Month, *at);
            return Ok(vec![false.into(), "charged".into(), (*amount).into(), false.into(), month.into()].into());
        }
        let Some(own) = self.holds.get_mut(id) else {
            return Err(Stop::Refused("NOHOLD no such hold: it was never made, or is forgotten".to_owned()));
        };
        let changed = own.state == Held::Living;
        if changed {
            own.state = if actual.is_some() { Held::Committed } else { Held::Cancelled };
            own.charged = actual.unwrap_or_default();
        }
        let (charged, at, over) = (own.charged, own.at, own.charged > own.amount);
        let word = if own.state == Held::Committed { "committed" } else { "cancelled" };
        if changed {
            self.charge(charged, at);
        }
        let month = self.spent(Period::Month, at);
        Ok(vec![changed.into(), word.into(), charged.into(), over.into(), month.into()].into())
    }
}

/// What is left of a budget: of money, what admissions hold is held, too.
fn left_of(account: &Account, budget: &Budget, now: i64) -> Amount {
    budget.amount - account.money.spent(budget.period, now) - account.held(budget.period, now)
}

/// The fields that tell of the budget with the least left.
fn tightest(account: &Account, budgets: &[Budget], now: i64) -> Vec<Reply> {
    let Some(one) = budgets.iter().min_by_key(|budget| left_of(account, budget, now)) else { return Vec::new() };
    let left = left_of(account, one, now).max(Amount::ZERO);
    let (spent, held) = (account.money.spent(one.period, now), account.held(one.period, now));
    let (period, end) = (word_of(one.period), end_of(one.period, now));
    vec![period.into(), one.amount.into(), spent.into(), held.into(), left.into(), end.into()]
}

/// Whether all budgets have room. Without a cost: while anything is left.
fn have_room(account: &Account, budgets: &[Budget], now: i64, cost: Option<Amount>) -> bool {
    budgets.iter().all(|budget| {
        let left = left_of(account, budget, now);
        cost.map_or(left > Amount::ZERO, |cost| cost <= left)
    })
}

/// Budgets, up to one of the options.
fn budgets_of(words: &mut Words, options: &[&str]) -> Done<Vec<Budget>> {
    let mut found = Vec::new();
    while words.more() && !options.contains(&words.peek().as_str()) {
        let amount = words.amount("budget")?;
        let period = period_of(&words.peek());
        if period.is_some() {
            words.option()?;
        }
        found.push(Budget { amount, period: period.unwrap_or(Period::Month) });
    }
    if found.is_empty() { refused("missing value", "budget") } else { Ok(found) }
}

// The commands.

pub(super) fn add_cost(state: &mut State, words: &mut Words) -> Done {
    let (key, given) = (words.take("key")?, words.take("amount")?);
    let (mut at, mut id, mut refund) = (state.now, None, false);
    while let Some(option) = words.next_option() {
        match option.as_str() {
            // Whoever sends it has the real clock: what is later than here is now.
            "AT" => at = words.integer(&option, 0..=MOST)?.min(state.now),
            "ID" => id = Some(words.name(&option, 512)?),
            "REFUND" => refund = true,
            _ => return unknown_option(&option),
        }
    }
    let amount = if refund { signed(&given, "amount")? } else { unsigned(&given, "amount")? };
    if refund && amount > Amount::ZERO {
        return refused("REFUND requires a negative amount", "amount");
    }
    let own = &mut state.made::<Account>(key)?.money;
    if let Some(id) = &id {
        if let Some((_, before)) = own.charges.get(id) {
            return Ok(own.spent(Period::Month, *before).into());
        }
        match own.holds.get(id) {
            Some(hold) if hold.state == Held::Committed => return Ok(own.spent(Period::Month, hold.at).into()),
            Some(_) => return refused("a hold has this id", "ID"),
            None => {}
        }
    }
    if own.overflows(amount, at) {
        return refused("sum out of range", "amount");
    }
    own.charge(amount, at);
    if let Some(id) = id {
        own.charges.insert(id, (amount, at));
    }
    Ok(own.spent(Period::Month, at).into())
}

pub(super) fn spent(state: &mut State, words: &mut Words) -> Done {
    let (key, mut period, mut at) = (words.take("key")?, Period::Month, state.now);
    while let Some(option) = words.next_option() {
        match (period_of(&option), option.as_str()) {
            (Some(found), _) => period = found,
            (None, "DATE") => match date_of(words.take(&option)?.as_str().unwrap_or_default()) {
                Some(found) => at = found,
                None => return refused("not a date as yyyy-mm or yyyy-mm-dd", "DATE"),
            },
            _ => return missing(format!("the option {option} of GW.SPENT")),
        }
    }
    Ok(state.at::<Account>(&key)?.map(|own| own.money.spent(period, at)).unwrap_or_default().into())
}

pub(super) fn within_budget(state: &mut State, words: &mut Words) -> Done {
    let key = words.take("key")?;
    let budgets = budgets_of(words, &["COST"])?;
    let mut cost = None;
    if words.more() {
        words.option()?;
        cost = Some(words.amount("COST")?);
    }
    let (none, now) = (Account::default(), state.now);
    let own = state.at::<Account>(&key)?.map_or(&none, |own| own);
    let mut made = vec![have_room(own, &budgets, now, cost).into()];
    made.extend(tightest(own, &budgets, now));
    Ok(made.into())
}

pub(super) fn reserve(state: &mut State, words: &mut Words) -> Done {
    let (key, estimate) = (words.take("key")?, words.amount("estimate")?);
    let budgets = budgets_of(words, &["TTL", "ID"])?;
    let (mut ttl, mut id) = (300_000, None);
    while let Some(option) = words.next_option() {
        match option.as_str() {
            "TTL" => ttl = words.time(&option)?,
            "ID" => id = Some(words.name(&option, 512)?),
            _ => return unknown_option(&option),
        }
    }
    let id = id.unwrap_or_else(|| format!("fake:{}", state.calls.len()).into());
    let now = state.now;
    let own = state.made::<Account>(key)?;
    let before = own.money.holds.get(&id);
    let lives = before.is_some_and(|hold| hold.state == Held::Living && hold.end > now);
    if !lives && (before.is_some() || own.money.charges.contains_key(&id)) {
        return refused("id already used", "ID");
    }
    let allowed = lives || have_room(own, &budgets, now, Some(estimate));
    if allowed && !lives {
        let hold = Hold { amount: estimate, charged: Amount::ZERO, at: now, end: now + ttl, state: Held::Living };
        own.money.holds.insert(id.clone(), hold);
    }
    let mut made = vec![allowed.into(), if allowed { id.into() } else { Reply::Nil }];
    made.extend(tightest(own, &budgets, now));
    Ok(made.into())
}

pub(super) fn commit(state: &mut State, words: &mut Words) -> Done {
    let (key, id) = (words.take("key")?, words.name("hold-id", 512)?);
    let actual = words.amount("actual")?;
    end(state, &key, &id, Some(actual))
}

pub(super) fn cancel(state: &mut State, words: &mut Words) -> Done {
    let (key, id) = (words.take("key")?, words.name("hold-id", 512)?);
    end(state, &key, &id, None)
}

fn end(state: &mut State, key: &Text, id: &Text, actual: Option<Amount>) -> Done {
    match state.at::<Account>(key)? {
        Some(own) => own.money.end(id, actual),
        None => Ledger::default().end(id, actual),
    }
}
