//! GW.CACHESET and GW.CACHEDEL: puts entries in and takes them out.

use gateway_core::cache::{CATEGORY_BYTES_MAX, DEFAULT_TTL_MS, Life, TAG_BYTES_MAX, TAGS_MAX, TTL_MAX_S, category_of};
use gateway_core::money::Amount;
use gateway_core::{PERIOD_MAX_MS, TIME_MAX_MS, UNITS_MAX};

use super::category::Counters;
use super::entry::{Entry, New, VALUE_BYTES_MAX};
use super::{DEFAULTS, EFFECT_NAME, PACK_FROM_BYTES, count_error, flights};
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::effect::{Effect, Words, malformed};
use crate::server::stats::STATS;
use crate::server::{Call, Error, Key, Outcome, Str};

pub const SET: Command = Command {
    name: "GW.CACHESET",
    handler: entry!(set),
    flags: "write deny-oom fast",
    arity: -3,
    keys: Keys::One(Access::Overwrite),
    summary: "Caches a value until it expires: after EX or PX, else after its category's time to live, else in an hour.",
    complexity: "O(1)",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key(),
        Arg::text("value"),
        Arg::one_of("expiration", &[Arg::integer("seconds").after("EX"), Arg::integer("milliseconds").after("PX")])
            .optional(),
        Arg::integer("stale-ms").after("STALE").optional(),
        Arg::text("category").after("CATEGORY").optional(),
        Arg::text("tag").after("TAG").repeated().optional(),
        Arg::text("amount").after("SAVED").optional(),
        Arg::integer("token").after("TOKEN").optional(),
    ],
};

pub const DEL: Command = Command {
    name: "GW.CACHEDEL",
    handler: entry!(del),
    flags: "write",
    arity: -2,
    keys: Keys::All(Access::Delete),
    summary: "Deletes cache entries and replies how many there were. A key of another type is an error, and nothing goes.",
    complexity: "O(N) in the keys named",
    since: "0.1.0",
    tips: "request_policy:multi_shard response_policy:agg_sum",
    args: &[Arg::key().multiple()],
};

pub const EFFECT: Command = Command {
    name: "GW._CACHE",
    handler: entry!(apply),
    flags: "write admin fast",
    arity: -3,
    keys: Keys::One(Access::Overwrite),
    summary: "Internal: a cache entry as it was set or touched, for replicas and the AOF.",
    complexity: "O(1)",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("effect"), Arg::text("argument").multiple().optional()],
};

#[derive(Clone, Copy)]
enum Opt {
    Ex,
    Px,
    Stale,
    Category,
    Tag,
    Saved,
    Token,
}

const OPTIONS: [(&str, Opt); 7] = [
    ("EX", Opt::Ex),
    ("PX", Opt::Px),
    ("STALE", Opt::Stale),
    ("CATEGORY", Opt::Category),
    ("TAG", Opt::Tag),
    ("SAVED", Opt::Saved),
    ("TOKEN", Opt::Token),
];

/// What a set asks for.
struct Request<'a> {
    key: Key<'a>,
    value: Str<'a>,
    ttl_ms: Option<u64>,
    stale_ms: Option<u64>,
    category: Option<Str<'a>>,
    tags: Vec<Str<'a>>,
    saved: Amount,
    token: Option<u64>,
}

fn set(call: &mut Call) -> Outcome {
    let key = call.args().key()?;
    set_entry(call).inspect_err(|_| count_error(key))
}

/// GW.CACHESET key value [EX seconds | PX milliseconds] [STALE stale-ms] [CATEGORY category] [TAG tag [TAG tag ...]]
/// [SAVED amount] [TOKEN token]
fn set_entry(call: &mut Call) -> Outcome {
    let request = Request::parse(call)?;
    let Request { key, value, category, ref tags, saved, .. } = request;
    let name = category.map_or_else(|| category_of(key.bytes()), |category| category.bytes());
    let may_fill = |token| flights::may_fill(call, key, token, name, tags.iter().map(Str::bytes));
    if !request.token.is_none_or(may_fill) {
        call.reply().null();
        return Ok(());
    }
    let (ttl_ms, stale_ms) = {
        let defaults = DEFAULTS.borrow();
        let ttl_ms = request.ttl_ms.or_else(|| defaults.ttl.of_ms(name)).unwrap_or(DEFAULT_TTL_MS);
        (ttl_ms, request.stale_ms.or_else(|| defaults.stale.of_ms(name)).unwrap_or(0))
    };

    let created_at_ms = call.now_ms();
    let new = New {
        value: value.bytes(),
        created_at_ms,
        life: Life::new(created_at_ms, ttl_ms, stale_ms),
        saved,
        category: name,
        tags: tags.iter().map(Str::bytes).collect(),
    };
    // Who waits for a key that holds another type is told so, too.
    let counters = store(call, key, new).inspect_err(|_| flights::filled(call, key))?;
    STATS.cache_sets.add(1);
    counters.sets.add(1);

    let operation = if category.is_some() { b'C' } else { b'S' };
    let mut effect = Effect::of(EFFECT_NAME, operation, [created_at_ms, ttl_ms as i64, stale_ms as i64]);
    if saved != Amount::ZERO {
        effect.word(saved.to_text().as_bytes());
    }
    if category.is_none() && tags.is_empty() {
        call.changed_with(key, c"gw.cacheset", &effect, &[value]);
    } else {
        let rest: Vec<Str> = [value].into_iter().chain(category).chain(tags.iter().copied()).collect();
        call.changed_with(key, c"gw.cacheset", &effect, &rest);
    }
    flights::filled(call, key);
    call.reply().ok();
    Ok(())
}

impl<'a> Request<'a> {
    fn parse(call: &Call<'a>) -> Result<Self, Error> {
        let mut args = call.args();
        let (key, value) = (args.key()?, parse_value(args.string("value")?)?);
        let mut request = Self {
            key,
            value,
            ttl_ms: None,
            stale_ms: None,
            category: None,
            tags: Vec::new(),
            saved: Amount::ZERO,
            token: None,
        };
        while let Some(option) = args.option(&OPTIONS)? {
            match option {
                Opt::Ex if request.ttl_ms.is_some() => return Err(Error::new("conflicting option", "EX")),
                Opt::Px if request.ttl_ms.is_some() => return Err(Error::new("conflicting option", "PX")),
                Opt::Ex => request.ttl_ms = Some(args.int("EX", 1..=TTL_MAX_S)? * 1_000),
                Opt::Px => request.ttl_ms = Some(args.int("PX", 1..=PERIOD_MAX_MS)?),
                Opt::Stale => request.stale_ms = Some(args.int("STALE", 0..=PERIOD_MAX_MS)?),
                Opt::Category => request.category = Some(parse_category(args.string("CATEGORY")?)?),
                Opt::Tag => {
                    request.tags.push(parse_tag(args.string("TAG")?)?);
                    if request.tags.len() > TAGS_MAX {
                        return Err(Error::new("more than 16 tags", "TAG"));
                    }
                    args.may_come_again(&OPTIONS, "TAG");
                }
                Opt::Saved => request.saved = args.amount("SAVED")?,
                Opt::Token => request.token = Some(args.int("TOKEN", 1..=UNITS_MAX)?),
            }
        }
        Ok(request)
    }
}

fn parse_value(value: Str) -> Result<Str, Error> {
    match value.bytes().len() {
        0..=VALUE_BYTES_MAX => Ok(value),
        _ => Err(Error::new(&format!("longer than {VALUE_BYTES_MAX} bytes"), "value")),
    }
}

pub fn parse_category(category: Str) -> Result<Str, Error> {
    match category.bytes().len() {
        1..=CATEGORY_BYTES_MAX => Ok(category),
        _ => Err(Error::new("not a name of 1 to 64 bytes", "CATEGORY")),
    }
}

pub fn parse_tag(tag: Str) -> Result<Str, Error> {
    match tag.bytes().len() {
        1..=TAG_BYTES_MAX => Ok(tag),
        _ => Err(Error::new("not a name of 1 to 256 bytes", "TAG")),
    }
}

/// Returns where the entry is counted.
fn store(call: &mut Call, key: Key, new: New) -> Result<&'static Counters, Error> {
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

fn apply(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let (operation, mut words) = Words::new(args.bytes("effect")?)?;
    match operation {
        b'S' | b'C' => {
            let created_at_ms = words.int(0..=TIME_MAX_MS)?;
            let (ttl_ms, stale_ms) = (words.int(0..=PERIOD_MAX_MS)?, words.int(0..=PERIOD_MAX_MS)?);
            let saved = match words.optional() {
                Some(text) => Amount::parse(text).ok().filter(|saved| *saved >= Amount::ZERO).ok_or_else(malformed)?,
                None => Amount::ZERO,
            };
            words.end()?;
            let value = parse_value(args.string("value")?)?.bytes();
            let category = if operation == b'C' { Some(parse_category(args.string("category")?)?) } else { None };
            let mut tags = Vec::new();
            while let Some(tag) = args.optional() {
                tags.push(parse_tag(tag)?.bytes());
            }
            if tags.len() > TAGS_MAX {
                return Err(malformed());
            }
            let category = category.map_or_else(|| category_of(key.bytes()), |category| category.bytes());
            let life = Life::new(created_at_ms, ttl_ms, stale_ms);
            store(call, key, New { value, created_at_ms, life, saved, category, tags })?;
            flights::filled(call, key);
        }
        b'T' => {
            let fresh_until_ms = words.int(0..=TIME_MAX_MS)?;
            words.end()?;
            args.end()?;
            let mut opened = call.open::<Entry>(key)?;
            if let Some(entry) = opened.get() {
                entry.set_fresh_until(fresh_until_ms);
                let ends_at_ms = entry.life().ends_at_ms();
                opened.expire_at(ends_at_ms);
            }
        }
        _ => return Err(malformed()),
    }
    call.applied(key, c"gw.cache");
    call.reply().ok();
    Ok(())
}

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
    call.deleted(&deleted, c"gw.cachedel");
    call.reply().count(live);
    Ok(())
}
