//! What a node knows of the others.

use crate::error::Error;
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
    /// How new its claim to its slots is, or its primary's: of two that claim the same, the newer one has it.
    epoch: String,
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
        let [id, _, flags, primary, _, _, epoch, _, slots @ ..] = words.as_slice() else { return None };
        let slots: Vec<_> = slots.iter().filter(|word| !word.starts_with('[')).copied().collect();
        Some(Known {
            id: (*id).to_owned(),
            is_myself: flags.starts_with("myself,"),
            flags: flags.trim_start_matches("myself,").to_owned(),
            primary: Some(*primary).filter(|id| *id != "-").map(str::to_owned),
            epoch: (*epoch).to_owned(),
            slots: slots.join(" "),
        })
    });
    known.collect()
}

pub(super) fn nodes_known_to(client: &mut Connection) -> Result<Vec<Known>, Error> {
    Ok(parse(&cmd("CLUSTER").arg("NODES").query::<String>(client)?))
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
        assert_eq!([&replica, &myself, &failed].map(|node| &*node.epoch), ["4", "1", "3"]);
        assert_eq!((replica.slot_count(), myself.slot_count()), (0, 101));
        assert_eq!(parse("no such reply\n"), []);
    }
}
