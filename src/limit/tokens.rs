//! GW.TOKENS: a token bucket.

use std::ffi::CStr;

use gateway_core::bucket::{Flow, TokenBucket};
use gateway_core::limit::Verdict;
use gateway_core::top::{Label, Meter};
use gateway_core::{PERIOD_MAX_MS, UNITS_MAX};

use super::args::{COST_MAX, Mode};
use super::limiter::{Limiter, UnitLimiter, Usage};
use super::take::take;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::counter::Counter;
use crate::server::effect::{Effect, Words};
use crate::server::{Call, Error, Outcome};
use crate::stats::STATS;

/// A minute, the period of most published token limits.
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

    let usage = Usage::<TokenBucket> { at_ms: call.now_ms(), units: cost, rule: flow };
    take(call, key, &usage, mode)
}

impl Limiter for TokenBucket {
    const EVENT: &'static CStr = c"gw.tokens";
    const CLOCK_STEP: u8 = b'b';

    fn adopt_clock(&mut self, now_ms: i64) -> bool {
        self.rewind(now_ms)
    }

    fn expiry_ms(&self) -> i64 {
        self.expires_at_ms()
    }
}

impl UnitLimiter for TokenBucket {
    type Rule = Flow;

    const USAGE: u8 = b'B';
    const LABEL: Label<'static> = Label::new(COMMAND.name.as_bytes());
    const METER: Meter<'static> = Meter::Tokens;

    fn counters() -> [&'static Counter; 4] {
        [&STATS.tokens_admitted, &STATS.tokens_denied, &STATS.tokens_peeked, &STATS.tokens_forced]
    }

    fn unused(at_ms: i64, flow: Flow) -> Self {
        Self::full(at_ms, flow)
    }

    fn verdict(&mut self, at_ms: i64, flow: Flow, cost: u64) -> Verdict {
        self.decide(at_ms, flow, cost)
    }

    fn take(&mut self, at_ms: i64, flow: Flow, units: i64) {
        self.record(at_ms, flow, units);
    }

    fn unused_after_ms(&self, _at_ms: i64) -> i64 {
        self.reset_after_ms()
    }

    fn write_rule(Flow { rate, per_ms, burst }: Flow, effect: &mut Effect) {
        effect.int(rate.cast_signed());
        effect.int(per_ms.cast_signed());
        effect.int(burst.cast_signed());
    }

    fn read_rule(words: &mut Words) -> Result<Flow, Error> {
        Ok(Flow {
            rate: words.int(1..=UNITS_MAX)?,
            per_ms: words.int(1..=PERIOD_MAX_MS)?,
            burst: words.int(0..=UNITS_MAX)?,
        })
    }
}
