//! A primary with replicas, watched over by Sentinel.

use crate::client::try_info;
use crate::error::Error;
use crate::server::{Options, Server};
use crate::wait::{DEADLINE, await_until};
use redis::cmd;
use std::collections::HashMap;
use std::time::Duration;

/// The name under which the sentinels know the primary.
pub const SENTINEL_NAME: &str = "gateway";

/// The number of sentinels. Two of them have to agree that the primary is away.
const SENTINELS: usize = 3;

/// A primary, its replicas, and three sentinels that promote one of them if the primary is away.
#[derive(Debug)]
pub struct Watched {
    /// At the start the first one is the primary.
    servers: Vec<Server>,
    sentinels: Vec<Server>,
}

impl Watched {
    /// Starts all servers, and returns when each sentinel knows all of them. The primary is away for them when it has
    /// not answered for `timeout`.
    ///
    /// # Errors
    /// If a server does not start, or the sentinels do not find the others in time.
    pub fn start(options: &Options, replicas: usize, timeout: Duration) -> Result<Self, Error> {
        let primary = options.clone().start()?;
        let mut servers = vec![primary];
        for _ in 0..replicas {
            servers.push(options.clone().replica_of(&servers[0]).start()?);
        }
        let sentinel = Options::default()
            .sentinel()
            .config(format!("sentinel monitor {SENTINEL_NAME} 127.0.0.1 {} 2", servers[0].port()))
            .config(format!("sentinel down-after-milliseconds {SENTINEL_NAME} {}", timeout.as_millis()))
            .config(format!("sentinel failover-timeout {SENTINEL_NAME} 10000"));
        let sentinels = (0..SENTINELS).map(|_| sentinel.clone().start()).collect::<Result<Vec<_>, _>>()?;
        let watched = Self { servers, sentinels };
        await_until("the sentinels to find each other and all servers", DEADLINE, || {
            watched.sentinels.iter().all(|sentinel| {
                let Ok(mut client) = sentinel.connect() else { return false };
                let known =
                    cmd("SENTINEL").arg("MASTER").arg(SENTINEL_NAME).query::<HashMap<String, String>>(&mut client);
                let is =
                    |field, count: usize| matches!(&known, Ok(known) if known.get(field) == Some(&count.to_string()));
                is("num-slaves", replicas) && is("num-other-sentinels", SENTINELS - 1)
            })
        })?;
        await_until("the replicas to be connected", DEADLINE, || watched.has_replicas(&watched.servers[0], replicas))?;
        Ok(watched)
    }

    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The ports of the sentinels.
    pub fn sentinels(&self) -> Vec<u16> {
        self.sentinels.iter().map(Server::port).collect()
    }

    /// The server that is primary, by its own word.
    ///
    /// # Errors
    /// If none is.
    pub fn primary(&self) -> Result<&Server, Error> {
        self.servers.iter().find(|server| server.is_primary()).ok_or_else(|| Error::new("no server is primary"))
    }

    /// Kills the primary, and waits until the sentinels have promoted a replica and the others follow it.
    ///
    /// # Errors
    /// If that does not happen in time.
    pub fn kill_primary(&mut self) -> Result<(), Error> {
        let killed = self.servers.iter_mut().find(|server| server.is_primary());
        killed.ok_or_else(|| Error::new("no server is primary"))?.kill();
        self.await_replicas()
    }

    /// Starts the servers that were killed, and waits until the sentinels have made them replicas.
    ///
    /// # Errors
    /// If one does not start, or does not connect in time.
    pub fn start_again(&mut self) -> Result<(), Error> {
        for server in self.servers.iter_mut().filter(|server| !server.can_answer()) {
            server.start_again()?;
        }
        self.await_replicas()
    }

    /// Waits until one of the servers that can answer is primary, and all others follow it.
    fn await_replicas(&self) -> Result<(), Error> {
        await_until("all servers to follow one primary", DEADLINE, || {
            let running = self.servers.iter().filter(|server| server.can_answer());
            let primaries: Vec<_> = running.clone().filter(|server| server.is_primary()).collect();
            matches!(primaries[..], [primary] if self.has_replicas(primary, running.count() - 1))
        })
    }

    fn has_replicas(&self, primary: &Server, replicas: usize) -> bool {
        let Ok(mut client) = primary.connect() else { return false };
        let Ok(fields) = try_info(&mut client, "replication") else { return false };
        let online = fields.iter().filter(|(name, value)| name.starts_with("slave") && value.contains("state=online"));
        online.count() == replicas
    }
}
