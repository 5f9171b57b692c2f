//! GW.SEMDEL: deletes entries of an index.

use gateway_core::semantic::ID_BYTES_MAX;

use super::member::SemanticIndex;
use super::removal;
use crate::cache::category::count_error;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::{Call, Error, Outcome};
use crate::stats::STATS;

pub const COMMAND: Command = Command {
    name: "GW.SEMDEL",
    handler: entry!(del),
    flags: "write",
    arity: -3,
    keys: Keys::One(Access::Delete),
    summary: "Deletes entries of a semantic index and replies how many there were. With its last entry the key is deleted.",
    complexity: "O(M) in the ids named, and O(N) in the entries of the index, a nanosecond for each",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key_as("index"), Arg::text("id").multiple()],
};

fn del(call: &mut Call) -> Outcome {
    let key = call.args().key()?;
    del_entries(call).inspect_err(|_| count_error(key))
}

/// GW.SEMDEL index id [id …]
fn del_entries(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let ids = args.rest("id")?;
    if !ids.iter().all(|id| (1..=ID_BYTES_MAX).contains(&id.bytes().len())) {
        return Err(Error::not_a_name(ID_BYTES_MAX, "id"));
    }
    let now_ms = call.now_ms();
    let mut opened = call.open::<SemanticIndex>(key)?;
    let (mut removed, mut live) = (Vec::new(), 0);
    if let Some(index) = opened.get() {
        for &id in ids {
            // An id may be named twice.
            if index.get(id.bytes()).is_some() {
                live += u64::from(removal::remove(index, id.bytes(), now_ms).is_some());
                removed.push(id);
            }
        }
    }
    if !removed.is_empty() {
        let was_deleted = removal::settle(&mut opened);
        drop(opened);
        removal::replicate(call, key, &removed, was_deleted);
    }
    STATS.sem_deletes.add(live);
    call.reply().count(live);
    Ok(())
}
