//! GW.TOKENS: a token bucket.

use gateway_core::bucket::{Flow, TokenBucket};
use gateway_core::codec::{Corrupt, Reader, Writer};
use gateway_core::{PERIOD_MAX_MS, TIME_MAX_MS, UNITS_MAX};

use super::{reply, Mode, EFFECT_NAME};
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
        Arg::word("peek", "PEEK").optional(),
    ],
};

#[derive(Clone, Copy)]
enum Opt {
    Per,
    Cost,
    Peek,
}

const OPTIONS: [(&str, Opt); 3] = [("PER", Opt::Per), ("COST", Opt::Cost), ("PEEK", Opt::Peek)];

/// GW.TOKENS key rate burst [PER ms] [COST tokens] [PEEK]
fn tokens(call: &Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let rate = args.int("rate", 1..=UNITS_MAX)?;
    let burst = args.int("burst", 0..=UNITS_MAX)?;
    let (mut per_ms, mut cost, mut mode) = (DEFAULT_PER_MS, 1, Mode::Admit);
    while let Some(option) = args.option(&OPTIONS)? {
        match option {
            Opt::Per => per_ms = args.int("PER", 1..=PERIOD_MAX_MS)?,
            Opt::Cost => cost = args.int("COST", 0..=UNITS_MAX)?,
            Opt::Peek => mode = Mode::Peek,
        }
    }
    let flow = Flow { rate, per_ms, burst };

    let now_ms = call.now_ms();
    let mut opened = call.open::<TokenBucket>(key)?;
    let mut verdict = match opened.get() {
        Some(bucket) => bucket.decide(now_ms, flow, cost),
        None => TokenBucket::full(now_ms, flow).decide(now_ms, flow, cost),
    };
    if mode == Mode::Peek {
        STATS.tokens_peeked.add(1);
    } else if !verdict.allowed {
        STATS.tokens_denied.add(1);
    } else {
        STATS.tokens_admitted.add(1);
        if cost > 0 {
            let admission = Admission { at_ms: now_ms, tokens: cost, flow };
            admission.record(&mut opened);
            verdict.remaining -= cost;
            if let Some(bucket) = opened.get() {
                verdict.reset_after_ms = bucket.state(now_ms).reset_after_ms;
            }
            call.changed(key, c"gw.tokens", &admission.effect());
        }
    }
    reply(call, &verdict);
    Ok(())
}

/// What an admission is to a replica.
struct Admission {
    at_ms: i64,
    tokens: u64,
    flow: Flow,
}

impl Admission {
    fn record(&self, opened: &mut Opened<TokenBucket>) {
        let bucket = opened.get_or_insert_with(|| TokenBucket::full(self.at_ms, self.flow));
        let before_ms = bucket.expires_at_ms();
        bucket.record(self.at_ms, self.flow, self.tokens);
        let expires_at_ms = bucket.expires_at_ms();
        if expires_at_ms != before_ms {
            opened.expire_at(expires_at_ms);
        }
    }

    fn effect(&self) -> Effect {
        let Flow { rate, per_ms, burst } = self.flow;
        let [tokens, rate, per_ms, burst] = [self.tokens, rate, per_ms, burst].map(|value| value as i64);
        Effect::of(EFFECT_NAME, b'B', [self.at_ms, tokens, rate, per_ms, burst])
    }

    fn parse(mut words: Words) -> Result<Self, Error> {
        let admission = Self {
            at_ms: words.int(0..=TIME_MAX_MS)?,
            tokens: words.int(1..=UNITS_MAX)?,
            flow: Flow {
                rate: words.int(1..=UNITS_MAX)?,
                per_ms: words.int(1..=PERIOD_MAX_MS)?,
                burst: words.int(0..=UNITS_MAX)?,
            },
        };
        words.end().map(|()| admission)
    }
}

pub(super) fn apply(call: &Call, key: Key, words: Words) -> Outcome {
    let admission = Admission::parse(words)?;
    admission.record(&mut call.open(key)?);
    Ok(())
}

static REGISTRATION: Registration = Registration::new();

impl Value for TokenBucket {
    const NAME: &'static str = "gw-bucket";
    const ENCODING: i32 = 0;

    fn registration() -> &'static Registration {
        &REGISTRATION
    }

    fn save(&self, out: &mut dyn Writer) {
        self.save(out);
    }

    fn load(from: &mut dyn Reader, _encoding: i32) -> Result<Self, Corrupt> {
        TokenBucket::load(from)
    }

    fn memory_bytes(&self) -> usize {
        0
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
        reply.bytes("bytes").count(size_of::<Self>() as u64);
    }
}
