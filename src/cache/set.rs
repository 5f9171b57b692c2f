//! GW.CACHESET and GW.CACHEDEL: puts entries in and takes them out.

use gateway_core::cache::{category_of, CATEGORY_BYTES_MAX, TTL_MAX_S};
use gateway_core::{PERIOD_MAX_MS, TIME_MAX_MS};

use super::category::Category;
use super::entry::Entry;
use super::{EFFECT_NAME, LIFETIMES};
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::effect::{malformed, Effect, Words};
use crate::server::stats::STATS;
use crate::server::{Call, Error, Outcome, Str};

pub const SET: Command = Command {
    name: "GW.CACHESET",
    handler: entry!(set),
    flags: "write deny-oom fast",
    arity: -3,
    keys: Keys::One(Access::Overwrite),
    summary:
        "Caches a value until it expires: after EX or PX, else after its category's time to live, else in an hour.",
    complexity: "O(1)",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key(),
        Arg::text("value"),
        Arg::one_of("expiration", &[Arg::integer("seconds").after("EX"), Arg::integer("milliseconds").after("PX")])
            .optional(),
        Arg::text("category").after("CATEGORY").optional(),
    ],
};

pub const DEL: Command = Command {
    name: "GW.CACHEDEL",
    handler: entry!(del),
    flags: "write",
    arity: -2,
    keys: Keys::All(Access::Delete),
    summary:
        "Deletes cache entries and replies how many there were. A key of another type is an error, and nothing goes.",
    complexity: "O(N) in the keys named",
    since: "0.1.0",
    tips: "request_policy:multi_shard response_policy:agg_sum",
    args: &[Arg::key().multiple()],
};

pub const EFFECT: Command = Command {
    name: "GW._CACHE",
    handler: entry!(apply),
    flags: "write admin fast",
    arity: -4,
    keys: Keys::One(Access::Overwrite),
    summary: "Internal: a cache entry as it was set, for replicas and the AOF.",
    complexity: "O(1)",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("effect"), Arg::text("value"), Arg::text("category").optional()],
};

#[derive(Clone, Copy)]
enum Opt {
    Ex,
    Px,
    Category,
}

const OPTIONS: [(&str, Opt); 3] = [("EX", Opt::Ex), ("PX", Opt::Px), ("CATEGORY", Opt::Category)];

/// GW.CACHESET key value [EX seconds | PX milliseconds] [CATEGORY category]
fn set(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let value = args.string("value")?;
    let (mut ttl_ms, mut category) = (None, None);
    while let Some(option) = args.option(&OPTIONS)? {
        match option {
            Opt::Ex if ttl_ms.is_some() => return Err(Error::new("conflicting option", "EX")),
            Opt::Px if ttl_ms.is_some() => return Err(Error::new("conflicting option", "PX")),
            Opt::Ex => ttl_ms = Some(args.int("EX", 1..=TTL_MAX_S)? * 1_000),
            Opt::Px => ttl_ms = Some(args.int("PX", 1..=PERIOD_MAX_MS)?),
            Opt::Category => category = Some(parse_category(args.string("CATEGORY")?)?),
        }
    }
    let name = category.map_or_else(|| category_of(key.bytes()), |category: Str| category.bytes());
    let ttl_ms = ttl_ms.unwrap_or_else(|| LIFETIMES.borrow().ttl_ms(name));

    let created_at_ms = call.now_ms();
    let expires_at_ms = created_at_ms.saturating_add_unsigned(ttl_ms).min(TIME_MAX_MS);
    let counted_in = NewEntry { created_at_ms, expires_at_ms, value }.store(call, key, name)?;
    STATS.cache_sets.add(1);
    counted_in.counters().sets.add(1);
    let effect = Effect::of(EFFECT_NAME, b'S', [created_at_ms, expires_at_ms]);
    match category {
        Some(category) => call.changed_with(key, c"gw.cacheset", &effect, &[value, category]),
        None => call.changed_with(key, c"gw.cacheset", &effect, &[value]),
    }
    call.reply().ok();
    Ok(())
}

fn parse_category(category: Str) -> Result<Str, Error> {
    match category.bytes().len() {
        1..=CATEGORY_BYTES_MAX => Ok(category),
        _ => Err(Error::new("not a name of 1 to 64 bytes", "CATEGORY")),
    }
}

/// What a set is to a replica.
struct NewEntry<'a> {
    created_at_ms: i64,
    expires_at_ms: i64,
    value: Str<'a>,
}

impl NewEntry<'_> {
    /// Returns the category that the entry is counted in.
    fn store(&self, call: &mut Call, key: Str, category: &[u8]) -> Result<Category, Error> {
        let mut opened = call.open::<Entry>(key)?;
        let entry = opened.insert(Entry::new(self.value.bytes().to_vec(), self.created_at_ms, category));
        let category = entry.category();
        opened.expire_at(self.expires_at_ms);
        Ok(category)
    }
}

fn apply(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let (operation, mut words) = Words::new(args.bytes("effect")?)?;
    let (created_at_ms, expires_at_ms) = (words.int(0..=TIME_MAX_MS)?, words.int(0..=TIME_MAX_MS)?);
    words.end()?;
    let value = args.string("value")?;
    let category = args.optional().map(parse_category).transpose()?;
    args.end()?;
    if operation != b'S' {
        return Err(malformed());
    }
    let name = category.map_or_else(|| category_of(key.bytes()), |category| category.bytes());
    NewEntry { created_at_ms, expires_at_ms, value }.store(call, key, name)?;
    call.applied(key, c"gw.cache");
    call.reply().ok();
    Ok(())
}

/// GW.CACHEDEL key [key …]
fn del(call: &mut Call) -> Outcome {
    let keys = call.args().rest("key")?;
    for &key in keys {
        call.open::<Entry>(key)?;
    }
    let mut deleted = Vec::new();
    for &key in keys {
        let mut opened = call.open::<Entry>(key)?;
        if opened.get().is_some() {
            opened.delete();
            deleted.push(key);
        }
    }
    STATS.cache_deletes.add(deleted.len() as u64);
    call.deleted(&deleted, c"gw.cachedel");
    call.reply().count(deleted.len() as u64);
    Ok(())
}
