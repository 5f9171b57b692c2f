//! GW.ALLOW: at most `limit` units in any window of time.

use gateway_core::limit::Verdict;
use gateway_core::stored::Stored as _;
use gateway_core::window::{Rule, SlidingWindow};
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

/// A minute: what rate limits are mostly quoted in.
const DEFAULT_WINDOW_MS: u64 = 60_000;

pub const COMMAND: Command = Command {
    name: "GW.ALLOW",
    handler: entry!(allow),
    flags: "write deny-oom fast",
    arity: -3,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Admits a request if at most `limit` units fall into any window of time, exactly. Replies allowed, limit, \
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
    let mut rule = Rule { limit, window_ms: DEFAULT_WINDOW_MS, fixed: false };
    let (mut cost, mut mode) = (1, Mode::Admit);
    while let Some(option) = args.option(&OPTIONS)? {
        match option {
            Opt::Window => rule.window_ms = args.int("WINDOW", 1..=PERIOD_MAX_MS)?,
            Opt::Cost => cost = args.int("COST", -COST_MAX..=COST_MAX)?,
            Opt::Fixed => rule.fixed = true,
            Opt::Peek => mode.set(Mode::Peek)?,
            Opt::Force => mode.set(Mode::Force)?,
        }
    }
    mode.check_cost(cost)?;

    let now_ms = call.now_ms();
    let usage = Usage { at_ms: now_ms, units: cost, rule };
    let (verdict, effect) = judge(&mut call.open(key)?, &usage, mode);
    if let Some(effect) = effect {
        call.changed(key, c"gw.allow", &effect);
    }
    reply(call, &verdict);
    Ok(())
}

/// Decides and records, and says what replicas are to be told.
fn judge(opened: &mut Opened<SlidingWindow>, usage: &Usage, mode: Mode) -> (Verdict, Option<Effect>) {
    let Usage { at_ms, units, rule } = *usage;
    let decide = |opened: &mut Opened<SlidingWindow>, cost: u64| match opened.get() {
        Some(window) => window.decide(at_ms, rule, cost),
        None => SlidingWindow::default().decide(at_ms, rule, cost),
    };
    let cost = units.unsigned_abs();
    match mode {
        Mode::Peek => {
            STATS.allow_peeked.add(1);
            (decide(opened, cost), None)
        }
        Mode::Force => {
            STATS.allow_forced.add(1);
            let effect = usage.record(opened).then(|| usage.effect());
            (Verdict { allowed: true, retry_after_ms: 0, ..decide(opened, 0) }, effect)
        }
        Mode::Admit => {
            let mut verdict = decide(opened, cost);
            if !verdict.allowed {
                STATS.allow_denied.add(1);
                return (verdict, denied(opened, at_ms));
            }
            STATS.allow_admitted.add(1);
            if !usage.record(opened) {
                return (verdict, None);
            }
            verdict.remaining -= cost;
            if let Some(window) = opened.get() {
                verdict.reset_after_ms = window.reset_after_ms(at_ms);
            }
            (verdict, Some(usage.effect()))
        }
    }
}

/// Units taken or given back: what a replica is told.
struct Usage {
    at_ms: i64,
    /// Negative where they are given back.
    units: i64,
    rule: Rule,
}

impl Usage {
    /// Returns whether that changed anything.
    fn record(&self, opened: &mut Opened<SlidingWindow>) -> bool {
        let units = self.units.unsigned_abs();
        let empty = |window: &mut SlidingWindow| window.decide(self.at_ms, self.rule, 0).reset_after_ms == 0;
        if self.units == 0 || (self.units < 0 && opened.get().is_none_or(empty)) {
            return false;
        }
        change(opened, SlidingWindow::default, |window| match self.units {
            ..=-1 => window.give_back(self.at_ms, self.rule, units),
            _ => window.record(self.at_ms, self.rule, units),
        });
        true
    }

    fn effect(&self) -> Effect {
        let Rule { limit, window_ms, fixed } = self.rule;
        Effect::of(EFFECT_NAME, b'W', [self.at_ms, self.units, limit as i64, window_ms as i64, fixed.into()])
    }

    fn parse(mut words: Words) -> Result<Self, Error> {
        let (at_ms, units) = (words.int(0..=TIME_MAX_MS)?, words.int(-COST_MAX..=COST_MAX)?);
        let rule = Rule {
            limit: words.int(0..=UNITS_MAX)?,
            window_ms: words.int(1..=PERIOD_MAX_MS)?,
            fixed: words.int(0..=1u8)? == 1,
        };
        words.end().map(|()| Self { at_ms, units, rule })
    }
}

pub(super) fn apply(call: &mut Call, key: Key, words: Words) -> Outcome {
    let usage = Usage::parse(words)?;
    usage.record(&mut call.open(key)?);
    Ok(())
}

impl Limiter for SlidingWindow {
    const REWIND: u8 = b'w';

    fn rewind(&mut self, now_ms: i64) -> bool {
        self.rewind(now_ms)
    }

    fn expires_at_ms(&self) -> i64 {
        self.expires_at_ms()
    }
}

static REGISTRATION: Registration = Registration::new();

impl Value for SlidingWindow {
    const NAME: &'static str = "gw-window";

    fn registration() -> &'static Registration {
        &REGISTRATION
    }

    fn describe(&mut self, now_ms: i64, reply: &Reply) {
        let state = self.state(now_ms);
        reply.map(8).bytes("type").bytes(if state.rule.fixed { "fixed-window" } else { "sliding-window" });
        reply.bytes("limit").count(state.rule.limit).bytes("window_ms").count(state.rule.window_ms);
        reply.bytes("tick_ms").count(state.rule.tick_ms()).bytes("used").count(state.used);
        for (name, at_ms) in [("oldest_ms", state.oldest_ms), ("newest_ms", state.newest_ms)] {
            reply.bytes(name);
            match at_ms {
                Some(at_ms) => reply.int(at_ms),
                None => reply.null(),
            };
        }
        reply.bytes("bytes").count(self.total_bytes() as u64);
    }
}
