//! Windows, buckets and slots.

use std::collections::HashMap;

use super::state::State;
use super::wire::Reply;
use super::words::{Done, LONGEST, MOST, Words, refused, unknown_option, whole};
use crate::{Amount, Text};

/// Exact, in whole milliseconds: what was taken at t counts up to and including t + length - 1.
#[derive(Clone, Default)]
pub(super) struct Window {
    taken: Vec<(i64, Amount)>,
}

impl Window {
    pub(super) fn used(&self) -> Amount {
        self.taken.iter().map(|(_, units)| *units).sum()
    }

    fn began(&self) -> Option<i64> {
        self.taken.iter().map(|(at, _)| *at).min()
    }

    /// Whether it is allowed, and in how many milliseconds it would be; -1: never.
    pub(super) fn ask(&mut self, now: i64, limit: Amount, length: i64, cost: Amount, fixed: bool) -> (bool, i64) {
        if !fixed {
            self.taken.retain(|(at, _)| now < at + length);
        } else if self.began().is_some_and(|began| now >= began + length) {
            self.taken.clear();
        }
        let mut used = self.used();
        if used + cost <= limit {
            return (true, 0);
        }
        if cost > limit {
            return (false, -1);
        }
        let mut ordered = self.taken.clone();
        ordered.sort_by_key(|(at, _)| *at);
        for (at, units) in ordered {
            used -= units;
            if used + cost <= limit {
                return (false, at + length - now);
            }
        }
        (false, -1)
    }

    pub(super) fn take(&mut self, now: i64, cost: Amount, fixed: bool) {
        if cost.is_zero() {
            return;
        }
        let now = if fixed { self.began().map_or(now, |began| began.min(now)) } else { now };
        match self.taken.iter_mut().find(|(at, _)| *at == now) {
            Some((_, units)) => *units += cost,
            None => self.taken.push((now, cost)),
        }
    }

    pub(super) fn reset_after(&self, now: i64, length: i64) -> i64 {
        let living = self.taken.iter().filter(|(_, units)| !units.is_zero());
        living.map(|(at, _)| at + length - now).max().unwrap_or_default().max(0)
    }
}

/// Has a level in billionths of a token, times the milliseconds in which the rate flows: so all of it is exact.
#[derive(Clone)]
pub(super) struct Bucket {
    pub(super) level: i128,
    /// The most that it held at that time.
    full: i128,
    at: i64,
}

/// The billionths of a token.
pub(super) const TOKEN: i128 = 1_000_000_000;

impl Bucket {
    pub(super) fn new(full: i128, now: i64) -> Self {
        Self { level: full, full, at: now }
    }

    pub(super) fn flow(&mut self, now: i64, rate: i128, full: i128) {
        let level = self.level.saturating_add(rate.saturating_mul(i128::from(now - self.at)));
        // One that is full is as good as a new one, whatever it holds now.
        let level = if level >= self.full { full } else { level.min(full) };
        *self = Self { level, full, at: now };
    }

    /// Whether it is allowed, and in how many milliseconds it would be; -1: never.
    pub(super) fn ask(&self, rate: i128, cost: i128) -> (bool, i64) {
        if cost <= self.level {
            (true, 0)
        } else if cost > self.full {
            (false, -1)
        } else {
            (false, divided_up(cost.saturating_sub(self.level), rate))
        }
    }

    pub(super) fn take(&mut self, cost: i128) {
        self.level = self.level.saturating_sub(cost).min(self.full);
    }

    /// What is missing in it.
    pub(super) fn gone(&self) -> i128 {
        self.full.saturating_sub(self.level)
    }

    pub(super) fn reset_after(&self, rate: i128) -> i64 {
        divided_up(self.gone(), rate)
    }
}

/// Rounded up, and not below 0; -1 if nothing flows.
fn divided_up(value: i128, by: i128) -> i64 {
    match value.max(0) {
        0 => 0,
        _ if by == 0 => -1,
        value => i64::try_from((value - 1) / by + 1).unwrap_or(i64::MAX),
    }
}

/// Taken by holders: when each ends, and its token.
#[derive(Clone, Default)]
struct Slots {
    holders: HashMap<Text, (i64, i64)>,
    last: i64,
}

impl Slots {
    fn prune(&mut self, now: i64) {
        self.holders.retain(|_, (end, _)| *end > now);
    }
}

/// After how many milliseconds one of several ends, so that fewer than `most` are left; -1: never.
pub(super) fn until_room(mut ends: Vec<i64>, most: i64, now: i64) -> i64 {
    ends.sort_unstable();
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if most == 0 { -1 } else { ends[ends.len() - most] - now }
}

// The commands.

#[derive(Default, PartialEq)]
enum Mode {
    #[default]
    Take,
    Peek,
    Force,
}

fn mode_of(option: &str) -> Done<Mode> {
    match option {
        "PEEK" => Ok(Mode::Peek),
        "FORCE" => Ok(Mode::Force),
        _ => unknown_option(option),
    }
}

/// The cost, of which only FORCE gives back.
fn cost_of(given: Option<Text>, mode: &Mode) -> Done<i64> {
    let least = if *mode == Mode::Force { -MOST } else { 0 };
    given.map_or(Ok(1), |word| whole(&word, "COST", least..=MOST))
}

/// An amount of whole units.
fn units(number: i64) -> Amount {
    Amount::try_from(number).unwrap_or_default()
}

pub(super) fn allow(state: &mut State, words: &mut Words) -> Done {
    let (key, limit) = (words.take("key")?, words.integer("limit", 0..=MOST)?);
    let (mut length, mut given, mut fixed, mut mode) = (60_000, None, false, Mode::Take);
    while let Some(option) = words.next_option() {
        match option.as_str() {
            "WINDOW" => length = words.time(&option)?,
            "COST" => given = Some(words.take(&option)?),
            "FIXED" => fixed = true,
            _ => mode = mode_of(&option)?,
        }
    }
    let (cost, now) = (units(cost_of(given, &mode)?), state.now);
    let mut own = state.at::<Window>(&key)?.cloned().unwrap_or_default();
    let (mut allowed, mut retry) = own.ask(now, units(limit), length, cost, fixed);
    if mode == Mode::Force {
        (allowed, retry) = (true, 0);
    }
    if allowed && mode != Mode::Peek {
        own.take(now, cost, fixed);
    }
    let left = whole_units(units(limit) - own.used()).max(0);
    let reset = own.reset_after(now, length);
    if !own.taken.is_empty() {
        state.put(key, own);
    }
    Ok(vec![allowed.into(), limit.into(), left.into(), retry.into(), reset.into()].into())
}

/// The whole units of an amount.
pub(super) fn whole_units(amount: Amount) -> i64 {
    i64::try_from(amount.trillionths() / 1_000_000_000_000).unwrap_or(i64::MAX)
}

pub(super) fn tokens(state: &mut State, words: &mut Words) -> Done {
    let key = words.take("key")?;
    let (rate, burst) = (words.integer("rate", 1..=MOST)?, words.integer("burst", 0..=MOST)?);
    let (mut per, mut given, mut mode) = (60_000, None, Mode::Take);
    while let Some(option) = words.next_option() {
        match option.as_str() {
            "PER" => per = words.time(&option)?,
            "COST" => given = Some(words.take(&option)?),
            _ => mode = mode_of(&option)?,
        }
    }
    let parts = TOKEN * i128::from(per);
    let cost = i128::from(cost_of(given, &mode)?) * parts;
    let (flow, full, now) = (i128::from(rate) * TOKEN, i128::from(burst) * parts, state.now);
    let mut own = state.at::<Bucket>(&key)?.cloned().unwrap_or(Bucket::new(full, now));
    own.flow(now, flow, full);
    let (mut allowed, mut retry) = own.ask(flow, cost);
    if mode == Mode::Force {
        (allowed, retry) = (true, 0);
    }
    if allowed && mode != Mode::Peek && cost != 0 {
        own.take(cost);
        state.put(key, own.clone());
    }
    let left = i64::try_from(own.level.max(0) / parts).unwrap_or(i64::MAX);
    Ok(vec![allowed.into(), burst.into(), left.into(), retry.into(), own.reset_after(flow).into()].into())
}

pub(super) fn acquire(state: &mut State, words: &mut Words) -> Done {
    let (key, most) = (words.take("key")?, words.integer("max", 0..=MOST)?);
    let (holder, mut ttl) = (words.name("holder", 512)?, None);
    while let Some(option) = words.next_option() {
        match option.as_str() {
            "TTL" => ttl = Some(words.time(&option)?),
            // It never waits.
            "BLOCK" => drop(words.integer(&option, 0..=LONGEST)?),
            _ => return unknown_option(&option),
        }
    }
    let Some(ttl) = ttl else { return refused("missing option", "TTL") };
    let now = state.now;
    let mut own = state.at::<Slots>(&key)?.cloned().unwrap_or_default();
    own.prune(now);
    let in_use = own.holders.len() as i64;
    let token = match own.holders.get(&holder) {
        Some((_, token)) => *token,
        None if in_use >= most => {
            let retry = until_room(own.holders.values().map(|(end, _)| *end).collect(), most, now);
            return Ok(vec![false.into(), in_use.into(), most.into(), retry.into(), 0.into()].into());
        }
        None => {
            own.last = (own.last + 1).max(now * 1024);
            own.last
        }
    };
    own.holders.insert(holder, (now + ttl, token));
    let in_use = own.holders.len() as i64;
    state.put(key, own);
    Ok(vec![true.into(), in_use.into(), most.into(), 0.into(), token.into()].into())
}

pub(super) fn renew(state: &mut State, words: &mut Words) -> Done {
    let (key, holder) = (words.take("key")?, words.name("holder", 512)?);
    let option = words.option()?;
    if option != "TTL" {
        return unknown_option(&option);
    }
    let (ttl, now) = (words.time("TTL")?, state.now);
    let held = state.at::<Slots>(&key)?.and_then(|own| own.holders.get_mut(&holder)).filter(|(end, _)| *end > now);
    Ok(held.map(|(end, _)| *end = now + ttl).is_some().into())
}

pub(super) fn release(state: &mut State, words: &mut Words) -> Done {
    let (key, holder, now) = (words.take("key")?, words.name("holder", 512)?, state.now);
    let Some(own) = state.at::<Slots>(&key)? else { return Ok(Reply::Int(0)) };
    own.prune(now);
    Ok(own.holders.remove(&holder).is_some().into())
}
