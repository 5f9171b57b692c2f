//! GW.SEMGET: replies the values whose vectors are most similar to a question's.

use gateway_core::cache::category_of;
use gateway_core::money::Amount;
use gateway_core::semantic::{Answer, COUNT_MAX, Guards, Match, Query, Question, Scratch, Similarity};
use lazy_static::lazy_static;

use super::args::{check_dimensions, not_a_vector, parse_similarity, parse_text};
use super::member::{Member, SemanticIndex};
use crate::cache::answer::reply_value;
use crate::cache::category::{Category, count_error};
use crate::server::args::Args;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::shared::MainThread;
use crate::server::{Call, Error, Key, Outcome};
use crate::stats::STATS;

pub const COMMAND: Command = Command {
    name: "GW.SEMGET",
    handler: entry!(get),
    flags: "readonly",
    arity: -3,
    keys: Keys::One(Access::Read),
    summary: "Replies the value of a semantic index whose vector is most similar to this one, if it is at least as similar as \
              the threshold, or nil; with META, also how similar it is; with COUNT, several of them.",
    complexity: "O(N*D) in the entries of the index and their dimensions, a few hundredths of a nanosecond for each",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key_as("index"),
        Arg::text("vector"),
        Arg::text("similarity").after("THRESHOLD").optional(),
        Arg::one_of("detail", &[Arg::word("meta", "META"), Arg::integer("count").after("COUNT")]).optional(),
        Arg::text("question").after("TEXT").optional(),
        Arg::text("guard").after("GUARD").repeated().optional(),
    ],
};

#[derive(Clone, Copy)]
enum Opt {
    Threshold,
    Meta,
    Count,
    Text,
    Guard,
}

const OPTIONS: [(&str, Opt); 5] = [
    ("THRESHOLD", Opt::Threshold),
    ("META", Opt::Meta),
    ("COUNT", Opt::Count),
    ("TEXT", Opt::Text),
    ("GUARD", Opt::Guard),
];

/// What is replied.
#[derive(Clone, Copy)]
enum Detail {
    Value,
    Meta,
    /// That number of entries at most.
    Count(usize),
}

/// A call of GW.SEMGET.
struct GetRequest<'a> {
    key: Key<'a>,
    query: Query,
    threshold: Option<Similarity>,
    detail: Detail,
    text: &'a [u8],
    guards: Guards,
}

fn get(call: &mut Call) -> Outcome {
    let key = call.args().key()?;
    get_entries(call).inspect_err(|_| count_error(key))
}

/// GW.SEMGET index vector [THRESHOLD similarity] [META | COUNT count] [TEXT question GUARD guard [GUARD guard ...]]
fn get_entries(call: &Call) -> Outcome {
    lazy_static! {
        static ref SCRATCH: MainThread<Scratch> = MainThread::new(Scratch::default());
    }
    let request = GetRequest::parse(call)?;
    let now_ms = call.now_ms();
    let found = call.look_up::<SemanticIndex>(request.key)?;
    let Some(found) = found else {
        return reply(call, &request, &Answer { matches: Vec::new(), nearest: None }, now_ms, None);
    };
    let index = found.get();
    check_dimensions(index.dimensions(), request.query.dimensions())?;
    let count = if let Detail::Count(count) = request.detail { count } else { 1 };
    let GetRequest { ref query, threshold, text, guards, .. } = request;
    let question = Question { query, threshold, count, text, guards };
    let answer = index.search(now_ms, question, &mut SCRATCH.borrow());
    reply(call, &request, &answer, now_ms, found.expires_at_ms())
}

/// Counts and replies what was found.
fn reply(call: &Call, request: &GetRequest, answer: &Answer<Member>, now_ms: i64, ends_at_ms: Option<i64>) -> Outcome {
    let first = answer.matches.first();
    match first {
        Some(found) => {
            STATS.sem_hits.add(1);
            let counters = found.entry.category().counters();
            counters.hits.add(1);
            let saved = found.entry.saved();
            if saved != Amount::ZERO {
                counters.add_saved(saved);
            }
        }
        None => {
            STATS.sem_misses.add(1);
            Category::asked_for(category_of(request.key.bytes())).counters().misses.add(1);
        }
    }
    match (request.detail, first) {
        (Detail::Value, Some(found)) => reply_value(call, found.entry.value()),
        (Detail::Value, None) => {
            call.reply().null();
            Ok(())
        }
        (Detail::Meta, Some(found)) => reply_match(call, found, now_ms, ends_at_ms),
        (Detail::Meta, None) => {
            call.reply().array(7).bytes("MISS").null();
            reply_similarity(call, answer.nearest);
            call.reply().null().int(0).int(0).null();
            Ok(())
        }
        (Detail::Count(_), _) => {
            call.reply().array(answer.matches.len());
            answer.matches.iter().try_for_each(|found| reply_match(call, found, now_ms, ends_at_ms))
        }
    }
}

fn reply_match(call: &Call, found: &Match<Member>, now_ms: i64, ends_at_ms: Option<i64>) -> Outcome {
    // EXPIRE may end the key, and so the entry, earlier.
    let expires_at_ms = ends_at_ms.map_or(found.expires_at_ms, |end_ms| end_ms.min(found.expires_at_ms));
    call.reply().array(7).bytes("HIT");
    reply_value(call, found.entry.value())?;
    reply_similarity(call, Some(found.similarity));
    call.reply().bytes(found.entry.id()).int(found.entry.age_ms(now_ms)).int((expires_at_ms - now_ms).max(0));
    reply_similarity(call, found.runner_up);
    Ok(())
}

fn reply_similarity(call: &Call, similarity: Option<Similarity>) {
    match similarity {
        Some(similarity) => call.reply().bytes(similarity.to_text().as_bytes()),
        None => call.reply().null(),
    };
}

impl<'a> GetRequest<'a> {
    fn parse(call: &Call<'a>) -> Result<Self, Error> {
        let mut args = call.args();
        let key = args.key()?;
        let query = Query::from_fp32(args.bytes("vector")?).map_err(not_a_vector)?;
        let (mut threshold, mut detail, mut text) = (None, None, None);
        let mut guards = Guards::default();
        while let Some(option) = args.option(&OPTIONS)? {
            match option {
                Opt::Threshold => threshold = Some(parse_similarity(&mut args, "THRESHOLD")?),
                Opt::Meta if detail.is_some() => return Err(Error::conflicting_option("META")),
                Opt::Count if detail.is_some() => return Err(Error::conflicting_option("COUNT")),
                Opt::Meta => detail = Some(Detail::Meta),
                Opt::Count => detail = Some(Detail::Count(args.int("COUNT", 1..=COUNT_MAX)?)),
                Opt::Text => text = Some(parse_text(&mut args)?),
                Opt::Guard => {
                    parse_guard(&mut args, &mut guards)?;
                    args.may_repeat(&OPTIONS, "GUARD");
                }
            }
        }
        match (text, guards == Guards::default()) {
            (None, false) => return Err(Error::only_with("TEXT", "GUARD")),
            (Some(_), true) => return Err(Error::only_with("GUARD", "TEXT")),
            _ => {}
        }
        let text = text.map_or(&b""[..], |text| text.bytes());
        Ok(Self { key, query, threshold, detail: detail.unwrap_or(Detail::Value), text, guards })
    }
}

fn parse_guard(args: &mut Args, guards: &mut Guards) -> Outcome {
    let name = args.bytes("GUARD")?;
    let guard = match name {
        name if name.eq_ignore_ascii_case(b"digits") => &mut guards.digits,
        name if name.eq_ignore_ascii_case(b"negation") => &mut guards.negation,
        _ => return Err(Error::new("neither digits nor negation", "GUARD")),
    };
    if std::mem::replace(guard, true) {
        return Err(Error::new("repeated guard", name));
    }
    Ok(())
}
