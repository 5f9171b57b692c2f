//! The public commands, as clients see them.

pub struct Public {
    pub name: &'static str,
    /// A call with every option, on the key `k`.
    pub call: &'static str,
    pub arity: i64,
    pub keys: &'static [&'static str],
    pub access: Access,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Reads,
    /// Changes the node, not its data.
    Administers,
    /// Reads what concerns all keys, for operators.
    Inspects,
    /// Writes, and may take memory.
    Grows,
    /// Writes, and takes no memory.
    Shrinks,
}

use Access::{Administers, Grows, Inspects, Reads, Shrinks};

pub const PUBLIC: [Public; 51] = [
    public("gw.allow", "GW.ALLOW k 10 WINDOW 1000 COST 2 FIXED PEEK", -3, &["k"], Grows),
    public("gw.tokens", "GW.TOKENS k 10 10 PER 1000 COST 2 PEEK", -4, &["k"], Grows),
    public("gw.acquire", "GW.ACQUIRE k 10 holder TTL 1000 BLOCK 1", -6, &["k"], Grows),
    public("gw.renew", "GW.RENEW k holder TTL 1000", 5, &["k"], Shrinks),
    public("gw.release", "GW.RELEASE k holder", 3, &["k"], Shrinks),
    public("gw.addcost", "GW.ADDCOST k 0 AT 0 ID a REFUND", -3, &["k"], Grows),
    public("gw.credit", "GW.CREDIT k MONTH 0 METER usd AT 0 ID a", -4, &["k"], Grows),
    public("gw.withinbudget", "GW.WITHINBUDGET k 10 DAY 100 MONTH COST 1", -3, &["k"], Reads),
    public("gw.spent", "GW.SPENT k HISTORY DAY 3", -2, &["k"], Reads),
    public("gw.reserve", "GW.RESERVE k 1 10 DAY 100 MONTH TTL 60000 ID a", -4, &["k"], Grows),
    public("gw.commit", "GW.COMMIT k a 1.5", 4, &["k"], Shrinks),
    public("gw.cancel", "GW.CANCEL k a", 3, &["k"], Shrinks),
    public("gw.costchanges", "GW.COSTCHANGES COUNT 5", -1, &[], Shrinks),
    public("gw.costack", "GW.COSTACK k 1 k2 2", -3, &["k", "k2"], Shrinks),
    public("gw.costsync", "GW.COSTSYNC k 1 k2 2", -3, &["k", "k2"], Shrinks),
    public(
        "gw.costrestore",
        "GW.COSTRESTORE k 5 METER tokens ROWS SPEND TOTAL 0001-01-01 0 CREDIT WEEK 2024-01-29 2",
        -8,
        &["k"],
        Grows,
    ),
    public("gw.logpush", "GW.LOGPUSH k MAXLEN 5 MAXBYTES 100 REJECT JSON RECORDS {} []", -3, &["k"], Grows),
    public("gw.logpop", "GW.LOGPOP k COUNT 5 MAXBYTES 100 BLOCK 1 LEASE 1000 MAXDELIVERIES 3", -2, &["k"], Shrinks),
    public("gw.logpeek", "GW.LOGPEEK k COUNT 5 MAXBYTES 100", -2, &["k"], Reads),
    public("gw.loglen", "GW.LOGLEN k", 2, &["k"], Reads),
    public("gw.logack", "GW.LOGACK k 000649ce3d40a00000000007 DELIVERY 1", -3, &["k"], Shrinks),
    public("gw.lognack", "GW.LOGNACK k 000649ce3d40a00000000007 DELAY 10 DELIVERY 1", -3, &["k"], Shrinks),
    public("gw.logextend", "GW.LOGEXTEND k 000649ce3d40a00000000007 LEASE 10 DELIVERY 1", -5, &["k"], Shrinks),
    public("gw.logdead", "GW.LOGDEAD k LIST COUNT 5", -3, &["k"], Shrinks),
    public("gw.logstats", "GW.LOGSTATS k", 2, &["k"], Reads),
    public("gw.cacheset", "GW.CACHESET k value EX 100 STALE 5 CATEGORY chat TAG a TAG b SAVED 0.1", -3, &["k"], Grows),
    public("gw.cacheget", "GW.CACHEGET k META", -2, &["k"], Reads),
    public("gw.cachefetch", "GW.CACHEFETCH k META TOUCH LEASE 5 HOLDER call WAIT 5 CATEGORY chat", -2, &["k"], Shrinks),
    public("gw.cacherelease", "GW.CACHERELEASE k 5", 3, &["k"], Shrinks),
    public("gw.cachedel", "GW.CACHEDEL k k2 k3", -2, &["k", "k2", "k3"], Shrinks),
    public("gw.cacheclear", "GW.CACHECLEAR CATEGORY none", -2, &[], Shrinks),
    public("gw.cachelist", "GW.CACHELIST 0 CATEGORY chat COUNT 5", -4, &[], Reads),
    public("gw.cachekey", "GW.CACHEKEY chat {} IGNORE a b", -3, &[], Reads),
    public("gw.cachestats", "GW.CACHESTATS CATEGORY chat", -1, &[], Reads),
    public(
        "gw.semset",
        "GW.SEMSET k id aaaazzzz value EX 100 TAG a TAG b SAVED 0.1 TEXT question DEFAULT 0.8",
        -5,
        &["k"],
        Grows,
    ),
    public(
        "gw.semget",
        "GW.SEMGET k aaaazzzz THRESHOLD 0.8 META TEXT question GUARD digits GUARD negation",
        -3,
        &["k"],
        Reads,
    ),
    public("gw.semdel", "GW.SEMDEL k id other", -3, &["k"], Shrinks),
    public("gw.semreject", "GW.SEMREJECT k id 0.95", 4, &["k"], Shrinks),
    public(
        "gw.policyset",
        "GW.POLICYSET k tpm BUCKET 10 10 PER 1000 DECIMAL METER tokens GIVEBACK SHADOW",
        -4,
        &["k"],
        Grows,
    ),
    public("gw.policyput", "GW.POLICYPUT k {\"policies\":[]} NX IDLE 1000", -3, &["k"], Grows),
    public("gw.policydel", "GW.POLICYDEL k tpm", 3, &["k"], Shrinks),
    public("gw.policyreset", "GW.POLICYRESET k tpm", 3, &["k"], Shrinks),
    public("gw.policylist", "GW.POLICYLIST k STATS", -2, &["k"], Reads),
    public("gw.admit", "GW.ADMIT k WITH 2 k2 k3 LEASE id TTL 1000 tokens 5 SHADOW", -6, &["k", "k2", "k3"], Grows),
    public(
        "gw.route",
        "GW.ROUTE k WITH 2 k2 k3 LEASE id TTL 1000 tokens 5 PICK FAST ROWS ALL",
        -6,
        &["k", "k2", "k3"],
        Grows,
    ),
    public(
        "gw.settle",
        "GW.SETTLE k WITH 2 k2 k3 LEASE id tokens 5 FAILED COOLDOWN 5 TOOK 5",
        -4,
        &["k", "k2", "k3"],
        Shrinks,
    ),
    public("gw.keepalive", "GW.KEEPALIVE k WITH 2 k2 k3 LEASE id TTL 1000", -6, &["k", "k2", "k3"], Shrinks),
    public("gw.describe", "GW.DESCRIBE k", 2, &["k"], Reads),
    public("gw.stats", "GW.STATS", 1, &[], Reads),
    public("gw.statsreset", "GW.STATSRESET", 1, &[], Administers),
    public("gw.top", "GW.TOP METER usd BY HOUR COUNT 5", -2, &[], Inspects),
];

/// The internal commands, which are in the append-only file and the replication stream.
pub const INTERNAL: [&str; 8] =
    ["gw._limit", "gw._budget", "gw._queue", "gw._cache", "gw._cacheclear", "gw._sem", "gw._admit", "gw._load"];

const fn public(
    name: &'static str,
    call: &'static str,
    arity: i64,
    keys: &'static [&'static str],
    access: Access,
) -> Public {
    Public { name, call, arity, keys, access }
}

impl Public {
    /// Whether only users with the right to call dangerous commands may call it.
    pub fn is_for_operators(&self) -> bool {
        matches!(self.access, Administers | Inspects)
    }

    pub fn only_reads(&self) -> bool {
        matches!(self.access, Reads | Inspects)
    }

    pub fn writes(&self) -> bool {
        matches!(self.access, Grows | Shrinks)
    }

    /// The call, on another key.
    pub fn call_on(&self, key: &str) -> String {
        self.call.replacen(" k", &format!(" {key}"), 1)
    }
}
