use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::Value;
use tokio::sync::watch;

use super::cluster::{SLOTS, parse_slots, slot_of};
use super::node::{Call, Node};
use super::settings::Settings;
use super::telling::in_trace;
use super::way::{To, Way};
use crate::commands::Request;
use crate::error::{Error, ReplyErrorKind, Unavailable};

/// The way to the servers: one of them, or the nodes of a cluster.
pub(super) struct Transport {
    settings: Settings,
    way: Way,
    cluster: bool,
    map: Mutex<Map>,
    /// How often the cluster was asked which node has which slots; whoever waits for that looks at it.
    asked: watch::Sender<u64>,
}

#[derive(Default)]
struct Map {
    nodes: HashMap<String, Arc<Node>>,
    /// By slot: the node's address.
    slots: Vec<Option<Arc<Node>>>,
    asking: bool,
}

impl Transport {
    pub(super) fn new(way: &Way, settings: &Settings) -> Arc<Self> {
        let made = Self {
            settings: settings.clone(),
            way: way.clone(),
            cluster: way.is_cluster(),
            map: Mutex::default(),
            asked: watch::Sender::new(0),
        };
        let address = match &way.to {
            To::Sentinel { name, .. } => name.to_string(),
            _ => way.client.get_connection_info().addr().to_string(),
        };
        made.map().nodes.insert(address.clone(), Arc::new(Node::new(way.clone(), address, settings)));
        Arc::new(made)
    }

    fn map(&self) -> std::sync::MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// All nodes that are known.
    pub(super) fn nodes(&self) -> Vec<Arc<Node>> {
        self.map().nodes.values().cloned().collect()
    }

    /// Where a key is: keys at one place can be named in one call.
    pub(super) fn place_of(&self, key: &[u8]) -> u16 {
        if self.cluster { slot_of(key) } else { 0 }
    }

    /// The node of a call, as far as it is known.
    pub(super) fn known_node(&self, call: &Call) -> Option<Arc<Node>> {
        let map = self.map();
        match (&call.key, self.cluster) {
            (Some(key), true) => map.slots.get(usize::from(slot_of(key))).cloned().flatten(),
            _ => map.slots.iter().flatten().next().or_else(|| map.nodes.values().next()).cloned(),
        }
    }

    async fn node_of(self: &Arc<Self>, call: &Call) -> Result<Arc<Node>, Error> {
        if !self.cluster {
            return self.known_node(call).ok_or_else(no_node);
        }
        if self.map().slots.is_empty() {
            self.ask_for_slots_and_wait().await;
        }
        let found = if self.map().slots.is_empty() { None } else { self.known_node(call) };
        if found.is_none() {
            self.ask_for_slots();
        }
        found.ok_or_else(no_node)
    }

    /// Sends a call on the request path.
    pub(super) async fn send(self: &Arc<Self>, call: &Call) -> Result<Value, Error> {
        let end = tokio::time::Instant::now() + self.settings.timeout;
        let mut node = self.node_of(call).await?;
        let mut asking = false;
        for _ in 0..8 {
            let found = node.ask(call, asking).await;
            if let Some((address, once)) = redirection(&found) {
                if !self.cluster {
                    break;
                }
                asking = once;
                if !once {
                    self.ask_for_slots();
                }
                node = self.node_at(&address, &node.address);
                continue;
            }
            let Err(Error::Unavailable(away)) = &found else { return found };
            if !self.cluster || away.sent && !call.repeatable {
                return found;
            }
            let now = tokio::time::Instant::now();
            if away.reason == "tryagain" && now < end {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            if away.down {
                self.ask_for_slots();
            }
            return found;
        }
        Err(Error::Unavailable(Unavailable::new("moved", false, false)))
    }

    /// Sends calls that can be repeated together: in one round trip to each node. Each has the answer that it would have alone.
    pub(super) async fn send_together(self: &Arc<Self>, calls: Vec<Call>) -> Vec<Result<Value, Error>> {
        let mut made: Vec<Option<Result<Value, Error>>> = calls.iter().map(|_| None).collect();
        let mut parts: Vec<(Arc<Node>, Vec<usize>)> = Vec::new();
        for (at, call) in calls.iter().enumerate() {
            match self.node_of(call).await {
                Err(error) => made[at] = Some(Err(error)),
                Ok(node) => match parts.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &node)) {
                    Some((_, places)) => places.push(at),
                    None => parts.push((node, vec![at])),
                },
            }
        }
        let mut asked = tokio::task::JoinSet::new();
        for (node, places) in parts {
            let own: Vec<Call> = places.iter().map(|&at| calls[at].clone()).collect();
            asked.spawn(in_trace(async move { (places, node.ask_together(&own).await) }));
        }
        while let Some(Ok((places, answers))) = asked.join_next().await {
            for (at, answer) in places.into_iter().zip(answers) {
                made[at] = Some(answer);
            }
        }
        let mut all = Vec::with_capacity(made.len());
        for (call, answer) in calls.iter().zip(made) {
            let answer = answer.unwrap_or_else(|| Err(no_node()));
            // Its slot has moved, or is moving.
            let moved = redirection(&answer).is_some()
                || matches!(&answer, Err(Error::Unavailable(away)) if away.reason == "tryagain");
            all.push(if moved { self.send(call).await } else { answer });
        }
        all
    }

    /// Sends a request on the request path, and reads its reply.
    pub(super) async fn run<T>(self: &Arc<Self>, request: &Request<T>) -> Result<T, Error> {
        let reply = self.send(&Call::of(request)).await?;
        request.decode(reply)
    }

    /// Sends a request that waits in the server for so long.
    pub(super) async fn wait<T>(self: &Arc<Self>, request: &Request<T>, wait: Duration) -> Result<T, Error> {
        let patience = (self.settings.waiting_timeout - self.settings.longest_wait()).max(self.settings.timeout);
        let call = Call::of(request);
        let mut node = self.node_of(&call).await?;
        for _ in 0..4 {
            let found = node.ask_waiting(&call, wait, patience).await;
            let Some((address, once)) = redirection(&found) else { return request.decode(found?) };
            if !self.cluster || once {
                break; // The slot is moving: whoever asks again is sent to its new node then.
            }
            self.ask_for_slots();
            node = self.node_at(&address, &node.address);
        }
        Err(Error::Unavailable(Unavailable::new("moved", false, false)))
    }

    /// Asks every primary, also if one of them fails: then the error of the first that has failed comes after that.
    pub(super) async fn run_everywhere<T: Send + 'static>(
        self: &Arc<Self>,
        request: &Request<T>,
        longest: Option<Duration>,
    ) -> Result<Vec<T>, Error> {
        if self.cluster {
            // Also those that have joined since.
            self.ask_for_slots_and_wait().await;
        }
        let call = Call { longest, ..Call::of(request) };
        let mut asked = tokio::task::JoinSet::new();
        for node in self.primaries() {
            let call = call.clone();
            asked.spawn(in_trace(async move { node.ask(&call, false).await }));
        }
        if asked.is_empty() {
            return Err(no_node());
        }
        let (mut made, mut failed) = (Vec::new(), None);
        while let Some(found) = asked.join_next().await {
            match found.map_err(|_| no_node()).and_then(|found| found).and_then(|reply| request.decode(reply)) {
                Ok(one) => made.push(one),
                Err(error) => failed = Some(failed.unwrap_or(error)),
            }
        }
        failed.map_or(Ok(made), Err)
    }

    fn primaries(&self) -> Vec<Arc<Node>> {
        if !self.cluster {
            return self.nodes();
        }
        let mut found: Vec<Arc<Node>> = Vec::new();
        for node in self.map().slots.iter().flatten() {
            if !found.iter().any(|known| Arc::ptr_eq(known, node)) {
                found.push(node.clone());
            }
        }
        found
    }

    // The map of a cluster.

    /// The node at an address that another node has told: an empty host is that node's own.
    fn node_at(&self, address: &str, told_by: &str) -> Arc<Node> {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "6379"));
        let own = told_by.rsplit_once(':').map_or(told_by, |(host, _)| host);
        let host = if host.is_empty() { own } else { host };
        let address = format!("{host}:{port}");
        let mut map = self.map();
        if let Some(known) = map.nodes.get(&address) {
            return known.clone();
        }
        let client = self.way.at(host, port.parse().unwrap_or(6379)).unwrap_or_else(|_| self.way.client.clone());
        let way = Way { client, to: To::Server };
        let made = Arc::new(Node::new(way, address.clone(), &self.settings));
        map.nodes.insert(address, made.clone());
        made
    }

    /// Asks in the background which node has which slots: once for all who want to know.
    fn ask_for_slots(self: &Arc<Self>) {
        {
            let mut map = self.map();
            if map.asking {
                return;
            }
            map.asking = true;
        }
        let own = self.clone();
        tokio::spawn(async move {
            own.take_slots().await;
            own.map().asking = false;
            own.asked.send_modify(|asked| *asked += 1);
        });
    }

    /// The same, and waits for it no longer than for a call.
    async fn ask_for_slots_and_wait(self: &Arc<Self>) {
        let mut asked = self.asked.subscribe();
        self.ask_for_slots();
        let longest = self.settings.timeout + self.settings.connect_timeout;
        let _ = tokio::time::timeout(longest, asked.changed()).await;
    }

    async fn take_slots(self: &Arc<Self>) {
        let mut cmd = redis::cmd("CLUSTER");
        cmd.arg("SLOTS");
        let call = Call { cmd, key: None, repeatable: true, longest: None };
        let mut asked = tokio::task::JoinSet::new();
        for node in self.nodes() {
            let call = call.clone();
            asked.spawn(async move { (node.address.clone(), node.ask(&call, false).await) });
        }
        while let Some(Ok((told_by, found))) = asked.join_next().await {
            let Some(ranges) = found.ok().and_then(parse_slots) else { continue };
            let mut slots = vec![None; SLOTS];
            let mut used = HashMap::new();
            for (first, last, address) in ranges {
                let node = self.node_at(&address, &told_by);
                used.insert(node.address.clone(), node.clone());
                for slot in slots.iter_mut().take(usize::from(last) + 1).skip(usize::from(first)) {
                    *slot = Some(node.clone());
                }
            }
            if used.is_empty() {
                continue;
            }
            let mut map = self.map();
            map.slots = slots;
            // Nodes without slots are left, and so are those that have left the cluster: their connections close with the last call.
            map.nodes = used;
            return;
        }
    }

    /// Closes the connections once the calls on them have ended.
    pub(super) fn close(&self) {
        let mut map = self.map();
        map.nodes.clear();
        map.slots.clear();
    }
}

/// Where another node is to be asked instead, and whether for this call alone.
fn redirection(found: &Result<Value, Error>) -> Option<(String, bool)> {
    let Err(Error::Reply(error)) = found else { return None };
    match &error.kind {
        ReplyErrorKind::Redirected { address, .. } => Some((address.clone(), error.code == "ASK")),
        _ => None,
    }
}

fn no_node() -> Error {
    Error::Unavailable(Unavailable::new("connection", false, true))
}
