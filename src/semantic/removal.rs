//! The removal of entries from an index, and its effect.

use std::ffi::CStr;

use gateway_core::semantic::Entry;

use super::member::{Member, SemanticIndex};
use crate::server::args::OwnedKey;
use crate::server::effect::Effect;
use crate::server::key::Opened;
use crate::server::{Call, Key, Str};
use crate::stats::STATS;

/// The command of the family's effects.
pub const NAME: &CStr = c"GW._SEM";

pub const DEL_EVENT: &CStr = c"gw.semdel";

/// The operation of a removal.
pub const REMOVE: u8 = b'D';

/// Removes an entry, and counts it if it has expired. Returns it, unless readers no longer saw it.
pub fn remove(index: &mut SemanticIndex, id: &[u8], now_ms: i64) -> Option<Box<Entry<Member>>> {
    let (entry, expires_at_ms) = index.remove(id)?;
    if entry.is_cleared() {
        return None;
    }
    if expires_at_ms <= now_ms {
        STATS.sem_expired.add(1);
        entry.category().counters().entry_expired();
        return None;
    }
    Some(entry)
}

/// After entries were removed: deletes the key if none is left, or else lets it expire with the last of them. Returns
/// whether it was deleted.
pub fn settle(opened: &mut Opened<SemanticIndex>) -> bool {
    let Some(index) = opened.get() else { return false };
    if index.is_empty() {
        opened.delete();
        return true;
    }
    let ends_at_ms = index.ends_at_ms();
    opened.expire_at(ends_at_ms);
    false
}

/// Replicates a removal that has left the key, or deleted it.
pub fn replicate(call: &Call, key: Key, ids: &[Str], was_deleted: bool) {
    match was_deleted {
        true => call.replicate_deletion(&[key]),
        false => call.replicate_with(key, DEL_EVENT, &Effect::new(NAME, REMOVE), ids),
    }
}

/// Ids as the server's strings.
pub fn owned(ids: &[Box<[u8]>]) -> Vec<OwnedKey> {
    ids.iter().map(|id| OwnedKey::new(id)).collect()
}
