//! GW.CACHEDEL: deletes entries.

use super::category::count_error;
use super::entry::Entry;
use super::flights;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::{Call, Outcome};
use crate::stats::STATS;

pub const COMMAND: Command = Command {
    name: "GW.CACHEDEL",
    handler: entry!(del),
    flags: "write",
    arity: -2,
    keys: Keys::All(Access::Delete),
    summary: "Deletes cache entries and replies how many there were. A key of another type is an error, and none is deleted.",
    complexity: "O(N) in the keys named",
    since: "0.1.0",
    tips: "request_policy:multi_shard response_policy:agg_sum",
    args: &[Arg::key().multiple()],
};

/// GW.CACHEDEL key [key …]
fn del(call: &mut Call) -> Outcome {
    let keys = call.args().rest("key")?;
    for &key in keys {
        call.open::<Entry>(key).inspect_err(|_| count_error(key))?;
    }
    let (mut deleted, mut live) = (Vec::new(), 0);
    for &key in keys {
        let mut opened = call.open::<Entry>(key)?;
        if let Some(entry) = opened.get() {
            live += u64::from(!entry.is_cleared());
            opened.delete();
            deleted.push(key);
        } else {
            drop(opened);
            flights::revoked(call, key);
        }
    }
    STATS.cache_deletes.add(live);
    call.replicate_deletion(&deleted);
    call.reply().count(live);
    Ok(())
}
