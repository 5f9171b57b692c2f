//! GW.CACHECLEAR: clears many entries at once.
//!
//! A category, a tag or all entries are cleared by a mark on the group that they share (see [`group`](super::group)). Every
//! reader sees it at once. The clear is replicated in its place among the sets, so it has the same effect on replicas
//! and from the AOF. The memory is freed later: see [`reclaim`]. Entries that match a pattern are deleted one by one,
//! by a scan. All of this goes for entries of semantic indexes, too; a pattern is that of the index's key.

use gateway_core::glob;

use super::args::{parse_category, parse_tag};
use super::effect::Clear;
use super::entry::Entry;
use super::sweep::delete_if;
use super::{flights, moment, reclaim};
use crate::semantic::member::SemanticIndex;
use crate::semantic::sweep;
use crate::server::args::OwnedKey;
use crate::server::blocked::{Parked, Parking};
use crate::server::call::entry;
use crate::server::command::{Arg, Command, Keys};
use crate::server::key::Glimpse;
use crate::server::scan::Scan;
use crate::server::{Call, Error, Key, Outcome};
use crate::stats::STATS;

pub const COMMAND: Command = Command {
    name: "GW.CACHECLEAR",
    handler: entry!(clear),
    flags: "write",
    arity: -2,
    keys: Keys::None,
    summary: "Clears the entries of a category or a tag, or all, at once, or those whose keys match a pattern, in slices.",
    complexity: "O(1) for a category or a tag, O(N) in the categories for ALL, O(N) in the keys for PATTERN, in slices",
    since: "0.1.0",
    tips: "request_policy:all_shards response_policy:agg_sum",
    args: &[Arg::one_of(
        "what",
        &[
            Arg::text("category").after("CATEGORY"),
            Arg::text("tag").after("TAG"),
            Arg::text("pattern").after("PATTERN"),
            Arg::word("all", "ALL"),
        ],
    )],
};

/// The longest pattern in bytes. Matching takes time in proportion to the length of the pattern times that of the key.
const PATTERN_BYTES_MAX: usize = 1_024;

#[derive(Clone, Copy)]
enum Opt {
    Category,
    Tag,
    Pattern,
    All,
}

const OPTIONS: [(&str, Opt); 4] =
    [("CATEGORY", Opt::Category), ("TAG", Opt::Tag), ("PATTERN", Opt::Pattern), ("ALL", Opt::All)];

/// GW.CACHECLEAR CATEGORY category | TAG tag | PATTERN pattern | ALL
fn clear(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let clear = match args.option(&OPTIONS)?.ok_or(Error::ARITY)? {
        Opt::Category => Clear::Category(parse_category(&mut args)?.bytes()),
        Opt::Tag => Clear::Tag(parse_tag(&mut args)?.bytes()),
        Opt::Pattern => {
            let pattern = args.bytes("PATTERN")?;
            args.end()?;
            if pattern.len() > PATTERN_BYTES_MAX {
                return Err(Error::longer_than(PATTERN_BYTES_MAX, "PATTERN"));
            }
            return by_pattern(call, pattern);
        }
        Opt::All => Clear::All,
    };
    args.end()?;
    // In a cluster the clear leaves a mark for entries that are on their way to this node.
    let marked_at_ms = call.is_clustered().then(|| moment::of_clear(call));
    let cleared = clear.make(call, marked_at_ms);
    STATS.cache_cleared.add(cleared);
    if cleared > 0 || marked_at_ms.is_some() {
        clear.replicate(call, marked_at_ms);
    }
    if cleared > 0 {
        reclaim::reclaim(call);
    }
    call.reply().count(cleared);
    Ok(())
}

fn by_pattern(call: &mut Call, pattern: &[u8]) -> Outcome {
    // It scans in slices, which a transaction or script cannot wait for.
    if !call.may_wait() {
        return Err(Error::new("not allowed in a transaction or script", "PATTERN"));
    }
    let database = call.database();
    flights::revoked_where(call, |held_in, key, _| held_in == database && glob::matches(pattern, key));
    let client = call.park(0, Parking { called_back: reply_count, timed_out: unblocked, gone: |_| {} });
    call.scan(Sweep { pattern: pattern.into(), client, deleted: 0 });
    Ok(())
}

fn reply_count(call: &mut Call, count: u64) -> Outcome {
    call.reply().count(count);
    Ok(())
}

fn unblocked(_call: &mut Call) -> Outcome {
    Err(Error::coded("UNBLOCKED the scan goes on without this client"))
}

/// Deletes the entries whose keys match.
struct Sweep {
    pattern: Box<[u8]>,
    client: Parked,
    /// How many of the deleted entries readers could still see.
    deleted: u64,
}

impl Scan for Sweep {
    const CHANGES: bool = true;

    fn wants(&mut self, key: Key, value: &Glimpse) -> bool {
        let is_ours = value.value::<Entry>().is_some() || value.value::<SemanticIndex>().is_some();
        is_ours && glob::matches(&self.pattern, key.bytes())
    }

    fn take(&mut self, call: &mut Call, keys: &[OwnedKey]) -> bool {
        for name in keys {
            let deleted = u64::from(delete_if(call, name.key(), |_| true));
            self.deleted += deleted + sweep::delete(call, name.key());
        }
        true
    }

    fn done(self, call: &mut Call) {
        call.call_back(self.client, self.deleted);
    }
}
