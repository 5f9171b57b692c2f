//! Targets that call the module's commands: what a call may do, it may do with any arguments and any values.

use crate::memory::bounded;
use crate::server::{self, Argv, Outcome, Snapshot};

/// The most calls of one input.
const CALLS_MAX: usize = 48;

/// ASCII's own separators end an argument and a call; an escape stands before a byte that is meant as it is.
const END_OF_ARGUMENT: u8 = 0x1f;
const END_OF_CALL: u8 = 0x1e;
const ESCAPE: u8 = 0x1b;

/// Reads calls from any bytes.
pub fn read(data: &[u8]) -> Vec<Argv> {
    let (mut calls, mut call, mut argument) = (Vec::new(), Argv::new(), Vec::new());
    let mut bytes = data.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            END_OF_ARGUMENT => call.push(std::mem::take(&mut argument)),
            END_OF_CALL => {
                call.push(std::mem::take(&mut argument));
                calls.push(std::mem::take(&mut call));
            }
            ESCAPE => argument.extend(bytes.next()),
            byte => argument.push(byte),
        }
    }
    call.push(argument);
    calls.push(call);
    calls.truncate(CALLS_MAX);
    calls
}

/// Writes calls so that [`read`] reads them.
pub fn write(calls: &[Argv]) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, call) in calls.iter().enumerate() {
        if index > 0 {
            out.push(END_OF_CALL);
        }
        for (index, argument) in call.iter().enumerate() {
            if index > 0 {
                out.push(END_OF_ARGUMENT);
            }
            for &byte in argument {
                if matches!(byte, END_OF_ARGUMENT | END_OF_CALL | ESCAPE) {
                    out.push(ESCAPE);
                }
                out.push(byte);
            }
        }
    }
    out
}

/// Any calls of any commands, public and internal.
pub fn commands(data: &[u8]) {
    server::start();
    run(read(data), |_| true, || {});
}

/// Any effects, as a replica and an AOF get them.
pub fn effects(data: &[u8]) {
    server::start();
    run(read(data), |name| name.starts_with(b"gw._"), || {});
}

/// A value as RESTORE loads it, and then the commands of its type.
pub fn values(data: &[u8]) {
    server::start();
    let Some((&which, bytes)) = data.split_first() else { return };
    let kinds = server::kinds();
    let kind = kinds[usize::from(which) % kinds.len()];
    let Some(slot) = bounded(data.len(), || server::load(kind, bytes)) else { return };
    drop(slot);
    let load = || server::put(b"k", server::load(kind, bytes).expect("what has loaded loads again"));
    load();
    run(uses(&kind.name), |_| true, load);
}

/// Calls that use a value in every way.
fn uses(kind: &str) -> Vec<Argv> {
    let calls: &[&str] = match kind {
        "gw-window" => &["GW.ALLOW k 10", "GW.ALLOW k 9007199254740992 COST 5", "GW.ALLOW k 5 FORCE COST -3"],
        "gw-bucket" => &[
            "GW.TOKENS k 10 1000",
            "GW.TOKENS k 9007199254740992 9007199254740992 PER 31622400000 COST 5",
            "GW.TOKENS k 5 5 FORCE COST -3",
        ],
        "gw-leases" => &[
            "GW.ACQUIRE k 9007199254740992 other TTL 31622400000",
            "GW.RENEW k holder5 TTL 5",
            "GW.RELEASE k holder6",
            "GW.ACQUIRE k 1 another TTL 5 BLOCK 10",
        ],
        "gw-ledger" => &[
            "GW.ADDCOST k 0.5",
            "GW.SPENT k TOTAL",
            "GW.SPENT k HISTORY DAY 30",
            "GW.SPENT k WEEK",
            "GW.WITHINBUDGET k 5 DAY 5 MONTH",
            "GW.ADDCOST k 0.5 ID charge3",
            "GW.RESERVE k 1 1e18",
            "GW.COMMIT k hold3 2",
            "GW.CANCEL k hold4",
            "GW.CREDIT k MONTH 5",
            "GW.COSTCHANGES",
            "GW.COSTSYNC k 5",
            "GW.COSTACK k 5",
            "GW.COSTRESTORE k 1750000000000000 ROWS SPEND TOTAL 0001-01-01 3 SPEND MONTH 2024-01-01 1 SPEND DAY 2024-01-31 1 CREDIT WEEK 2024-01-29 2",
        ],
        "gw-queues" => &[
            "GW.LOGPEEK k COUNT 100",
            "GW.LOGLEN k",
            "GW.LOGSTATS k",
            "GW.LOGPOP k COUNT 2",
            "GW.LOGPOP k COUNT 2 LEASE 1",
            "GW.LOGPUSH k MAXLEN 5 a b c",
            "GW.LOGDEAD k LIST",
            "GW.LOGDEAD k REQUEUE ALL",
            "GW.LOGPOP k COUNT 100 LEASE 5 MAXDELIVERIES 1",
        ],
        "gw-semidx" => &[
            "GW.SEMGET k aaaazzzz META",
            "GW.SEMGET k aaaazzzz THRESHOLD -1 COUNT 100",
            "GW.SEMGET k aaaazzzz THRESHOLD -1 TEXT question GUARD digits GUARD negation",
            "GW.SEMSET k new aaaazzzz value EX 5 TAG t TEXT question DEFAULT 0.1",
            "GW.SEMREJECT k new 0.5",
            "GW.SEMDEL k new id",
            "GW.CACHECLEAR TAG t",
        ],
        "gw-cached" => &[
            "GW.CACHEGET k META",
            "GW.CACHEFETCH k TOUCH",
            "GW.CACHESTATS CATEGORY chat",
            "GW.CACHELIST 0 CATEGORY chat",
            "GW.CACHECLEAR CATEGORY chat",
            "GW.CACHEGET k",
        ],
        _ => &[
            "GW.POLICYLIST k",
            "GW.POLICYLIST k STATS",
            "GW.POLICYLIST k JSON",
            "GW.ADDCOST k 5",
            "GW.ADDCOST k -7 REFUND",
            "GW.ADMIT k LEASE new TTL 5 tokens 9007199254740992 usd 1e18",
            "GW.ADMIT k LEASE small TTL 5 tokens 1 usd 0.1",
            "GW.SETTLE k LEASE l1 tokens 9007199254740992 usd 5",
            "GW.ROUTE k LEASE routed TTL 5 tokens 1 PICK FAST ROWS ALL",
            "GW.ROUTE k WITH 1 other LEASE roomy TTL 5 tokens 1 PICK ROOM ROWS REFUSED",
            "GW.SETTLE k LEASE l5",
            "GW.SETTLE k LEASE l7 FAILED COOLDOWN 31622400000 TOOK 31622400000",
            "GW.POLICYSET k down BREAKER 1 PER 60000 OPEN 1 SHADOW",
            "GW.KEEPALIVE k LEASE l2 TTL 31622400000",
            "GW.POLICYRESET k inflight",
            "GW.POLICYSET k rpm WINDOW 5 PER 31622400000",
            "GW.POLICYPUT k {\"policies\":[]} IDLE 5",
        ],
    };
    let words = |call: &&str| call.split(' ').map(|word| word.as_bytes().to_vec()).collect();
    let describe = ["GW.DESCRIBE k"];
    describe.iter().chain(calls).chain(&["GO 1796014560000"]).chain(calls).chain(&describe).map(words).collect()
}

/// Runs calls of the commands that are meant on a server in which `prepare` was done, and then replays what they replicated.
fn run(calls: Vec<Argv>, is_meant: impl Fn(&[u8]) -> bool, prepare: impl Fn()) {
    let meant = server::commands(is_meant);
    let mut before = server::snapshot();
    for mut argv in calls {
        let count = server::replicated_count();
        server::expire_due();
        server::settle();
        if server::replicated_count() > count {
            before = server::snapshot();
        }
        if own(&argv) {
            before = server::snapshot();
            continue;
        }
        let Some(name) = argv.first_mut() else { continue };
        name.make_ascii_lowercase();
        if !meant.contains(name) {
            // Most changes of a name lead to another command instead of none.
            let which = name.first().map_or(0, |byte| usize::from(*byte));
            name.clone_from(&meant[which % meant.len()]);
        }
        before = checked(&argv, before);
    }
    server::time_out();
    replay(&prepare);
}

/// Runs a command and checks what it has changed.
fn checked(argv: &Argv, before: Snapshot) -> Snapshot {
    let count = server::replicated_count();
    let outcome = server::call(argv);
    let after = server::snapshot();
    let effects = server::replicated_from(count);
    let short = |word: &Vec<u8>| word[..word.len().min(80)].escape_ascii().to_string();
    let shown = || argv.iter().map(short).collect::<Vec<_>>().join(" ");
    if let Outcome::Error(error) = &outcome {
        assert!(effects.is_empty(), "{}: {error}, and was replicated", shown());
    }
    if effects.is_empty() {
        assert!(
            before == after,
            "{}: {outcome:?}, not replicated, and something changed:{}",
            shown(),
            difference(&before, &after)
        );
    }
    let internal = argv[0].starts_with(b"gw._");
    for (_, effect) in &effects {
        let name = effect[0].to_ascii_lowercase();
        assert!(name.starts_with(b"gw._") || effect[0] == b"UNLINK", "{}: replicated as {effect:?}", shown());
        assert!(!internal || effect == argv, "an effect was passed on as another one");
    }
    let count = server::replicated_count();
    server::settle();
    if server::replicated_count() > count { server::snapshot() } else { after }
}

/// Commands that are the server's own, or the test's: `GO ms` sets the clock.
fn own(argv: &Argv) -> bool {
    let [name, rest @ ..] = argv.as_slice() else { return true };
    if name != b"GO" {
        let is_own = server::call_own(argv);
        if is_own {
            server::replicate(argv.clone());
            server::settle();
        }
        return is_own;
    }
    let ms = rest.first().and_then(|text| std::str::from_utf8(text).ok()?.parse::<i64>().ok());
    if let Some(ms) = ms.filter(|ms| (0..=gateway_core::TIME_MAX_MS).contains(ms)) {
        server::go_to(ms);
    }
    true
}

/// What was replicated makes the same keys again, and so do saved, copied, moved and rewritten values.
fn replay(prepare: &impl Fn()) {
    let (same, effects) = (server::snapshot(), server::replicated_from(0));
    server::clear();
    prepare();
    for (at_ms, argv) in effects {
        server::set_clock(at_ms);
        if !server::call_own(&argv) {
            let outcome = server::call(&argv);
            assert_eq!(outcome, Outcome::Replied, "an effect is refused: {argv:?}");
        }
    }
    let replayed = server::snapshot();
    assert!(replayed == same, "a replica differs: {}", difference(&same, &replayed));

    let mut kept = same.clone();
    let mut rewritten = Vec::new();
    for name in same.keys() {
        let commands = server::check_value(name);
        // Entries that were cleared are not written.
        if commands.is_empty() && same[name].kind == "gw-cached" {
            kept.remove(name);
        }
        rewritten.extend(commands);
    }
    assert!(server::snapshot() == same, "looking at values changes them");
    server::clear();
    for argv in rewritten {
        if !server::call_own(&argv) {
            let outcome = server::call(&argv);
            assert_eq!(outcome, Outcome::Replied, "a rewritten AOF is refused: {argv:?}");
        }
    }
    for (name, seen) in &kept {
        let expire = match seen.expires_at_ms {
            Some(at_ms) => vec![b"PEXPIREAT".to_vec(), name.clone(), at_ms.to_string().into_bytes()],
            None => vec![b"PERSIST".to_vec(), name.clone()],
        };
        server::call_own(&expire);
    }
    let loaded = server::snapshot();
    assert!(loaded == kept, "a rewritten AOF differs: {}", difference(&kept, &loaded));
    server::flush();
}

fn difference(one: &Snapshot, other: &Snapshot) -> String {
    let names: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
    // From shortly before the first byte in which two digests differ.
    let digest = |seen: Option<&server::Seen>| seen.map_or(Vec::new(), |seen| seen.digest.clone());
    let shown = |seen: Option<&server::Seen>, from: usize| {
        let seen = seen?;
        let end = seen.digest.len().min(from + 60);
        Some(format!("{} …{} {:?}", seen.kind, seen.digest[from.min(end)..end].escape_ascii(), seen.expires_at_ms))
    };
    let differing = names.into_iter().filter(|name| one.get(*name) != other.get(*name));
    let line = |name: &Vec<u8>| {
        let (one, other) = (one.get(name), other.get(name));
        let alike = digest(one).iter().zip(&digest(other)).take_while(|(one, other)| one == other).count();
        let from = alike.saturating_sub(20);
        format!("\n  {}\n    {:?}\n    {:?}", name.escape_ascii(), shown(one, from), shown(other, from))
    };
    differing.map(line).collect()
}
