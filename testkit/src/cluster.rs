//! A private cluster: several servers that share the slots.

use crate::client::info;
use crate::error::Error;
use crate::server::{Options, Server};
use crate::wait::{DEADLINE, await_until};
use redis::{Connection, FromRedisValue as _, RedisResult, Value, cmd};
use std::collections::HashMap;

/// The number of slots in a cluster.
pub const SLOTS: u16 = 16_384;

/// The number of keys that one MIGRATE of [`Cluster::move_slot`] moves.
const KEYS_PER_MIGRATE: usize = 16;

/// Servers that share the slots evenly, and their replicas. All of them end when the value is dropped.
#[derive(Debug)]
pub struct Cluster {
    /// At the start the first ones are primaries; then come the replicas of the first primary, of the second, and so
    /// on.
    nodes: Vec<Server>,
}

impl Cluster {
    /// Starts `primaries` servers with `replicas` each, and returns when all of them agree that every slot is served
    /// and every replica is connected. Replicas do not take over by themselves: otherwise a node that a busy machine
    /// stops for a while would lose its role.
    ///
    /// # Errors
    /// If a server does not start, or they do not agree in time.
    pub fn start(options: &Options, primaries: usize, replicas: usize) -> Result<Self, Error> {
        let node = options.clone().cluster_node().config("cluster-replica-no-failover yes");
        let start = |_| node.clone().start();
        let nodes = (0..primaries * (1 + replicas)).map(start).collect::<Result<Vec<_>, _>>()?;
        let cluster = Self { nodes };
        cluster.share_slots(primaries)?;
        cluster.meet()?;
        for (index, replica) in cluster.nodes.iter().enumerate().skip(primaries) {
            let primary = &cluster.nodes[(index - primaries) / replicas];
            let id = node_id(&mut primary.connect()?)?;
            cmd("CLUSTER").arg("REPLICATE").arg(id).exec(&mut replica.connect()?)?;
        }
        cluster.await_agreement()?;
        Ok(cluster)
    }

    /// All nodes, in any role.
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    pub fn nodes_mut(&mut self) -> &mut [Server] {
        &mut self.nodes
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
        self.nodes.iter().find(serves).ok_or_else(|| Error::new(format!("no node serves {key}")))
    }

    /// The replicas of a primary.
    ///
    /// # Errors
    /// If a node does not answer.
    pub fn replicas_of(&self, primary: &Server) -> Result<Vec<&Server>, Error> {
        let mut replicas = Vec::new();
        for node in &self.nodes {
            let fields = info(&mut node.connect()?, "replication");
            if fields.get("master_port").is_some_and(|port| *port == primary.port().to_string()) {
                replicas.push(node);
            }
        }
        Ok(replicas)
    }

    /// Moves a slot from one primary to another while both serve, as `redis-cli --cluster reshard` does, and returns
    /// when all nodes know it.
    ///
    /// # Errors
    /// If a node refuses a step.
    pub fn move_slot(&self, slot: u16, from: &Server, to: &Server) -> Result<(), Error> {
        self.begin_move(slot, from, to)?;
        self.move_keys(slot, from, to)?;
        self.end_move(slot, to)
    }

    /// The first step of a move: from now on the new node gets the keys that the old one does not have.
    ///
    /// # Errors
    /// If a node refuses.
    pub fn begin_move(&self, slot: u16, from: &Server, to: &Server) -> Result<(), Error> {
        let (mut source, mut target) = (from.connect()?, to.connect()?);
        set_slot(&mut target, slot, "IMPORTING", &node_id(&mut source)?)?;
        set_slot(&mut source, slot, "MIGRATING", &node_id(&mut target)?)?;
        Ok(())
    }

    /// The second step: moves the slot's keys.
    ///
    /// # Errors
    /// If a node refuses.
    pub fn move_keys(&self, slot: u16, from: &Server, to: &Server) -> Result<(), Error> {
        let mut source = from.connect()?;
        loop {
            let keys: Vec<Vec<u8>> =
                cmd("CLUSTER").arg("GETKEYSINSLOT").arg(slot).arg(KEYS_PER_MIGRATE).query(&mut source)?;
            if keys.is_empty() {
                return Ok(());
            }
            let mut migrate = cmd("MIGRATE");
            migrate.arg("127.0.0.1").arg(to.port()).arg("").arg(0).arg(DEADLINE.as_millis() as u64);
            migrate.arg("KEYS").arg(keys).exec(&mut source)?;
        }
    }

    /// The last step: the slot now belongs to the new node, and all nodes learn this.
    ///
    /// # Errors
    /// If a node refuses, or does not learn it.
    pub fn end_move(&self, slot: u16, to: &Server) -> Result<(), Error> {
        let id = node_id(&mut to.connect()?)?;
        // The new owner comes first: it then has the newest configuration, in any case.
        set_slot(&mut to.connect()?, slot, "NODE", &id)?;
        for node in &self.nodes {
            let mut client = node.connect()?;
            if is_primary(&mut client) {
                set_slot(&mut client, slot, "NODE", &id)?;
            }
        }
        self.await_agreement()
    }

    /// Whether the chosen server can move slots in one step ([`Self::move_slots_at_once`]).
    ///
    /// # Errors
    /// If it does not start.
    pub fn moves_slots_at_once() -> Result<bool, Error> {
        let server = Server::options().without_module().cluster_node().start()?;
        let help: Vec<String> = cmd("CLUSTER").arg("HELP").query(&mut server.connect()?)?;
        Ok(help.iter().any(|line| line.starts_with("MIGRATESLOTS")))
    }

    /// Moves slots with all their keys from one primary to another in one step (Valkey's `CLUSTER MIGRATESLOTS`), and
    /// returns when all nodes know it.
    ///
    /// # Errors
    /// If the server refuses, or the move fails.
    pub fn move_slots_at_once(&self, [first, last]: [u16; 2], from: &Server, to: &Server) -> Result<(), Error> {
        self.begin_move_at_once([first, last], from, to)?;
        self.end_move_at_once(from)
    }

    /// The first step of [`Self::move_slots_at_once`]: the rest happens by itself.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn begin_move_at_once(&self, [first, last]: [u16; 2], from: &Server, to: &Server) -> Result<(), Error> {
        let mut migrate = cmd("CLUSTER");
        migrate.arg("MIGRATESLOTS").arg("SLOTSRANGE").arg(first).arg(last);
        migrate.arg("NODE").arg(node_id(&mut to.connect()?)?);
        Ok(migrate.exec(&mut from.connect()?)?)
    }

    /// Waits until a move that [`Self::begin_move_at_once`] has begun is complete.
    ///
    /// # Errors
    /// If it fails.
    pub fn end_move_at_once(&self, from: &Server) -> Result<(), Error> {
        let mut source = from.connect()?;
        let mut state = String::new();
        await_until("the slots to move", DEADLINE, || {
            let moves: RedisResult<Vec<HashMap<String, Value>>> =
                cmd("CLUSTER").arg("GETSLOTMIGRATIONS").query(&mut source);
            let last = moves.ok().and_then(|moves| moves.into_iter().next()).unwrap_or_default();
            let text =
                |field| last.get(field).and_then(|value| String::from_redis_value_ref(value).ok()).unwrap_or_default();
            state = format!("{} {}", text("state"), text("message"));
            ["success", "failed", "cancelled"].iter().any(|end| state.starts_with(end))
        })?;
        match state.starts_with("success") {
            true => self.await_agreement(),
            false => Err(Error::new(format!("the slots did not move: {state}"))),
        }
    }

    /// Makes a replica of `primary` the primary, without losing anything, and returns it when all nodes know it.
    ///
    /// # Errors
    /// If there is no replica, or it does not take over in time.
    pub fn fail_over(&self, primary: &Server) -> Result<&Server, Error> {
        let replica = *self.replicas_of(primary)?.first().ok_or_else(|| Error::new("the primary has no replica"))?;
        let mut client = replica.connect()?;
        await_until("the replica to take over", DEADLINE, || {
            // A vote that comes too late does not count, and is requested again.
            is_primary(&mut client) || {
                let _: RedisResult<()> = cmd("CLUSTER").arg("FAILOVER").exec(&mut client);
                await_until("the vote", DEADLINE / 10, || is_primary(&mut client)).is_ok()
            }
        })?;
        self.await_agreement()?;
        Ok(replica)
    }

    /// Waits until every node has heard of all others, knows that each slot is served, and is connected to its primary.
    ///
    /// # Errors
    /// If that does not happen in time.
    pub fn await_agreement(&self) -> Result<(), Error> {
        let agreed = |node: &Server| -> Result<Option<Vec<String>>, Error> {
            let mut client = node.connect()?;
            let state: String = cmd("CLUSTER").arg("INFO").query(&mut client)?;
            let fields = info(&mut client, "replication");
            let connected = fields.get("master_link_status").is_none_or(|status| status == "up");
            if !state.contains("cluster_state:ok") || !connected {
                return Ok(None);
            }
            let nodes: String = cmd("CLUSTER").arg("NODES").query(&mut client)?;
            // id address flags primary ping pong epoch link slots...
            let mut view = Vec::new();
            for line in nodes.lines() {
                let words: Vec<_> = line.split(' ').collect();
                let flags = words.get(2).map(|flags| flags.trim_start_matches("myself,")).unwrap_or_default();
                let slots = words.iter().skip(8).filter(|word| !word.starts_with('['));
                let primary = words.get(3).copied().unwrap_or_default();
                view.push(format!("{} {flags} {primary} {}", words[0], slots.copied().collect::<Vec<_>>().join(" ")));
            }
            view.sort();
            Ok(Some(view))
        };
        await_until("the cluster's nodes to agree", DEADLINE, || {
            let running = self.nodes.iter().filter(|node| node.pid().is_some());
            let views: Result<Option<Vec<_>>, _> =
                running.map(agreed).map(Result::transpose).collect::<Option<_>>().transpose();
            let Ok(Some(views)) = views else { return false };
            views.iter().all(|view: &Vec<String>| view.len() == self.nodes.len() && *view == views[0])
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

    fn meet(&self) -> Result<(), Error> {
        let mut first = self.nodes[0].connect()?;
        for node in &self.nodes[1..] {
            let [_, bus]: [String; 2] = cmd("CONFIG").arg("GET").arg("cluster-port").query(&mut node.connect()?)?;
            cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(node.port()).arg(bus).exec(&mut first)?;
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
}

/// The slot of a key, by the rules of hash tags.
///
/// # Errors
/// If the node does not answer.
pub fn slot_of(client: &mut Connection, key: &str) -> Result<u16, Error> {
    Ok(cmd("CLUSTER").arg("KEYSLOT").arg(key).query(client)?)
}

fn node_id(client: &mut Connection) -> Result<String, Error> {
    Ok(cmd("CLUSTER").arg("MYID").query(client)?)
}

fn is_primary(client: &mut Connection) -> bool {
    info(client, "replication").get("role").is_some_and(|role| role == "master")
}

fn set_slot(client: &mut Connection, slot: u16, state: &str, id: &str) -> Result<(), Error> {
    Ok(cmd("CLUSTER").arg("SETSLOT").arg(slot).arg(state).arg(id).exec(client)?)
}
