//! What is asked of ledgers.

use super::account::Account;
use super::dates::{date_of, end_of, period_of, word_of};
use super::ledger::{Held, Hold, Ledger};
use super::state::State;
use super::wire::Reply;
use super::words::{Done, MOST, Words, missing, refused, signed, unknown_option, unsigned};
use crate::commands::{Budget, Period};
use crate::{Amount, Text};

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
