//! GW.SEMSET: sets an entry of an index.

use gateway_core::PERIOD_MAX_MS;
use gateway_core::TIME_MAX_MS;
use gateway_core::cache::{TAGS_MAX, TTL_MAX_S, category_of};
use gateway_core::money::Amount;
use gateway_core::semantic::{New, Similarity, Vector};

use super::args::{check_dimensions, not_a_vector, parse_id, parse_similarity, parse_text};
use super::effect::{self, Set};
use super::member::SemanticIndex;
use super::removal;
use super::settings::limits;
use crate::cache::args::{parse_tag, parse_value};
use crate::cache::category::count_error;
use crate::cache::moment;
use crate::cache::settings::{PACK_FROM_BYTES, lifetimes_ms};
use crate::server::args::OwnedKey;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::{Call, Error, Key, Outcome, Str};
use crate::stats::STATS;

pub const COMMAND: Command = Command {
    name: "GW.SEMSET",
    handler: entry!(set),
    flags: "write deny-oom",
    arity: -5,
    keys: Keys::One(Access::Insert),
    summary: "Sets an entry of a semantic index: a value that is found by the similarity of its vector, until it expires. Makes \
              room by removing the entries that were not used for longest.",
    complexity: "O(N) in the entries of the index, a few nanoseconds for each",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key_as("index"),
        Arg::text("id"),
        Arg::text("vector"),
        Arg::text("value"),
        Arg::one_of("expiration", &[Arg::integer("seconds").after("EX"), Arg::integer("milliseconds").after("PX")])
            .optional(),
        Arg::text("tag").after("TAG").repeated().optional(),
        Arg::text("amount").after("SAVED").optional(),
        Arg::text("question").after("TEXT").optional(),
        Arg::text("threshold").after("DEFAULT").optional(),
    ],
};

#[derive(Clone, Copy)]
enum Opt {
    Ex,
    Px,
    Tag,
    Saved,
    Text,
    Default,
}

const OPTIONS: [(&str, Opt); 6] = [
    ("EX", Opt::Ex),
    ("PX", Opt::Px),
    ("TAG", Opt::Tag),
    ("SAVED", Opt::Saved),
    ("TEXT", Opt::Text),
    ("DEFAULT", Opt::Default),
];

/// A call of GW.SEMSET.
struct SetRequest<'a> {
    key: Key<'a>,
    id: Str<'a>,
    vector: Vector,
    value: Str<'a>,
    ttl_ms: Option<u64>,
    tags: Vec<Str<'a>>,
    saved: Amount,
    text: Option<Str<'a>>,
    threshold: Option<Similarity>,
}

fn set(call: &mut Call) -> Outcome {
    let key = call.args().key()?;
    set_entry(call).inspect_err(|_| count_error(key))
}

/// GW.SEMSET index id vector value [EX seconds | PX milliseconds] [TAG tag [TAG tag ...]] [SAVED amount] [TEXT question]
/// [DEFAULT threshold]
fn set_entry(call: &mut Call) -> Outcome {
    let request = SetRequest::parse(call)?;
    let SetRequest { key, id, ref vector, value, ref tags, saved, text, threshold, .. } = request;
    let text = text.map_or(&b""[..], |text| text.bytes());
    let limits = limits();
    if value.bytes().len() + text.len() + vector.dimensions() > limits.max_bytes {
        return Err(Error::new("larger than gw.sem-max-bytes", "value"));
    }
    let category = category_of(key.bytes());
    let (ttl_ms, _) = lifetimes_ms(request.ttl_ms, Some(0), category);
    check_index(call, key, vector)?;

    let created_at_ms = moment::of_set(call);
    let expires_at_ms = created_at_ms.saturating_add_unsigned(ttl_ms).min(TIME_MAX_MS);
    let now_ms = call.now_ms();
    let mut opened = call.open::<SemanticIndex>(key)?;
    let index = opened.get_or_insert_with(|| SemanticIndex::new(vector.dimensions()));
    let new = New {
        id: id.bytes(),
        value: value.bytes(),
        pack_from_bytes: PACK_FROM_BYTES.get() as usize,
        created_at_ms,
        expires_at_ms,
        saved,
        text,
        category,
        tags: tags.iter().map(Str::bytes).collect(),
    };
    index.set(vector, new);
    if let Some(threshold) = threshold {
        index.set_threshold(threshold);
    }
    if let Some((entry, _)) = index.get(id.bytes()) {
        entry.category().counters().sets.add(1);
    }
    let removed = index.to_remove(now_ms, id.bytes(), limits);
    for id in &removed {
        STATS.sem_evicted.add(u64::from(removal::remove(index, id, now_ms).is_some()));
    }
    removal::settle(&mut opened);
    drop(opened);
    STATS.sem_sets.add(1);

    let effect = Set { created_at_ms, expires_at_ms, tags: tags.len(), removed: removed.len(), threshold, saved };
    let (codes, text, removed) = (OwnedKey::new(vector.codes()), OwnedKey::new(text), removal::owned(&removed));
    let mut rest = vec![id, codes.key(), value, text.key()];
    rest.extend(tags);
    rest.extend(removed.iter().map(OwnedKey::key));
    call.replicate_with(key, effect::SET_EVENT, &effect.write(), &rest);
    call.reply().ok();
    Ok(())
}

/// Checks that the key holds an index of the vector's dimensions, if anything, before anything is changed.
fn check_index(call: &Call, key: Key, vector: &Vector) -> Outcome {
    match call.find::<SemanticIndex>(key)? {
        Some(found) => check_dimensions(found.get().dimensions(), vector.dimensions()),
        None => Ok(()),
    }
}

impl<'a> SetRequest<'a> {
    fn parse(call: &Call<'a>) -> Result<Self, Error> {
        let mut args = call.args();
        let (key, id) = (args.key()?, parse_id(&mut args)?);
        let vector = Vector::from_fp32(args.bytes("vector")?).map_err(not_a_vector)?;
        let value = parse_value(&mut args)?;
        let mut request = Self {
            key,
            id,
            vector,
            value,
            ttl_ms: None,
            tags: Vec::new(),
            saved: Amount::ZERO,
            text: None,
            threshold: None,
        };
        while let Some(option) = args.option(&OPTIONS)? {
            match option {
                Opt::Ex if request.ttl_ms.is_some() => return Err(Error::conflicting_option("EX")),
                Opt::Px if request.ttl_ms.is_some() => return Err(Error::conflicting_option("PX")),
                Opt::Ex => request.ttl_ms = Some(args.int("EX", 1..=TTL_MAX_S)? * 1_000),
                Opt::Px => request.ttl_ms = Some(args.int("PX", 1..=PERIOD_MAX_MS)?),
                Opt::Tag => {
                    request.tags.push(parse_tag(&mut args)?);
                    if request.tags.len() > TAGS_MAX {
                        return Err(Error::more_than(TAGS_MAX, "tags", "TAG"));
                    }
                    args.may_repeat(&OPTIONS, "TAG");
                }
                Opt::Saved => request.saved = args.amount("SAVED")?,
                Opt::Text => request.text = Some(parse_text(&mut args)?),
                Opt::Default => request.threshold = Some(parse_similarity(&mut args, "DEFAULT")?),
            }
        }
        Ok(request)
    }
}
