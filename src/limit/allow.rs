//! GW.ALLOW: at most `limit` units in any window of time.

use std::ffi::CStr;

use gateway_core::limit::Verdict;
use gateway_core::top::{Label, Meter};
use gateway_core::window::{Rule, Shape, SlidingWindow};
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

/// A minute, the window of most published rate limits.
const DEFAULT_WINDOW_MS: u64 = 60_000;

pub const COMMAND: Command = Command {
    name: "GW.ALLOW",
    handler: entry!(allow),
    flags: "write deny-oom fast",
    arity: -3,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Admits a request if no window of time then has more than `limit` units, exactly. Replies allowed, limit, \
              remaining, retry_after_ms, reset_after_ms.",
    complexity: "O(1) amortized",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key(),
        Arg::integer("limit"),
        Arg::integer("window-ms").after("WINDOW").optional(),
        Arg::integer("cost").after("COST").optional(),
        Arg::word("fixed", "FIXED").optional(),
        Arg::one_of("mode", &[Arg::word("peek", "PEEK"), Arg::word("force", "FORCE")]).optional(),
    ],
};

#[derive(Clone, Copy)]
enum Opt {
    Window,
    Cost,
    Fixed,
    Peek,
    Force,
}

const OPTIONS: [(&str, Opt); 5] =
    [("WINDOW", Opt::Window), ("COST", Opt::Cost), ("FIXED", Opt::Fixed), ("PEEK", Opt::Peek), ("FORCE", Opt::Force)];

/// GW.ALLOW key limit [WINDOW ms] [COST units] [FIXED] [PEEK | FORCE]
fn allow(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let limit = args.int("limit", 0..=UNITS_MAX)?;
    let mut rule = Rule { limit, window_ms: DEFAULT_WINDOW_MS, shape: Shape::Sliding };
    let (mut cost, mut mode) = (1, Mode::Admit);
    while let Some(option) = args.option(&OPTIONS)? {
        match option {
            Opt::Window => rule.window_ms = args.int("WINDOW", 1..=PERIOD_MAX_MS)?,
            Opt::Cost => cost = args.int("COST", -COST_MAX..=COST_MAX)?,
            Opt::Fixed => rule.shape = Shape::Fixed,
            Opt::Peek => mode.set(Mode::Peek)?,
            Opt::Force => mode.set(Mode::Force)?,
        }
    }
    mode.check_cost(cost)?;

    let usage = Usage::<SlidingWindow> { at_ms: call.now_ms(), units: cost, rule };
    take(call, key, &usage, mode)
}

impl Limiter for SlidingWindow {
    const EVENT: &'static CStr = c"gw.allow";
    const CLOCK_STEP: u8 = b'w';

    fn adopt_clock(&mut self, now_ms: i64) -> bool {
        self.rewind(now_ms)
    }

    fn expiry_ms(&self) -> i64 {
        self.expires_at_ms()
    }
}

impl UnitLimiter for SlidingWindow {
    type Rule = Rule;

    const USAGE: u8 = b'W';
    const LABEL: Label<'static> = Label::new(COMMAND.name.as_bytes());
    const METER: Meter<'static> = Meter::Requests;

    fn counters() -> [&'static Counter; 4] {
        [&STATS.allow_admitted, &STATS.allow_denied, &STATS.allow_peeked, &STATS.allow_forced]
    }

    fn unused(_at_ms: i64, _rule: Rule) -> Self {
        Self::default()
    }

    fn verdict(&mut self, at_ms: i64, rule: Rule, cost: u64) -> Verdict {
        self.decide(at_ms, rule, cost)
    }

    fn take(&mut self, at_ms: i64, rule: Rule, units: i64) {
        match units {
            ..=-1 => self.give_back(at_ms, rule, units.unsigned_abs()),
            _ => self.record(at_ms, rule, units.unsigned_abs()),
        }
    }

    fn unused_after_ms(&self, at_ms: i64) -> i64 {
        self.reset_after_ms(at_ms)
    }

    fn write_rule(Rule { limit, window_ms, shape }: Rule, effect: &mut Effect) {
        effect.int(limit.cast_signed());
        effect.int(window_ms.cast_signed());
        effect.int((shape != Shape::Sliding).into());
    }

    fn read_rule(words: &mut Words) -> Result<Rule, Error> {
        Ok(Rule {
            limit: words.int(0..=UNITS_MAX)?,
            window_ms: words.int(1..=PERIOD_MAX_MS)?,
            shape: match words.int(0..=1u8)? {
                0 => Shape::Sliding,
                _ => Shape::Fixed,
            },
        })
    }
}
