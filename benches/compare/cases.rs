//! The comparisons.

mod admission;
mod cache;
mod top;

pub use cache::COMPLETION;

use crate::case::{
    Case, DAY_MS, FULL, Fill, Group, State, addcost, allow_admitted, allow_denied, filled, padded, pair, set,
    tokens_admitted, tokens_denied, words,
};
use crate::load::{NOISE, RANDOM, RECORD};
use crate::result::Result;
use redis::{Connection, cmd};

/// The SHA-1 names of the scripts.
struct Scripts {
    allow: String,
    tokens: String,
    budget: String,
    charge: String,
    budget_check: String,
    reserve: String,
    commit: String,
    logpush: String,
    cacheget: String,
    cacheset: String,
    admit: String,
    settle: String,
    route: String,
}

impl Scripts {
    fn load(connection: &mut Connection) -> Result<Self> {
        let mut load = |text: &str| -> Result<String> { Ok(cmd("SCRIPT").arg("LOAD").arg(text).query(connection)?) };
        Ok(Self {
            allow: load(include_str!("lua/allow.lua"))?,
            tokens: load(include_str!("lua/tokens.lua"))?,
            budget: load(include_str!("lua/budget.lua"))?,
            charge: load(include_str!("lua/charge.lua"))?,
            budget_check: load(include_str!("lua/budget_check.lua"))?,
            reserve: load(include_str!("lua/reserve.lua"))?,
            commit: load(include_str!("lua/commit.lua"))?,
            logpush: load(include_str!("lua/logpush.lua"))?,
            cacheget: load(include_str!("lua/cacheget.lua"))?,
            cacheset: load(include_str!("lua/cacheset.lua"))?,
            admit: load(include_str!("lua/admit.lua"))?,
            settle: load(include_str!("lua/settle.lua"))?,
            route: load(include_str!("lua/route.lua"))?,
        })
    }
}

/// All groups, those with redis-cell if it is loaded. Loads the scripts.
pub fn groups(cell: bool, connection: &mut Connection) -> Result<Vec<Group>> {
    let scripts = Scripts::load(connection)?;
    let mut groups = vec![
        plain(),
        allow(&scripts.allow),
        tokens(&scripts.tokens),
        budget(&scripts),
        reserve(&scripts),
        logpush(&scripts.logpush),
        logpop(),
        cache::get(&scripts.cacheget, cache::GET_100_B, &cache::json(100), 0.9),
        cache::get_4_kb(&scripts.cacheget),
        cache::get(&scripts.cacheget, cache::GET_64_KB, &cache::json(65_536), 0.95),
        cache::set(&scripts.cacheset, cache::SET_100_B, &cache::json(100)),
        cache::set(&scripts.cacheset, cache::SET_4_KB, COMPLETION),
        admission::admission(&scripts.admit, &scripts.settle),
        admission::routing(&scripts.route),
        admission::plan(),
        top::group(),
    ];
    if cell {
        groups.push(throttle());
    }
    Ok(groups)
}

fn plain() -> Group {
    Group {
        requests_max: u64::MAX,
        cases: vec![
            Case::new("PING", "PING", "PONG", State::Empty),
            set(),
            Case::new("INCR", "INCR incr:#", "", State::Empty).on_its_own_keys(),
        ],
        pairs: vec![pair("PING", "SET", None), pair("INCR", "SET", None)],
    }
}

fn allow(script: &str) -> Group {
    let denied_lua = format!("EVALSHA {script} 1 allow:# {FULL} {DAY_MS}");
    Group {
        requests_max: u64::MAX,
        cases: vec![
            set(),
            allow_admitted(),
            Case::new(
                "Lua window",
                &format!("EVALSHA {script} 1 allow:# 1000000 60000"),
                "[1, 1000000, ",
                State::Empty,
            ),
            allow_admitted().bare("bare GW.ALLOW", &["BARE.ALLOW"], "["),
            allow_denied(),
            allow_denied().bare("bare GW.ALLOW denied", &["BARE.DENIED"], "["),
            Case::new("Lua window denied", &denied_lua, "[0, 60, 0, ", filled(&denied_lua, FULL)),
        ],
        pairs: vec![
            pair("GW.ALLOW", "SET", 0.6),
            pair("GW.ALLOW", "Lua window", 3.0),
            pair("bare GW.ALLOW", "SET", None),
            pair("GW.ALLOW denied", "SET", None),
            pair("bare GW.ALLOW denied", "SET", None),
            pair("GW.ALLOW denied", "Lua window denied", None),
        ],
    }
}

fn tokens(script: &str) -> Group {
    let admitted_lua = format!("EVALSHA {script} 1 tokens:# 1000000 1000000 60000 10");
    let (denied_lua, drain_lua) = (format!("1 {FULL} {DAY_MS} 1"), format!("1 {FULL} {DAY_MS} {FULL}"));
    Group {
        requests_max: u64::MAX,
        cases: vec![
            set(),
            tokens_admitted(),
            Case::new("Lua bucket", &admitted_lua, "[1, ", State::Empty).on_its_own_keys(),
            tokens_denied(),
            Case::new(
                "Lua bucket denied",
                &format!("EVALSHA {script} 1 tokens:# {denied_lua}"),
                "[0, 60, 0, ",
                filled(&format!("EVALSHA {script} 1 tokens:# {drain_lua}"), 1),
            ),
        ],
        pairs: vec![
            pair("GW.TOKENS", "SET", 0.6),
            pair("GW.TOKENS", "Lua bucket", 3.0),
            pair("GW.TOKENS denied", "SET", None),
            pair("GW.TOKENS denied", "Lua bucket denied", None),
        ],
    }
}

/// redis-cell, the best-known limiter module. Its periods are whole seconds, and its bursts are larger by one than the
/// argument.
fn throttle() -> Group {
    let denied = "CL.THROTTLE cell:# 59 1 86400 1";
    let drain = "CL.THROTTLE cell:# 59 1 86400 60";
    let admitted = "CL.THROTTLE cell:# 1000000 1000000 60 10";
    Group {
        requests_max: u64::MAX,
        cases: vec![
            allow_admitted(),
            tokens_admitted(),
            Case::new("CL.THROTTLE", admitted, "[0, ", State::Empty).on_its_own_keys(),
            allow_denied(),
            tokens_denied(),
            Case::new("CL.THROTTLE denied", denied, "[1, 60, 0, ", filled(drain, 1)),
        ],
        pairs: vec![
            pair("GW.ALLOW", "CL.THROTTLE", 1.8),
            pair("GW.TOKENS", "CL.THROTTLE", 1.8),
            pair("GW.ALLOW denied", "CL.THROTTLE denied", 1.8),
            pair("GW.TOKENS denied", "CL.THROTTLE denied", 1.8),
        ],
    }
}

/// Without the module, one script checks, adds and expires, since in two round trips these would race. The module's two
/// commands are compared with it, and each of them with a script for its half.
fn budget(scripts: &Scripts) -> Group {
    const MONTH_S: u32 = 2_678_400;
    let Scripts { budget, charge, budget_check, .. } = scripts;
    let charged = || filled("GW.ADDCOST budget:# 12.5013755", 1);
    let spent = "[1, \"MONTH\", \"100\", \"12.5013755\", ";
    let within = |name| Case::new(name, "GW.WITHINBUDGET budget:# 100", spent, charged());
    Group {
        requests_max: u64::MAX,
        cases: vec![
            set(),
            addcost(),
            addcost().bare("bare GW.ADDCOST", &["BARE.ADDCOST"], "\""),
            Case::new("GW.CREDIT", "GW.CREDIT budget:# MONTH 0.5", "\"", State::Empty).on_its_own_keys(),
            within("GW.WITHINBUDGET"),
            within("").bare("bare GW.WITHINBUDGET", &["BARE.WITHINBUDGET"], "["),
            Case::new("GW.WITHINBUDGET over", "GW.WITHINBUDGET budget:# 12.5", "[0, \"MONTH\", ", charged()),
            Case::new(
                "Lua check + add + expire",
                &format!("EVALSHA {budget} 1 budget:# 1000000 0.0013755 {MONTH_S}"),
                "[1, ",
                State::Empty,
            )
            .on_its_own_keys(),
            Case::new(
                "Lua add + expire",
                &format!("EVALSHA {charge} 1 budget:# 0.0013755 {MONTH_S}"),
                "\"0.",
                State::Empty,
            )
            .on_its_own_keys(),
            Case::new(
                "Lua check",
                &format!("EVALSHA {budget_check} 1 budget:# 100"),
                "[1, \"100\", ",
                filled(&format!("SET budget:# 12.5013755 EX {MONTH_S}"), 1),
            ),
        ],
        pairs: vec![
            pair("GW.ADDCOST", "SET", 0.75),
            pair("GW.ADDCOST", "Lua check + add + expire", 4.0),
            pair("GW.ADDCOST", "Lua add + expire", None),
            pair("bare GW.ADDCOST", "SET", None),
            pair("GW.CREDIT", "GW.ADDCOST", None),
            pair("GW.WITHINBUDGET", "SET", 0.9),
            pair("bare GW.WITHINBUDGET", "SET", None),
            pair("GW.WITHINBUDGET", "Lua check + add + expire", 4.0),
            pair("GW.WITHINBUDGET", "Lua check", None),
            pair("GW.WITHINBUDGET over", "SET", None),
        ],
    }
}

/// A hold and its commit, counted as one: pairs per second are compared.
fn reserve(scripts: &Scripts) -> Group {
    const DAY_S: u32 = 86_400;
    const TTL_MS: u32 = 60_000;
    const PAIR: &str = "GW.RESERVE + GW.COMMIT";
    const BARE_PAIR: &str = "bare GW.RESERVE + GW.COMMIT";
    const LUA_PAIR: &str = "Lua reserve + commit";
    let Scripts { reserve, commit, .. } = scripts;
    let keys = "spent:# holds:# held:#";
    let reserve_line = format!("GW.RESERVE spent:# 0.0025 1000000 MONTH TTL {TTL_MS} ID request:@");
    let both = || Case::new(PAIR, &reserve_line, "[1, ", State::Empty).then("GW.COMMIT spent:# request:@ 0.0013755");
    Group {
        requests_max: 200_000,
        cases: vec![
            set(),
            both(),
            both().bare(BARE_PAIR, &["BARE.RESERVE", "BARE.COMMIT"], "["),
            Case::new(
                LUA_PAIR,
                &format!("EVALSHA {reserve} 3 {keys} request:@ 0.0025 1000000 {TTL_MS}"),
                "[1, ",
                State::Empty,
            )
            .then(&format!("EVALSHA {commit} 4 {keys} done:@ request:@ 0.0013755 {DAY_S}")),
        ],
        pairs: vec![pair(PAIR, "SET", 0.35), pair(BARE_PAIR, "SET", None), pair(PAIR, LUA_PAIR, 4.0)],
    }
}

fn logpush(script: &str) -> Group {
    const FULL_RECORDS: u64 = 1_000;
    const RUN_RECORDS: u64 = 200_000;
    let bounds = "MAXLEN 1000000 MAXBYTES 1000000000";
    let record = log_record();
    let push = |name, line: &str, expected| Case::new(name, line, expected, State::Empty).value(&record);
    // A single queue, which is full: each push drops the oldest record.
    let full = |mut case: Case| {
        case.state = case.fill(1, FULL_RECORDS);
        case
    };
    Group {
        requests_max: RUN_RECORDS,
        cases: vec![
            push("RPUSH 1 KB", "RPUSH logs", "1"),
            push("GW.LOGPUSH 1 KB", &format!("GW.LOGPUSH logs {bounds} RECORDS"), "[1, 0]"),
            // With ids that do not repeat, which only this program's own generator sends.
            push("GW.LOGPUSH ID 1 KB", &format!("GW.LOGPUSH logs {bounds} ID push:@ RECORDS"), "[1, 0]"),
            push("Lua push 1 KB", &format!("EVALSHA {script} 1 logs 1000000"), "[1, 0]"),
            push("GW.LOGPUSH JSON 1 KB", &format!("GW.LOGPUSH logs {bounds} JSON RECORDS"), "[1, 0]"),
            full(push("GW.LOGPUSH full", &format!("GW.LOGPUSH logs MAXLEN {FULL_RECORDS} RECORDS"), "[1000, 1]")),
            full(push("Lua push full", &format!("EVALSHA {script} 1 logs {FULL_RECORDS}"), "[1000, 1]")),
        ],
        pairs: vec![
            pair("GW.LOGPUSH 1 KB", "RPUSH 1 KB", 0.8),
            pair("GW.LOGPUSH 1 KB", "Lua push 1 KB", 2.0),
            pair("GW.LOGPUSH ID 1 KB", "RPUSH 1 KB", None),
            pair("GW.LOGPUSH JSON 1 KB", "RPUSH 1 KB", None),
            pair("GW.LOGPUSH full", "Lua push full", None),
        ],
    }
}

/// Pops of 100 records: text, which is stored compressed, and random bytes, which are not.
fn logpop() -> Group {
    const POPS: u64 = 2_000;
    // With some to spare, because redis-benchmark sends whole pipelines.
    let filled = |push: &str, record: &str| {
        let fill = Fill { arguments: words(&format!("{push} {record}")), keys: 100 * (POPS + 800), rounds: 1 };
        State::Drained(vec![fill])
    };
    let bounds = "MAXLEN 1000000 MAXBYTES 1000000000";
    let push = format!("GW.LOGPUSH logs {bounds} RECORDS");
    Group {
        requests_max: POPS,
        cases: vec![
            Case::new("LPOP of 100", "LPOP logs 100", "[", filled("RPUSH logs", RECORD)),
            Case::new("GW.LOGPOP of 100", "GW.LOGPOP logs COUNT 100", "[", filled(&push, RECORD)),
            Case::new("LPOP of 100, noise", "LPOP logs 100", "[", filled("RPUSH logs", NOISE)),
            Case::new("GW.LOGPOP of 100, noise", "GW.LOGPOP logs COUNT 100", "[", filled(&push, NOISE)),
        ],
        pairs: vec![
            pair("GW.LOGPOP of 100", "LPOP of 100", 0.6),
            pair("GW.LOGPOP of 100, noise", "LPOP of 100, noise", 1.0),
        ],
    }
}

/// A log record of 1,024 bytes of JSON, different each time.
fn log_record() -> String {
    padded(
        format!(
            r#"{{"id":"{RANDOM}","time_ms":{},"api_key":"sk-team-07","model":"gpt-4o-mini","status":"success","#,
            1_770_000_000_000_u64
        ) + r#""cost":"0.00007455","usage":{"prompt_tokens":374,"completion_tokens":44},"response":""#,
        1_024,
    )
}
