//! The slots of a cluster: which slot a key has, and moves of slots between primaries.

use super::nodes::{Cluster, node_id};
use crate::error::Error;
use crate::server::Server;
use crate::wait::DEADLINE;
use redis::{Connection, cmd};
use std::process::Command;

/// The number of slots in a cluster.
pub const SLOTS: u16 = 16_384;

/// The number of keys that one MIGRATE of [`Cluster::move_slot`] moves.
const KEYS_PER_MIGRATE: usize = 16;

impl Cluster {
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
        let tell = |node: &Server| set_slot(&mut node.connect()?, slot, "NODE", &id);
        // The new owner comes first: it then has the newest configuration, in any case.
        tell(to)?;
        self.primaries().into_iter().try_for_each(tell)?;
        // A message that was on its way may have told a node otherwise. What is refused now shows in the agreement.
        self.await_agreement_by(|| self.primaries().into_iter().for_each(|node| drop(tell(node))))
    }

    /// Moves the lowest `count` slots of a primary with the command line client's `--cluster reshard`, and returns when
    /// all nodes know it.
    ///
    /// # Errors
    /// If the client fails: then with what it says.
    pub fn reshard(&self, count: u16, from: &Server, to: &Server) -> Result<(), Error> {
        let (source, target) = (node_id(&mut from.connect()?)?, node_id(&mut to.connect()?)?);
        let output = Command::new(from.binary().cli())
            .args(["--cluster", "reshard", &format!("127.0.0.1:{}", from.port()), "--cluster-from", &source])
            .args(["--cluster-to", &target, "--cluster-slots", &count.to_string(), "--cluster-yes"])
            .output()?;
        if !output.status.success() {
            let told = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            return Err(Error::new(format!("cannot move {count} slots:\n{}", told.join("\n"))));
        }
        self.await_agreement()
    }
}

fn set_slot(client: &mut Connection, slot: u16, state: &str, id: &str) -> Result<(), Error> {
    Ok(cmd("CLUSTER").arg("SETSLOT").arg(slot).arg(state).arg(id).exec(client)?)
}

/// The slot of a key, as the node says.
///
/// # Errors
/// If the node does not answer.
pub fn slot_of(client: &mut Connection, key: &str) -> Result<u16, Error> {
    Ok(cmd("CLUSTER").arg("KEYSLOT").arg(key).query(client)?)
}

/// The slot of a key: CRC16/XMODEM of its hash tag, if it has one, or else of all of it.
pub fn key_slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    let crc = hashed.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 })
    });
    crc % SLOTS
}

/// A hash tag for keys of a slot: the shortest number that falls into it.
pub fn tag_of(slot: u16) -> String {
    (0_u32..).map(|number| number.to_string()).find(|tag| key_slot(tag) == slot % SLOTS).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_follow_the_specification() {
        // The check value of CRC16/XMODEM.
        assert_eq!(key_slot("123456789"), 0x31c3);
        assert_eq!(key_slot("a{123456789}b{c}"), 0x31c3);
        // An empty tag is none, and so is one that does not end.
        assert_ne!(key_slot("{}123456789"), 0x31c3);
        assert_ne!(key_slot("{123456789"), 0x31c3);
        assert_eq!(key_slot(""), 0);
    }

    #[test]
    fn every_slot_has_a_tag() {
        for slot in [0, 1, 5_460, 5_461, 16_383] {
            assert_eq!(key_slot(&format!("key:{{{}}}:rest", tag_of(slot))), slot);
        }
    }
}
