//! GW.CACHEGET: the cached value, or nil.

use gateway_core::cache::category_of;

use super::category::Category;
use super::entry::Entry;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::stats::STATS;
use crate::server::{Call, Outcome};

pub const COMMAND: Command = Command {
    name: "GW.CACHEGET",
    handler: entry!(get),
    flags: "readonly fast",
    arity: 2,
    keys: Keys::One(Access::Read),
    summary: "Replies a cached value, nil where there is none or it has expired, and counts the hit or miss.",
    complexity: "O(1)",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key()],
};

/// GW.CACHEGET key
fn get(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    args.end()?;
    match call.look_up::<Entry>(key)? {
        Some(entry) => {
            let entry = entry.get();
            STATS.cache_hits.add(1);
            entry.category().counters().hits.add(1);
            call.reply().bytes(entry.value());
        }
        None => {
            STATS.cache_misses.add(1);
            Category::asked_for(category_of(key.bytes())).counters().misses.add(1);
            call.reply().null();
        }
    }
    Ok(())
}
