//! GW.ALLOW: at most `limit` units in any window of time.

use gateway_core::codec::{Corrupt, Reader, Writer};
use gateway_core::window::SlidingWindow;
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

/// A minute: what rate limits are mostly quoted in.
const DEFAULT_WINDOW_MS: u64 = 60_000;

pub const COMMAND: Command = Command {
    name: "GW.ALLOW",
    handler: entry!(allow),
    flags: "write deny-oom fast",
    arity: -3,
    keys: Keys::One(Access::ReadUpdate),
    summary:
        "Admits a request if at most `limit` units fall into any window of time, exactly. Replies allowed, limit, \
              remaining, retry_after_ms, reset_after_ms.",
    complexity: "O(1) amortized",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key(),
        Arg::integer("limit"),
        Arg::integer("window-ms").after("WINDOW").optional(),
        Arg::integer("cost").after("COST").optional(),
        Arg::word("peek", "PEEK").optional(),
    ],
};

#[derive(Clone, Copy)]
enum Opt {
    Window,
    Cost,
    Peek,
}

const OPTIONS: [(&str, Opt); 3] = [("WINDOW", Opt::Window), ("COST", Opt::Cost), ("PEEK", Opt::Peek)];

/// GW.ALLOW key limit [WINDOW ms] [COST units] [PEEK]
fn allow(call: &Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let limit = args.int("limit", 0..=UNITS_MAX)?;
    let (mut window_ms, mut cost, mut mode) = (DEFAULT_WINDOW_MS, 1, Mode::Admit);
    while let Some(option) = args.option(&OPTIONS)? {
        match option {
            Opt::Window => window_ms = args.int("WINDOW", 1..=PERIOD_MAX_MS)?,
            Opt::Cost => cost = args.int("COST", 0..=UNITS_MAX)?,
            Opt::Peek => mode = Mode::Peek,
        }
    }

    let now_ms = call.now_ms();
    let mut opened = call.open::<SlidingWindow>(key)?;
    let decide = |window: &mut SlidingWindow| window.decide(now_ms, limit, window_ms, cost);
    let mut verdict = match opened.get() {
        Some(window) => decide(window),
        None => decide(&mut SlidingWindow::default()),
    };
    if mode == Mode::Peek {
        STATS.allow_peeked.add(1);
    } else if !verdict.allowed {
        STATS.allow_denied.add(1);
    } else {
        STATS.allow_admitted.add(1);
        if cost > 0 {
            let admission = Admission { at_ms: now_ms, units: cost, limit, window_ms };
            admission.record(&mut opened);
            verdict.remaining -= cost;
            if let Some(window) = opened.get() {
                verdict.reset_after_ms = window.reset_after_ms(now_ms);
            }
            call.changed(key, c"gw.allow", &admission.effect());
        }
    }
    reply(call, &verdict);
    Ok(())
}

/// What an admission is to a replica.
struct Admission {
    at_ms: i64,
    units: u64,
    limit: u64,
    window_ms: u64,
}

impl Admission {
    fn record(&self, opened: &mut Opened<SlidingWindow>) {
        let window = opened.get_or_insert_with(SlidingWindow::default);
        let before_ms = window.expires_at_ms();
        window.record(self.at_ms, self.limit, self.window_ms, self.units);
        let expires_at_ms = window.expires_at_ms();
        if expires_at_ms != before_ms {
            opened.expire_at(expires_at_ms);
        }
    }

    fn effect(&self) -> Effect {
        let [units, limit, window_ms] = [self.units, self.limit, self.window_ms].map(|value| value as i64);
        Effect::of(EFFECT_NAME, b'W', [self.at_ms, units, limit, window_ms])
    }

    fn parse(mut words: Words) -> Result<Self, Error> {
        let admission = Self {
            at_ms: words.int(0..=TIME_MAX_MS)?,
            units: words.int(1..=UNITS_MAX)?,
            limit: words.int(0..=UNITS_MAX)?,
            window_ms: words.int(1..=PERIOD_MAX_MS)?,
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

impl Value for SlidingWindow {
    const NAME: &'static str = "gw-window";
    const ENCODING: i32 = 0;

    fn registration() -> &'static Registration {
        &REGISTRATION
    }

    fn save(&self, out: &mut dyn Writer) {
        self.save(out);
    }

    fn load(from: &mut dyn Reader, _encoding: i32) -> Result<Self, Corrupt> {
        SlidingWindow::load(from)
    }

    fn memory_bytes(&self) -> usize {
        self.memory_bytes()
    }

    fn allocations(&self) -> usize {
        self.allocations()
    }

    fn buffers(&mut self, from: usize, visit: &mut dyn FnMut(&mut Vec<u8>) -> bool) -> Option<usize> {
        self.buffers(from, visit)
    }

    fn describe(&mut self, now_ms: i64, reply: &Reply) {
        let state = self.state(now_ms);
        let bytes = size_of::<Self>() + self.memory_bytes();
        reply.map(8).bytes("type").bytes("sliding-window");
        reply.bytes("limit").count(state.limit).bytes("window_ms").count(state.window_ms);
        reply.bytes("tick_ms").count(state.tick_ms).bytes("used").count(state.used);
        for (name, at_ms) in [("oldest_ms", state.oldest_ms), ("newest_ms", state.newest_ms)] {
            reply.bytes(name);
            match at_ms {
                Some(at_ms) => reply.int(at_ms),
                None => reply.null(),
            };
        }
        reply.bytes("bytes").count(bytes as u64);
    }
}
