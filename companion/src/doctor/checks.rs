//! What the book advises, held against what was found.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::finding::{Finding, Kind};
use super::kinds as k;
use super::look::{Found, Node};
use crate::members::Role;

/// Versions of servers that the module was tested on: name and beginning of the version.
const TESTED: [(&str, &str); 4] = [("Redis", "7.0."), ("Redis", "8.2."), ("Valkey", "8.1."), ("Valkey", "9.1.")];
/// Clocks further apart than this are told, in milliseconds.
const CLOCKS_APART: f64 = 500.0;
/// The largest part of the machine's memory that maxmemory may be.
const MEMORY_PART: f64 = 0.75;
/// The part of maxmemory at which the memory counts as full.
const MEMORY_FULL: f64 = 0.95;
const BACKLOG: f64 = 64.0 * 1_048_576.0;
const CLUSTER_TIMEOUT_MS: f64 = 5_000.0;

/// All findings: the worst first, and then those about all nodes.
pub fn check(found: &Found) -> Vec<Finding> {
    let away = found.away.iter().map(|(node, reason)| k::NODE_AWAY.at(node, reason.clone()));
    let mut findings: Vec<Finding> = away.collect();
    for node in &found.nodes {
        let mut check = Check { node, findings: &mut findings };
        check.versions();
        check.memory();
        check.persistence();
        check.users();
        check.network();
        check.replication();
        check.cluster();
    }
    together(&found.nodes, &mut findings);
    findings.sort_by(|a, b| (a.severity, &a.node).cmp(&(b.severity, &b.node)));
    findings
}

struct Check<'a> {
    node: &'a Node,
    findings: &'a mut Vec<Finding>,
}

impl Check<'_> {
    fn find(&mut self, is_found: bool, kind: &Kind, found: impl Into<String>) {
        if is_found {
            self.findings.push(kind.at(&self.node.name, found));
        }
    }

    /// A setting, or nothing if the server has none of that name or did not tell.
    fn setting(&self, name: &str) -> &str {
        self.node.config.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> f64 {
        self.setting(name).parse().unwrap_or_default()
    }

    /// What the server tells of all its settings is needed for most checks.
    fn is_told(&self) -> bool {
        !self.node.config.is_empty()
    }

    fn versions(&mut self) {
        let (server, version) = self.node.info.server();
        let is_tested = TESTED.iter().any(|&(name, beginning)| server == name && version.starts_with(beginning));
        self.find(!is_tested, &k::SERVER_UNTESTED, format!("{server} {version}"));
        self.find(self.node.info.module_version().is_none(), &k::MODULE_MISSING, "the module gw is not loaded");
        let not_allowed = self.node.not_allowed.iter().cloned().collect::<BTreeSet<_>>();
        let not_allowed: Vec<String> = not_allowed.into_iter().collect();
        self.find(!not_allowed.is_empty(), &k::NOT_ALLOWED, format!("refused: {}", not_allowed.join(", ")));
    }

    fn memory(&mut self) {
        if !self.is_told() {
            return;
        }
        let (bound, policy) = (self.number("maxmemory"), self.setting("maxmemory-policy").to_owned());
        self.find(policy.starts_with("allkeys-"), &k::EVICTS_ALL, format!("maxmemory-policy {policy}"));
        let is_limits = policy.starts_with("volatile-") && policy != "volatile-lfu";
        self.find(is_limits, &k::EVICTS_LIMITS, format!("maxmemory-policy {policy}"));
        self.find(bound == 0.0, &k::NO_MEMORY_BOUND, "maxmemory 0");
        let machine = self.node.info.number("total_system_memory").unwrap_or_default();
        let is_high = machine > 0.0 && bound > machine * MEMORY_PART;
        self.find(is_high, &k::MEMORY_BOUND_HIGH, format!("maxmemory {bound} of {machine} bytes of the machine"));
        let used = self.node.info.number("used_memory").unwrap_or_default();
        let is_full = bound > 0.0 && used > bound * MEMORY_FULL;
        self.find(is_full, &k::MEMORY_FULL, format!("used_memory {used}, maxmemory {bound}"));
    }

    fn persistence(&mut self) {
        let failed = |field: &&str| !matches!(self.node.info.text(field), "ok" | "");
        let failed: Vec<&str> = ["aof_last_write_status", "rdb_last_bgsave_status", "aof_last_bgrewrite_status"]
            .into_iter()
            .filter(failed)
            .collect();
        self.find(!failed.is_empty(), &k::WRITE_FAILED, format!("not ok: {}", failed.join(", ")));
        if !self.is_told() {
            return;
        }
        let (has_aof, has_snapshots) = (self.setting("appendonly") == "yes", !self.setting("save").is_empty());
        self.find(!has_aof && !has_snapshots, &k::NOT_PERSISTENT, "appendonly no, and no save");
        self.find(!has_aof && has_snapshots, &k::SNAPSHOTS_ONLY, "appendonly no");
        let has_no_fsync = has_aof && self.setting("appendfsync") == "no";
        self.find(has_no_fsync, &k::NO_FSYNC, "appendfsync no");
        let may_fail = has_snapshots && self.setting("stop-writes-on-bgsave-error") == "no";
        self.find(may_fail, &k::SNAPSHOT_ERRORS_PASS, "stop-writes-on-bgsave-error no");
        self.find(self.setting("rdbcompression") == "yes", &k::SNAPSHOTS_COMPRESS, "rdbcompression yes");
    }

    fn users(&mut self) {
        self.find(self.node.is_open, &k::DEFAULT_USER, "the default user is on, without a password");
        for user in &self.node.users {
            let name = &user.name;
            self.find(user.is_internal, &k::INTERNAL_COMMANDS, format!("user {name}"));
            self.find(!user.lacks.is_empty(), &k::ROLE_LACKS, format!("user {name}: {}", user.lacks.join(", ")));
        }
    }

    fn network(&mut self) {
        if !self.is_told() {
            return;
        }
        let bind = self.setting("bind");
        let is_local = |address: &str| {
            let address = address.trim_start_matches('-');
            address == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        };
        let is_reached = bind.is_empty() || !bind.split_whitespace().all(is_local);
        let bind = if bind.is_empty() { "all addresses" } else { bind }.to_owned();
        let is_open = is_reached && self.node.is_open && self.setting("protected-mode") == "no";
        self.find(is_open, &k::OPEN, format!("protected-mode no, bound to {bind}, and no password"));
        let is_clear = is_reached && self.number("port") > 0.0;
        self.find(is_clear, &k::NO_TLS, format!("a port without TLS, bound to {bind}"));
        let modules = self.setting("enable-module-command").to_owned();
        self.find(modules == "yes", &k::MODULE_COMMAND, format!("enable-module-command {modules}"));
    }

    fn replication(&mut self) {
        let info = &self.node.info;
        if info.role() == Role::Replica {
            let status = info.text("master_link_status");
            self.find(status != "up", &k::LINK_DOWN, format!("master_link_status {status}"));
            return;
        }
        let replicas = info.number("connected_slaves").unwrap_or_default();
        self.find(replicas == 0.0, &k::NO_REPLICA, "no replica is connected");
        if !self.is_told() {
            return;
        }
        let (wanted, backlog) = (self.number("min-replicas-to-write"), self.number("repl-backlog-size"));
        let found = format!("min-replicas-to-write {wanted}, and {replicas} connected");
        self.find(replicas < wanted, &k::WRITES_STOPPED, found);
        self.find(replicas > 0.0 && wanted == 0.0, &k::CUT_OFF_WRITES, "min-replicas-to-write 0");
        self.find(replicas > 0.0 && backlog < BACKLOG, &k::BACKLOG_SMALL, format!("repl-backlog-size {backlog}"));
    }

    fn cluster(&mut self) {
        let Some(cluster) = &self.node.cluster else { return };
        let served = cluster.number("cluster_slots_ok").unwrap_or_default();
        let state = cluster.text("cluster_state");
        let is_whole = served == f64::from(gateway_core::slot::SLOTS) && state == "ok";
        self.find(!is_whole, &k::SLOTS_UNSERVED, format!("cluster_state {state}, {served} slots are served"));
        let timeout = self.number("cluster-node-timeout");
        let is_short = self.is_told() && timeout < CLUSTER_TIMEOUT_MS;
        self.find(is_short, &k::TIMEOUT_SHORT, format!("cluster-node-timeout {timeout}"));
    }
}

/// What is seen only by comparing the nodes.
fn together(nodes: &[Node], findings: &mut Vec<Finding>) {
    let versions: BTreeSet<String> = nodes.iter().filter_map(|node| node.info.module_version()).collect();
    if versions.len() > 1 {
        findings.push(k::MODULE_VERSIONS.of_all(Vec::from_iter(versions).join(", ")));
    }
    let told: Vec<&Node> = nodes.iter().filter(|node| !node.config.is_empty()).collect();
    let names: BTreeSet<&String> =
        told.iter().flat_map(|node| node.config.keys()).filter(|name| name.starts_with("gw.")).collect();
    for name in names {
        // A node without the module, or with an older one, is told of elsewhere.
        let values: BTreeSet<&String> = told.iter().filter_map(|node| node.config.get(name)).collect();
        if values.len() > 1 {
            let shown: Vec<String> =
                told.iter().filter_map(|node| Some(format!("{} at {}", node.config.get(name)?, node.name))).collect();
            findings.push(k::SETTINGS_DIFFER.of_all(format!("{name}: {}", shown.join(", "))));
        }
    }
    let leads = || nodes.iter().filter_map(|node| Some((node, node.lead?)));
    let ahead = leads().max_by(|(_, a), (_, b)| a.least.total_cmp(&b.least));
    let behind = leads().min_by(|(_, a), (_, b)| a.most.total_cmp(&b.most));
    if let (Some((first, ahead)), Some((last, behind))) = (ahead, behind) {
        // What is certain of the difference: the answers' ways leave the rest open.
        let apart = ahead.least - behind.most;
        if apart > CLOCKS_APART {
            let found = format!("{} is at least {apart:.0} ms ahead of {}", first.name, last.name);
            findings.push(k::CLOCKS_DIFFER.of_all(found));
        }
    }
    for (node, lead) in leads() {
        let off = if lead.least > 0.0 { lead.least } else { lead.most.min(0.0) };
        if off.abs() > CLOCKS_APART {
            let side = if off > 0.0 { "ahead of" } else { "behind" };
            findings.push(k::CLOCK_OFF.at(&node.name, format!("at least {:.0} ms {side} this machine", off.abs())));
        }
    }
}
