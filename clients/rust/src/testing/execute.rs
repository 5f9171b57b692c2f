//! Which command does what.

use super::state::State;
use super::wire::Reply;
use super::words::{Done, Stop, Words, missing, upper};
use super::{admissions, cache, charges, limits, logs, policies};
use crate::Text;

impl State {
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

fn command(name: &str) -> Option<fn(&mut State, &mut Words) -> Done> {
    Some(match name {
        "GW.ALLOW" => limits::allow,
        "GW.TOKENS" => limits::tokens,
        "GW.ACQUIRE" => limits::acquire,
        "GW.RENEW" => limits::renew,
        "GW.RELEASE" => limits::release,
        "GW.ADDCOST" => charges::add_cost,
        "GW.SPENT" => charges::spent,
        "GW.WITHINBUDGET" => charges::within_budget,
        "GW.RESERVE" => charges::reserve,
        "GW.COMMIT" => charges::commit,
        "GW.CANCEL" => charges::cancel,
        "GW.POLICYSET" => policies::policy_set,
        "GW.POLICYPUT" => policies::policy_put,
        "GW.POLICYDEL" => policies::policy_del,
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
