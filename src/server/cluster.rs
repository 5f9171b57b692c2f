//! Which node of a cluster serves a key. Clients that wait for a key must be told when another node serves it: the
//! server itself tells only clients that wait by its own commands. And what lists keys must leave out those that another
//! node serves.

use redis_module::raw;

use super::api::api;
use super::args::{Key, OwnedKey};
use super::call::Call;
use super::error::Error;

/// The reply to a client that this node cannot let wait any longer.
pub const UNBLOCKED: Error = Error::coded("UNBLOCKED the wait was ended");

impl Call<'_> {
    /// Whether this server is a node of a cluster.
    pub fn is_clustered(&self) -> bool {
        // SAFETY: the context is the one of this call.
        let flags = unsafe { api!(RedisModule_GetContextFlags(self.ctx)) } as u32;
        flags & raw::REDISMODULE_CTX_FLAGS_CLUSTER != 0
    }

    /// Whether this node still serves commands for `key`. In a cluster its slot, or the key alone, may have moved.
    pub fn serves(&self, key: Key) -> bool {
        !self.is_clustered() || self.ask(c"EXISTS", &[key]).is_some()
    }

    /// The reply to a client that waits for `key` but cannot go on waiting at this node: `MOVED <slot> <host>:<port>`
    /// if another node has the key's slot, as the server redirects clients; otherwise `UNBLOCKED`, because this node
    /// has become a replica or the slot is being moved. Clients call again after both.
    pub fn wait_ended(&self, key: Key) -> Error {
        if self.serves(key) { UNBLOCKED } else { self.moved(key).unwrap_or(UNBLOCKED) }
    }

    fn moved(&self, key: Key) -> Option<Error> {
        let [keyslot, slots, myid] = [b"KEYSLOT".as_slice(), b"SLOTS", b"MYID"].map(OwnedKey::new);
        let slot = self.ask(c"CLUSTER", &[keyslot.key(), key])?.reply().integer()?;
        let this = self.ask(c"CLUSTER", &[myid.key()])?;
        // Each row has the first slot, the last slot, and the nodes that serve them, the primary first.
        let ranges = self.ask(c"CLUSTER", &[slots.key()])?;
        let range = ranges.reply().elements().find(|range| {
            let bound = |index| range.element(index).and_then(|bound| bound.integer());
            bound(0).is_some_and(|first| first <= slot) && bound(1).is_some_and(|last| slot <= last)
        })?;
        let primary = range.element(2)?;
        if primary.element(2)?.bytes() == this.reply().bytes() {
            return None;
        }
        let (host, port) = (primary.element(0)?.bytes()?, primary.element(1)?.integer()?);
        Some(Error::moved(slot, &String::from_utf8_lossy(host), port))
    }
}
