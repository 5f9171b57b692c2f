//! GW.TOKENS: a token bucket.

use gateway_core::bucket::{Flow, TokenBucket};
use gateway_core::limit::Verdict;
use gateway_core::stored::Stored as _;
use gateway_core::{PERIOD_MAX_MS, TIME_MAX_MS, UNITS_MAX};

use super::{COST_MAX, EFFECT_NAME, Limiter, Mode, change, denied, reply};
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::effect::{Effect, Words};
use crate::server::key::Opened;
use crate::server::reply::Reply;
use crate::server::stats::STATS;
use crate::server::value::Registration;
use crate::server::{Call, Error, Key, Outcome, Value};

/// A minute: what token limits are mostly quoted in.
const DEFAULT_PER_MS: u64 = 60_000;

pub const COMMAND: Command = Command {
    name: "GW.TOKENS",
    handler: entry!(tokens),
    flags: "write deny-oom fast",
    arity: -4,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Takes tokens from a bucket that `rate` tokens per period fill up to `burst`. Replies allowed, burst, \
              remaining, retry_after_ms, reset_after_ms.",
    complexity: "O(1)",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key(),
        Arg::integer("rate"),
        Arg::integer("burst"),
        Arg::integer("per-ms").after("PER").optional(),
        Arg::integer("cost").after("COST").optional(),
        Arg::one_of("mode", &[Arg::word("peek", "PEEK"), Arg::word("force", "FORCE")]).optional(),
    ],
};

#[derive(Clone, Copy)]
enum Opt {
    Per,
    Cost,
    Peek,
    Force,
}

const OPTIONS: [(&str, Opt); 4] = [("PER", Opt::Per), ("COST", Opt::Cost), ("PEEK", Opt::Peek), ("FORCE", Opt::Force)];

/// GW.TOKENS key rate burst [PER ms] [COST tokens] [PEEK | FORCE]
fn tokens(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let rate = args.int("rate", 1..=UNITS_MAX)?;
    let burst = args.int("burst", 0..=UNITS_MAX)?;
    let (mut per_ms, mut cost, mut mode) = (DEFAULT_PER_MS, 1, Mode::Admit);
    while let Some(option) = args.option(&OPTIONS)? {
        match option {
            Opt::Per => per_ms = args.int("PER", 1..=PERIOD_MAX_MS)?,
            Opt::Cost => cost = args.int("COST", -COST_MAX..=COST_MAX)?,
            Opt::Peek => mode.set(Mode::Peek)?,
            Opt::Force => mode.set(Mode::Force)?,
        }
    }
    mode.check_cost(cost)?;
    let flow = Flow { rate, per_ms, burst };

    let now_ms = call.now_ms();
    let usage = Usage { at_ms: now_ms, tokens: cost, flow };
    let (verdict, effect) = judge(&mut call.open(key)?, &usage, mode);
    if let Some(effect) = effect {
        call.changed(key, c"gw.tokens", &effect);
    }
    reply(call, &verdict);
    Ok(())
}

/// Decides and records, and says what replicas are to be told.
fn judge(opened: &mut Opened<TokenBucket>, usage: &Usage, mode: Mode) -> (Verdict, Option<Effect>) {
    let Usage { at_ms, tokens, flow } = *usage;
    let decide = |opened: &mut Opened<TokenBucket>, cost: u64| match opened.get() {
        Some(bucket) => bucket.decide(at_ms, flow, cost),
        None => TokenBucket::full(at_ms, flow).decide(at_ms, flow, cost),
    };
    let cost = tokens.unsigned_abs();
    match mode {
        Mode::Peek => {
            STATS.tokens_peeked.add(1);
            (decide(opened, cost), None)
        }
        Mode::Force => {
            STATS.tokens_forced.add(1);
            let effect = usage.record(opened).then(|| usage.effect());
            (Verdict { allowed: true, retry_after_ms: 0, ..decide(opened, 0) }, effect)
        }
        Mode::Admit => {
            let mut verdict = decide(opened, cost);
            if !verdict.allowed {
                STATS.tokens_denied.add(1);
                return (verdict, denied(opened, at_ms));
            }
            STATS.tokens_admitted.add(1);
            if !usage.record(opened) {
                return (verdict, None);
            }
            verdict.remaining -= cost;
            if let Some(bucket) = opened.get() {
                verdict.reset_after_ms = bucket.reset_after_ms();
            }
            (verdict, Some(usage.effect()))
        }
    }
}

/// Tokens taken or given back: what a replica is told.
struct Usage {
    at_ms: i64,
    /// Negative where they are given back.
    tokens: i64,
    flow: Flow,
}

impl Usage {
    /// Returns whether that changed anything.
    fn record(&self, opened: &mut Opened<TokenBucket>) -> bool {
        let Self { at_ms, tokens, flow } = *self;
        // A bucket that is not there is full, too: nothing can be given back to it.
        let full = |bucket: &mut TokenBucket| bucket.decide(at_ms, flow, 0).reset_after_ms == 0;
        if tokens == 0 || (tokens < 0 && opened.get().is_none_or(full)) {
            return false;
        }
        change(opened, || TokenBucket::full(at_ms, flow), |bucket| bucket.record(at_ms, flow, tokens));
        true
    }

    fn effect(&self) -> Effect {
        let Flow { rate, per_ms, burst } = self.flow;
        Effect::of(EFFECT_NAME, b'B', [self.at_ms, self.tokens, rate as i64, per_ms as i64, burst as i64])
    }

    fn parse(mut words: Words) -> Result<Self, Error> {
        let (at_ms, tokens) = (words.int(0..=TIME_MAX_MS)?, words.int(-COST_MAX..=COST_MAX)?);
        let flow = Flow {
            rate: words.int(1..=UNITS_MAX)?,
            per_ms: words.int(1..=PERIOD_MAX_MS)?,
            burst: words.int(0..=UNITS_MAX)?,
        };
        words.end().map(|()| Self { at_ms, tokens, flow })
    }
}

pub(super) fn apply(call: &mut Call, key: Key, words: Words) -> Outcome {
    let usage = Usage::parse(words)?;
    usage.record(&mut call.open(key)?);
    Ok(())
}

impl Limiter for TokenBucket {
    const REWIND: u8 = b'b';

    fn rewind(&mut self, now_ms: i64) -> bool {
        self.rewind(now_ms)
    }

    fn expires_at_ms(&self) -> i64 {
        self.expires_at_ms()
    }
}

static REGISTRATION: Registration = Registration::new();

impl Value for TokenBucket {
    const NAME: &'static str = "gw-bucket";

    fn registration() -> &'static Registration {
        &REGISTRATION
    }

    fn describe(&mut self, now_ms: i64, reply: &Reply) {
        let state = self.state(now_ms);
        reply.map(8).bytes("type").bytes("token-bucket");
        reply.bytes("rate").count(state.flow.rate).bytes("per_ms").count(state.flow.per_ms);
        reply.bytes("burst").count(state.flow.burst);
        reply.bytes("tokens").int(state.tokens());
        // The level is exactly tokens + fraction: a client that adds nothing up needs only the first.
        reply.bytes("fraction").bytes(state.fraction());
        reply.bytes("reset_after_ms").int(state.reset_after_ms);
        reply.bytes("bytes").count(self.total_bytes() as u64);
    }
}
