//! GW.CACHEFETCH: replies the cached value, as GW.CACHEGET does, and may change something: TOUCH postpones the expiry, and
//! with LEASE one of the callers that miss the key gets the lease to compute it.
//!
//! A write command, although most calls write nothing: so the server itself keeps readers, replicas and read-only scripts
//! from it. It takes no memory but for leases, which are bounded, so that hits are served when the memory is full.

use gateway_core::cache::State;
use gateway_core::cache::flight::{LEASE_MAX_MS, LeaseAnswer, Wanted};

use super::answer::{Meta, Question, reply_found, reply_miss};
use super::args::{parse_category, parse_holder};
use super::category::count_error;
use super::entry::Entry;
use super::flights::Scope;
use super::store::keep_fresh;
use super::{effect, flights};
use crate::server::blocked::{Parking, UNBLOCKED};
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::{Call, Error, Key, Outcome};
use crate::stats::STATS;

pub const COMMAND: Command = Command {
    name: "GW.CACHEFETCH",
    handler: entry!(fetch),
    flags: "write fast",
    arity: -2,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Replies a cached value or nil; with LEASE, one of the callers that miss it computes it while the others wait or \
              are told.",
    complexity: "O(1)",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key(),
        Arg::word("meta", "META").optional(),
        Arg::word("touch", "TOUCH").optional(),
        Arg::block(
            "fill-lease",
            &[
                Arg::integer("lease-ms").after("LEASE"),
                Arg::text("holder").after("HOLDER").optional(),
                Arg::integer("wait-ms").after("WAIT").optional(),
            ],
        )
        .optional(),
        Arg::text("category").after("CATEGORY").optional(),
    ],
};

#[derive(Clone, Copy)]
enum Opt {
    Meta,
    Touch,
    Lease,
    Holder,
    Wait,
    Category,
}

const OPTIONS: [(&str, Opt); 6] = [
    ("META", Opt::Meta),
    ("TOUCH", Opt::Touch),
    ("LEASE", Opt::Lease),
    ("HOLDER", Opt::Holder),
    ("WAIT", Opt::Wait),
    ("CATEGORY", Opt::Category),
];

struct FetchRequest<'a> {
    question: Question<'a>,
    touch: bool,
    lease: Option<Wanted<'a>>,
    wait_ms: Option<u64>,
}

impl<'a> FetchRequest<'a> {
    fn parse(call: &Call<'a>) -> Result<Self, Error> {
        let mut args = call.args();
        let mut question = Question { key: args.key()?, detailed: false, category: None };
        let (mut touch, mut lease_ms, mut holder, mut wait_ms) = (false, None, None, None);
        while let Some(option) = args.option(&OPTIONS)? {
            match option {
                Opt::Meta => question.detailed = true,
                Opt::Touch => touch = true,
                Opt::Lease => lease_ms = Some(args.int("LEASE", 1..=LEASE_MAX_MS)?),
                Opt::Holder => holder = Some(parse_holder(&mut args)?.bytes()),
                Opt::Wait => wait_ms = Some(args.int("WAIT", 1..=LEASE_MAX_MS)?),
                Opt::Category => question.category = Some(parse_category(&mut args)?),
            }
        }
        let lease = lease_ms.map(|lease_ms| Wanted { lease_ms, holder });
        match lease {
            None if holder.is_some() => return Err(Error::only_with("LEASE", "HOLDER")),
            None if wait_ms.is_some() => return Err(Error::only_with("LEASE", "WAIT")),
            None => {}
            Some(_) => question.detailed = true,
        }
        Ok(Self { question, touch, lease, wait_ms })
    }
}

/// GW.CACHEFETCH key [META] [TOUCH] [LEASE lease-ms [HOLDER holder] [WAIT wait-ms]] [CATEGORY category]
fn fetch(call: &mut Call) -> Outcome {
    let key = call.args().key()?;
    fetch_entry(call).inspect_err(|_| count_error(key))
}

fn fetch_entry(call: &mut Call) -> Outcome {
    let request = FetchRequest::parse(call)?;
    if reply_touched(call, &request, |call, entry| {
        request.lease.map_or(0, |wanted| lead_refresh(call, request.question.key, entry, wanted))
    })? {
        return Ok(());
    }
    match request.lease {
        Some(wanted) => miss_with_lease(call, &request, wanted),
        None => reply_miss(call, &request.question, Meta::MISS),
    }
}

/// As [`reply_found`], after a TOUCH.
fn reply_touched(
    call: &mut Call,
    request: &FetchRequest,
    refresh: impl FnOnce(&Call, &Entry) -> u64,
) -> Result<bool, Error> {
    if request.touch {
        touch(call, request.question.key)?;
    }
    let call = &*call;
    reply_found(call, &request.question, |entry| refresh(call, entry))
}

/// Starts the life of a fresh value anew.
fn touch(call: &mut Call, key: Key) -> Result<(), Error> {
    let now_ms = call.now_ms();
    let mut opened = call.open::<Entry>(key)?;
    let fresh = opened.get().filter(|entry| !entry.is_cleared() && entry.state(now_ms) == State::Fresh);
    let Some(life) = fresh.map(|entry| entry.life()) else { return Ok(()) };
    let touched = life.touched(now_ms);
    // EXPIRE or PERSIST may have moved the key's end alone.
    if touched == life && opened.expires_at_ms() == Some(touched.ends_at_ms()) {
        return Ok(());
    }
    keep_fresh(&mut opened, touched.fresh_until_ms);
    drop(opened);
    call.replicate(key, effect::TOUCH_EVENT, &effect::touch(touched.fresh_until_ms));
    Ok(())
}

/// The token of a lease to refresh a stale entry; 0 if another caller has it, or there are too many leases.
fn lead_refresh(call: &Call, key: Key, entry: &Entry, wanted: Wanted) -> u64 {
    let scope = || Scope { category: entry.category().name().into(), tags: entry.tags().into() };
    match flights::ask(call, key, wanted, scope) {
        LeaseAnswer::Leader { token } if token > 0 => {
            STATS.cache_leader_grants.add(1);
            entry.category().counters().leader_grants.add(1);
            token
        }
        LeaseAnswer::Again { token, .. } => token,
        LeaseAnswer::Leader { .. } | LeaseAnswer::Held { .. } => 0,
    }
}

fn miss_with_lease(call: &mut Call, request: &FetchRequest, wanted: Wanted) -> Outcome {
    let question = &request.question;
    match (ask(call, question, wanted), request.wait_ms) {
        (LeaseAnswer::Held { .. }, Some(wait_ms)) if call.may_wait() => {
            count_pending(question);
            let parked = call.park(wait_ms, PARKING);
            flights::wait(call, question.key, parked, wanted);
            Ok(())
        }
        (LeaseAnswer::Held { left_ms }, _) => {
            count_pending(question);
            reply_miss(call, question, Meta::pending(left_ms))
        }
        (asked, _) => reply_asked(call, question, wanted, asked),
    }
}

fn ask(call: &Call, question: &Question, wanted: Wanted) -> LeaseAnswer {
    let scope = || Scope { category: question.category_name().into(), tags: [].into() };
    flights::ask(call, question.key, wanted, scope)
}

fn count_pending(question: &Question) {
    STATS.cache_pending.add(1);
    question.counters().pending.add(1);
}

fn reply_asked(call: &Call, question: &Question, wanted: Wanted, asked: LeaseAnswer) -> Outcome {
    match asked {
        LeaseAnswer::Leader { token } => lead(call, question, token, wanted.lease_ms),
        LeaseAnswer::Again { token, left_ms } => reply_miss(call, question, Meta::leader(token, left_ms)),
        LeaseAnswer::Held { left_ms } => reply_miss(call, question, Meta::pending(left_ms)),
    }
}

fn lead(call: &Call, question: &Question, token: u64, left_ms: u64) -> Outcome {
    STATS.cache_leader_grants.add(1);
    question.counters().leader_grants.add(1);
    reply_miss(call, question, Meta::leader(token, left_ms))
}

const PARKING: Parking = Parking { called_back, timed_out, gone: flights::gone };

/// Replies to a caller that has waited: there is a value, or it is this caller's turn to compute it.
fn called_back(call: &mut Call, message: u64) -> Outcome {
    if message == flights::UNBLOCK {
        return Err(UNBLOCKED);
    }
    let request = FetchRequest::parse(call)?;
    if reply_waited_for(call, &request)? {
        return Ok(());
    }
    let question = &request.question;
    let Some(wanted) = request.lease else { return reply_miss(call, question, Meta::pending(0)) };
    match message {
        // The value was set and is gone again, or this call has waited twice. It does not wait again.
        flights::LOOK_AGAIN => {
            let asked = ask(call, question, wanted);
            reply_asked(call, question, wanted, asked)
        }
        token => lead(call, question, token, wanted.lease_ms),
    }
}

fn timed_out(call: &mut Call) -> Outcome {
    let request = FetchRequest::parse(call)?;
    // The value may have been set in this very moment.
    if reply_waited_for(call, &request)? {
        return Ok(());
    }
    STATS.cache_wait_timeouts.add(1);
    request.question.counters().wait_timeouts.add(1);
    let left_ms = flights::left_ms(call, request.question.key);
    reply_miss(call, &request.question, Meta::pending(left_ms))
}

/// Replies the value that the caller has waited for, if there is one. It was set in this moment, and needs no TOUCH.
fn reply_waited_for(call: &Call, request: &FetchRequest) -> Result<bool, Error> {
    let key = request.question.key;
    reply_found(call, &request.question, |_| 0).inspect_err(|_| {
        // The key holds another type: the other callers that wait for it get that error, too.
        flights::filled(call, key);
        count_error(key);
    })
}
