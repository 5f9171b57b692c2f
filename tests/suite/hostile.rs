//! Input that is wrong on purpose: refused with uniform errors and without a change, whatever its bytes or size.

use crate::commands::PUBLIC;
use crate::support::{KEYS, Random, fill, full_state, run, start, state, verdict};
use gw_testkit::redis;
use gw_testkit::{Server, call, reply, reply_line};

const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";

#[test]
fn keys_of_other_types_are_refused_and_left_alone() {
    let (_server, mut client) = start();
    fill(&mut client);
    run(&mut client, "SET text value");
    run(&mut client, "RPUSH list a");
    let before = state(&mut client);
    let own_types = |name: &str| match name {
        "gw.allow" => ["gw-window"].as_slice(),
        "gw.tokens" => &["gw-bucket"],
        "gw.acquire" | "gw.renew" | "gw.release" => &["gw-leases"],
        // An account has a ledger, and a ledger becomes an account with its first policy.
        "gw.addcost" | "gw.credit" | "gw.withinbudget" | "gw.spent" | "gw.reserve" | "gw.commit" | "gw.cancel"
        | "gw.costack" | "gw.costsync" | "gw.costrestore" | "gw.policyset" | "gw.policyput" | "gw.policydel"
        | "gw.policyreset" | "gw.policylist" | "gw.admit" | "gw.route" | "gw.settle" | "gw.keepalive" => {
            &["gw-ledger", "gw-accnts"]
        }
        "gw.cacheset" | "gw.cacheget" | "gw.cachefetch" | "gw.cacherelease" | "gw.cachedel" => &["gw-cached"],
        "gw.semset" | "gw.semget" | "gw.semdel" | "gw.semreject" => &["gw-semidx"],
        _ => &["gw-queues"],
    };
    for public in PUBLIC.iter().filter(|public| !public.keys.is_empty() && public.name != "gw.describe") {
        // One missing ledger must not keep a worker from acknowledging the others.
        let expected = match public.name {
            "gw.costack" | "gw.costsync" => "[-1, -1]",
            _ => WRONG_TYPE,
        };
        let others = KEYS.iter().filter(|(_, kind)| !own_types(public.name).contains(kind)).map(|(key, _)| *key);
        for key in others.chain(["text", "list"]) {
            let call = public.call_on(key);
            assert_eq!(run(&mut client, &call), expected, "{call}");
        }
    }
    assert_eq!(before, state(&mut client));
}

#[test]
fn a_wrong_number_of_arguments_is_the_servers_own_error() {
    let (_server, mut client) = start();
    for public in &PUBLIC {
        let error = format!("ERR wrong number of arguments for '{}' command", public.name);
        let least = public.arity.unsigned_abs() as usize;
        for words in 1..least {
            let call = public.call.split(' ').take(words).collect::<Vec<_>>().join(" ");
            assert_eq!(run(&mut client, &call), error, "{call}");
        }
        if public.arity > 0 {
            assert_eq!(run(&mut client, &format!("{} more", public.call)), error);
        }
    }
}

#[test]
fn unknown_repeated_and_incomplete_options_are_refused() {
    let (_server, mut client) = start();
    for (call, error) in [
        ("GW.ALLOW k 10 BURST 5", "ERR unknown option: BURST"),
        ("GW.ALLOW k 10 COST 1 cost 2", "ERR repeated option: COST"),
        ("GW.ALLOW k 10 PEEK peek", "ERR repeated option: PEEK"),
        ("GW.ALLOW k 10 window", "ERR missing value: WINDOW"),
        ("GW.TOKENS k 10 10 WINDOW 5", "ERR unknown option: WINDOW"),
        ("GW.TOKENS k 10 10 PER 5 PER 5", "ERR repeated option: PER"),
        ("GW.TOKENS k 10 10 COST", "ERR missing value: COST"),
        ("GW.ADDCOST k 1 ON 5", "ERR unknown option: ON"),
        ("GW.ADDCOST k 1 AT 5 AT 5", "ERR repeated option: AT"),
        ("GW.ADDCOST k 1 at", "ERR missing value: AT"),
        ("GW.ADDCOST k 1 ID a ID b", "ERR repeated option: ID"),
        ("GW.ADDCOST k -1 REFUND REFUND", "ERR repeated option: REFUND"),
        ("GW.CREDIT k DAY 1 TTL 5", "ERR unknown option: TTL"),
        ("GW.CREDIT k DAY 1 METER a METER b", "ERR repeated option: METER"),
        ("GW.CREDIT k DAY 1 AT 5 at 5", "ERR repeated option: AT"),
        ("GW.CREDIT k DAY 1 ID", "ERR missing value: ID"),
        ("GW.CREDIT k 1 DAY", "ERR not DAY, WEEK, MONTH or TOTAL: 1"),
        ("GW.RESERVE k 1 10 TTL 5 TTL 5", "ERR repeated option: TTL"),
        ("GW.RESERVE k 1 10 ID", "ERR missing value: ID"),
        ("GW.RESERVE k 1 10 5", "ERR not DAY, WEEK, MONTH or TOTAL: 5"),
        ("GW.RESERVE k 1 10 DAY COST 5", "ERR not an amount: budget"),
        ("GW.COSTCHANGES COUNT", "ERR missing value: COUNT"),
        ("GW.COSTCHANGES COUNT 5 COUNT 5", "ERR repeated option: COUNT"),
        ("GW.COSTACK k 5 k2", "ERR missing value: version"),
        ("GW.COSTRESTORE k 5 METER a METER b ROWS SPEND", "ERR repeated option: METER"),
        ("GW.COSTRESTORE k 5 SPEND TOTAL 0001-01-01 0 5", "ERR unknown option: SPEND"),
        ("GW.COSTRESTORE k 5 METER tokens ROWS SPEND TOTAL 0001-01-01", "ERR missing value: amount"),
        ("GW.COSTRESTORE k 5 ROWS SPEND TOTAL 0001-01-01 0 CREDIT", "ERR missing value: period"),
        ("GW.SPENT k HISTORY", "ERR missing value: period"),
        ("GW.SPENT k HISTORY TOTAL 5", "ERR not DAY, WEEK or MONTH: TOTAL"),
        ("GW.SPENT k HISTORY DAY 5 DAY", "ERR conflicting option: HISTORY"),
        ("GW.WITHINBUDGET k 1 COST 1 COST 1", "ERR repeated option: COST"),
        ("GW.WITHINBUDGET k 1 COST", "ERR missing value: COST"),
        ("GW.SPENT k DATE 2024-01 DATE 2024-01", "ERR repeated option: DATE"),
        ("GW.SPENT k DATE", "ERR missing value: DATE"),
        ("GW.LOGPUSH k MAXLEN", "ERR missing value: MAXLEN"),
        ("GW.LOGPUSH k MAXLEN 5 MAXLEN 5 x", "ERR repeated option: MAXLEN"),
        ("GW.LOGPOP k LIMIT 5", "ERR unknown option: LIMIT"),
        ("GW.LOGPOP k COUNT 5 COUNT 5", "ERR repeated option: COUNT"),
        ("GW.LOGPOP k COUNT", "ERR missing value: COUNT"),
        ("GW.LOGPOP k LEASE 5 LEASE 5", "ERR repeated option: LEASE"),
        ("GW.LOGPOP k MAXBYTES", "ERR missing value: MAXBYTES"),
        ("GW.LOGPOP k MAXDELIVERIES 5", "ERR only with LEASE: MAXDELIVERIES"),
        ("GW.LOGPEEK k LIMIT 5", "ERR unknown option: LIMIT"),
        ("GW.LOGPEEK k LEASE 5", "ERR unknown option: LEASE"),
        ("GW.LOGNACK k 000649ce3d40a00000000007 NOW", "ERR unknown option: NOW"),
        ("GW.LOGNACK k 000649ce3d40a00000000007 DELAY", "ERR missing value: DELAY"),
        ("GW.LOGEXTEND k 000649ce3d40a00000000007 TTL 5", "ERR unknown option: TTL"),
        ("GW.LOGDEAD k SHOW", "ERR unknown option: SHOW"),
        ("GW.LOGDEAD k LIST ALL", "ERR unknown option: ALL"),
        ("GW.LOGDEAD k DROP", "ERR missing value: batch-id"),
        ("GW.LOGDEAD k DROP FIRST", "ERR not a batch id: FIRST"),
        ("GW.LOGACK k 000649CE3D40A00000000007", "ERR not a batch id: 000649CE3D40A00000000007"),
        ("GW.CACHESET k v KEEPTTL", "ERR unknown option: KEEPTTL"),
        ("GW.CACHESET k v EX 5 ex 5", "ERR repeated option: EX"),
        ("GW.CACHESET k v CATEGORY", "ERR missing value: CATEGORY"),
        ("GW.CACHESET k v STALE 5 STALE 5", "ERR repeated option: STALE"),
        ("GW.CACHESET k v TAG a b", "ERR unknown option: b"),
        ("GW.CACHESET k v TAG a TAG", "ERR missing value: TAG"),
        ("GW.CACHEGET k FRESH", "ERR unknown option: FRESH"),
        ("GW.CACHEGET k META META", "ERR repeated option: META"),
        ("GW.CACHEGET k TOUCH", "ERR unknown option: TOUCH"),
        ("GW.CACHEFETCH k FRESH", "ERR unknown option: FRESH"),
        ("GW.SEMSET k id aaaa v KEEPTTL", "ERR unknown option: KEEPTTL"),
        ("GW.SEMSET k id aaaa v EX 5 PX 5", "ERR conflicting option: PX"),
        ("GW.SEMSET k id aaaa v TEXT", "ERR missing value: TEXT"),
        ("GW.SEMSET k id aaaa v DEFAULT", "ERR missing value: DEFAULT"),
        ("GW.SEMSET k id aaaa v DEFAULT 1.1", "ERR not a decimal from -1 to 1 of up to 6 places: DEFAULT"),
        ("GW.SEMSET k id aaaa v DEFAULT 0.1234567", "ERR not a decimal from -1 to 1 of up to 6 places: DEFAULT"),
        ("GW.SEMSET k id aaa v", "ERR not 1 to 4096 finite FP32 numbers of which one is not 0: vector"),
        ("GW.SEMGET k aaa", "ERR not 1 to 4096 finite FP32 numbers of which one is not 0: vector"),
        ("GW.SEMGET k aaaa THRESHOLD", "ERR missing value: THRESHOLD"),
        ("GW.SEMGET k aaaa THRESHOLD nan", "ERR not a decimal from -1 to 1 of up to 6 places: THRESHOLD"),
        ("GW.SEMGET k aaaa META COUNT 2", "ERR conflicting option: COUNT"),
        ("GW.SEMGET k aaaa TEXT t", "ERR only with GUARD: TEXT"),
        ("GW.SEMGET k aaaa GUARD digits", "ERR only with TEXT: GUARD"),
        ("GW.SEMGET k aaaa TEXT t GUARD names", "ERR neither digits nor negation: GUARD"),
        ("GW.SEMGET k aaaa TEXT t GUARD digits GUARD Digits", "ERR repeated guard: Digits"),
        ("GW.SEMREJECT k id -1.1", "ERR not a decimal from -1 to 1 of up to 6 places: similarity"),
        ("GW.CACHEFETCH k TOUCH META TOUCH", "ERR repeated option: TOUCH"),
        ("GW.CACHEFETCH k LEASE", "ERR missing value: LEASE"),
        ("GW.CACHEFETCH k LEASE 5 HOLDER", "ERR missing value: HOLDER"),
        ("GW.CACHEFETCH k WAIT 5", "ERR only with LEASE: WAIT"),
        ("GW.CACHEFETCH k HOLDER a", "ERR only with LEASE: HOLDER"),
        ("GW.CACHELIST 0 PATTERN a", "ERR unknown option: PATTERN"),
        ("GW.CACHELIST 0 COUNT 5", "ERR missing option: CATEGORY or TAG"),
        ("GW.CACHELIST 0 TAG a CATEGORY b", "ERR conflicting option: CATEGORY"),
        ("GW.CACHESTATS chat", "ERR unknown option: chat"),
        ("GW.CACHECLEAR CATEGORY", "ERR missing value: CATEGORY"),
        ("GW.CACHECLEAR EVERYTHING", "ERR unknown option: EVERYTHING"),
        ("GW.CACHECLEAR ALL ALL", "ERR wrong number of arguments"),
        ("GW.CACHECLEAR PATTERN a b", "ERR wrong number of arguments"),
        ("GW.CACHEKEY p {} WITHOUT x", "ERR unknown option: WITHOUT"),
        ("GW.CACHEKEY p {} IGNORE", "ERR missing value: IGNORE"),
        ("GW.POLICYSET k p WINDOW 5", "ERR missing option: PER"),
        ("GW.POLICYSET k p WINDOW 5 PER 5 PER 5", "ERR repeated option: PER"),
        ("GW.POLICYSET k p WINDOW 5 PER 5 SOFT 5", "ERR unknown option: SOFT"),
        ("GW.POLICYSET k p BUCKET 5 5 METER", "ERR missing value: METER"),
        ("GW.POLICYSET k p INFLIGHT 5 METER m", "ERR unknown option: METER"),
        ("GW.POLICYSET k p BUDGET 5", "ERR missing value: period"),
        ("GW.POLICYSET k p LEASES 5", "ERR not WINDOW, BUCKET, INFLIGHT, BUDGET, BLOCK or BREAKER: LEASES"),
        ("GW.ADMIT k LEASE id tokens 5", "ERR missing option: TTL"),
        ("GW.ADMIT k tokens 5 TTL 5", "ERR missing option: LEASE"),
        ("GW.ADMIT k LEASE id TTL 5 TTL 5", "ERR repeated option: TTL"),
        ("GW.ADMIT k LEASE id TTL 5 tokens", "ERR missing value: tokens"),
        ("GW.ADMIT k LEASE id TTL 5 tokens 5 tokens 5", "ERR repeated meter: tokens"),
        ("GW.ADMIT k LEASE id TTL 5 tokens LEASE id", "ERR missing value: tokens"),
        ("GW.ADMIT k LEASE id TTL 5 with 5", "ERR not directly after the first account: with"),
        ("GW.ADMIT k TTL 1000 LEASE id WITH 1 k2", "ERR not directly after the first account: WITH"),
        ("GW.SETTLE k LEASE id WITH 1 k2", "ERR not directly after the first account: WITH"),
        ("GW.KEEPALIVE k LEASE id TTL 5 WITH 1 k2", "ERR not directly after the first account: WITH"),
        ("GW.ADMIT k WITH 2 k2 LEASE id TTL 10", "ERR larger than the number of accounts before LEASE: numkeys"),
        ("GW.ADMIT k WITH 3 k2 LEASE id TTL 10", "ERR larger than the number of accounts before LEASE: numkeys"),
        ("GW.ADMIT k WITH 9 k2 LEASE id TTL 5", "ERR larger than the number of accounts before LEASE: numkeys"),
        ("GW.SETTLE k WITH 2 k2 LEASE id tokens 5", "ERR larger than the number of accounts before LEASE: numkeys"),
        ("GW.KEEPALIVE k WITH 2 k2 lease id TTL 5", "ERR larger than the number of accounts before LEASE: numkeys"),
        ("GW.ADMIT k LEASE id TTL 5 ROWS some", "ERR not ALL, REFUSED, NONE or DETAIL: some"),
        ("GW.ADMIT k LEASE id TTL 5 ROWS", "ERR missing value: ROWS"),
        ("GW.ADMIT k LEASE id TTL 5 REQUIRE REQUIRE", "ERR repeated option: REQUIRE"),
        ("GW.ADMIT k LEASE id TTL 5 pick 5", "ERR reserved name: pick"),
        ("GW.ADMIT k LEASE id TTL 5 FAILED 5", "ERR reserved name: FAILED"),
        ("GW.SETTLE k LEASE id FAILED FAILED", "ERR repeated option: FAILED"),
        ("GW.SETTLE k LEASE id COOLDOWN 5", "ERR only with FAILED: COOLDOWN"),
        ("GW.SETTLE k LEASE id FAILED COOLDOWN", "ERR missing value: COOLDOWN"),
        ("GW.SETTLE k LEASE id TOOK", "ERR missing value: TOOK"),
        ("GW.SETTLE k LEASE id PICK FAST", "ERR reserved name: PICK"),
        ("GW.ROUTE k LEASE id tokens 5 ROWS ALL", "ERR missing option: TTL"),
        ("GW.ROUTE k LEASE id TTL 5 PICK some", "ERR not FIRST, ROOM or FAST: some"),
        ("GW.ROUTE k LEASE id TTL 5 ROWS DETAIL", "ERR not ALL, REFUSED or NONE: DETAIL"),
        ("GW.ROUTE k LEASE id TTL 5 PICK", "ERR missing value: PICK"),
        ("GW.ROUTE k LEASE id TTL 5 SHADOW 5", "ERR reserved name: SHADOW"),
        ("GW.ROUTE k LEASE id TTL 5 WITH 1 k2", "ERR not directly after the first account: WITH"),
        ("GW.ROUTE k WITH 1 k LEASE id TTL 5", "ERR repeated key: k"),
        ("GW.ROUTE k WITH 9 k2 k3 x y 5", "ERR missing value: target"),
        ("GW.ROUTE k WITH 64 k2 LEASE id TTL 5", "ERR not an integer from 1 to 63: numkeys"),
        ("GW.ROUTE k LEASE id TTL 5", "NOACCOUNT no such account: k"),
        ("GW.POLICYSET k p BREAKER 5 PER 5", "ERR missing option: OPEN"),
        ("GW.POLICYSET k p BREAKER 5 OPEN 5", "ERR missing option: PER"),
        ("GW.POLICYSET k p BREAKER 5 PER 5 OPEN 5 METER m", "ERR unknown option: METER"),
        ("GW.POLICYSET k cooldown INFLIGHT 5", "ERR reserved name: cooldown"),
        ("GW.POLICYSET k NOACCOUNT INFLIGHT 5", "ERR reserved name: NOACCOUNT"),
        ("GW.POLICYSET k p WINDOW 5 PER 5 METER rows", "ERR reserved name: rows"),
        ("GW.POLICYSET k p BUDGET 5 DAY METER WITH", "ERR reserved name: WITH"),
        ("GW.POLICYLIST k STATS STATS", "ERR wrong number of arguments"),
        ("GW.ADMIT k WITH 1 k LEASE id TTL 5", "ERR repeated key: k"),
        ("GW.ADMIT k WITH 9 k2 k3 x y 5", "ERR missing value: account"),
        ("GW.SETTLE k LEASE id TTL 5", "ERR reserved name: TTL"),
        ("GW.KEEPALIVE k LEASE id TTL 5 tokens 5", "ERR unknown option: tokens"),
    ] {
        assert_eq!(run(&mut client, call), error, "{call}");
    }
    assert_eq!(run(&mut client, "DBSIZE"), "0");
}

#[test]
fn integers_are_strict_and_within_their_range() {
    let (_server, mut client) = start();
    let texts: [&[u8]; 14] = [
        b"",
        b" 1",
        b"1 ",
        b"+1",
        b"01",
        b"1.0",
        b"1e3",
        b"0x10",
        b"nan",
        b"\xff",
        b"-1",
        b"9223372036854775807",
        b"-9223372036854775808",
        b"99999999999999999999999",
    ];
    for (before, argument, range) in [
        ("GW.ALLOW k", "limit", "0 to 9007199254740992"),
        ("GW.ALLOW k 10 WINDOW", "WINDOW", "1 to 31622400000"),
        ("GW.TOKENS k 10", "burst", "0 to 9007199254740992"),
        ("GW.TOKENS k 10 10 PER", "PER", "1 to 31622400000"),
        ("GW.RESERVE k 1 10 TTL", "TTL", "1 to 31622400000"),
        ("GW.SPENT k HISTORY DAY", "count", "1 to 1000"),
        ("GW.COSTCHANGES COUNT", "COUNT", "1 to 200"),
        ("GW.COSTACK k", "version", "0 to 9007199254740992"),
        ("GW.COSTSYNC k", "version", "0 to 9007199254740992"),
        ("GW.CACHEFETCH k LEASE", "LEASE", "1 to 3600000"),
        ("GW.CACHEFETCH k LEASE 5 WAIT", "WAIT", "1 to 3600000"),
        ("GW.CACHERELEASE k", "token", "1 to 9007199254740992"),
        ("GW.CACHELIST 0 TAG a COUNT", "COUNT", "1 to 1000"),
        ("GW.CACHESET k v TOKEN", "TOKEN", "1 to 9007199254740992"),
        ("GW.SEMSET k id aaaa v EX", "EX", "1 to 31622400"),
        ("GW.SEMSET k id aaaa v PX", "PX", "1 to 31622400000"),
        ("GW.SEMGET k aaaa COUNT", "COUNT", "1 to 100"),
        ("GW.LOGPOP k COUNT", "COUNT", "1 to 10000"),
        ("GW.POLICYSET k p WINDOW", "limit", "0 to 9007199254740992"),
        ("GW.POLICYSET k p WINDOW 5 PER", "PER", "1 to 31622400000"),
        ("GW.POLICYSET k p INFLIGHT", "max", "0 to 9007199254740992"),
        ("GW.POLICYSET k p BREAKER", "failures", "1 to 9007199254740992"),
        ("GW.POLICYSET k p BREAKER 5 PER 5 OPEN", "OPEN", "1 to 31622400000"),
        ("GW.SETTLE k LEASE id FAILED COOLDOWN", "COOLDOWN", "1 to 31622400000"),
        ("GW.SETTLE k LEASE id TOOK", "TOOK", "0 to 31622400000"),
        ("GW.ROUTE k LEASE id x 1 TTL", "TTL", "1 to 31622400000"),
        ("GW.ADMIT k LEASE id x 1 TTL", "TTL", "1 to 31622400000"),
        ("GW.LOGPOP k MAXBYTES", "MAXBYTES", "1 to 1048576"),
        ("GW.LOGPOP k LEASE", "LEASE", "1 to 31622400000"),
        ("GW.LOGPOP k BLOCK", "BLOCK", "0 to 31622400000"),
        ("GW.LOGPOP k LEASE 5 MAXDELIVERIES", "MAXDELIVERIES", "1 to 1000000"),
        ("GW.LOGPEEK k COUNT", "COUNT", "1 to 10000"),
        ("GW.LOGPEEK k MAXBYTES", "MAXBYTES", "1 to 1048576"),
        ("GW.LOGEXTEND k 000649ce3d40a00000000007 LEASE", "LEASE", "1 to 31622400000"),
        ("GW.LOGDEAD k LIST COUNT", "COUNT", "1 to 1000"),
    ] {
        for text in texts {
            let mut command = crate::support::command(before);
            let error = reply_line(command.arg(text).query(&mut client));
            assert_eq!(error, format!("ERR not an integer from {range}: {argument}"), "{before} {text:?}");
        }
    }
    // The range of a cost that may be negative is different.
    for text in texts {
        for call in ["GW.ALLOW k 10 COST", "GW.TOKENS k 10 10 COST"] {
            let error = reply_line(crate::support::command(call).arg(text).query(&mut client));
            assert!(error.starts_with("ERR ") && error.ends_with(": COST"), "{call} {text:?}: {error}");
        }
    }
    assert_eq!(run(&mut client, "GW.TOKENS k 0 10"), "ERR not an integer from 1 to 9007199254740992: rate");
    assert_eq!(run(&mut client, "DBSIZE"), "0");
}

#[test]
fn errors_change_nothing() {
    let (_server, mut client) = start();
    fill(&mut client);
    let before = full_state(&mut client);
    for call in [
        "GW.ALLOW a:window 100000 WINDOW 3600000 COST -1",
        "GW.ALLOW a:window 100000 WINDOW 3600000 COST 1 NONSENSE",
        "GW.TOKENS a:bucket 7 100000 PER 1100 PER 1100",
        "GW.ADDCOST a:ledger nan",
        "GW.ADDCOST a:ledger 1 AT -1",
        "GW.ADDCOST a:ledger 1e18 NONSENSE",
        "GW.ADDCOST a:ledger -1",
        "GW.ADDCOST a:ledger 1 REFUND",
        "GW.ADDCOST a:ledger 1 ID hold:0",
        "GW.CREDIT a:ledger YEAR 1",
        "GW.CREDIT a:ledger DAY nan",
        "GW.CREDIT a:ledger DAY -1000",
        "GW.CREDIT a:ledger DAY 1e18",
        "GW.CREDIT a:ledger DAY 1 ID hold:0",
        "GW.CREDIT a:ledger DAY 1 ID charge:0",
        "GW.CREDIT a:account DAY 1 METER LEASE",
        "GW.CREDIT a:queue DAY 1 METER tokens",
        "GW.RESERVE a:ledger 1 100 ID gone:1",
        "GW.COMMIT a:ledger nobodys 1",
        "GW.COMMIT a:ledger hold:0 1e18",
        "GW.CANCEL a:ledger nobodys",
        "GW.COSTACK a:ledger 5 a:queue",
        "GW.COSTSYNC a:ledger 5 a:account 9007199254740992",
        "GW.COSTRESTORE a:ledger 9007199254740992 ROWS SPEND TOTAL 0001-01-01 0",
        "GW.COSTRESTORE a:ledger 9000000000000000 ROWS SPEND TOTAL 0001-01-01 0 SPEND WEEK 2024-01-29 3",
        "GW.COSTRESTORE a:account 9000000000000000 METER LEASE ROWS SPEND TOTAL 0001-01-01 0",
        "GW.COSTRESTORE a:queue 5 METER tokens ROWS SPEND TOTAL 0001-01-01 0",
        "GW.LOGPUSH a:queue JSON {} {",
        "GW.LOGPUSH a:queue REJECT MAXLEN 1 x",
        "GW.LOGPOP a:queue COUNT 5 COUNT 5",
        "GW.LOGPOP a:queue LEASE 5 MAXDELIVERIES 0",
        "GW.LOGACK a:queue none",
        "GW.LOGDEAD a:queue DROP ALL NONSENSE",
        "GW.CACHESET a:cached v EX -1",
        "GW.CACHESET a:cached v SAVED -1",
        "GW.CACHESET a:cached v STALE -1",
        "GW.CACHEFETCH a:cached TOUCH LEASE 0",
        "GW.CACHECLEAR CATEGORY chat TAG x",
        "GW.CACHECLEAR TAG",
        "GW.CACHEDEL a:cached a:ledger",
        "GW.SEMSET a:index new aaaa v",
        "GW.SEMSET a:index new aaaazzzzaaaazzzz v SAVED -1",
        "GW.SEMREJECT a:index id0 2",
        "GW.POLICYSET a:account rpm WINDOW 5 PER 0",
        "GW.POLICYRESET a:account spend",
        "GW.ADMIT a:account LEASE new TTL 5 tokens -1",
        "GW.ADMIT a:account WITH 1 a:queue LEASE new TTL 5",
        "GW.SETTLE a:account LEASE l1 usd 1e18",
        "GW.SETTLE a:account LEASE l1 COOLDOWN 5",
        "GW.ROUTE a:account WITH 1 a:queue LEASE new TTL 5",
        "GW.ROUTE a:account WITH 1 none LEASE l0 TTL 5",
    ] {
        let error = run(&mut client, call);
        assert!(error.split(' ').next().unwrap().chars().all(|c| c.is_ascii_uppercase()), "{call}: {error}");
        assert_eq!(before, full_state(&mut client), "{call}");
    }
}

#[test]
fn keys_are_bytes() {
    let (_server, mut client) = start();
    let keys: [&[u8]; 5] = [b"", b"\0", b"\xff\xfe\x00\xc3", b"with space\r\n", "\u{1f980}".as_bytes()];
    for key in keys {
        assert!(reply!(client, "GW.ALLOW", key, 5).starts_with("[1, 5, 4"));
        assert_eq!(reply!(client, "TYPE", key), "gw-window");
        call!(client, "DEL", key => ());
        assert!(reply!(client, "GW.TOKENS", key, 5, 5).starts_with("[1, 5, 4"));
        call!(client, "DEL", key => ());
        assert_eq!(reply!(client, "GW.ADDCOST", key, "0.1"), "\"0.1\"");
        assert_eq!(reply!(client, "GW.SPENT", key), "\"0.1\"");
        call!(client, "DEL", key => ());
        assert_eq!(reply!(client, "GW.LOGPUSH", key, "RECORDS", key), "[1, 0]");
        assert_eq!(call!(client, "GW.LOGPOP", key => Vec<Vec<u8>>), [key]);
        call!(client, "DEL", key => ());
        assert_eq!(reply!(client, "GW.CACHESET", key, key, "CATEGORY", [b"c", key].concat()), "OK");
        assert_eq!(call!(client, "GW.CACHEGET", key => Vec<u8>), key);
        call!(client, "DEL", key => ());
        let id = [b"id", key].concat();
        assert_eq!(reply!(client, "GW.POLICYSET", key, &id, "INFLIGHT", 5), "1");
        assert!(reply!(client, "GW.ADMIT", key, "LEASE", &id, "TTL", 5_000, &id, 5).starts_with("[1, 0, [["));
        assert_eq!(reply!(client, "GW.SETTLE", key, "LEASE", &id, &id, 7), "\"SETTLED\"");
        call!(client, "DEL", key => ());
        assert_eq!(reply!(client, "GW.CACHESET", key, key, "CATEGORY", [b"c", key].concat()), "OK");
        let stats = reply!(client, "GW.CACHESTATS", "CATEGORY", [b"c", key].concat());
        assert!(stats.starts_with("[\"hits\", 1, "), "{stats}");
        assert!(reply!(client, "GW.DESCRIBE", key).starts_with("[\"type\""));
        assert_eq!(reply!(client, "GW.CACHEDEL", key), "1");
    }
    // An error shows such bytes as '?', which is safe in a terminal.
    assert_eq!(reply!(client, "GW.ALLOW", "k", 5, b"\xff\x1b[31m\r\n"), "ERR unknown option: ??[31m??");
}

#[test]
fn large_values_are_accepted_and_large_wrong_arguments_are_refused() {
    const SIZE: usize = 10 << 20;
    let (mut server, mut client) = start();
    let large = vec![b'x'; SIZE];
    assert_eq!(reply!(client, "GW.LOGPUSH", "q", "RECORDS", &large, &large), "[2, 0]");
    assert_eq!(call!(client, "GW.LOGPOP", "q" => Vec<Vec<u8>>), [&large[..]]);
    assert_eq!(reply!(client, "GW.CACHESET", "c", &large), "OK");
    assert_eq!(call!(client, "GW.CACHEGET", "c" => Vec<u8>), large);
    assert!(reply!(client, "GW.ALLOW", &large, 5).starts_with("[1, 5, 4"));
    let json = [b"[".repeat(SIZE / 2), b"]".repeat(SIZE / 2)].concat();
    assert_eq!(reply!(client, "GW.LOGPUSH", "json", "JSON", &json), "[1, 0]");
    let broken = &json[..SIZE - 1];
    let error = reply!(client, "GW.LOGPUSH", "json", "JSON", broken);
    assert_eq!(error, format!("ERR not valid JSON: record 0 at byte {}", SIZE - 1));
    for error in [
        reply!(client, "GW.ALLOW", "k", &large),
        reply!(client, "GW.ALLOW", "k", 5, &large),
        reply!(client, "GW.ADDCOST", "k", &large),
        reply!(client, "GW.SPENT", "k", "DATE", &large),
    ] {
        assert!(error.starts_with("ERR ") && error.len() < 200, "{} bytes", error.len());
    }
    // A category appears in every statistic, so a long one is refused or cut short, and never crashes the server.
    let long_category = reply!(client, "GW.CACHESET", "c2", "v", "CATEGORY", &large);
    assert!(long_category == "OK" || long_category.starts_with("ERR "), "{long_category}");
    assert_eq!(run(&mut client, "DEBUG RELOAD"), "OK");
    assert_eq!(call!(client, "GW.CACHEGET", "c" => Vec<u8>), large);
    assert!(server.is_running());
}

#[test]
fn a_hundred_thousand_arguments_are_one_batch() {
    let (_server, mut client) = start();
    let records: Vec<String> = (0..100_000).map(|index| format!("record {index}")).collect();
    assert_eq!(reply!(client, "GW.LOGPUSH", "q", "RECORDS", &records), "[100000, 0]");
    let batches = (0..10).flat_map(|_| call!(client, "GW.LOGPOP", "q", "COUNT", 10_000 => Vec<String>));
    assert_eq!(batches.collect::<Vec<_>>(), records);
    let keys: Vec<String> = (0..100_000).map(|index| format!("none{index}")).collect();
    assert_eq!(reply!(client, "GW.CACHEDEL", &keys), "0");
    let options = vec!["COST"; 100_000];
    assert!(reply!(client, "GW.ALLOW", "k", 5, &options).starts_with("ERR "));
}

#[test]
fn random_calls_never_harm_the_server() {
    let (mut server, mut client) = start();
    let mut random = Random(0x5eed);
    const WORDS: &str = "
        a:window a:bucket a:ledger a:leases a:queue a:cached a:account none PEEK COST AT ID REFUND HISTORY hold:0 gone:1
        WINDOW PER DAY TOTAL DATE 2024-01 MAXLEN RECORDS JSON COUNT EX PX LEASE MAXDELIVERIES DELAY DEAD LIST REQUEUE DROP
        ALL 000649ce3d40a00000000007 TTL WITH BUDGET INFLIGHT tokens l1 rpm
        0 1 -1 9007199254740992 9223372036854775807 -9223372036854775808 1e-12 nan {}";
    let mut words: Vec<Vec<u8>> = WORDS.split_ascii_whitespace().map(|word| word.as_bytes().to_vec()).collect();
    words.extend([vec![], vec![0xff, 0], vec![b'9'; 3_000]]);
    for _ in 0..20 {
        fill(&mut client);
        let calls = (0..2_000).map(|_| {
            let public = &PUBLIC[random.below(PUBLIC.len())];
            let mut command = redis::cmd(public.name);
            for _ in 0..random.below(7) {
                command.arg(&words[random.below(words.len())]);
            }
            command
        });
        let calls: Vec<_> = calls.collect();
        crate::support::pipeline(&mut client, calls);
        assert!(server.is_running());
        assert_eq!(run(&mut client, "DEBUG RELOAD"), "OK");
        run(&mut client, "FLUSHALL");
    }
    assert_healthy(&server);
}

#[test]
fn random_effects_never_harm_the_server() {
    let (mut server, mut client) = start();
    fill(&mut client);
    let mut random = Random(0xeffec7);
    // Real effects to be mutated, one of each kind and shape.
    let source = Server::options().aof().start().unwrap();
    let mut writer = source.connect().unwrap();
    fill(&mut writer);
    run(&mut writer, "GW.CACHEDEL a:cached");
    let effects: Vec<_> =
        crate::support::aof_commands(&source).into_iter().filter(|effect| effect[0].starts_with(b"GW._")).collect();
    assert!(effects.len() > 1_000);
    let key_of = |effect: &[Vec<u8>]| if effect[0] == b"GW._ADMIT" { 3 } else { 1 };
    for _ in 0..20 {
        let calls = (0..2_000).map(|_| {
            let mut effect = effects[random.below(effects.len())].clone();
            match random.below(3) {
                // Random bytes, for any of the effects.
                0 => {
                    let name = crate::commands::INTERNAL[random.below(crate::commands::INTERNAL.len())];
                    let key = KEYS[random.below(KEYS.len())].0;
                    effect = vec![name.into(), key.into()];
                    for _ in 0..random.below(5) {
                        let len = random.below(40);
                        effect.push(random.bytes(len));
                    }
                }
                // A real effect with another word or byte.
                1 => {
                    let key = key_of(&effect);
                    let at = 1 + random.below(effect.len() - 1);
                    if at != key {
                        mutate_words(&mut effect[at], &mut random);
                    }
                }
                // A real effect for a key of another type.
                _ => {
                    let key = key_of(&effect);
                    effect[key] = KEYS[random.below(KEYS.len())].0.into();
                }
            }
            let mut command = redis::cmd(std::str::from_utf8(&effect[0]).unwrap());
            command.arg(&effect[1..]);
            command
        });
        let calls: Vec<_> = calls.collect();
        crate::support::pipeline(&mut client, calls);
        assert!(server.is_running());
        // The values that result can be described, saved and loaded.
        for (key, _) in KEYS {
            run(&mut client, &format!("GW.DESCRIBE {key}"));
        }
        assert_eq!(run(&mut client, "DEBUG RELOAD"), "OK");
    }
    assert_healthy(&server);
}

/// A part of a queue in a rewritten AOF that is cut short, or has bytes left, makes no key.
#[test]
fn refused_parts_of_a_queue_change_nothing() {
    let (server, mut client) = start();
    // Seven counts, a time, a batch's id and how long ids are remembered, each with its tag.
    let head = [b"u\0".repeat(7), b"i\0u\0u\0".to_vec()].concat();
    let mut load = |payload: &[u8]| {
        let mut effect = redis::cmd("GW._QUEUE");
        let reply = reply_line(effect.arg("parts").arg("H").arg(payload).query(&mut client));
        (reply, run(&mut client, "EXISTS parts"))
    };
    for payload in [&head[..head.len() - 1], &[&head[..], b"u"].concat(), b""] {
        let (reply, exists) = load(payload);
        assert!(reply.starts_with("ERR malformed effect"), "{reply}");
        assert_eq!(exists, "0");
    }
    assert_eq!(load(&head), ("OK".to_owned(), "1".to_owned()));
    assert_healthy(&server);
}

/// An effect that takes back a credit which was never given makes no key, and no ledger in an account.
#[test]
fn refused_credits_change_nothing() {
    let (server, mut client) = start();
    assert_eq!(run(&mut client, "GW.POLICYSET account rpm INFLIGHT 5"), "1");
    let before = run(&mut client, "DEBUG DIGEST-VALUE account");
    for (key, meter) in [("none", "usd"), ("none", "tokens"), ("account", "usd"), ("account", "tokens")] {
        let mut effect = redis::cmd("GW._BUDGET");
        let words = "G TOTAL 20787 -0.75 1796014496840 62 31622400000 1796014496840008";
        let reply = reply_line(effect.arg(key).arg(words).arg(meter).query(&mut client));
        assert_eq!(reply, "ERR more than was given: amount");
        assert_eq!(run(&mut client, "EXISTS none"), "0");
        assert_eq!(run(&mut client, "DEBUG DIGEST-VALUE account"), before);
    }
    assert_healthy(&server);
}

/// Replaces one of the space-separated words by an extreme number, or one byte by another.
fn mutate_words(text: &mut Vec<u8>, random: &mut Random) {
    let mut words: Vec<Vec<u8>> = text.split(|&byte| byte == b' ').map(<[u8]>::to_vec).collect();
    let at = random.below(words.len());
    let extremes = ["0", "-1", "1", "9223372036854775807", "-9223372036854775808", "9007199254740992", "", "x"];
    match random.below(3) {
        0 => words[at] = extremes[random.below(extremes.len())].into(),
        1 => drop(words.remove(at)),
        _ => {
            let len = words[at].len().max(1);
            words[at].resize(len, 0);
            let index = random.below(len);
            words[at][index] = random.next() as u8;
        }
    }
    *text = words.join(&b' ');
}

/// Checks that no panic was caught, and that none is in the log.
pub fn assert_healthy(server: &Server) {
    let mut client = server.connect().unwrap();
    let stats = run(&mut client, "GW.STATS");
    assert!(stats.contains("\"internal_errors\", 0"), "{stats}");
    let log = server.log();
    assert!(!log.contains("internal error, please report it"), "{log}");
    assert_eq!(verdict(&mut client, "GW.ALLOW still-works 5")[..3], [1, 5, 4]);
}
