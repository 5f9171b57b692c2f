//! GW.CACHEGET: replies the cached value, or nil; with LEASE, single flight.

use gateway_core::cache::category_of;
use gateway_core::cache::flight::{LEASE_MAX_MS, LeaseAnswer};
use gateway_core::money::Amount;
use lazy_static::lazy_static;

use super::args::parse_category;
use super::category::{Category, Counters, count_error};
use super::entry::Entry;
use super::flights::Scope;
use super::{flights, touch};
use crate::server::blocked::Parking;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::shared::MainThread;
use crate::server::{Call, Error, Key, Outcome, Str};
use crate::stats::STATS;

pub const COMMAND: Command = Command {
    name: "GW.CACHEGET",
    handler: entry!(get),
    flags: "readonly fast",
    arity: -2,
    keys: Keys::One(Access::Read),
    summary: "Replies a cached value or nil; with LEASE, one of the clients that miss it computes it while the others wait or \
              are told.",
    complexity: "O(1)",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key(),
        Arg::word("meta", "META").optional(),
        Arg::word("touch", "TOUCH").optional(),
        Arg::integer("lease-ms").after("LEASE").optional(),
        Arg::integer("wait-ms").after("WAIT").optional(),
        Arg::text("category").after("CATEGORY").optional(),
    ],
};

#[derive(Clone, Copy)]
enum Opt {
    Meta,
    Touch,
    Lease,
    Wait,
    Category,
}

const OPTIONS: [(&str, Opt); 5] = [
    ("META", Opt::Meta),
    ("TOUCH", Opt::Touch),
    ("LEASE", Opt::Lease),
    ("WAIT", Opt::Wait),
    ("CATEGORY", Opt::Category),
];

/// A call of GW.CACHEGET.
struct GetRequest<'a> {
    key: Key<'a>,
    meta: bool,
    touch: bool,
    lease_ms: Option<u64>,
    wait_ms: Option<u64>,
    category: Option<Str<'a>>,
}

impl<'a> GetRequest<'a> {
    fn parse(call: &Call<'a>) -> Result<Self, Error> {
        let mut args = call.args();
        let key = args.key()?;
        let mut request = Self { key, meta: false, touch: false, lease_ms: None, wait_ms: None, category: None };
        while let Some(option) = args.option(&OPTIONS)? {
            match option {
                Opt::Meta => request.meta = true,
                Opt::Touch => request.touch = true,
                Opt::Lease => request.lease_ms = Some(args.int("LEASE", 1..=LEASE_MAX_MS)?),
                Opt::Wait => request.wait_ms = Some(args.int("WAIT", 1..=LEASE_MAX_MS)?),
                Opt::Category => request.category = Some(parse_category(&mut args)?),
            }
        }
        if request.wait_ms.is_some() && request.lease_ms.is_none() {
            return Err(Error::only_with("LEASE", "WAIT"));
        }
        Ok(request)
    }

    fn category_name(&self) -> &'a [u8] {
        self.category.map_or_else(|| category_of(self.key.bytes()), |category| category.bytes())
    }

    /// The counters of a miss.
    fn counters(&self) -> &'static Counters {
        Category::asked_for(self.category_name()).counters()
    }

    /// Whether the reply is the value alone.
    fn is_plain(&self) -> bool {
        !self.meta && self.lease_ms.is_none()
    }
}

fn get(call: &mut Call) -> Outcome {
    let key = call.args().key()?;
    get_entry(call).inspect_err(|_| count_error(key))
}

/// GW.CACHEGET key [META] [TOUCH] [LEASE lease-ms] [WAIT wait-ms] [CATEGORY category]
fn get_entry(call: &mut Call) -> Outcome {
    let request = GetRequest::parse(call)?;
    // Both lead to a write, by this node or by the client.
    if (request.touch || request.lease_ms.is_some()) && !call.is_primary() {
        return Err(Error::READ_ONLY);
    }
    if reply_found(call, &request, true)? {
        return Ok(());
    }
    match request.lease_ms {
        Some(lease_ms) => miss_with_lease(call, &request, lease_ms),
        None => reply_miss(call, &request, Meta::MISS),
    }
}

/// Replies the value, if there is one. If it is stale, and `may_lead`, the first client gets a lease to refresh it. Returns
/// whether there was a value.
fn reply_found(call: &Call, request: &GetRequest, may_lead: bool) -> Result<bool, Error> {
    // Read the clock first: it waits for outstanding loads, which would include the entry's.
    let now_ms = call.now_ms();
    let Some(found) = call.look_up::<Entry>(request.key)?.filter(|found| !found.get().is_cleared()) else {
        return Ok(false);
    };
    let entry = found.get();
    let fresh = entry.is_fresh(now_ms);
    count_hit(entry, fresh);
    if request.is_plain() {
        reply_value(call, entry)?;
    } else {
        let lease_ms = request.lease_ms.filter(|_| may_lead && !fresh);
        let token = lease_ms.map_or(0, |lease_ms| lead_refresh(call, request, entry, lease_ms));
        Meta { token, ..Meta::of(entry, found.expires_at_ms(), now_ms) }.reply(call, Some(entry))?;
    }
    if request.touch && fresh {
        touch::soon(call, request.key);
    }
    Ok(true)
}

/// The token of a lease to refresh a stale entry; 0 if another client has it, or there are too many leases.
fn lead_refresh(call: &Call, request: &GetRequest, entry: &Entry, lease_ms: u64) -> u64 {
    let scope = || Scope { category: entry.category().name().into(), tags: entry.tags().into() };
    match flights::ask(call, request.key, lease_ms, scope) {
        LeaseAnswer::Leader { token } if token > 0 => {
            STATS.cache_leader_grants.add(1);
            entry.category().counters().leader_grants.add(1);
            token
        }
        LeaseAnswer::Leader { .. } | LeaseAnswer::Held { .. } => 0,
    }
}

fn miss_with_lease(call: &mut Call, request: &GetRequest, lease_ms: u64) -> Outcome {
    let left_ms = match ask(call, request, lease_ms) {
        LeaseAnswer::Leader { token } => return lead(call, request, lease_ms, token),
        LeaseAnswer::Held { left_ms } => left_ms,
    };
    STATS.cache_pending.add(1);
    request.counters().pending.add(1);
    match request.wait_ms {
        Some(wait_ms) if call.may_wait() => {
            let parked = call.park(wait_ms, PARKING);
            flights::wait(call, request.key, parked, lease_ms);
            Ok(())
        }
        _ => reply_miss(call, request, Meta::pending(left_ms)),
    }
}

fn ask(call: &Call, request: &GetRequest, lease_ms: u64) -> LeaseAnswer {
    let scope = || Scope { category: request.category_name().into(), tags: [].into() };
    flights::ask(call, request.key, lease_ms, scope)
}

fn lead(call: &Call, request: &GetRequest, lease_ms: u64, token: u64) -> Outcome {
    STATS.cache_leader_grants.add(1);
    request.counters().leader_grants.add(1);
    reply_miss(call, request, Meta { ttl_ms: lease_ms as i64, token, ..Meta::MISS })
}

const PARKING: Parking = Parking { called_back, timed_out, gone: flights::gone };

/// Replies to a client that has waited: there is a value, or it is this client's turn to compute it.
fn called_back(call: &mut Call, message: u64) -> Outcome {
    let request = GetRequest::parse(call)?;
    if reply_waited_for(call, &request)? {
        return Ok(());
    }
    let Some(lease_ms) = request.lease_ms else { return reply_miss(call, &request, Meta::pending(0)) };
    if message != flights::LOOK_AGAIN {
        return lead(call, &request, lease_ms, message);
    }
    // The value was set and is gone again. A client does not wait twice.
    match ask(call, &request, lease_ms) {
        LeaseAnswer::Leader { token } => lead(call, &request, lease_ms, token),
        LeaseAnswer::Held { left_ms } => reply_miss(call, &request, Meta::pending(left_ms)),
    }
}

fn timed_out(call: &mut Call) -> Outcome {
    let request = GetRequest::parse(call)?;
    // The value may have been set in this very moment.
    if reply_waited_for(call, &request)? {
        return Ok(());
    }
    STATS.cache_wait_timeouts.add(1);
    request.counters().wait_timeouts.add(1);
    let left_ms = flights::left_ms(call, request.key);
    reply_miss(call, &request, Meta::pending(left_ms))
}

/// Replies the value that the client has waited for, if there is one.
fn reply_waited_for(call: &Call, request: &GetRequest) -> Result<bool, Error> {
    reply_found(call, request, false).inspect_err(|_| {
        // The key holds another type: the other clients that wait for it get that error, too.
        flights::filled(call, request.key);
        count_error(request.key);
    })
}

fn reply_miss(call: &Call, request: &GetRequest, meta: Meta) -> Outcome {
    STATS.cache_misses.add(1);
    request.counters().misses.add(1);
    if request.is_plain() {
        call.reply().null();
        return Ok(());
    }
    meta.reply(call, None)
}

fn count_hit(entry: &Entry, fresh: bool) {
    let Counters { hits, stale_hits, .. } = entry.category().counters();
    match fresh {
        true => {
            STATS.cache_hits.add(1);
            hits.add(1);
        }
        false => {
            STATS.cache_stale_hits.add(1);
            stale_hits.add(1);
        }
    }
    let saved = entry.saved();
    if saved != Amount::ZERO {
        entry.category().counters().add_saved(saved);
    }
}

fn reply_value(call: &Call, entry: &Entry) -> Outcome {
    lazy_static! {
        /// The buffer that values are unpacked into, one after the other. It grows to the longest of them.
        static ref ROOM: MainThread<Vec<u8>> = MainThread::new(Vec::new());
    }
    match entry.plain_value() {
        Some(value) => call.reply().bytes(value),
        None => call.reply().bytes(
            entry
                .value(&mut ROOM.borrow())
                .map_err(|_| Error::coded("ERR internal error: the value cannot be unpacked"))?,
        ),
    };
    Ok(())
}

/// What `META` adds to the value.
struct Meta {
    state: &'static str,
    age_ms: i64,
    ttl_ms: i64,
    token: u64,
}

impl Meta {
    const MISS: Meta = Meta { state: "MISS", age_ms: 0, ttl_ms: 0, token: 0 };

    /// Another client has the lease, for another `left_ms`.
    fn pending(left_ms: u64) -> Self {
        Meta { state: "PENDING", ttl_ms: left_ms as i64, ..Self::MISS }
    }

    fn of(entry: &Entry, expires_at_ms: Option<i64>, now_ms: i64) -> Self {
        let fresh_until_ms = entry.life().fresh_until_ms;
        // EXPIRE and PERSIST change when the key expires, and nothing else.
        let (state, until_ms) = match entry.is_fresh(now_ms) {
            true => ("HIT", expires_at_ms.map_or(fresh_until_ms, |end_ms| end_ms.min(fresh_until_ms))),
            false => ("STALE", expires_at_ms.unwrap_or(0)),
        };
        Self { state, age_ms: entry.age_ms(now_ms), ttl_ms: (until_ms - now_ms).max(0), token: 0 }
    }

    fn reply(&self, call: &Call, entry: Option<&Entry>) -> Outcome {
        call.reply().array(5).bytes(self.state);
        match entry {
            Some(entry) => reply_value(call, entry)?,
            None => {
                call.reply().null();
            }
        }
        call.reply().int(self.age_ms).int(self.ttl_ms).count(self.token);
        Ok(())
    }
}
