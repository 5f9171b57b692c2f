//! A primary with replicas, watched over by Sentinel.

use crate::client::info;
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
        self.servers.iter().find(|server| is_primary(server)).ok_or_else(|| Error::new("no server is primary"))
    }

    /// Kills the primary, waits until the sentinels have promoted a replica, and returns the port of the killed server.
    ///
    /// # Errors
    /// If none is promoted in time.
    pub fn kill_primary(&mut self) -> Result<u16, Error> {
        let killed = self.primary()?.port();
        self.server_mut(killed)?.kill();
        await_until("a replica to be promoted", DEADLINE, || self.primary().is_ok())?;
        Ok(killed)
    }

    /// Starts the killed server on a port, and waits until the sentinels have made it a replica.
    ///
    /// # Errors
    /// If it does not start, or does not connect in time.
    pub fn start_again(&mut self, port: u16) -> Result<(), Error> {
        self.server_mut(port)?.start_again()?;
        await_until("all others to follow one primary", DEADLINE, || {
            let primaries: Vec<_> = self.servers.iter().filter(|server| is_primary(server)).collect();
            matches!(primaries[..], [primary] if self.has_replicas(primary, self.servers.len() - 1))
        })
    }

    fn server_mut(&mut self, port: u16) -> Result<&mut Server, Error> {
        let found = self.servers.iter_mut().find(|server| server.port() == port);
        found.ok_or_else(|| Error::new(format!("no server is on port {port}")))
    }

    fn has_replicas(&self, primary: &Server, replicas: usize) -> bool {
        let Ok(mut client) = primary.connect() else { return false };
        let fields = info(&mut client, "replication");
        let online = fields.iter().filter(|(name, value)| name.starts_with("slave") && value.contains("state=online"));
        online.count() == replicas
    }
}

fn is_primary(server: &Server) -> bool {
    server.can_answer()
        && server
            .connect()
            .is_ok_and(|mut client| info(&mut client, "replication").get("role").is_some_and(|role| role == "master"))
}
