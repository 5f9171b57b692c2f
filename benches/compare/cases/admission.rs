//! Admission: one call against the several that it replaces, and against a script.

use crate::case::{Case, Fill, Group, KEYS, State, allow_admitted, pair, set, words};

/// Limits that are never reached.
const RPM: &str = "rpm WINDOW 1000000 PER 60000";
const TPM: &str = "tpm BUCKET 100000000 100000000 PER 60000 METER tokens";
const IN_FLIGHT: &str = "inflight INFLIGHT 1000000";
const BUDGET: &str = "spend BUDGET 1000000 MONTH";

/// Accounts with policies.
fn accounts(keys: &[&str], policies: &[&str]) -> State {
    let set = |key: &&str| {
        let fills = policies.iter().map(|policy| words(&format!("GW.POLICYSET {key} {policy}")));
        fills.map(|arguments| Fill { arguments, keys: KEYS, rounds: 1 }).collect::<Vec<_>>()
    };
    State::Anew(keys.iter().flat_map(set).collect())
}

pub fn admission(admit_script: &str, settle_script: &str) -> Group {
    let three = || accounts(&["k:#"], &[RPM, TPM, IN_FLIGHT]);
    let four = |keys: &[&str]| accounts(keys, &[RPM, TPM, IN_FLIGHT, BUDGET]);
    let bucket = "100000000 100000000 60000";
    let admit = |lease: &str| format!("GW.ADMIT k:# LEASE {lease} TTL 600000 tokens 100");
    let admit_without_rows = admit("l:#") + " ROWS NONE";
    let admit_lua = |lease: &str| {
        format!("EVALSHA {admit_script} 4 w:# b:# l:# t:# {lease} 600000 100 1000000 60000 {bucket} 1000000")
    };
    let settle_lua = format!("EVALSHA {settle_script} 3 b:# l:# t:# l:@ 90 {bucket}");
    let admitted = "[1, 0, [[";
    let chain = "GW.ADMIT k:# WITH 2 u:# t:# LEASE l:# TTL 600000 tokens 100 usd 0.0013755".to_owned();
    // Measured alone, GW.ADMIT gets a random lease id, from so large a range that an account hardly ever gets one
    // twice.
    Group {
        requests_max: 200_000,
        cases: vec![
            set(),
            allow_admitted(),
            Case::new("GW.ADMIT", &admit("l:#"), admitted, three()),
            Case::new("", &admit("l:#"), "", State::Empty).bare("bare GW.ADMIT", &["BARE.ADMIT"], admitted),
            Case::new("GW.ADMIT ROWS NONE", &admit_without_rows, "[1, 0, []]", three()),
            Case::new("", &admit_without_rows, "", State::Empty).bare(
                "bare GW.ADMIT ROWS NONE",
                &["BARE.ADMITNONE"],
                "[1, 0, []]",
            ),
            Case::new("Lua admit", &admit_lua("l:#"), admitted, State::Empty),
            admit_and_settle(),
            Case::new("", &admit("l:@"), "", State::Empty).then("GW.SETTLE k:# LEASE l:@ tokens 90").bare(
                "bare GW.ADMIT + GW.SETTLE",
                &["BARE.ADMIT", "BARE.SETTLE"],
                admitted,
            ),
            Case::new("Lua admit + settle", &admit_lua("l:@"), admitted, State::Empty).then(&settle_lua),
            Case::new(
                "GW.ADMIT 4 policies",
                "GW.ADMIT k:# LEASE l:# TTL 600000 tokens 100 usd 0.0013755",
                admitted,
                four(&["k:#"]),
            ),
            Case::new("the four calls", "GW.ALLOW rpm:# 1000000", "[1, ", State::Empty)
                .then("GW.TOKENS tpm:# 100000000 100000000 COST 100")
                .then("GW.ACQUIRE inflight:# 1000000 l:@ TTL 600000")
                .then("GW.RESERVE spend:# 0.0013755 1000000 ID l:@ TTL 600000"),
            Case::new("GW.ADMIT 3 accounts of 4 policies", &chain, admitted, four(&["k:#", "u:#", "t:#"])),
            Case::new("", &chain, "", State::Empty).bare(
                "bare GW.ADMIT 3 accounts of 4 policies",
                &["BARE.ADMIT12"],
                admitted,
            ),
        ],
        pairs: vec![
            pair("GW.ADMIT", "SET", 0.45),
            pair("bare GW.ADMIT", "SET", None),
            pair("GW.ADMIT", "Lua admit", 5.0),
            pair("GW.ADMIT ROWS NONE", "GW.ADMIT", 1.35),
            pair("bare GW.ADMIT ROWS NONE", "GW.ADMIT", None),
            // Two commands, each at 0.45 of SET.
            pair("GW.ADMIT + GW.SETTLE", "SET", 0.225),
            pair("bare GW.ADMIT + GW.SETTLE", "SET", None),
            pair("GW.ADMIT + GW.SETTLE", "Lua admit + settle", 5.0),
            pair("GW.ADMIT 4 policies", "the four calls", 2.0),
            // At most the cost of three.
            pair("GW.ADMIT 3 accounts of 4 policies", "GW.ALLOW", 0.34),
            pair("bare GW.ADMIT 3 accounts of 4 policies", "GW.ALLOW", None),
        ],
    }
}

/// Eight targets of a call.
const TARGETS: [&str; 8] = ["k:#", "l:#", "m:#", "n:#", "o:#", "p:#", "q:#", "r:#"];

fn route_line(pick: &str) -> String {
    let [first, others @ ..] = TARGETS;
    format!("GW.ROUTE {first} WITH {} {} LEASE a:# TTL 600000 tokens 100 PICK {pick}", others.len(), others.join(" "))
}

/// All of them are full.
pub fn route_refused() -> Case {
    let full = accounts(&TARGETS, &[RPM, TPM, "inflight INFLIGHT 0"]);
    Case::new("GW.ROUTE refused by 8", &route_line("FIRST"), "[nil, ", full)
}

pub fn admit_and_settle() -> Case {
    let state = accounts(&["k:#"], &[RPM, TPM, IN_FLIGHT]);
    Case::new("GW.ADMIT + GW.SETTLE", "GW.ADMIT k:# LEASE l:@ TTL 600000 tokens 100", "[1, 0, [[", state)
        .then("GW.SETTLE k:# LEASE l:@ tokens 90")
}

pub fn admit_denied() -> Case {
    let full = accounts(&["k:#"], &[RPM, TPM, "inflight INFLIGHT 0"]);
    Case::new("GW.ADMIT denied", "GW.ADMIT k:# LEASE l:# TTL 600000 tokens 100", "[0, ", full)
}

/// One of eight targets of three policies each, against an admission by one such account, and against a script.
pub fn routing(script: &str) -> Group {
    let route = |name, pick| Case::new(name, &route_line(pick), "[\"", accounts(&TARGETS, &[RPM, TPM, IN_FLIGHT]));
    let route_lua = |name, pick: &str| {
        let keys = TARGETS.map(|target| ["w", "b", "l", "t"].map(|part| format!("{part}{target}")).join(" ")).join(" ");
        let limits = "1000000 60000 100000000 100000000 60000 1000000";
        let line = format!("EVALSHA {script} 32 {keys} a:# 600000 100 {limits} {pick}");
        Case::new(name, &line, "[\"", State::Empty)
    };
    let admit = "GW.ADMIT k:# LEASE a:# TTL 600000 tokens 100 ROWS NONE";
    Group {
        requests_max: 200_000,
        cases: vec![
            Case::new("GW.ADMIT ROWS NONE", admit, "[1, 0, []]", accounts(&["k:#"], &[RPM, TPM, IN_FLIGHT])),
            route("GW.ROUTE FIRST of 8", "FIRST"),
            route("GW.ROUTE ROOM of 8", "ROOM"),
            route("GW.ROUTE FAST of 8", "FAST"),
            route_refused(),
            route_lua("Lua route FIRST of 8", "FIRST"),
            route_lua("Lua route ROOM of 8", "ROOM"),
            route_lua("Lua route FAST of 8", "FAST"),
        ],
        pairs: vec![
            pair("GW.ROUTE FIRST of 8", "GW.ADMIT ROWS NONE", None),
            pair("GW.ROUTE ROOM of 8", "GW.ADMIT ROWS NONE", None),
            pair("GW.ROUTE FAST of 8", "GW.ADMIT ROWS NONE", None),
            pair("GW.ROUTE refused by 8", "GW.ADMIT ROWS NONE", None),
            pair("GW.ROUTE FIRST of 8", "Lua route FIRST of 8", None),
            pair("GW.ROUTE ROOM of 8", "Lua route ROOM of 8", None),
            pair("GW.ROUTE FAST of 8", "Lua route FAST of 8", None),
        ],
    }
}

/// A plan of three policies from one document, against a call for each of them.
pub fn plan() -> Group {
    const DOCUMENT: &str = r#"{"policies":[{"name":"rpm","kind":"window","limit":1000000,"per_ms":60000},{"name":"tpm","kind":"bucket","rate":100000000,"burst":100000000,"per_ms":60000,"meter":"tokens"},{"name":"inflight","kind":"inflight","max":1000000}]}"#;
    let calls = Case::new("three GW.POLICYSET", &format!("GW.POLICYSET k:# {RPM}"), "", State::Empty)
        .then(&format!("GW.POLICYSET k:# {TPM}"))
        .then(&format!("GW.POLICYSET k:# {IN_FLIGHT}"));
    Group {
        requests_max: 200_000,
        cases: vec![
            set(),
            Case::new("GW.POLICYPUT of three", "GW.POLICYPUT k:#", "1", State::Empty).value(DOCUMENT),
            calls,
        ],
        pairs: vec![
            pair("GW.POLICYPUT of three", "SET", None),
            pair("GW.POLICYPUT of three", "three GW.POLICYSET", None),
        ],
    }
}
