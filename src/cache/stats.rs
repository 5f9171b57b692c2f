//! GW.CACHESTATS: this node's cache figures, by category and of all categories together.

use gateway_core::money::Amount;

use super::args::parse_category;
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
    summary: "Replies this node's hits, misses, hit rate, entries, bytes, money saved and more, for each category, for one or \
              for all together.",
    complexity: "O(N) in the categories",
    since: "0.1.0",
    tips: "nondeterministic_output request_policy:all_shards response_policy:special",
    args: &[Arg::one_of("what", &[Arg::text("category").after("CATEGORY"), Arg::word("total", "TOTAL")]).optional()],
};

#[derive(Clone, Copy)]
enum Opt {
    Category,
    Total,
}

const OPTIONS: [(&str, Opt); 2] = [("CATEGORY", Opt::Category), ("TOTAL", Opt::Total)];

/// GW.CACHESTATS [CATEGORY category | TOTAL]
fn stats(call: &mut Call) -> Outcome {
    let mut args = call.args();
    match args.option(&OPTIONS)? {
        Some(Opt::Category) => {
            let name = parse_category(&mut args)?;
            args.end()?;
            match Category::find(name.bytes()) {
                Some(category) => Figures::of(category).reply(&call.reply()),
                None => {
                    call.reply().null();
                }
            }
        }
        Some(Opt::Total) => {
            args.end()?;
            Category::all().map(Figures::of).fold(Figures::NONE, Figures::plus).reply(&call.reply());
        }
        None => {
            let reply = call.reply();
            let used: Vec<_> = Category::all().filter(|category| was_used(*category)).collect();
            reply.map(used.len());
            for category in used {
                reply.bytes(category.name());
                Figures::of(category).reply(&reply);
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

/// The figures in the order in which they are shown.
const NAMES: [&str; 14] = [
    "hits",
    "stale_hits",
    "misses",
    "pending",
    "leader_grants",
    "releases",
    "wait_timeouts",
    "sets",
    "clears",
    "expired",
    "errors",
    "entries",
    "bytes",
    "raw_bytes",
];

/// What is counted in a category, or in several.
struct Figures {
    counts: [u64; NAMES.len()],
    saved: Amount,
}

impl Figures {
    const NONE: Self = Self { counts: [0; NAMES.len()], saved: Amount::ZERO };

    fn of(category: Category) -> Self {
        let counters = category.counters();
        let [entries, bytes, raw_bytes] = groups::held(category);
        let counts = [
            counters.hits.get(),
            counters.stale_hits.get(),
            counters.misses.get(),
            counters.pending.get(),
            counters.leader_grants.get(),
            counters.releases.get(),
            counters.wait_timeouts.get(),
            counters.sets.get(),
            counters.clears.get(),
            counters.expired(),
            counters.errors.get(),
            entries,
            bytes,
            raw_bytes,
        ];
        Self { counts, saved: counters.saved() }
    }

    fn plus(mut self, other: Self) -> Self {
        for (sum, count) in self.counts.iter_mut().zip(other.counts) {
            *sum = sum.saturating_add(count);
        }
        Self { saved: self.saved.saturating_add(other.saved).min(Amount::MAX), ..self }
    }

    fn reply(&self, reply: &Reply) {
        reply.map(NAMES.len() + 2);
        for (name, count) in NAMES.iter().zip(self.counts) {
            reply.bytes(name).count(count);
        }
        let [hits, stale_hits, misses, ..] = self.counts;
        let served = hits.saturating_add(stale_hits);
        reply.bytes("hit_rate").bytes(rate(served, served.saturating_add(misses)));
        reply.bytes("saved").bytes(self.saved.to_text().as_bytes());
    }
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
