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
    /// Waits until every node that can answer knows the same nodes in the same roles and the same epochs, finds each slot
    /// served, and is connected to its primary. An owner that does not know of another one's newer epoch makes its own claim no
    /// newer, and a late message takes the slot from it.
    ///
    /// # Errors
    /// If that does not happen in time: then with what the nodes know.
    pub fn await_agreement(&self) -> Result<(), Error> {
        self.await_agreement_by(|| {})
    }

    /// Like [`Self::await_agreement`]; calls `remind` as long as the nodes do not agree.
    pub(super) fn await_agreement_by(&self, remind: impl Fn()) -> Result<(), Error> {
        let agreed = await_until("the cluster's nodes to agree", DEADLINE, || {
            let agree = self.agree();
            if !agree {
                remind();
            }
            agree
        });
        agreed.map_err(|error| Error::new(format!("{error}; they know {:?}", self.views())))
    }

    fn agree(&self) -> bool {
        let is_same = |views: &[Vec<Known>]| {
            views.iter().all(|view| view.len() == self.nodes.len() && Some(view) == views.first())
        };
        matches!(self.views(), Ok(Some(views)) if is_same(&views))
    }

    /// What each node that can answer knows; `None` as long as one of them is not in order.
    fn views(&self) -> Result<Option<Vec<Vec<Known>>>, Error> {
        self.running().map(view_of).map(Result::transpose).collect::<Option<_>>().transpose()
    }
}
