//! GW.LOGPOP, GW.LOGPEEK and GW.LOGLEN: takes records out, for good or on a lease, looks at them, counts them.

use std::sync::OnceLock;

use gateway_core::PERIOD_MAX_MS;
use gateway_core::queue::{DELIVERIES_MAX, Lease, Next, Queue, until_ms};

use super::batch::reply_batch;
use super::effect::Change;
use super::wait::wait;
use super::{LAST_ID_US, MAX_DELIVERIES};
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::stats::STATS;
use crate::server::{Call, Error, Key, Outcome};

pub const POP: Command = Command {
    name: "GW.LOGPOP",
    handler: entry!(pop),
    flags: "write blocking",
    arity: -2,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Takes the oldest records out of a log queue and replies them, oldest first: up to COUNT \
              of them and up to MAXBYTES, but at least one. With LEASE as a batch that comes back unless it is \
              acknowledged in time; with BLOCK it waits where there is nothing.",
    complexity: "O(N) in the records replied",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key(),
        Arg::integer("count").after("COUNT").optional(),
        Arg::integer("max-bytes").after("MAXBYTES").optional(),
        Arg::integer("timeout-ms").after("BLOCK").optional(),
        Arg::integer("lease-ms").after("LEASE").optional(),
        Arg::integer("deliveries").after("MAXDELIVERIES").optional(),
    ],
};

pub const PEEK: Command = Command {
    name: "GW.LOGPEEK",
    handler: entry!(peek),
    flags: "readonly",
    arity: -2,
    keys: Keys::One(Access::Read),
    summary: "Replies the oldest records of a log queue, oldest first, and leaves them there: up to \
              COUNT of them and up to MAXBYTES, but at least one.",
    complexity: "O(N) in the records replied",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key(),
        Arg::integer("count").after("COUNT").optional(),
        Arg::integer("max-bytes").after("MAXBYTES").optional(),
    ],
};

pub const LEN: Command = Command {
    name: "GW.LOGLEN",
    handler: entry!(len),
    flags: "readonly fast",
    arity: 2,
    keys: Keys::One(Access::Read),
    summary: "Replies the number of records that wait in a log queue, 0 where there is none.",
    complexity: "O(N) in the batches that have come back since the last change",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key()],
};

/// Larger batches would hold the server for too long, a millisecond or more; a consumer simply asks again.
const COUNT_PER_CALL_MAX: u64 = 10_000;
pub const BYTES_PER_CALL_MAX: u64 = 1 << 20;

/// How much a call is to take.
#[derive(Clone, Copy)]
struct Amount {
    count: u64,
    max_bytes: u64,
}

#[derive(Clone, Copy)]
enum Opt {
    Count,
    MaxBytes,
    Block,
    Lease,
    MaxDeliveries,
}

const POP_OPTIONS: [(&str, Opt); 5] = [
    ("COUNT", Opt::Count),
    ("MAXBYTES", Opt::MaxBytes),
    ("BLOCK", Opt::Block),
    ("LEASE", Opt::Lease),
    ("MAXDELIVERIES", Opt::MaxDeliveries),
];

/// A pop as asked for.
pub struct Request<'a> {
    pub key: Key<'a>,
    amount: Amount,
    /// 0 is for ever.
    block_ms: Option<u64>,
    lease_ms: Option<u64>,
    deliveries_max: u64,
}

impl<'a> Request<'a> {
    pub fn parse_pop(call: &Call<'a>) -> Result<Self, Error> {
        Self::parse(call, &POP_OPTIONS)
    }

    /// key [COUNT n] [MAXBYTES n], and of all `options`
    fn parse(call: &Call<'a>, options: &[(&'static str, Opt)]) -> Result<Self, Error> {
        let mut args = call.args();
        let key = args.key()?;
        let amount = Amount { count: 1, max_bytes: BYTES_PER_CALL_MAX };
        let deliveries_max = MAX_DELIVERIES.get().unsigned_abs();
        let mut request = Self { key, amount, block_ms: None, lease_ms: None, deliveries_max };
        let mut needs_lease = false;
        while let Some(option) = args.option(options)? {
            match option {
                Opt::Count => request.amount.count = args.int("COUNT", 1..=COUNT_PER_CALL_MAX)?,
                Opt::MaxBytes => request.amount.max_bytes = args.int("MAXBYTES", 1..=BYTES_PER_CALL_MAX)?,
                Opt::Block => request.block_ms = Some(args.int("BLOCK", 0..=PERIOD_MAX_MS)?),
                Opt::Lease => request.lease_ms = Some(args.int("LEASE", 1..=PERIOD_MAX_MS)?),
                Opt::MaxDeliveries => {
                    request.deliveries_max = args.int("MAXDELIVERIES", 1..=DELIVERIES_MAX)?;
                    needs_lease = true;
                }
            }
        }
        if needs_lease && request.lease_ms.is_none() {
            return Err(Error::new("only with LEASE", "MAXDELIVERIES"));
        }
        Ok(request)
    }
}

/// GW.LOGPOP key [COUNT records] [MAXBYTES bytes] [BLOCK ms] [LEASE ms [MAXDELIVERIES n]]
fn pop(call: &mut Call) -> Outcome {
    let request = Request::parse_pop(call)?;
    if serve(call, &request)? {
        return Ok(());
    }
    match request.block_ms {
        Some(timeout_ms) if call.may_wait() => wait(call, request.key, timeout_ms),
        _ => {
            reply_nothing(call, &request);
            Ok(())
        }
    }
}

/// Pops and replies, if there is anything.
pub fn serve(call: &mut Call, request: &Request) -> Result<bool, Error> {
    match request.lease_ms {
        None => pop_for_good(call, request.key, request.amount),
        Some(lease_ms) => pop_on_lease(call, request, lease_ms),
    }
}

pub fn reply_nothing(call: &Call, request: &Request) {
    match request.lease_ms {
        None => call.reply().array(0),
        Some(_) => call.reply().null(),
    };
}

fn pop_for_good(call: &mut Call, key: Key, amount: Amount) -> Result<bool, Error> {
    let (now_ms, reply) = (call.now_ms(), call.reply());
    let mut opened = call.open::<Queue>(key)?;
    let Some(queue) = opened.get() else { return Ok(false) };
    let records = queue.measure(now_ms, amount.count, amount.max_bytes);
    let change = match records {
        0 if queue.is_unsettled(now_ms) => Change::Settle,
        0 => return Ok(false),
        records => Change::Pop { records },
    };
    if records > 0 {
        // The reply is written from the queue's own blocks, so it comes before the change.
        queue.warm(records);
        reply.array(records as usize);
        queue.peek(now_ms, records, &mut |record, _| {
            reply.bytes(record);
        });
    }
    make(change, queue, now_ms);
    drop(opened);
    call.changed(key, c"gw.logpop", &change.effect(now_ms));
    Ok(records > 0)
}

/// Leases and replies, if there is anything.
fn pop_on_lease(call: &mut Call, request: &Request, lease_ms: u64) -> Result<bool, Error> {
    let (now_ms, reply, key) = (call.now_ms(), call.reply(), request.key);
    let mut opened = call.open::<Queue>(key)?;
    let Some(queue) = opened.get() else { return Ok(false) };
    let lease = |id| Lease { id, until_ms: until_ms(now_ms, lease_ms), deliveries_max: request.deliveries_max };
    let (id, change) = match queue.next_batch(now_ms, request.amount.count, request.amount.max_bytes) {
        Next::Again(id) => (Some(id), Change::LeaseAgain(lease(id))),
        Next::New { records } => {
            let id = queue.next_id(now_ms, LAST_ID_US.get(), node());
            (Some(id), Change::Lease { lease: lease(id), records })
        }
        Next::Nothing if queue.is_unsettled(now_ms) => (None, Change::Settle),
        Next::Nothing => return Ok(false),
    };
    make(change, queue, now_ms);
    if let Some((id, batch)) = id.and_then(|id| Some((id, queue.batch(id)?))) {
        reply_batch(&reply, id, batch);
    }
    drop(opened);
    call.changed(key, c"gw.logpop", &change.effect(now_ms));
    Ok(id.is_some())
}

/// Makes a change, and counts it.
fn make(change: Change, queue: &mut Queue, now_ms: i64) {
    let before = queue.counts();
    change.make(queue, now_ms);
    let after = queue.counts();
    STATS.log_popped.add(after.popped.saturating_sub(before.popped));
    STATS.log_redelivered.add(after.redelivered.saturating_sub(before.redelivered));
    STATS.log_dead.add(after.buried.saturating_sub(before.buried));
}

/// GW.LOGPEEK key [COUNT records] [MAXBYTES bytes]
fn peek(call: &mut Call) -> Outcome {
    let Request { key, amount, .. } = Request::parse(call, POP_OPTIONS.get(..2).unwrap_or_default())?;
    let (now_ms, reply) = (call.now_ms(), call.reply());
    match call.find::<Queue>(key)? {
        Some(queue) => {
            let records = queue.get().measure(now_ms, amount.count, amount.max_bytes);
            reply.array(records as usize);
            queue.get().peek(now_ms, records, &mut |record, _| {
                reply.bytes(record);
            });
        }
        None => {
            reply.array(0);
        }
    }
    Ok(())
}

/// GW.LOGLEN key
fn len(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    args.end()?;
    let len = call.find::<Queue>(key)?.map_or(0, |queue| queue.get().waiting(call.now_ms()).records);
    call.reply().count(len);
    Ok(())
}

/// What tells this process from all others in the names of its batches.
fn node() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    static NODE: OnceLock<u32> = OnceLock::new();
    // The standard library's hash maps get their random keys from the operating system.
    *NODE.get_or_init(|| RandomState::new().hash_one("node") as u32)
}
