//! The commands that set policies.

use serde_json::Value as Json;

use super::account::Account;
use super::policy::Policy;
use super::state::State;
use super::words::{Done, LONGEST, Words, refused, unknown_option};

pub(super) fn policy_set(state: &mut State, words: &mut Words) -> Done {
    let (key, name) = (words.take("key")?, words.name("name", 64)?);
    let mut made = Policy::of_words(name, words, state.now)?;
    let all = &mut state.made::<Account>(key)?.policies;
    let old = all.iter_mut().find(|old| old.name == made.name);
    let new = old.is_none();
    match old {
        Some(old) => {
            made.inherit(old);
            *old = made;
        }
        None => all.push(made),
    }
    Ok(new.into())
}

pub(super) fn policy_put(state: &mut State, words: &mut Words) -> Done {
    let (key, document, now) = (words.take("key")?, words.take("json")?, state.now);
    while let Some(option) = words.next_option() {
        match option.as_str() {
            "NX" => {
                if state.account(&key)?.is_some() {
                    return Ok(0.into());
                }
            }
            // It stays.
            "IDLE" => drop(words.integer(&option, 1..=LONGEST)?),
            _ => return unknown_option(&option),
        }
    }
    let read: Option<Json> = serde_json::from_slice(&document).ok();
    let Some(Json::Array(found)) = read.as_ref().and_then(|read| read.get("policies")) else {
        return refused("not a document of policies", "json");
    };
    let mut all = Vec::new();
    for one in found {
        let Some(members) = one.as_object() else { return refused("not a document of policies", "json") };
        all.push(Policy::of_members(members, now)?);
    }
    let own = state.made::<Account>(key)?;
    for one in &mut all {
        if let Some(old) = own.policies.iter_mut().find(|old| old.name == one.name) {
            one.inherit(old);
        }
    }
    own.policies = all;
    Ok(1.into())
}

pub(super) fn policy_del(state: &mut State, words: &mut Words) -> Done {
    let (key, name) = (words.take("key")?, words.take("name")?);
    let Some(own) = state.account(&key)? else { return Ok(0.into()) };
    let before = own.policies.len();
    own.policies.retain(|one| one.name != name);
    Ok((own.policies.len() < before).into())
}
