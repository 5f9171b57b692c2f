//! Nodes that come and go.

use super::known::nodes_known_to;
use super::nodes::{Cluster, node_id};
use super::start::replicate;

use crate::error::Error;
use crate::wait::{DEADLINE, await_until};
use redis::{RedisResult, cmd};

impl Cluster {
    /// Starts a primary without slots, and returns its port when all nodes know it.
    ///
    /// # Errors
    /// If it does not start, or they do not meet in time.
    pub fn add_primary(&mut self) -> Result<u16, Error> {
        self.start_node(!self.proxies.is_empty())?;
        self.meet()?;
        self.await_agreement()?;
        Ok(self.nodes[self.nodes.len() - 1].port())
    }

    /// Starts a replica of the primary on a port, and returns its own port when it is connected.
    ///
    /// # Errors
    /// If it does not start, or does not connect in time.
    pub fn add_replica(&mut self, primary: u16) -> Result<u16, Error> {
        let replica = self.add_primary()?;
        replicate(self.node(replica)?, self.node(primary)?)?;
        self.await_agreement()?;
        Ok(replica)
    }

    /// Removes the node on a port, which has no slots, and ends it.
    ///
    /// # Errors
    /// If the others do not forget it.
    pub fn remove_node(&mut self, port: u16) -> Result<(), Error> {
        let index = self.index_of(port)?;
        let id = node_id(&mut self.nodes[index].connect()?)?;
        self.nodes.remove(index).kill();
        if index < self.proxies.len() {
            self.proxies.remove(index);
        }
        for node in &self.nodes {
            let mut client = node.connect()?;
            // A replica of the node refuses as long as it has not heard that the node is gone.
            await_until("a node to forget another", DEADLINE, || {
                let forgotten: RedisResult<()> = cmd("CLUSTER").arg("FORGET").arg(&id).exec(&mut client);
                forgotten.is_ok()
                    || nodes_known_to(&mut client).is_ok_and(|known| known.iter().all(|node| node.id != id))
            })?;
        }
        self.await_agreement()
    }
}
