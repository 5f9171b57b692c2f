//! All nodes of a server with replicas or of a cluster, replicas included: for what looks at each of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use redis::{Connection, RedisResult};

use crate::nodes::{self, Address};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Primary,
    Replica,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::Replica => "replica",
        }
    }
}

/// The lines of the modules are kept under this and the module's name.
const MODULE: &str = "module.";

/// What INFO tells: fields by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info(BTreeMap<String, String>);

impl Info {
    /// # Errors
    /// If the connection fails, or the user may not call INFO.
    pub fn ask(connection: &mut Connection, sections: &[&str]) -> RedisResult<Info> {
        let text: String = redis::cmd("INFO").arg(sections).query(connection)?;
        Ok(Info::read(&text))
    }

    /// Reads lines of names and values, which other commands reply, too.
    pub fn read(text: &str) -> Info {
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        let named = fields.map(|(name, value)| match pair(value, "name") {
            // Each module has a line of the same name.
            Some(module) if name == "module" => (format!("{MODULE}{module}"), value.trim_end().to_owned()),
            _ => (name.to_owned(), value.trim_end().to_owned()),
        });
        Info(named.collect())
    }

    /// The version of this module, if it is loaded: of the section `modules`.
    pub fn module_version(&self) -> Option<String> {
        let number: u32 = pair(self.text(&format!("{MODULE}gw")), "ver")?.parse().ok()?;
        Some(format!("{}.{}.{}", number / 10_000, number / 100 % 100, number % 100))
    }

    /// A field, or nothing if this server has none of that name.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    pub fn number(&self, name: &str) -> Option<f64> {
        self.text(name).parse().ok()
    }

    pub fn role(&self) -> Role {
        if self.text("role") == "slave" { Role::Replica } else { Role::Primary }
    }

    /// The fields with this prefix, without it.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let from = self.0.range(prefix.to_owned()..);
        from.map_while(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }

    /// The server's name and version.
    pub fn server(&self) -> (&'static str, &str) {
        match self.text("valkey_version") {
            "" => ("Redis", self.text("redis_version")),
            version => ("Valkey", version),
        }
    }
}

/// A pair of a field such as `calls=5,usec=7`.
pub fn pair<'a>(field: &'a str, name: &str) -> Option<&'a str> {
    field.split(',').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name)).map(|(_, value)| value)
}

/// The nodes that the node at `of` knows, itself included. `info` is its own, with the sections `replication` and
/// `cluster`.
///
/// # Errors
/// If the connection fails, or in a cluster the user may not call `CLUSTER SLOTS` and `CLUSTER NODES`.
pub fn members(connection: &mut Connection, of: &Address, info: &Info) -> RedisResult<BTreeMap<Address, Role>> {
    if info.text("cluster_enabled") != "1" {
        return Ok(replicated(of, info));
    }
    let shards = nodes::shards(connection, of)?;
    // `CLUSTER SLOTS` has no nodes that have failed, nor replicas that have not got anything yet.
    let text: String = redis::cmd("CLUSTER").arg("NODES").query(connection)?;
    let by_name = shards.iter().any(|shard| shard.primary.host.parse::<IpAddr>().is_err());
    let mut members = clustered(&text, of, by_name);
    for shard in shards {
        members.insert(shard.primary, Role::Primary);
        members.extend(shard.replicas.into_iter().map(|replica| (replica, Role::Replica)));
    }
    Ok(members)
}

/// `id ip:port@bus-port,hostname flags …`, of each node a line. The cluster's nodes prefer addresses or names.
fn clustered(text: &str, of: &Address, by_name: bool) -> BTreeMap<Address, Role> {
    let member = |line: &str| {
        let mut words = line.split(' ').skip(1);
        let (address, flags) = (words.next()?, words.next()?);
        let has = |flag: &str| flags.split(',').any(|one| one == flag);
        if has("noaddr") || has("handshake") {
            return None;
        }
        let (told, behind) = address.split_once('@').unwrap_or((address, ""));
        let name = behind.split(',').nth(1).filter(|name| by_name && !name.is_empty());
        let (ip, port) = told.rsplit_once(':')?;
        // A node that has met no other does not know its own address.
        let host = name.unwrap_or(if ip.is_empty() { &of.host } else { ip });
        let role = if has("slave") { Role::Replica } else { Role::Primary };
        Some((Address { host: host.to_owned(), port: port.parse().ok()? }, role))
    };
    text.lines().filter_map(member).collect()
}

/// A primary knows its replicas, and a replica its primary.
fn replicated(of: &Address, info: &Info) -> BTreeMap<Address, Role> {
    let mut members = BTreeMap::from([(of.clone(), info.role())]);
    if let Ok(port) = info.text("master_port").parse() {
        members.insert(Address { host: info.text("master_host").to_owned(), port }, Role::Primary);
    }
    let numbered = info.with_prefix("slave").filter(|(number, _)| number.parse::<u32>().is_ok());
    for (_, replica) in numbered {
        if let (Some(host), Some(Ok(port))) = (pair(replica, "ip"), pair(replica, "port").map(str::parse)) {
            members.insert(Address { host: host.to_owned(), port }, Role::Replica);
        }
    }
    members
}

/// The slots that this node of a cluster has itself: first and last ones.
///
/// # Errors
/// If the connection fails, or the user may not call `CLUSTER NODES`.
pub fn own_slots(connection: &mut Connection) -> RedisResult<Vec<(u16, u16)>> {
    let text: String = redis::cmd("CLUSTER").arg("NODES").query(connection)?;
    Ok(own_slots_of(&text))
}

/// `id address flags primary ping pong epoch link slots …`; slots that are moving are in brackets.
fn own_slots_of(text: &str) -> Vec<(u16, u16)> {
    let is_own = |line: &&str| line.split(' ').nth(2).is_some_and(|flags| flags.split(',').any(|one| one == "myself"));
    let slots = text.lines().find(is_own).into_iter().flat_map(|line| line.split(' ').skip(8));
    let slots = slots.filter_map(|word| {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        Some((first.parse().ok()?, last.parse().ok()?))
    });
    slots.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: &str, port: u16) -> Address {
        Address { host: host.into(), port }
    }

    #[test]
    fn info_is_read() {
        let info = Info::read(
            "# Server\r\nredis_version:7.2.4\r\nvalkey_version:9.1.2\r\n\r\ncmdstat_gw.allow:calls=5,usec=7\r\n\
             module:name=gw,ver=10203,api=1\r\nmodule:name=other,ver=1\r\n",
        );
        assert_eq!(info.module_version().as_deref(), Some("1.2.3"));
        assert_eq!(info.server(), ("Valkey", "9.1.2"));
        let [(name, field)] = info.with_prefix("cmdstat_").collect::<Vec<_>>()[..] else { panic!() };
        assert_eq!((name, pair(field, "usec"), pair(field, "sec")), ("gw.allow", Some("7"), None));
        assert_eq!((info.text("none"), info.number("none")), ("", None));
    }

    #[test]
    fn a_primary_and_its_replicas_know_each_other() {
        let primary =
            Info::read("role:master\nconnected_slaves:1\nslave0:ip=b,port=2,state=online\nslave_repl_offset:7\n");
        let (a, b) = (address("a", 1), address("b", 2));
        let both = BTreeMap::from([(a.clone(), Role::Primary), (b.clone(), Role::Replica)]);
        assert_eq!(replicated(&a, &primary), both);
        assert_eq!(replicated(&b, &Info::read("role:slave\nmaster_host:a\nmaster_port:1\n")), both);
    }

    #[test]
    fn nodes_of_a_cluster_are_read() {
        let text = "e1 10.0.0.1:7001@17001,a.example master,fail - 0 1 2 connected 0-5460\n\
                    e2 :7002@17002 myself,slave e1 0 0 1 connected\n\
                    e3 :0@0 master,noaddr - 0 0 1 disconnected\n";
        let of = address("seed", 7002);
        let members =
            |first: &str| BTreeMap::from([(address(first, 7001), Role::Primary), (of.clone(), Role::Replica)]);
        assert_eq!(clustered(text, &of, false), members("10.0.0.1"));
        assert_eq!(clustered(text, &of, true), members("a.example"));
    }

    #[test]
    fn a_node_has_slots() {
        let text = "e1 127.0.0.1:7001@17001 master - 0 1 2 connected 0-5460\n\
                    e2 127.0.0.1:7002@17002 myself,master - 0 0 1 connected 5461-10000 10002 [10003->-e1]\n";
        assert_eq!(own_slots_of(text), [(5461, 10_000), (10_002, 10_002)]);
        assert_eq!(own_slots_of(""), []);
    }
}
