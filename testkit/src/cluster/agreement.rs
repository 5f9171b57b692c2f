//! Whether the nodes of a cluster agree.

use super::known::{Known, nodes_known_to};
use super::nodes::Cluster;
use crate::client::try_info;
use crate::error::Error;
use crate::server::Server;
use crate::wait::{DEADLINE, await_until};
use redis::cmd;

/// What a node knows, if it finds every slot served and is connected to its primary.
fn view_of(node: &Server) -> Result<Option<Vec<Known>>, Error> {
    let mut client = node.connect()?;
    let state: String = cmd("CLUSTER").arg("INFO").query(&mut client)?;
    let fields = try_info(&mut client, "replication")?;
    let connected = fields.get("master_link_status").is_none_or(|status| status == "up");
    if !state.contains("cluster_state:ok") || !connected {
        return Ok(None);
    }
    let mut known = nodes_known_to(&mut client)?;
    for node in &mut known {
        node.is_myself = false;
    }
    known.sort();
    Ok(Some(known))
}

impl Cluster {
    /// Waits until every node that can answer knows the same nodes in the same roles, finds each slot served, and is
    /// connected to its primary.
    ///
    /// # Errors
    /// If that does not happen in time.
    pub fn await_agreement(&self) -> Result<(), Error> {
        await_until("the cluster's nodes to agree", DEADLINE, || {
            let views: Result<Option<Vec<_>>, _> =
                self.running().map(view_of).map(Result::transpose).collect::<Option<_>>().transpose();
            let Ok(Some(views)) = views else { return false };
            views.iter().all(|view: &Vec<Known>| view.len() == self.nodes.len() && *view == views[0])
        })
    }
}
