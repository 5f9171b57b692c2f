//! What the nodes of a cluster know of each other, and whether they agree.

use super::Cluster;
use crate::client::try_info;
use crate::error::Error;
use crate::server::Server;
use crate::wait::{DEADLINE, await_until};
use redis::{Connection, cmd};

/// A node, as another one or itself knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Known {
    pub(super) id: String,
    pub(super) is_myself: bool,
    /// As in `master`, `slave`, `master,fail`.
    flags: String,
    /// The id of its primary, if it is a replica.
    pub(super) primary: Option<String>,
    /// As in `0-99 200`, without those that are moving.
    slots: String,
}

impl Known {
    pub(super) fn slot_count(&self) -> u16 {
        let ranges = self.slots.split_whitespace().filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some((first.parse::<u16>().ok()?, last.parse::<u16>().ok()?))
        });
        ranges.map(|(first, last)| last - first + 1).sum()
    }
}

/// Reads the reply of CLUSTER NODES: lines of `id address flags primary ping pong epoch link slots...`.
fn parse(reply: &str) -> Vec<Known> {
    let known = reply.lines().filter_map(|line| {
        let words: Vec<_> = line.split(' ').collect();
        let [id, _, flags, primary, _, _, _, _, slots @ ..] = words.as_slice() else { return None };
        let slots: Vec<_> = slots.iter().filter(|word| !word.starts_with('[')).copied().collect();
        Some(Known {
            id: (*id).to_owned(),
            is_myself: flags.starts_with("myself,"),
            flags: flags.trim_start_matches("myself,").to_owned(),
            primary: Some(*primary).filter(|id| *id != "-").map(str::to_owned),
            slots: slots.join(" "),
        })
    });
    known.collect()
}

pub(super) fn nodes_known_to(client: &mut Connection) -> Result<Vec<Known>, Error> {
    Ok(parse(&cmd("CLUSTER").arg("NODES").query::<String>(client)?))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_read_with_roles_and_slots() {
        let reply = "07c3 127.0.0.1:30004@31004,host slave e7d1 0 1426238317239 4 connected\n\
                     e7d1 127.0.0.1:30001@31001 myself,master - 0 0 1 connected 0-99 200 [93-<-292f]\n\
                     292f 127.0.0.1:30003@31003 master,fail - 0 1426238318243 3 disconnected\n";
        let [replica, myself, failed] = parse(reply).try_into().unwrap();
        assert_eq!((replica.primary.as_deref(), &*replica.flags, replica.is_myself), (Some("e7d1"), "slave", false));
        assert_eq!(
            (&myself.primary, &*myself.flags, &*myself.slots, myself.is_myself),
            (&None, "master", "0-99 200", true)
        );
        assert_eq!((&*failed.id, &*failed.flags, &*failed.slots), ("292f", "master,fail", ""));
        assert_eq!((replica.slot_count(), myself.slot_count()), (0, 101));
        assert_eq!(parse("no such reply\n"), []);
    }
}
