//! What the fake knows, and which command does what.

use std::any::Any;
use std::collections::HashMap;

use super::account::Account;
use super::cache::FillLeases;
use super::wire::Reply;
use super::words::{Done, Stop, Words, missing, upper};
use super::{admissions, cache, ledger, limits, logs, policy};
use crate::Text;

/// Each kind of key is a type of its own.
type Stored = Box<dyn Any + Send>;

pub(super) struct State {
    /// Unix milliseconds.
    pub(super) now: i64,
    /// All commands that were sent.
    pub(super) calls: Vec<Vec<Text>>,
    /// What was asked for that the fake does not have.
    pub(super) missing: Vec<String>,
    pub(super) keys: HashMap<Text, Stored>,
    pub(super) fills: FillLeases,
}

impl State {
    pub(super) fn new(now: i64) -> Self {
        Self { now, calls: Vec::new(), missing: Vec::new(), keys: HashMap::new(), fills: FillLeases::new() }
    }

    /// What a key has, of one kind; another kind ends the command.
    pub(super) fn at<T: 'static>(&mut self, key: &Text) -> Done<Option<&mut T>> {
        match self.keys.get_mut(key) {
            None => Ok(None),
            Some(stored) => stored.downcast_mut().map(Some).ok_or_else(wrong_type),
        }
    }

    /// The same, made if it is not there.
    pub(super) fn made<T: Any + Send + Default>(&mut self, key: Text) -> Done<&mut T> {
        let stored = self.keys.entry(key).or_insert_with(|| Box::new(T::default()));
        stored.downcast_mut().ok_or_else(wrong_type)
    }

    pub(super) fn put<T: Any + Send>(&mut self, key: Text, value: T) {
        self.keys.insert(key, Box::new(value));
    }

    /// An account that limits something; a ledger alone is none.
    pub(super) fn account(&mut self, key: &Text) -> Done<Option<&mut Account>> {
        let now = self.now;
        Ok(self.at::<Account>(key)?.filter(|own| own.exists(now)))
    }

    pub(super) fn execute(&mut self, given: Vec<Text>) -> Reply {
        self.calls.push(given.clone());
        let name = upper(&given[0]);
        let mut words = Words::new(given);
        let found = words.take("command").and_then(|_| match command(&name) {
            Some(command) => command(self, &mut words),
            None => missing(name),
        });
        match found {
            Ok(reply) => reply,
            Err(Stop::Refused(line)) => Reply::Error(line),
            Err(Stop::Missing(what)) => {
                let line = format!("ERR the fake has no {what}: use a real server for this test");
                self.missing.push(what);
                Reply::Error(line)
            }
        }
    }
}

fn wrong_type() -> Stop {
    Stop::Refused("WRONGTYPE Operation against a key holding the wrong kind of value".to_owned())
}

fn command(name: &str) -> Option<fn(&mut State, &mut Words) -> Done> {
    Some(match name {
        "GW.ALLOW" => limits::allow,
        "GW.TOKENS" => limits::tokens,
        "GW.ACQUIRE" => limits::acquire,
        "GW.RENEW" => limits::renew,
        "GW.RELEASE" => limits::release,
        "GW.ADDCOST" => ledger::add_cost,
        "GW.SPENT" => ledger::spent,
        "GW.WITHINBUDGET" => ledger::within_budget,
        "GW.RESERVE" => ledger::reserve,
        "GW.COMMIT" => ledger::commit,
        "GW.CANCEL" => ledger::cancel,
        "GW.POLICYSET" => policy::policy_set,
        "GW.POLICYPUT" => policy::policy_put,
        "GW.POLICYDEL" => policy::policy_del,
        "GW.ADMIT" => admissions::admit,
        "GW.ROUTE" => admissions::route,
        "GW.SETTLE" => admissions::settle,
        "GW.KEEPALIVE" => admissions::keep_alive,
        "GW.CACHEGET" => cache::get,
        "GW.CACHEFETCH" => cache::fetch,
        "GW.CACHESET" => cache::set,
        "GW.CACHERELEASE" => cache::release,
        "GW.CACHEDEL" => cache::del,
        "GW.CACHECLEAR" => cache::clear,
        "GW.CACHEKEY" => cache::key,
        "GW.LOGPUSH" => logs::push,
        "GW.LOGLEN" => logs::len,
        "GW.LOGPEEK" => logs::peek,
        "GW.STATS" => stats,
        _ => return None,
    })
}

fn stats(state: &mut State, _: &mut Words) -> Done {
    Ok(Reply::Map(vec!["calls".into(), (state.calls.len() as i64).into()]))
}
