//! GW.CACHESTATS: this node's cache figures, by category.

use super::category::{Category, Counters};
use super::groups;
use crate::server::call::entry;
use crate::server::command::{Arg, Command, Keys};
use crate::server::reply::Reply;
use crate::server::{Call, Outcome};

pub const COMMAND: Command = Command {
    name: "GW.CACHESTATS",
    handler: entry!(stats),
    flags: "readonly",
    arity: -1,
    keys: Keys::None,
    summary: "Replies this node's hits, misses, hit rate, entries, bytes, money saved and more, for each category or for one.",
    complexity: "O(N) in the categories",
    since: "0.1.0",
    tips: "nondeterministic_output request_policy:all_shards response_policy:special",
    args: &[Arg::text("category").optional()],
};

/// GW.CACHESTATS [category]
fn stats(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let name = args.optional();
    args.end()?;
    let reply = call.reply();
    match name {
        Some(name) => match Category::find(name.bytes()) {
            Some(category) => reply_figures(&reply, category),
            None => {
                reply.null();
            }
        },
        None => {
            let used: Vec<_> = Category::all().filter(|category| was_used(*category)).collect();
            reply.map(used.len());
            for category in used {
                reply.bytes(category.name());
                reply_figures(&reply, category);
            }
        }
    }
    Ok(())
}

/// Sets the counters of all categories back to 0. Their names stay, and so do entries and bytes, which tell what is stored.
pub fn reset() {
    Category::all().for_each(|category| category.counters().reset());
}

/// Whether anything was ever counted in the category. Always true of those with names of their own.
fn was_used(category: Category) -> bool {
    let Counters { hits, stale_hits, misses, sets, errors, .. } = category.counters();
    let [entries, ..] = groups::held(category);
    category != Category::OTHER || [hits, stale_hits, misses, sets, errors].iter().any(|c| c.get() > 0) || entries > 0
}

fn reply_figures(reply: &Reply, category: Category) {
    let counters = category.counters();
    let (hits, stale_hits, misses) = (counters.hits.get(), counters.stale_hits.get(), counters.misses.get());
    let served = hits.saturating_add(stale_hits);
    let [entries, bytes, raw_bytes] = groups::held(category);
    let counts = [
        ("hits", hits),
        ("stale_hits", stale_hits),
        ("misses", misses),
        ("pending", counters.pending.get()),
        ("leader_grants", counters.leader_grants.get()),
        ("wait_timeouts", counters.wait_timeouts.get()),
        ("sets", counters.sets.get()),
        ("clears", counters.clears.get()),
        ("expired", counters.expired()),
        ("errors", counters.errors.get()),
        ("entries", entries),
        ("bytes", bytes),
        ("raw_bytes", raw_bytes),
    ];
    reply.map(counts.len() + 2);
    for (name, count) in counts {
        reply.bytes(name).count(count);
    }
    reply.bytes("hit_rate").bytes(rate(served, served.saturating_add(misses)));
    reply.bytes("saved").bytes(counters.saved().to_text().as_bytes());
}

/// `part` / `whole` with four decimal places, rounded down: `0.9950`, and `1.0000` only if both are equal.
fn rate(part: u64, whole: u64) -> String {
    let in_10_000 = (u128::from(part) * 10_000).checked_div(u128::from(whole)).unwrap_or(0);
    format!("{}.{:04}", in_10_000 / 10_000, in_10_000 % 10_000)
}

#[cfg(test)]
mod tests {
    use super::rate;

    #[test]
    fn rates_are_exact_to_four_places() {
        for (part, whole, text) in [
            (0, 0, "0.0000"),
            (1, 3, "0.3333"),
            (99_999, 100_000, "0.9999"),
            (5, 5, "1.0000"),
            (u64::MAX, u64::MAX, "1.0000"),
        ] {
            assert_eq!(rate(part, whole), text);
        }
    }
}
