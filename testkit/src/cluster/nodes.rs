//! The nodes of a cluster, and which role each has now.

use super::known::nodes_known_to;
use crate::error::Error;
use crate::proxy::Proxy;
use crate::server::{Options, Server};
use redis::{Connection, Value, cmd};

/// Servers that share the slots, and their replicas. All of them end when the value is dropped.
#[derive(Debug)]
pub struct Cluster {
    /// At the start the first ones are primaries; then come the replicas of the first primary, of the second, and so
    /// on.
    pub(super) nodes: Vec<Server>,
    /// Of each node, in the same order; none if clients and replicas connect directly.
    pub(super) proxies: Vec<Proxy>,
    /// With what further nodes start.
    pub(super) options: Options,
}

impl Cluster {
    /// All nodes, in any role.
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    pub fn nodes_mut(&mut self) -> &mut [Server] {
        &mut self.nodes
    }

    /// The node on a port of its own, not of its proxy.
    ///
    /// # Errors
    /// If there is none.
    pub fn node(&self, port: u16) -> Result<&Server, Error> {
        Ok(&self.nodes[self.index_of(port)?])
    }

    /// The node on a port, to stop and start it.
    ///
    /// # Errors
    /// If there is none.
    pub fn node_mut(&mut self, port: u16) -> Result<&mut Server, Error> {
        let index = self.index_of(port)?;
        Ok(&mut self.nodes[index])
    }

    /// The proxy in front of the node on a port.
    ///
    /// # Errors
    /// If the cluster has none.
    pub fn proxy_of(&self, port: u16) -> Result<&Proxy, Error> {
        let index = self.index_of(port)?;
        self.proxies.get(index).ok_or_else(|| Error::new("the cluster has no proxies"))
    }

    /// The ports for clients: those of the proxies, or else of the nodes.
    pub fn ports(&self) -> Vec<u16> {
        (0..self.nodes.len()).map(|index| self.client_port(index)).collect()
    }

    /// The node that now says it serves the key.
    ///
    /// # Errors
    /// If no node does.
    pub fn primary_of(&self, key: &str) -> Result<&Server, Error> {
        let serves = |node: &&Server| {
            let Ok(mut client) = node.connect() else { return false };
            cmd("GET")
                .arg(key)
                .query::<Value>(&mut client)
                .map_or_else(|error| error.code() == Some("WRONGTYPE"), |_| true)
        };
        self.running().find(serves).ok_or_else(|| Error::new(format!("no node serves {key}")))
    }

    /// The nodes that are primaries, with or without slots.
    pub fn primaries(&self) -> Vec<&Server> {
        self.nodes.iter().filter(|node| node.is_primary()).collect()
    }

    /// The replicas of a primary.
    ///
    /// # Errors
    /// If a node does not answer.
    pub fn replicas_of(&self, primary: &Server) -> Result<Vec<&Server>, Error> {
        let id = node_id(&mut primary.connect()?)?;
        let mut replicas = Vec::new();
        for node in self.running() {
            let known = nodes_known_to(&mut node.connect()?)?;
            if known.iter().any(|known| known.is_myself && known.primary.as_deref() == Some(&id)) {
                replicas.push(node);
            }
        }
        Ok(replicas)
    }

    /// The number of slots that a primary has, by its own word.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn slots_of(&self, primary: &Server) -> Result<u16, Error> {
        let known = nodes_known_to(&mut primary.connect()?)?;
        Ok(known.iter().filter(|known| known.is_myself).map(|known| known.slot_count()).sum())
    }

    /// The nodes that can answer.
    pub(super) fn running(&self) -> impl Iterator<Item = &Server> {
        self.nodes.iter().filter(|node| node.can_answer())
    }

    pub(super) fn index_of(&self, port: u16) -> Result<usize, Error> {
        let found = self.nodes.iter().position(|node| node.port() == port);
        found.ok_or_else(|| Error::new(format!("no node of the cluster is on port {port}")))
    }

    pub(super) fn client_port(&self, index: usize) -> u16 {
        self.proxies.get(index).map_or_else(|| self.nodes[index].port(), Proxy::port)
    }
}

pub(super) fn node_id(client: &mut Connection) -> Result<String, Error> {
    Ok(cmd("CLUSTER").arg("MYID").query(client)?)
}
