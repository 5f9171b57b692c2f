//! All that can be found. The page of the book has the same list, which a test compares.

use super::finding::Kind;
use super::finding::Severity::{Note, Problem, Warning};

pub const NODE_AWAY: Kind = Kind {
    id: "node-away",
    severity: Problem,
    means: "A node that the others know does not answer: its slots or its copy of the data are missing.",
    advice: "Start it, or look at the network between it and this machine; remove it from the others if it is gone for good.",
    link: "docs/src/operating/failover.md#replicas",
};
pub const NOT_ALLOWED: Kind = Kind {
    id: "not-allowed",
    severity: Note,
    means: "The user of this URL lacks a right, so a part of the checks was left out.",
    advice: "Run it as an administrator.",
    link: "docs/src/companion/doctor.md#rights",
};
pub const MODULE_MISSING: Kind = Kind {
    id: "module-missing",
    severity: Problem,
    means: "Every GW command is unknown there. As a replica it cannot follow, and as a primary it cannot answer.",
    advice: "Load the module by a line in redis.conf, on every node.",
    link: "docs/src/operating/supported-servers.md#loading",
};
pub const MODULE_VERSIONS: Kind = Kind {
    id: "module-versions",
    severity: Problem,
    means: "A replica with an older module may refuse what its primary sends, and a failover changes the behaviour.",
    advice: "Bring all nodes to one version, replicas first.",
    link: "docs/src/operating/upgrades.md",
};
pub const SERVER_UNTESTED: Kind = Kind {
    id: "server-untested",
    severity: Note,
    means: "The module was not tested on this version of the server.",
    advice: "Prefer a tested version, or run the module's tests on yours.",
    link: "docs/src/operating/supported-servers.md",
};
pub const EVICTS_ALL: Kind = Kind {
    id: "evicts-all",
    severity: Problem,
    means: "When the memory is full, the server evicts ledgers, accounts and log queues: spend and records are lost without a word.",
    advice: "CONFIG SET maxmemory-policy volatile-lfu, and the same in redis.conf.",
    link: "docs/src/operating/sizing.md#eviction",
};
pub const EVICTS_LIMITS: Kind = Kind {
    id: "evicts-limits",
    severity: Warning,
    means: "When the memory is full, the server evicts limiters in use: they admit everything anew.",
    advice: "CONFIG SET maxmemory-policy volatile-lfu, and the same in redis.conf.",
    link: "docs/src/operating/sizing.md#eviction",
};
pub const NO_MEMORY_BOUND: Kind = Kind {
    id: "no-memory-bound",
    severity: Warning,
    means: "Without maxmemory nothing is evicted, and the system ends the server when the machine's memory is used up.",
    advice: "Set maxmemory to about 60 % of the machine's memory.",
    link: "docs/src/operating/sizing.md#estimating-a-server",
};
pub const MEMORY_BOUND_HIGH: Kind = Kind {
    id: "memory-bound-high",
    severity: Warning,
    means: "maxmemory leaves too little for the fork of a snapshot, for buffers and for the system.",
    advice: "Set maxmemory to about 60 % of the machine's memory.",
    link: "docs/src/operating/sizing.md#estimating-a-server",
};
pub const MEMORY_FULL: Kind = Kind {
    id: "memory-full",
    severity: Problem,
    means: "Cache entries are being evicted or soon will be, and commands that grow memory will reply OOM.",
    advice: "Raise maxmemory, shorten the times of cache entries, or empty queues.",
    link: "docs/src/operating/sizing.md#eviction",
};
pub const NOT_PERSISTENT: Kind = Kind {
    id: "not-persistent",
    severity: Problem,
    means: "A restart loses everything: limits, ledgers, accounts, queues.",
    advice: "CONFIG SET appendonly yes, and the same in redis.conf.",
    link: "docs/src/operating/persistence.md#what-a-crash-can-lose",
};
pub const SNAPSHOTS_ONLY: Kind = Kind {
    id: "snapshots-only",
    severity: Warning,
    means: "A crash loses everything since the last snapshot.",
    advice: "CONFIG SET appendonly yes, and the same in redis.conf.",
    link: "docs/src/operating/persistence.md#what-a-crash-can-lose",
};
pub const NO_FSYNC: Kind = Kind {
    id: "no-fsync",
    severity: Warning,
    means: "A crash of the machine loses what the system has not written yet, often 30 seconds.",
    advice: "CONFIG SET appendfsync everysec, or always for budgets that are billed.",
    link: "docs/src/operating/persistence.md#what-a-crash-can-lose",
};
pub const WRITE_FAILED: Kind = Kind {
    id: "write-failed",
    severity: Problem,
    means: "The last write to the disk has failed: commands that change something reply MISCONF, or soon will.",
    advice: "Look at the server's log, and free the disk.",
    link: "docs/src/operating/persistence.md#if-a-snapshot-fails",
};
pub const SNAPSHOT_ERRORS_PASS: Kind = Kind {
    id: "snapshot-errors-pass",
    severity: Warning,
    means: "A failed snapshot goes unnoticed, and the next crash loses all since the last good one.",
    advice: "CONFIG SET stop-writes-on-bgsave-error yes, and the same in redis.conf.",
    link: "docs/src/operating/persistence.md#if-a-snapshot-fails",
};
pub const SNAPSHOTS_COMPRESS: Kind = Kind {
    id: "snapshots-compress",
    severity: Note,
    means: "The server compresses log records a second time: snapshots take longer, and so copy more memory.",
    advice: "CONFIG SET rdbcompression no, unless the server has many strings of your own.",
    link: "docs/src/operating/persistence.md#snapshots-and-memory",
};
pub const CLOCKS_DIFFER: Kind = Kind {
    id: "clocks-differ",
    severity: Warning,
    means: "After a failover windows and leases end by another clock: earlier or later by the difference.",
    advice: "Keep all clocks in step with NTP or chrony.",
    link: "docs/src/operating/failover.md#the-clock-after-a-failover",
};
pub const CLOCK_OFF: Kind = Kind {
    id: "clock-off",
    severity: Note,
    means: "The server's clock and this machine's differ. Times that callers give, such as AT of GW.ADDCOST, are read by the server's.",
    advice: "Keep both clocks in step with NTP or chrony.",
    link: "docs/src/concepts/guarantees.md#the-clock",
};
pub const DEFAULT_USER: Kind = Kind {
    id: "default-user",
    severity: Warning,
    means: "Whoever reaches the port may call every command, those included that write any state unchecked.",
    advice: "Make a user for each role, then ACL SETUSER default off.",
    link: "docs/src/operating/security.md#roles",
};
pub const INTERNAL_COMMANDS: Kind = Kind {
    id: "internal-commands",
    severity: Problem,
    means: "The user may call GW._ commands, which write any state without checking limits or budgets.",
    advice: "Grant commands by name, starting from -@all.",
    link: "docs/src/operating/security.md#the-gw_-commands",
};
pub const ROLE_LACKS: Kind = Kind {
    id: "role-lacks",
    severity: Warning,
    means: "The role of the book lacks commands that it needs; calls of these are refused with NOPERM.",
    advice: "Set the user anew from the line in redis.conf, on every node.",
    link: "docs/src/operating/security.md#roles",
};
pub const OPEN: Kind = Kind {
    id: "open",
    severity: Problem,
    means: "The server takes commands from other machines without a password.",
    advice: "Turn protected mode on or the default user off, and bind to private addresses only.",
    link: "docs/src/operating/security.md#tls-and-passwords",
};
pub const NO_TLS: Kind = Kind {
    id: "no-tls",
    severity: Warning,
    means: "Passwords, prompts and answers cross the network in clear text.",
    advice: "Set tls-port and port 0, or keep the server on a network that only its gateways reach.",
    link: "docs/src/operating/security.md#tls-and-passwords",
};
pub const MODULE_COMMAND: Kind = Kind {
    id: "module-command",
    severity: Warning,
    means: "A user with the right to MODULE LOAD can run any code in the server.",
    advice: "Set enable-module-command no in redis.conf.",
    link: "docs/src/operating/security.md#loading-the-module",
};
pub const NO_REPLICA: Kind = Kind {
    id: "no-replica",
    severity: Note,
    means: "If this primary's machine is lost, nobody takes over.",
    advice: "Add a replica, with the module loaded before it connects.",
    link: "docs/src/operating/failover.md#replicas",
};
pub const LINK_DOWN: Kind = Kind {
    id: "link-down",
    severity: Problem,
    means: "The replica does not follow its primary: a failover now loses what was written since.",
    advice: "Look at the replica's log, and repair the link.",
    link: "docs/src/operating/failover.md#replicas",
};
pub const WRITES_STOPPED: Kind = Kind {
    id: "writes-stopped",
    severity: Problem,
    means: "min-replicas-to-write asks for more replicas than there are: every write is refused with NOREPLICAS.",
    advice: "Add replicas, or lower min-replicas-to-write.",
    link: "docs/src/operating/failover.md#a-primary-that-was-cut-off",
};
pub const CUT_OFF_WRITES: Kind = Kind {
    id: "cut-off-writes",
    severity: Warning,
    means: "A primary that is cut off from its replicas goes on admitting and charging, and loses that when it comes back.",
    advice: "CONFIG SET min-replicas-to-write 1 and min-replicas-max-lag 10, and the same in redis.conf.",
    link: "docs/src/operating/failover.md#a-primary-that-was-cut-off",
};
pub const BACKLOG_SMALL: Kind = Kind {
    id: "backlog-small",
    severity: Note,
    means: "After a short disconnection a replica needs a full copy.",
    advice: "CONFIG SET repl-backlog-size 64mb, and the same in redis.conf.",
    link: "docs/src/operating/failover.md#replicas",
};
pub const SLOTS_UNSERVED: Kind = Kind {
    id: "slots-unserved",
    severity: Problem,
    means: "Keys in these slots cannot be reached; by default the whole cluster refuses calls.",
    advice: "Start the missing nodes, or assign the slots: redis-cli --cluster check, then fix.",
    link: "docs/src/operating/clusters.md",
};
pub const TIMEOUT_SHORT: Kind = Kind {
    id: "timeout-short",
    severity: Warning,
    means: "While a large key moves, its node does not answer, and is taken for dead.",
    advice: "CONFIG SET cluster-node-timeout 5000 or more, and the same in redis.conf.",
    link: "docs/src/operating/clusters.md#large-keys",
};
pub const SETTINGS_DIFFER: Kind = Kind {
    id: "settings-differ",
    severity: Warning,
    means: "After a failover the new primary decides by other settings.",
    advice: "Set them alike on every node.",
    link: "docs/src/operating/configuration.md#set-every-node-alike",
};

/// All of them.
#[cfg(test)]
pub const ALL: &[Kind] = &[
    NODE_AWAY,
    NOT_ALLOWED,
    MODULE_MISSING,
    MODULE_VERSIONS,
    SERVER_UNTESTED,
    EVICTS_ALL,
    EVICTS_LIMITS,
    NO_MEMORY_BOUND,
    MEMORY_BOUND_HIGH,
    MEMORY_FULL,
    NOT_PERSISTENT,
    SNAPSHOTS_ONLY,
    NO_FSYNC,
    WRITE_FAILED,
    SNAPSHOT_ERRORS_PASS,
    SNAPSHOTS_COMPRESS,
    CLOCKS_DIFFER,
    CLOCK_OFF,
    DEFAULT_USER,
    INTERNAL_COMMANDS,
    ROLE_LACKS,
    OPEN,
    NO_TLS,
    MODULE_COMMAND,
    NO_REPLICA,
    LINK_DOWN,
    WRITES_STOPPED,
    CUT_OFF_WRITES,
    BACKLOG_SMALL,
    SLOTS_UNSERVED,
    TIMEOUT_SHORT,
    SETTINGS_DIFFER,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book;
    use std::path::Path;

    #[test]
    fn the_book_lists_all_findings() {
        let row = |Kind { id, severity, means, advice, link }: &Kind| {
            let (severity, link) = (format!("{severity:?}").to_lowercase(), link.strip_prefix("docs/src/").unwrap());
            format!("| `{id}` | {severity} | {means} | {advice} [More](../{link}) |\n")
        };
        let table = "| Finding | | What it means | What to do |\n|---|---|---|---|\n";
        book::assert_shows(
            "doctor.md",
            "findings",
            &ALL.iter().map(row).fold(table.to_owned(), |text, row| text + &row),
        );
    }

    #[test]
    fn links_lead_to_pages() {
        for kind in ALL {
            let page = kind.link.split('#').next().unwrap();
            assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(page).exists(), "{page}");
        }
    }
}
