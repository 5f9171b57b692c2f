//! The nodes of a server or a cluster, found from one address. The programs in this folder have it in common.

use redis::{
    Connection, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError, RedisResult, Value,
};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// After this time, a node that does not accept a connection is considered gone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// If a call is not replied for this long, the node is considered gone.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A server's address; of a Unix socket, its path as the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Address {
    /// The address that a node tells: without a host it is the node's own one.
    fn told(host: &str, port: u16, by: &Address) -> Address {
        let host = if host.is_empty() { &by.host } else { host };
        Address { host: host.to_owned(), port }
    }
}

/// The address that a program is given. User, password, database and TLS are the same for all nodes.
#[derive(Clone)]
pub struct Seed {
    info: ConnectionInfo,
    address: Address,
    /// Who is asked for the primary; none if the address is that of the server itself, or of any node of a cluster.
    sentinels: Vec<ConnectionInfo>,
    service: String,
}

impl Seed {
    /// # Errors
    /// If it is not a URL of a Redis server.
    pub fn new(url: &str) -> RedisResult<Seed> {
        let info = url.into_connection_info()?;
        let address = match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Address { host: host.clone(), port: *port }
            }
            other => Address { host: other.to_string(), port: 0 },
        };
        Ok(Seed { info, address, sentinels: Vec::new(), service: String::new() })
    }

    /// The same, but the primary is whichever server the sentinels name for the service. Each sentinel is `host:port`, or
    /// a URL with a user and password of its own.
    ///
    /// # Errors
    /// If one is neither.
    pub fn watched_by(mut self, sentinels: &[String], service: &str) -> RedisResult<Seed> {
        let info = |sentinel: &String| match sentinel.contains("://") {
            true => sentinel.as_str().into_connection_info(),
            false => format!("redis://{sentinel}").into_connection_info(),
        };
        self.sentinels = sentinels.iter().map(info).collect::<RedisResult<_>>()?;
        service.clone_into(&mut self.service);
        Ok(self)
    }

    /// Whether sentinels know who the primary is.
    pub fn is_watched(&self) -> bool {
        !self.sentinels.is_empty()
    }

    /// The server to ask first: the primary by the word of the first sentinel that answers, or else the address itself.
    ///
    /// # Errors
    /// If there are sentinels, and none names a primary.
    pub fn primary(&self) -> RedisResult<Address> {
        let mut last = None;
        for sentinel in &self.sentinels {
            match self.ask(sentinel) {
                Ok(Some((host, port))) => return Ok(Address { host, port }),
                Ok(None) => last = Some(no_primary(format!("the sentinels do not know {}", self.service))),
                Err(error) => last = Some(error),
            }
        }
        last.map_or_else(|| Ok(self.address.clone()), Err)
    }

    fn ask(&self, sentinel: &ConnectionInfo) -> RedisResult<Option<(String, u16)>> {
        let mut connection = redis::Client::open(sentinel.clone())?.get_connection_with_timeout(CONNECT_TIMEOUT)?;
        connection.set_read_timeout(Some(CONNECT_TIMEOUT))?;
        redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&self.service).query(&mut connection)
    }

    /// Who serves what, by the word of the server that is asked first.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub fn shards(&self) -> RedisResult<Vec<Shard>> {
        let first = self.primary()?;
        shards(&mut self.connect(&first, PATIENCE)?, &first)
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Connects to a node. A reply that does not come within `patience` is an error.
    ///
    /// # Errors
    /// If the node cannot be reached, or refuses.
    pub fn connect(&self, node: &Address, patience: Duration) -> RedisResult<Connection> {
        let address = match self.info.addr().clone() {
            ConnectionAddr::Tcp(..) => ConnectionAddr::Tcp(node.host.clone(), node.port),
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host: node.host.clone(), port: node.port, insecure, tls_params }
            }
            other => other,
        };
        let client = redis::Client::open(self.info.clone().set_addr(address))?;
        let connection = client.get_connection_with_timeout(CONNECT_TIMEOUT)?;
        connection.set_read_timeout(Some(patience))?;
        connection.set_write_timeout(Some(patience))?;
        Ok(connection)
    }
}

/// Passes by itself, as a server that is away does.
fn no_primary(message: String) -> RedisError {
    RedisError::from((ErrorKind::Io, "no primary", message))
}

/// Slots, and the nodes that serve them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    pub slots: RangeInclusive<u16>,
    pub primary: Address,
    pub replicas: Vec<Address>,
}

/// The primaries of a cluster, each once: one may have several ranges of slots.
pub fn primaries(shards: &[Shard]) -> BTreeSet<Address> {
    shards.iter().map(|shard| shard.primary.clone()).collect()
}

/// The last slot of a cluster.
const SLOT_LAST: u16 = 16_383;

/// Who serves what, as the node at `of` knows it. A server outside a cluster serves all slots.
///
/// # Errors
/// If the connection fails, or in a cluster the user may not call `CLUSTER SLOTS`.
pub fn shards(connection: &mut Connection, of: &Address) -> RedisResult<Vec<Shard>> {
    // `CLUSTER SLOTS` alone would not do: to a user that may not call it, every server says the same.
    let hello: HashMap<String, Value> = redis::cmd("HELLO").query(connection)?;
    let mode = hello.get("mode").cloned().map(redis::from_redis_value::<String>).transpose()?;
    if mode.as_deref() != Some("cluster") {
        return Ok(vec![Shard { slots: 0..=SLOT_LAST, primary: of.clone(), replicas: Vec::new() }]);
    }
    let rows: Vec<Vec<Value>> = redis::cmd("CLUSTER").arg("SLOTS").query(connection)?;
    Ok(rows.into_iter().filter_map(|row| shard(row, of)).collect())
}

/// First slot, last slot, and of each node, the primary first: host, port, and more.
fn shard(row: Vec<Value>, of: &Address) -> Option<Shard> {
    let mut row = row.into_iter();
    let (first, last) = (integer(&row.next()?)?, integer(&row.next()?)?);
    let mut nodes = row.map(|node| node_address(&node, of));
    // Without a known address of the primary nobody can be asked.
    Some(Shard { slots: first..=last, primary: nodes.next()??, replicas: nodes.flatten().collect() })
}

fn node_address(node: &Value, of: &Address) -> Option<Address> {
    let Value::Array(fields) = node else { return None };
    let host = match fields.first()? {
        Value::BulkString(host) => String::from_utf8_lossy(host).into_owned(),
        _ => String::new(),
    };
    // The server says this of a node whose name it does not know.
    (host != "?").then_some(())?;
    Some(Address::told(&host, integer(fields.get(1)?)?, of))
}

fn integer(value: &Value) -> Option<u16> {
    match value {
        Value::Int(number) => u16::try_from(*number).ok(),
        _ => None,
    }
}

/// What a node replies if it does not serve a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redirect {
    /// The slot belongs to this node.
    Moved(Address),
    /// The slot is moving. This one call is to go to this node, behind `ASKING`.
    Ask(Address),
}

/// Reads the error of the node at `of`. `None` if it is another error.
pub fn redirect(error: &RedisError, of: &Address) -> Option<Redirect> {
    let (told, _slot) = error.redirect_node()?;
    let (host, port) = told.rsplit_once(':')?;
    let address = Address::told(host, port.parse().ok()?, of);
    Some(if error.code() == Some("ASK") { Redirect::Ask(address) } else { Redirect::Moved(address) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: &str, port: u16) -> Address {
        Address { host: host.into(), port }
    }

    #[test]
    fn rows_of_cluster_slots_are_read() {
        let text = |text: &str| Value::BulkString(text.into());
        let node = |host, port| Value::Array(vec![host, Value::Int(port), text("id"), Value::Array(vec![])]);
        let of = address("seed", 1);
        let row = |nodes: Vec<Value>| shard([vec![Value::Int(5), Value::Int(16_383)], nodes].concat(), &of);
        let found = row(vec![node(text("a"), 7), node(text("b"), 8), node(text("?"), 9)]).unwrap();
        assert_eq!((found.slots, found.primary), (5..=16_383, address("a", 7)));
        assert_eq!(found.replicas, [address("b", 8)]);
        // A node without a name is where the answer came from.
        assert_eq!(row(vec![node(Value::Nil, 7)]).unwrap().primary, address("seed", 7));
        assert_eq!(row(vec![node(text(""), 7)]).unwrap().primary, address("seed", 7));
        assert_eq!(row(vec![node(text("?"), 7), node(text("b"), 8)]), None);
        assert_eq!(row(vec![]), None);
        assert_eq!(row(vec![node(text("a"), 70_000)]), None);
    }

    #[test]
    fn urls_have_an_address() {
        assert_eq!(*Seed::new("redis://user:word@host:7/2").unwrap().address(), address("host", 7));
        assert_eq!(*Seed::new("redis://[::1]:7").unwrap().address(), address("::1", 7));
        assert!(Seed::new("host").is_err());
        let sentinels = ["host:26379".to_owned(), "redis://:word@host:26380".to_owned()];
        assert!(Seed::new("redis://host").unwrap().watched_by(&sentinels, "main").unwrap().is_watched());
        assert!(Seed::new("redis://host").unwrap().watched_by(&["a b".to_owned()], "main").is_err());
    }
}
