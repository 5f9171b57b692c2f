//! GW.CACHESET: caches a value.

use gateway_core::PERIOD_MAX_MS;
use gateway_core::cache::{Life, TAGS_MAX, TTL_MAX_S, category_of};
use gateway_core::money::Amount;

use super::args::{parse_category, parse_tag, parse_token, parse_value};
use super::category::count_error;
use super::entry::New;
use super::settings::lifetimes_ms;
use super::store::store;
use super::{effect, flights, moment};
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::{Call, Error, Key, Outcome, Str};
use crate::stats::STATS;

pub const COMMAND: Command = Command {
    name: "GW.CACHESET",
    handler: entry!(set),
    flags: "write deny-oom fast",
    arity: -3,
    keys: Keys::One(Access::Overwrite),
    summary: "Caches a value until it expires: after EX or PX, or else its category's time to live, or else an hour.",
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

/// A call of GW.CACHESET.
struct SetRequest<'a> {
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
    let request = SetRequest::parse(call)?;
    let SetRequest { key, value, category, ref tags, saved, .. } = request;
    let name = category.map_or_else(|| category_of(key.bytes()), |category| category.bytes());
    let may_fill = |token| flights::may_fill(call, key, token, name, tags.iter().map(Str::bytes));
    if !request.token.is_none_or(may_fill) {
        call.reply().null();
        return Ok(());
    }
    let (ttl_ms, stale_ms) = lifetimes_ms(request.ttl_ms, request.stale_ms, name);

    let created_at_ms = moment::of_set(call);
    let new = New {
        value: value.bytes(),
        created_at_ms,
        life: Life::new(created_at_ms, ttl_ms, stale_ms),
        saved,
        category: name,
        tags: tags.iter().map(Str::bytes).collect(),
    };
    // If the key holds another type, the clients that wait for it get that error, too.
    let counters = store(call, key, new).inspect_err(|_| flights::filled(call, key))?;
    STATS.cache_sets.add(1);
    counters.sets.add(1);

    let effect = effect::set(created_at_ms, ttl_ms, stale_ms, saved, category.is_some());
    if category.is_none() && tags.is_empty() {
        call.replicate_with(key, effect::SET_EVENT, &effect, &[value]);
    } else {
        let rest: Vec<Str> = [value].into_iter().chain(category).chain(tags.iter().copied()).collect();
        call.replicate_with(key, effect::SET_EVENT, &effect, &rest);
    }
    flights::filled(call, key);
    call.reply().ok();
    Ok(())
}

impl<'a> SetRequest<'a> {
    fn parse(call: &Call<'a>) -> Result<Self, Error> {
        let mut args = call.args();
        let (key, value) = (args.key()?, parse_value(&mut args)?);
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
                Opt::Ex if request.ttl_ms.is_some() => return Err(Error::conflicting_option("EX")),
                Opt::Px if request.ttl_ms.is_some() => return Err(Error::conflicting_option("PX")),
                Opt::Ex => request.ttl_ms = Some(args.int("EX", 1..=TTL_MAX_S)? * 1_000),
                Opt::Px => request.ttl_ms = Some(args.int("PX", 1..=PERIOD_MAX_MS)?),
                Opt::Stale => request.stale_ms = Some(args.int("STALE", 0..=PERIOD_MAX_MS)?),
                Opt::Category => request.category = Some(parse_category(&mut args)?),
                Opt::Tag => {
                    request.tags.push(parse_tag(&mut args)?);
                    if request.tags.len() > TAGS_MAX {
                        return Err(Error::more_than(TAGS_MAX, "tags", "TAG"));
                    }
                    args.may_repeat(&OPTIONS, "TAG");
                }
                Opt::Saved => request.saved = args.amount("SAVED")?,
                Opt::Token => request.token = Some(parse_token(&mut args, "TOKEN")?),
            }
        }
        Ok(request)
    }
}
