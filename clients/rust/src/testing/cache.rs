//! The cache.

use super::fills::Cleared;
use super::logs::json_problem;
use super::state::State;
use super::wire::Reply;
use super::words::{Done, LONGEST, MOST, Stop, Words, missing, refused, unknown_option};
use crate::{KeyError, Text};

#[derive(Clone)]
struct Entry {
    value: Text,
    at: i64,
    fresh: i64,
    stale: i64,
    fresh_until: i64,
    until: i64,
    category: Text,
    tags: Vec<Text>,
}

impl Entry {
    /// It is fresh from now on.
    fn begin(&mut self, now: i64) {
        self.fresh_until = now + self.fresh;
        self.until = self.fresh_until + self.stale;
    }
}

impl State {
    /// The entry of a key, if it can still be used.
    fn entry(&mut self, key: &Text) -> Done<Option<&mut Entry>> {
        let now = self.now;
        if self.at::<Entry>(key)?.is_some_and(|own| own.until <= now) {
            self.keys.remove(key);
        }
        self.at(key)
    }

    fn forget(&mut self, keys: Vec<Text>) -> Reply {
        for key in &keys {
            self.keys.remove(key);
            self.fills.leases.remove(key);
        }
        (keys.len() as i64).into()
    }
}

/// What is found: its state, value, age, the time that is left, and no token.
fn answer(own: Option<&Entry>, now: i64) -> [Reply; 5] {
    let Some(own) = own else { return ["MISS".into(), Reply::Nil, 0.into(), 0.into(), 0.into()] };
    let fresh = now < own.fresh_until;
    let left = if fresh { own.fresh_until } else { own.until } - now;
    let state = if fresh { "HIT" } else { "STALE" };
    [state.into(), own.value.clone().into(), (now - own.at).into(), left.into(), 0.into()]
}

/// The whole of what is found, or its value alone.
fn told(found: [Reply; 5], whole: bool) -> Reply {
    if whole {
        return found.to_vec().into();
    }
    let [_, value, ..] = found;
    value
}

// The commands.

pub(super) fn get(state: &mut State, words: &mut Words) -> Done {
    let (key, now) = (words.take("key")?, state.now);
    let mut meta = false;
    while let Some(option) = words.next_option() {
        match option.as_str() {
            "META" => meta = true,
            _ => return unknown_option(&option),
        }
    }
    Ok(told(answer(state.entry(&key)?.as_deref(), now), meta))
}

pub(super) fn fetch(state: &mut State, words: &mut Words) -> Done {
    let (key, now) = (words.take("key")?, state.now);
    let (mut lease, mut holder, mut meta, mut touch) = (None, None, false, false);
    while let Some(option) = words.next_option() {
        match option.as_str() {
            "LEASE" => lease = Some(words.integer(&option, 1..=3_600_000)?),
            "HOLDER" => holder = Some(words.name(&option, 512)?),
            // It never waits.
            "WAIT" => drop(words.integer(&option, 1..=3_600_000)?),
            "CATEGORY" => drop(words.name(&option, 64)?),
            "META" => meta = true,
            "TOUCH" => touch = true,
            _ => return unknown_option(&option),
        }
    }
    let own = state.entry(&key)?;
    let (there, mut fresh) = (own.is_some(), false);
    let found = own.map(|own| {
        fresh = now < own.fresh_until;
        if touch && fresh {
            own.begin(now);
        }
        &*own
    });
    let mut made = answer(found, now);
    if let Some(length) = lease.filter(|_| !fresh) {
        let (token, left) = state.fills.ask(&key, now, length, holder);
        made[4] = token.into();
        if !there {
            made[3] = left.into();
            if token == 0 {
                made[0] = "PENDING".into();
            }
        }
    }
    Ok(told(made, meta || lease.is_some()))
}

pub(super) fn set(state: &mut State, words: &mut Words) -> Done {
    let (key, value, now) = (words.take("key")?, words.take("value")?, state.now);
    // What is before the first colon of the key, if that can be a name.
    let before = key.iter().position(|&byte| byte == b':').filter(|at| (1..=64).contains(at));
    let category = before.map_or_else(|| "default".into(), |at| key[..at].into());
    let (fresh, stale) = (3_600_000, 0);
    let mut made = Entry { value, at: now, fresh, stale, fresh_until: 0, until: 0, category, tags: Vec::new() };
    let mut token = None;
    while let Some(option) = words.next_option() {
        match option.as_str() {
            "EX" => made.fresh = words.integer(&option, 1..=LONGEST / 1000)? * 1000,
            "PX" => made.fresh = words.time(&option)?,
            "STALE" => made.stale = words.integer(&option, 0..=LONGEST)?,
            "CATEGORY" => made.category = words.name(&option, 64)?,
            "TAG" => made.tags.push(words.name(&option, 256)?),
            "SAVED" => drop(words.amount(&option)?),
            "TOKEN" => token = Some(words.integer(&option, 1..=MOST)?),
            _ => return unknown_option(&option),
        }
    }
    state.at::<Entry>(&key)?;
    if let Some(token) = token
        && !(state.fills.end(&key, token, now) && state.fills.may_store(token, &made.category, &made.tags))
    {
        return Ok(Reply::Nil);
    }
    state.fills.leases.remove(&key);
    made.begin(now);
    state.put(key, made);
    Ok(Reply::Ok)
}

pub(super) fn release(state: &mut State, words: &mut Words) -> Done {
    let key = words.take("key")?;
    let token = words.integer("token", 1..=MOST)?;
    Ok(state.fills.end(&key, token, state.now).into())
}

pub(super) fn del(state: &mut State, words: &mut Words) -> Done {
    let mut found = Vec::new();
    for key in words.rest() {
        if state.entry(&key)?.is_some() && !found.contains(&key) {
            found.push(key);
        }
    }
    Ok(state.forget(found))
}

pub(super) fn clear(state: &mut State, words: &mut Words) -> Done {
    let by = words.option()?;
    let what = match by.as_str() {
        "ALL" => Cleared::All,
        "CATEGORY" => Cleared::Category(words.name(&by, 64)?),
        "TAG" => Cleared::Tag(words.name(&by, 256)?),
        _ => return missing(format!("GW.CACHECLEAR {by}")),
    };
    let now = state.now;
    let is_meant = |own: &Entry| match &what {
        Cleared::All => true,
        Cleared::Category(name) => own.category == *name,
        Cleared::Tag(name) => own.tags.contains(name),
    };
    let entries = state.keys.iter().filter_map(|(key, stored)| Some((key, stored.downcast_ref::<Entry>()?)));
    let found = entries.filter(|(_, own)| own.until > now && is_meant(own)).map(|(key, _)| key.clone()).collect();
    state.fills.cleared.insert(what, state.fills.last);
    Ok(state.forget(found))
}

pub(super) fn key(_: &mut State, words: &mut Words) -> Done {
    let (prefix, json) = (words.take("prefix")?.to_string(), words.take("json")?);
    let mut ignore = Vec::new();
    if words.more() {
        let option = words.option()?;
        if option != "IGNORE" {
            return unknown_option(&option);
        }
        ignore = words.rest().iter().map(ToString::to_string).collect();
    }
    let ignore: Vec<&str> = ignore.iter().map(String::as_str).collect();
    let (category, tenant) = prefix.split_once(':').map_or((&*prefix, None), |(first, rest)| (first, Some(rest)));
    match crate::cache_key(category, tenant, &json, &ignore) {
        Ok(made) => Ok(made.as_str().into()),
        Err(KeyError::NotJson) => {
            let byte = json_problem(&json).unwrap_or_default();
            refused("not valid JSON", format!("at byte {byte}"))
        }
        Err(error) => Err(Stop::Refused(format!("ERR {error}"))),
    }
}
