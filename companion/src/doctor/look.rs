//! What is looked at, at each node.

use std::collections::{BTreeMap, HashMap};
use std::time::{Instant, SystemTime};

use redis::{Cmd, Connection, ErrorKind, FromRedisValue, RedisResult, cmd};

use super::roles::Role as UserRole;
use crate::members::{self, Info, Role};
use crate::nodes::{Address, PATIENCE, Seed};

/// How often a node is asked for its time. The quickest answer says most.
const CLOCK_TRIES: u32 = 5;

/// A clock's lead over this machine's, in milliseconds: between these two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lead {
    pub least: f64,
    pub most: f64,
}

/// A user of a server, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    /// Commands of the book's role of this name that it may not call.
    pub lacks: Vec<String>,
    /// Whether it may call a GW._ command.
    pub is_internal: bool,
}

/// What a node shows.
#[derive(Debug, Clone)]
pub struct Node {
    pub name: String,
    pub info: Info,
    pub config: BTreeMap<String, String>,
    /// Of a cluster's node: fields of CLUSTER INFO.
    pub cluster: Option<Info>,
    pub lead: Option<Lead>,
    /// Whether anybody is let in without a password.
    pub is_open: bool,
    pub users: Vec<User>,
    /// Commands that this user may not call.
    pub not_allowed: Vec<String>,
}

/// All nodes that answer, and those that do not, with the reason.
#[derive(Default)]
pub struct Found {
    pub nodes: Vec<Node>,
    pub away: Vec<(String, String)>,
}

/// Looks at the node of the address, and at all that it and the others tell of.
pub fn look(seed: &Seed, roles: &[UserRole]) -> Found {
    let mut found = Found::default();
    let mut processes: Vec<String> = Vec::new();
    let mut waiting = vec![seed.address().clone()];
    let mut known = waiting.clone();
    while let Some(address) = waiting.pop() {
        match look_at(seed, &address, roles) {
            Ok((node, members)) => {
                // The configured address may be another name of a node that the others know by theirs.
                let process = node.info.text("run_id").to_owned();
                if !processes.contains(&process) {
                    processes.push(process);
                    found.nodes.push(node);
                }
                let new: Vec<Address> = members.into_keys().filter(|member| !known.contains(member)).collect();
                known.extend(new.iter().cloned());
                waiting.extend(new);
            }
            Err(error) => found.away.push((address.to_string(), error.to_string())),
        }
    }
    found.nodes.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn look_at(seed: &Seed, address: &Address, roles: &[UserRole]) -> RedisResult<(Node, BTreeMap<Address, Role>)> {
    let mut node = Looked { connection: seed.connect(address, PATIENCE)?, not_allowed: Vec::new() };
    let sections = ["server", "memory", "persistence", "replication", "cluster", "modules", "stats"];
    let info = Info::ask(&mut node.connection, &sections)?;
    let members = members::members(&mut node.connection, address, &info)?;
    let is_cluster = info.text("cluster_enabled") == "1";
    let cluster: Option<String> = if is_cluster { node.ask("CLUSTER INFO", cmd("CLUSTER").arg("INFO"))? } else { None };
    let config: HashMap<String, String> =
        node.ask("CONFIG GET", cmd("CONFIG").arg("GET").arg("*"))?.unwrap_or_default();
    let lead = node.lead()?;
    let is_open = node.is_open()?;
    let users = node.users(roles, info.module_version().is_some())?;
    let node = Node {
        name: address.to_string(),
        info,
        config: config.into_iter().collect(),
        cluster: cluster.as_deref().map(Info::read),
        lead,
        is_open,
        users,
        not_allowed: node.not_allowed,
    };
    Ok((node, members))
}

struct Looked {
    connection: Connection,
    not_allowed: Vec<String>,
}

impl Looked {
    /// `None` if the server refuses it.
    fn ask<T: FromRedisValue>(&mut self, name: &str, command: &Cmd) -> RedisResult<Option<T>> {
        match command.query(&mut self.connection) {
            Ok(reply) => Ok(Some(reply)),
            Err(error) if error.kind() == ErrorKind::Io || error.is_timeout() => Err(error),
            Err(_) => {
                self.not_allowed.push(name.to_owned());
                Ok(None)
            }
        }
    }

    fn lead(&mut self) -> RedisResult<Option<Lead>> {
        let mut best: Option<Lead> = None;
        for _ in 0..CLOCK_TRIES {
            let (before, started) = (SystemTime::now(), Instant::now());
            let Some([seconds, micros]) = self.ask::<[f64; 2]>("TIME", &cmd("TIME"))? else { return Ok(None) };
            let took = started.elapsed().as_secs_f64() * 1e3;
            let before = before.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3;
            // The server has read its clock at some time between the question and the answer.
            let most = seconds * 1e3 + micros / 1e3 - before;
            let lead = Lead { least: most - took, most };
            if best.is_none_or(|best| best.most - best.least > took) {
                best = Some(lead);
            }
        }
        Ok(best)
    }

    fn is_open(&mut self) -> RedisResult<bool> {
        let user: Option<HashMap<String, redis::Value>> =
            self.ask("ACL GETUSER", cmd("ACL").arg("GETUSER").arg("default"))?;
        let flags = user.and_then(|mut user| user.remove("flags"));
        let flags: Vec<String> = flags.map(redis::from_redis_value).transpose()?.unwrap_or_default();
        let has = |flag: &str| flags.iter().any(|one| one == flag);
        Ok(has("on") && has("nopass"))
    }

    fn users(&mut self, roles: &[UserRole], has_module: bool) -> RedisResult<Vec<User>> {
        let names: Vec<String> = self.ask("ACL USERS", cmd("ACL").arg("USERS"))?.unwrap_or_default();
        let mut users = Vec::new();
        for name in names.into_iter().filter(|name| has_module && name != "default") {
            let role = roles.iter().find(|role| role.name == name);
            let mut lacks = Vec::new();
            for command in role.map_or(&[][..], |role| &role.commands) {
                if self.may_call(&name, command)? == Some(false) {
                    lacks.push(command.to_uppercase());
                }
            }
            let is_internal = self.may_call(&name, "gw._limit")? == Some(true);
            users.push(User { name, lacks, is_internal });
        }
        Ok(users)
    }

    /// Whether a user may call a command, whatever the key. `None` if the server does not know the command.
    fn may_call(&mut self, user: &str, command: &str) -> RedisResult<Option<bool>> {
        // The arguments are not looked at, but there must be as many as the command takes.
        let info: Option<Vec<redis::Value>> = self.ask("COMMAND INFO", cmd("COMMAND").arg("INFO").arg(command))?;
        let Some(redis::Value::Array(fields)) = info.and_then(|mut rows| rows.pop()) else { return Ok(None) };
        let Some(redis::Value::Int(arity)) = fields.get(1) else { return Ok(None) };
        let arguments = vec!["1"; arity.unsigned_abs().saturating_sub(1) as usize];
        let mut dry = cmd("ACL");
        dry.arg("DRYRUN").arg(user).arg(command).arg(arguments);
        let said: Option<String> = self.ask("ACL DRYRUN", &dry)?;
        Ok(said.map(|said| !said.contains("permissions to run")))
    }
}
