//! Primaries that are replaced by their replicas.

use super::nodes::Cluster;
use crate::client::try_info;
use crate::error::Error;
use crate::proxy::Links;
use crate::server::Server;
use crate::wait::{DEADLINE, await_until};
use redis::{RedisResult, cmd};

impl Cluster {
    /// Makes a replica of `primary` the primary, without losing anything, and returns it when all nodes know it.
    ///
    /// # Errors
    /// If there is no replica, or it does not take over in time.
    pub fn fail_over(&self, primary: &Server) -> Result<&Server, Error> {
        let replica = self.replica_of(primary)?;
        take_over(replica, None)?;
        self.await_agreement()?;
        Ok(replica)
    }

    /// Kills the primary on a port, waits until its replica has taken over by itself, and returns that one's port. The
    /// cluster needs [`fails_over_after`](super::Layout::fails_over_after). The killed node stays away: see
    /// [`Server::start_again`].
    ///
    /// # Errors
    /// If there is no replica, or it does not take over in time.
    pub fn kill_primary(&mut self, port: u16) -> Result<u16, Error> {
        let replica = self.replica_of(self.node(port)?)?.port();
        self.node_mut(port)?.kill();
        self.await_takeover(replica)
    }

    /// Like [`kill_primary`](Self::kill_primary), but stops the primary's process until the replica has taken over. It
    /// then goes on where it was, with what clients have sent meanwhile, and learns that it is a replica.
    ///
    /// # Errors
    /// If there is no replica, or it does not take over in time.
    pub fn pause_primary(&mut self, port: u16) -> Result<u16, Error> {
        let replica = self.replica_of(self.node(port)?)?.port();
        self.node_mut(port)?.pause()?;
        let taken_over = self.await_takeover(replica);
        self.node_mut(port)?.go_on()?;
        let replica = taken_over?;
        self.await_agreement()?;
        Ok(replica)
    }

    /// Loses what the primary on a port acknowledges from now on: cuts the links of its replicas. It needs
    /// [`behind_proxies`](super::Layout::behind_proxies).
    ///
    /// # Errors
    /// If the cluster has no proxies.
    pub fn cut_replicas_of(&self, port: u16) -> Result<(), Error> {
        self.proxy_of(port)?.cut(Links::Replicas);
        let primary = self.node(port)?;
        let mut client = primary.connect()?;
        await_until("the primary to notice that its replicas are gone", DEADLINE, || {
            try_info(&mut client, "replication")
                .is_ok_and(|fields| fields.get("connected_slaves").is_some_and(|count| count == "0"))
        })
    }

    /// Kills the primary on a port and makes its replica the primary with what it has, as an operator would. Returns the
    /// replica's port. The killed node stays away.
    ///
    /// # Errors
    /// If there is no replica, or it does not take over in time.
    pub fn lose_primary(&mut self, port: u16) -> Result<u16, Error> {
        let replica = self.replica_of(self.node(port)?)?.port();
        self.node_mut(port)?.kill();
        take_over(self.node(replica)?, Some("TAKEOVER"))?;
        Ok(replica)
    }

    fn replica_of(&self, primary: &Server) -> Result<&Server, Error> {
        self.replicas_of(primary)?.first().copied().ok_or_else(|| Error::new("the primary has no replica"))
    }

    fn await_takeover(&self, replica: u16) -> Result<u16, Error> {
        let node = self.node(replica)?;
        await_until("the replica to take over", DEADLINE, || node.is_primary())?;
        Ok(replica)
    }
}

fn take_over(replica: &Server, option: Option<&str>) -> Result<(), Error> {
    await_until("the replica to take over", DEADLINE, || {
        // A vote that comes too late does not count, and is requested again.
        replica.is_primary() || {
            let ask = |mut client| -> RedisResult<()> { cmd("CLUSTER").arg("FAILOVER").arg(option).exec(&mut client) };
            let _ = replica.connect().map(ask);
            await_until("the vote", DEADLINE / 10, || replica.is_primary()).is_ok()
        }
    })
}
