//! The start of a cluster.

use super::nodes::{Cluster, node_id};
use super::slots::SLOTS;

use crate::error::Error;
use crate::proxy::Proxy;
use crate::server::{Options, Server};
use crate::wait::{DEADLINE, await_until};
use redis::cmd;
use std::time::Duration;

/// What a cluster consists of.
#[derive(Debug, Clone)]
#[must_use]
pub struct Layout {
    options: Options,
    primaries: usize,
    replicas: usize,
    proxies: bool,
}

impl Layout {
    /// `primaries` servers with `replicas` each. Replicas do not take over by themselves: otherwise a node that a busy
    /// machine stops for a while would lose its role.
    pub fn new(options: &Options, primaries: usize, replicas: usize) -> Self {
        let options = options
            .clone()
            .cluster_node()
            .config("cluster-replica-no-failover yes")
            // A primary that gives away its last slot stays what it is.
            .config("cluster-allow-replica-migration no");
        Self { options, primaries, replicas, proxies: false }
    }

    /// Replicas take over from a primary that has not answered for `timeout`.
    pub fn fails_over_after(mut self, timeout: Duration) -> Self {
        let timeout = format!("cluster-node-timeout {}", timeout.as_millis());
        self.options = self.options.config("cluster-replica-no-failover no").config(timeout);
        self
    }

    /// Clients and replicas reach each node through a [`Proxy`]. The nodes' own gossip goes past it.
    pub fn behind_proxies(mut self) -> Self {
        self.proxies = true;
        self
    }

    /// Starts the cluster, and returns when all nodes agree that every slot is served and every replica is connected.
    ///
    /// # Errors
    /// If a server does not start, or they do not agree in time.
    pub fn start(self) -> Result<Cluster, Error> {
        let Self { options, primaries, replicas, proxies } = self;
        let mut cluster = Cluster { nodes: Vec::new(), proxies: Vec::new(), options };
        for _ in 0..primaries * (1 + replicas) {
            cluster.start_node(proxies)?;
        }
        cluster.share_slots(primaries)?;
        cluster.meet()?;
        for (index, replica) in cluster.nodes.iter().enumerate().skip(primaries) {
            let primary = &cluster.nodes[(index - primaries) / replicas];
            replicate(replica, primary)?;
        }
        cluster.await_agreement()?;
        Ok(cluster)
    }
}

/// Makes a node the replica of a primary.
pub(super) fn replicate(replica: &Server, primary: &Server) -> Result<(), Error> {
    let id = node_id(&mut primary.connect()?)?;
    Ok(cmd("CLUSTER").arg("REPLICATE").arg(id).exec(&mut replica.connect()?)?)
}

impl Cluster {
    /// Starts `primaries` servers with `replicas` each, which share the slots evenly, and returns when all of them agree
    /// that every slot is served and every replica is connected. Replicas do not take over by themselves: see
    /// [`Layout`] for clusters that fail over, and for such with proxies.
    ///
    /// # Errors
    /// If a server does not start, or they do not agree in time.
    pub fn start(options: &Options, primaries: usize, replicas: usize) -> Result<Self, Error> {
        Layout::new(options, primaries, replicas).start()
    }

    /// Starts a node that knows no other.
    pub(super) fn start_node(&mut self, behind_proxy: bool) -> Result<(), Error> {
        if behind_proxy {
            let proxy = Proxy::start()?;
            // What the other nodes tell clients and replicas.
            let node = self.options.clone().config(format!("cluster-announce-port {}", proxy.port())).start()?;
            proxy.forward_to(node.port());
            self.proxies.push(proxy);
            self.nodes.push(node);
        } else {
            self.nodes.push(self.options.clone().start()?);
        }
        Ok(())
    }

    /// Introduces all nodes to the first one, and waits until each knows all others.
    pub(super) fn meet(&self) -> Result<(), Error> {
        let mut first = self.nodes[0].connect()?;
        for (index, node) in self.nodes.iter().enumerate().skip(1) {
            let [_, bus]: [String; 2] = cmd("CONFIG").arg("GET").arg("cluster-port").query(&mut node.connect()?)?;
            cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(self.client_port(index)).arg(bus).exec(&mut first)?;
        }
        await_until("the cluster's nodes to meet", DEADLINE, || {
            self.nodes.iter().all(|node| {
                let nodes = node
                    .connect()
                    .and_then(|mut client| Ok(cmd("CLUSTER").arg("NODES").query::<String>(&mut client)?));
                nodes.is_ok_and(|nodes| nodes.lines().count() == self.nodes.len() && !nodes.contains("handshake"))
            })
        })
    }

    fn share_slots(&self, primaries: usize) -> Result<(), Error> {
        for (index, node) in self.nodes.iter().enumerate() {
            let mut client = node.connect()?;
            // Nodes with the same epoch would first have to settle their order.
            cmd("CLUSTER").arg("SET-CONFIG-EPOCH").arg(index + 1).exec(&mut client)?;
            if index < primaries {
                let bound = |index| index * usize::from(SLOTS) / primaries;
                cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(bound(index)).arg(bound(index + 1) - 1).exec(&mut client)?;
            }
        }
        Ok(())
    }
}
