//! A server whose memory is full and that may evict nothing: what grows is refused and changes nothing, everything else
//! does what its page says. On a server alone and on a node of a cluster.

use crate::commands::{Access, PUBLIC, Public};
use crate::support::{KEYS, command, fill, run, state};
use gw_testkit::{Options, Server, await_in_sync, reply, reply_line};
use std::collections::BTreeSet;

const FULL: &str = "CONFIG SET maxmemory-policy noeviction maxmemory 1";

fn servers() -> [Options; 2] {
    [Server::options(), Server::options().cluster()]
}

/// A call on keys that all are in one slot.
fn call_on(public: &Public, key: &str) -> String {
    public.call_on(key).replace(" k2", &format!(" {key}2")).replace(" k3", &format!(" {key}3"))
}

#[test]
fn commands_that_grow_are_refused_and_change_nothing() {
    for options in servers() {
        let server = options.start().unwrap();
        let mut client = server.connect().unwrap();
        fill(&mut client);
        run(&mut client, FULL);
        let before = state(&mut client);
        let growing = || PUBLIC.iter().filter(|public| public.access == Access::Grows);
        for public in growing() {
            for key in ["new"].into_iter().chain(KEYS.map(|(key, _)| key)) {
                // The other keys are in its slot.
                let tag = format!("{{{key}}}");
                let words = call_on(public, &tag).replacen(&tag, key, 1);
                let refused = run(&mut client, &words);
                assert!(refused.starts_with("OOM "), "{words}: {refused}");
            }
            // In a transaction and in a script.
            let words = call_on(public, "{k}");
            let [_, queued, exec] = [command("MULTI"), command(&words), command("EXEC")]
                .map(|command| reply_line(command.query(&mut client)));
            assert!(queued.starts_with("OOM ") && exec.starts_with("EXECABORT "), "{words}: {queued}, {exec}");
            let arguments: Vec<String> = words.split(' ').map(|word| format!("'{word}'")).collect();
            let script = format!("return redis.call({})", arguments.join(","));
            let refused = reply!(client, "EVAL", &script, 1, "{k}");
            assert!(refused.starts_with("OOM "), "{script}: {refused}");
        }
        assert_eq!(state(&mut client), before);
        // With memory again, all of them are accepted.
        run(&mut client, "CONFIG SET maxmemory 0");
        for public in growing() {
            run(&mut client, "DEL {k}");
            let accepted = run(&mut client, &call_on(public, "{k}"));
            assert!(!accepted.starts_with("OOM "), "{}: {accepted}", public.name);
        }
    }
}

/// What is there before the memory is full.
const BEFORE: [&str; 18] = [
    "GW.ACQUIRE {k}slots 2 holder TTL 600000",
    "GW.RESERVE {k}ledger 1 100 TOTAL ID hold",
    "GW.RESERVE {k}ledger 1 100 TOTAL ID other",
    "GW.POLICYSET {k}account money BUDGET 100 TOTAL",
    "GW.POLICYSET {k}account rpm WINDOW 100 PER 60000",
    "GW.ADMIT {k}account LEASE lease TTL 600000 usd 1",
    "GW.LOGPUSH {k}queue RECORDS a b c d e f",
    "GW.LOGPUSH {k}dead RECORDS a",
    "GW.LOGPOP {k}dead LEASE 1 MAXDELIVERIES 1",
    "GW.CACHESET {k}entry value PX 600000 CATEGORY chat TAG tag",
    "GW.CACHESET {k}other value PX 600000 CATEGORY chat TAG tag",
    "GW.CACHESET {k}third value PX 600000 CATEGORY embed",
    "GW.SEMSET {k}index one aaaazzzz value",
    "GW.SEMSET {k}index two zzzzaaaa value",
    "GW.LOGPUSH {k}plain RECORDS a b",
    "GW.ADDCOST {k}spend 5",
    "GW.ADDCOST {k}synced 5",
    "GW.ADDCOST {k}acked 5",
];

/// Calls in this order with full memory, and how their replies begin. `<batch>`, `<token>` and `<version>` stand for what an
/// earlier reply says.
const WORKING: [(&str, &str); 53] = [
    ("GW.RENEW {k}slots holder TTL 700000", "1"),
    ("GW.RELEASE {k}slots holder", "1"),
    ("GW.RELEASE {k}slots holder", "0"),
    ("GW.COMMIT {k}ledger hold 2", r#"[1, "committed", "2", 1, "2"]"#),
    ("GW.CANCEL {k}ledger other", r#"[1, "cancelled", "0", 0, "2"]"#),
    ("GW.WITHINBUDGET {k}ledger 100 TOTAL", r#"[1, "TOTAL", "100", "2", "0", "98", -1]"#),
    ("GW.SPENT {k}ledger", r#""2""#),
    ("GW.KEEPALIVE {k}account LEASE lease TTL 700000", "1"),
    ("GW.SETTLE {k}account LEASE lease usd 3", r#""SETTLED""#),
    ("GW.SPENT {k}account", r#""3""#),
    ("GW.POLICYLIST {k}account", "[["),
    ("GW.POLICYRESET {k}account rpm", "1"),
    ("GW.POLICYDEL {k}account rpm", "1"),
    ("GW.DESCRIBE {k}account", "["),
    ("GW.LOGPOP {k}queue COUNT 2 LEASE 600000", r#"["<batch>", ["a", "b"], 1]"#),
    ("GW.LOGEXTEND {k}queue <batch> LEASE 700000", "1"),
    ("GW.LOGNACK {k}queue <batch> DEAD RECORD 0", "1"),
    ("GW.LOGNACK {k}queue <batch>", "1"),
    ("GW.LOGPOP {k}queue LEASE 600000", r#"["<batch>", ["b"], 2]"#),
    ("GW.LOGACK {k}queue <batch> DELIVERY 2", "1"),
    ("GW.LOGDEAD {k}queue LIST", "[["),
    ("GW.LOGDEAD {k}queue REQUEUE ALL", "1"),
    ("GW.LOGPOP {k}queue COUNT 5", r#"["a", "c", "d", "e", "f"]"#),
    ("GW.LOGPEEK {k}plain", r#"["a"]"#),
    ("GW.LOGLEN {k}plain", "2"),
    ("GW.LOGSTATS {k}plain", r#"["length", 2, "#),
    ("GW.CACHEGET {k}entry", r#""value""#),
    ("GW.CACHEFETCH {k}entry META TOUCH", r#"["HIT", "value", "#),
    ("GW.CACHEFETCH {k}missing LEASE 600000", r#"["MISS", nil, 0, 600000, <token>]"#),
    ("GW.CACHEFETCH {k}missing LEASE 600000", r#"["PENDING", nil, "#),
    ("GW.CACHERELEASE {k}missing <token>", "1"),
    ("GW.CACHELIST 0 CATEGORY chat COUNT 100", "["),
    ("GW.CACHESTATS CATEGORY chat", "["),
    ("GW.CACHEDEL {k}entry {k}never", "1"),
    ("GW.CACHECLEAR TAG tag", "1"),
    ("GW.CACHEGET {k}other", "nil"),
    ("GW.CACHECLEAR CATEGORY embed", "1"),
    ("GW.CACHEKEY chat {}", "\""),
    ("GW.SEMGET {k}index aaaazzzz", r#""value""#),
    ("GW.SEMREJECT {k}index one 1", "1"),
    ("GW.SEMDEL {k}index two", "1"),
    ("GW.COSTSYNC {k}synced 1", "[0]"),
    ("GW.COSTCHANGES COUNT 100", "["),
    ("GW.COSTACK {k}acked 1", "["),
    ("GW.STATS", "["),
    ("GW.TOP DENIED", "["),
    ("GW.STATSRESET", "OK"),
    // Asking needs memory for nothing, but it is a command that may grow.
    ("GW.ALLOW {k}window 5 PEEK", "OOM "),
    ("GW.ADMIT {k}account LEASE ask TTL 5 SHADOW", "OOM "),
    ("GW.CACHESET {k}missing value", "OOM "),
    ("GW.SEMSET {k}index two zzzzaaaa value", "OOM "),
    // What frees memory for everybody.
    ("DEL {k}plain", "1"),
    ("GW.LOGLEN {k}plain", "0"),
];

#[test]
fn commands_that_end_or_free_something_do_what_their_pages_say() {
    for options in servers() {
        let server = options.start().unwrap();
        let mut client = server.connect().unwrap();
        for words in BEFORE {
            let reply = run(&mut client, words);
            assert!(!reply.starts_with("ERR"), "{words}: {reply}");
        }
        run(&mut client, FULL);
        let (mut batch, mut token) = (String::new(), String::new());
        for (words, expected) in WORKING {
            let words = words.replace("<batch>", &batch).replace("<token>", &token);
            let reply = run(&mut client, &words);
            let (before, after) = expected.split_once('<').unwrap_or((expected, ""));
            assert!(reply.starts_with(before), "{words}: {reply}");
            if let Some((name, rest)) = after.split_once('>') {
                let value = reply[before.len()..].strip_suffix(rest).unwrap_or_else(|| panic!("{words}: {reply}"));
                *(if name == "batch" { &mut batch } else { &mut token }) = value.to_owned();
            }
        }
    }
    let tried: BTreeSet<_> = WORKING.iter().map(|(words, _)| words.split(' ').next().unwrap().to_lowercase()).collect();
    let missing = PUBLIC.iter().filter(|public| public.access != Access::Grows && !tried.contains(public.name));
    assert_eq!(missing.map(|public| public.name).collect::<Vec<_>>(), [""; 0]);
}

/// A replica has what its primary has, whatever its own limit is (`replica-ignore-maxmemory yes`, the default), and so has
/// a server what is in its files.
#[test]
fn replicas_and_restarts_refuse_nothing() {
    let primary = Server::start().unwrap();
    let full = "maxmemory 1";
    let following = Server::options().replica_of(&primary).config(full).start().unwrap();
    let (mut client, mut replica) = (primary.connect().unwrap(), following.connect().unwrap());
    await_in_sync(&mut client, &mut replica);
    fill(&mut client);
    await_in_sync(&mut client, &mut replica);
    assert_eq!(state(&mut replica), state(&mut client));

    for options in [Server::options(), Server::options().aof()] {
        let mut server = options.config(full).start().unwrap();
        let mut client = server.connect().unwrap();
        run(&mut client, "CONFIG SET maxmemory 0");
        fill(&mut client);
        let before = state(&mut client);
        server.restart().unwrap();
        let mut client = server.connect().unwrap();
        assert!(run(&mut client, "GW.ALLOW a:window 5").starts_with("OOM "));
        assert_eq!(state(&mut client), before);
    }
}
