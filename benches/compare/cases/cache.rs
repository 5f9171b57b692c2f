//! The cache: one command against the server's own, and against a script.

use crate::case::{Case, Fill, Group, State, filled_with, padded, pair, words};

/// The names of a group's cases: the server's own, the module's, the bare calls and the script's.
type Names = [&'static str; 4];

macro_rules! names {
    ($server:literal, $module:literal, $script:literal, $size:literal) => {
        [
            concat!($server, " ", $size),
            concat!($module, " ", $size),
            concat!("bare ", $module, " ", $size),
            concat!($script, " ", $size),
        ]
    };
}

pub const GET_100_B: Names = names!("GET", "GW.CACHEGET", "Lua cache get", "100 B");
const GET_4_KB: Names = names!("GET", "GW.CACHEGET", "Lua cache get", "4 KB");
pub const GET_64_KB: Names = names!("GET", "GW.CACHEGET", "Lua cache get", "64 KB");
pub const SET_100_B: Names = names!("SETEX", "GW.CACHESET", "Lua cache set", "100 B");
pub const SET_4_KB: Names = names!("SETEX", "GW.CACHESET", "Lua cache set", "4 KB");

/// A chat completion of 4,096 bytes of JSON.
pub const COMPLETION: &str = include_str!("../../../tests/vectors/completion.json");

/// Hits on values of one size.
pub fn get(script: &str, names: Names, value: &str, bar: f64) -> Group {
    let [get, cacheget, bare, lua] = names;
    let plain = || filled_with("SETEX cache:# 86400", value);
    let script = format!("EVALSHA {script} 2 cache:# cache-stats");
    Group {
        requests_max: if value.len() > 10_000 { 40_000 } else { u64::MAX },
        cases: vec![
            Case::new(get, "GET cache:#", "\"{", plain()),
            Case::new(cacheget, "GW.CACHEGET cache:#", "\"{", filled_with("GW.CACHESET cache:#", value)),
            Case::new(bare, "BARE.CACHEGET cache:#", "\"{", filled_with("BARE.CACHESET cache:#", value)),
            Case::new(lua, &script, "\"{", plain()),
        ],
        pairs: vec![pair(cacheget, get, bar), pair(bare, get, None), pair(cacheget, lua, 5.0), pair(get, lua, None)],
    }
}

/// Hits on values of 4 KB, plain and compressed, and misses.
pub fn get_4_kb(script: &str) -> Group {
    let mut group = get(script, GET_4_KB, COMPLETION, 0.95);
    group.cases.extend([
        Case::new("GW.CACHEGET 4 KB compressed", "GW.CACHEGET cache:#", "\"{", compressed(COMPLETION)),
        Case::new("GET miss", "GET cache:#", "nil", State::Empty),
        Case::new("GW.CACHEGET miss", "GW.CACHEGET cache:#", "nil", State::Empty),
    ]);
    group
        .pairs
        .extend([pair("GW.CACHEGET 4 KB compressed", "GET 4 KB", 0.55), pair("GW.CACHEGET miss", "GET miss", None)]);
    group
}

/// Cache entries that are stored compressed.
fn compressed(value: &str) -> State {
    let compress = |from_bytes| {
        let arguments = words(&format!("CONFIG SET gw.cache-compress-bytes {from_bytes}"));
        Fill { arguments, keys: 1, rounds: 1 }
    };
    let State::Filled(mut fills) = filled_with("GW.CACHESET cache:#", value) else { return State::Empty };
    fills.insert(0, compress(1_000));
    fills.push(compress(0));
    State::Filled(fills)
}

pub fn set(script: &str, names: Names, value: &str) -> Group {
    let [setex, cacheset, bare, lua] = names;
    let set = |name, line: &str| Case::new(name, line, "OK", State::Empty).value(value).on_its_own_keys();
    Group {
        requests_max: u64::MAX,
        cases: vec![
            set(setex, "SETEX cache:# 3600"),
            set(cacheset, "GW.CACHESET cache:#"),
            set(bare, "BARE.CACHESET cache:#"),
            set(lua, &format!("EVALSHA {script} 2 cache:# cache-stats 3600")),
        ],
        pairs: vec![pair(cacheset, setex, 0.85), pair(bare, setex, None), pair(cacheset, lua, None)],
    }
}

pub fn json(bytes: usize) -> String {
    padded(r#"{"model":"gpt-4o-mini","content":""#.to_owned(), bytes)
}
