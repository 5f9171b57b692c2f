//! Where the primaries are: a client's connections, and what nodes or sentinels have told it.

use crate::cluster::{SLOTS, key_slot};
use crate::sentinel::SENTINEL_NAME;
use redis::{Connection, RedisResult, Value, cmd};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

/// How long a node may take for a reply. Calls that wait must end earlier.
const TIMEOUT: Duration = Duration::from_millis(2_500);

/// Where to ask for primaries.
#[derive(Debug, Clone)]
pub enum Discovery {
    /// Nodes of a cluster, by their ports.
    Cluster(Vec<u16>),
    /// The sentinels' ports.
    Sentinels(Vec<u16>),
}

pub(crate) struct Routes {
    discovery: Discovery,
    /// The port of each slot's primary, as far as it is known. Without a cluster every key is in slot 0.
    primaries: Vec<Option<u16>>,
    connections: HashMap<u16, Connection>,
    questions: usize,
}

impl Routes {
    pub(crate) fn new(discovery: Discovery) -> Self {
        Self { discovery, primaries: vec![None; usize::from(SLOTS)], connections: HashMap::new(), questions: 0 }
    }

    /// The port of the key's primary, as far as somebody tells.
    pub(crate) fn find(&mut self, key: &str) -> Option<u16> {
        let slot = self.slot(key);
        if self.primaries[slot].is_none() {
            self.questions += 1;
            match self.discovery.clone() {
                Discovery::Cluster(mut ports) => {
                    // Somebody else each time: what a node tells that was cut off can be old.
                    let first = self.questions % ports.len();
                    ports.rotate_left(first);
                    let told = ports.into_iter().find_map(|port| self.ask_cluster(port))?;
                    for (first, last, port) in told {
                        self.primaries[first..=last].fill(Some(port));
                    }
                }
                Discovery::Sentinels(ports) => {
                    self.primaries[slot] = ports.into_iter().find_map(|port| self.ask_sentinel(port));
                }
            }
        }
        self.primaries[slot]
    }

    /// A node has told where the key's slot is.
    pub(crate) fn learn(&mut self, key: &str, port: u16) {
        let slot = self.slot(key);
        self.primaries[slot] = Some(port);
    }

    /// The key may have another primary than before.
    pub(crate) fn forget(&mut self, key: &str) {
        let slot = self.slot(key);
        self.primaries[slot] = None;
    }

    /// A connection to the server on a port; a new one if there is none.
    pub(crate) fn connection(&mut self, port: u16) -> Option<&mut Connection> {
        match self.connections.entry(port) {
            Entry::Occupied(entry) => Some(entry.into_mut()),
            Entry::Vacant(entry) => Some(entry.insert(connect(port).ok()?)),
        }
    }

    pub(crate) fn disconnect(&mut self, port: u16) {
        self.connections.remove(&port);
    }

    fn slot(&self, key: &str) -> usize {
        match self.discovery {
            Discovery::Cluster(_) => usize::from(key_slot(key)),
            Discovery::Sentinels(_) => 0,
        }
    }

    fn ask_cluster(&mut self, port: u16) -> Option<Vec<(usize, usize, u16)>> {
        let told: RedisResult<Vec<Vec<Value>>> = cmd("CLUSTER").arg("SLOTS").query(self.connection(port)?);
        let Ok(told) = told else {
            self.disconnect(port);
            return None;
        };
        told.into_iter().map(|range| read_range(&range)).collect()
    }

    fn ask_sentinel(&mut self, port: u16) -> Option<u16> {
        let told: RedisResult<(String, u16)> =
            cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(SENTINEL_NAME).query(self.connection(port)?);
        if told.is_err() {
            self.disconnect(port);
        }
        told.ok().map(|(_, port)| port)
    }
}

fn connect(port: u16) -> RedisResult<Connection> {
    let connection = redis::Client::open(("127.0.0.1", port))?.get_connection_with_timeout(TIMEOUT)?;
    connection.set_read_timeout(Some(TIMEOUT))?;
    connection.set_write_timeout(Some(TIMEOUT))?;
    Ok(connection)
}

/// An item of CLUSTER SLOTS: first slot, last slot, the primary as address and port, the replicas.
fn read_range(range: &[Value]) -> Option<(usize, usize, u16)> {
    let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = range else { return None };
    let Some(Value::Int(port)) = primary.get(1) else { return None };
    Some((usize::try_from(*first).ok()?, usize::try_from(*last).ok()?, u16::try_from(*port).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_read() {
        let node = Value::Array(vec![Value::BulkString(b"127.0.0.1".into()), Value::Int(7000)]);
        let range = [Value::Int(0), Value::Int(5460), node, Value::Array(Vec::new())];
        assert_eq!(read_range(&range), Some((0, 5460, 7000)));
        assert_eq!(read_range(&range[..2]), None);
    }
}
