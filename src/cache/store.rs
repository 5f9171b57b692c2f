//! Puts entries into keys.

use super::category::Counters;
use super::entry::{Entry, New};
use super::settings::PACK_FROM_BYTES;
use crate::server::key::Opened;
use crate::server::{Call, Error, Key};

/// Stores an entry. Returns the counters of its category.
pub fn store(call: &mut Call, key: Key, new: New) -> Result<&'static Counters, Error> {
    let mut opened = call.open::<Entry>(key)?;
    let ends_at_ms = new.life.ends_at_ms();
    let pack_from_bytes = PACK_FROM_BYTES.get() as usize;
    let entry = match opened.get() {
        Some(entry) => {
            entry.overwrite(new, pack_from_bytes);
            entry
        }
        None => opened.insert(Entry::new(new, pack_from_bytes)),
    };
    let counters = entry.category().counters();
    opened.expire_at(ends_at_ms);
    Ok(counters)
}

/// Keeps an existing entry fresh until `at_ms`, and its key as long as that takes.
pub fn keep_fresh(opened: &mut Opened<Entry>, at_ms: i64) {
    if let Some(entry) = opened.get() {
        entry.set_fresh_until(at_ms);
        let ends_at_ms = entry.life().ends_at_ms();
        opened.expire_at(ends_at_ms);
    }
}
