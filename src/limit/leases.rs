//! GW.ACQUIRE, GW.RENEW and GW.RELEASE: at most `max` holders at once, each with its own expiry.

use gateway_core::lease::{Grant, HOLDER_BYTES_MAX, Leases, TOKEN_MAX};
use gateway_core::stored::Stored as _;
use gateway_core::{PERIOD_MAX_MS, TIME_MAX_MS, UNITS_MAX};

use super::{EFFECT_NAME, Limiter, change, denied};
use crate::server::args::Args;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::effect::{Effect, Words};
use crate::server::key::Opened;
use crate::server::reply::Reply;
use crate::server::stats::{Counter, STATS};
use crate::server::value::{DESCRIBED_MAX, Registration};
use crate::server::{Call, Error, Key, Outcome, Str, Value};

pub const ACQUIRE: Command = Command {
    name: "GW.ACQUIRE",
    handler: entry!(acquire),
    flags: "write deny-oom fast",
    arity: 6,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Takes one of `max` slots for a holder until its time to live has passed. Replies acquired, in_use, max, \
              retry_after_ms, fencing_token.",
    complexity: "O(log N) in the holders; O(N) where `max` was lowered far below them",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::integer("max"), Arg::text("holder"), Arg::integer("ttl-ms").after("TTL")],
};

pub const RENEW: Command = Command {
    name: "GW.RENEW",
    handler: entry!(renew),
    flags: "write fast",
    arity: 5,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Extends a holder's slot. Replies 1, or 0 where it holds none, because it expired or never had one.",
    complexity: "O(log N) in the holders",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("holder"), Arg::integer("ttl-ms").after("TTL")],
};

pub const RELEASE: Command = Command {
    name: "GW.RELEASE",
    handler: entry!(release),
    flags: "write fast",
    arity: 3,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Frees a holder's slot. Replies 1, or 0 where it holds none, because it expired or never had one.",
    complexity: "O(log N) in the holders",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("holder")],
};

fn parse_holder<'a>(args: &mut Args<'a>) -> Result<Str<'a>, Error> {
    let holder = args.string("holder")?;
    match holder.bytes().len() {
        1..=HOLDER_BYTES_MAX => Ok(holder),
        _ => Err(Error::new("not a name of 1 to 512 bytes", "holder")),
    }
}

/// TTL ms, which no lease goes without.
fn parse_ttl_ms(mut args: Args) -> Result<u64, Error> {
    const TTL: [(&str, ()); 1] = [("TTL", ())];
    args.option(&TTL)?.ok_or_else(|| Error::new("missing option", "TTL"))?;
    let ttl_ms = args.int("TTL", 1..=PERIOD_MAX_MS)?;
    // Whatever follows is an error: a second TTL, or no option at all.
    args.option(&TTL)?;
    Ok(ttl_ms)
}

/// GW.ACQUIRE key max holder TTL ms
fn acquire(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let max = args.int("max", 0..=UNITS_MAX)?;
    let holder = parse_holder(&mut args)?;
    let ttl_ms = parse_ttl_ms(args)?;

    let now_ms = call.now_ms();
    let (grant, effect) = decide(&mut call.open(key)?, now_ms, max, holder, ttl_ms);
    match effect {
        Some(effect) if grant.acquired => call.changed_with(key, c"gw.acquire", &effect, &[holder]),
        Some(effect) => call.changed(key, c"gw.acquire", &effect),
        None => {}
    }
    call.reply()
        .array(5)
        .int(grant.acquired.into())
        .count(grant.in_use)
        .count(grant.max)
        .int(grant.retry_after_ms)
        .count(grant.token);
    Ok(())
}

/// Decides and grants, and says what replicas are to be told.
fn decide(opened: &mut Opened<Leases>, at_ms: i64, max: u64, holder: Str, ttl_ms: u64) -> (Grant, Option<Effect>) {
    let none = Leases::default();
    let leases = opened.get().map_or(&none, |leases| leases);
    let mut grant = leases.decide(at_ms, max, holder.bytes());
    if !grant.acquired {
        STATS.leases_denied.add(1);
        return (grant, denied(opened, at_ms));
    }
    STATS.leases_acquired.add(1);
    if leases.token_of(at_ms, holder.bytes()).is_none() {
        grant.token = grant.token.max(LAST_TOKEN.get() + 1);
    }
    let step = Step::Grant { at_ms, max, ttl_ms, token: grant.token };
    step.apply(opened, holder);
    (grant, Some(step.effect()))
}

/// GW.RENEW key holder TTL ms
fn renew(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let holder = parse_holder(&mut args)?;
    let ttl_ms = parse_ttl_ms(args)?;
    // The holder keeps its token.
    let extend = |leases: &Leases, at_ms| Step::Grant { at_ms, max: leases.max(), ttl_ms, token: 0 };
    change_held(call, key, holder, extend, c"gw.renew")
}

/// GW.RELEASE key holder
fn release(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let holder = parse_holder(&mut args)?;
    args.end()?;
    change_held(call, key, holder, |_, at_ms| Step::Release { at_ms }, c"gw.release")
}

/// Changes the lease of a holder that has one, and replies 1; or replies 0.
fn change_held(
    call: &mut Call,
    key: Key,
    holder: Str,
    step: impl Fn(&Leases, i64) -> Step,
    event: &'static std::ffi::CStr,
) -> Outcome {
    let now_ms = call.now_ms();
    let mut opened = call.open::<Leases>(key)?;
    let held = opened.get().filter(|leases| leases.token_of(now_ms, holder.bytes()).is_some());
    let step = held.map(|leases| step(leases, now_ms));
    if let Some(step) = &step {
        step.apply(&mut opened, holder);
    }
    drop(opened);
    if let Some(step) = &step {
        call.changed_with(key, event, &step.effect(), &[holder]);
    }
    call.reply().int(step.is_some().into());
    Ok(())
}

/// The largest token this node has given out or heard of, under any key: a key that is deleted and made anew within the
/// same millisecond does not start over.
static LAST_TOKEN: Counter = Counter::new();

/// A change to one holder's lease: what a replica is told, with the holder behind it.
enum Step {
    Grant { at_ms: i64, max: u64, ttl_ms: u64, token: u64 },
    Release { at_ms: i64 },
}

impl Step {
    fn apply(&self, opened: &mut Opened<Leases>, holder: Str) {
        match *self {
            Step::Grant { at_ms, max, ttl_ms, token } => {
                change(opened, Leases::default, |leases| {
                    leases.grant(at_ms, max, holder.bytes(), ttl_ms, token);
                    LAST_TOKEN.raise(leases.last_token());
                });
            }
            Step::Release { at_ms } => {
                if let Some(leases) = opened.get() {
                    leases.release(at_ms, holder.bytes());
                }
            }
        }
    }

    fn effect(&self) -> Effect {
        match *self {
            Step::Grant { at_ms, max, ttl_ms, token } => {
                Effect::of(EFFECT_NAME, b'L', [at_ms, max as i64, ttl_ms as i64, token as i64])
            }
            Step::Release { at_ms } => Effect::of(EFFECT_NAME, b'U', [at_ms]),
        }
    }
}

/// The effects `L` and `U`.
pub(super) fn apply(call: &mut Call, key: Key, operation: u8, mut words: Words, mut args: Args) -> Outcome {
    let at_ms = words.int(0..=TIME_MAX_MS)?;
    let step = match operation {
        b'L' => Step::Grant {
            at_ms,
            max: words.int(0..=UNITS_MAX)?,
            ttl_ms: words.int(1..=PERIOD_MAX_MS)?,
            token: words.int(0..=TOKEN_MAX)?,
        },
        _ => Step::Release { at_ms },
    };
    words.end()?;
    let holder = parse_holder(&mut args)?;
    args.end()?;
    step.apply(&mut call.open(key)?, holder);
    Ok(())
}

impl Limiter for Leases {
    const REWIND: u8 = b'l';

    fn rewind(&mut self, now_ms: i64) -> bool {
        self.rewind(now_ms)
    }

    fn expires_at_ms(&self) -> i64 {
        self.expires_at_ms()
    }
}

static REGISTRATION: Registration = Registration::new();

impl Value for Leases {
    const NAME: &'static str = "gw-leases";

    fn registration() -> &'static Registration {
        &REGISTRATION
    }

    fn describe(&mut self, now_ms: i64, reply: &Reply) {
        reply.map(6).bytes("type").bytes("leases");
        reply.bytes("max").count(self.max()).bytes("in_use").count(self.in_use(now_ms));
        reply.bytes("last_fencing_token").count(self.last_token());
        // Each holder with what is left of its lease and its token; the first to end first.
        reply.bytes("holders").array((self.in_use(now_ms) as usize).min(DESCRIBED_MAX));
        for (holder, left_ms, token) in self.holders(now_ms).take(DESCRIBED_MAX) {
            reply.array(3).bytes(holder).int(left_ms).count(token);
        }
        reply.bytes("bytes").count(self.total_bytes() as u64);
    }
}
