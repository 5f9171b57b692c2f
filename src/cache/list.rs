//! GW.CACHELIST: the keys of a category or of a tag, page by page.

use std::time::{Duration, Instant};

use gateway_core::cache::State;

use super::args::{parse_category, parse_tag};
use super::entry::Entry;
use crate::server::args::OwnedKey;
use crate::server::call::entry;
use crate::server::command::{Arg, Command, Keys};
use crate::server::{Call, Error, Outcome};

pub const COMMAND: Command = Command {
    name: "GW.CACHELIST",
    handler: entry!(list),
    flags: "readonly",
    arity: -4,
    keys: Keys::None,
    summary: "Replies some of the keys of a category or a tag, and the cursor to go on with, as SCAN does.",
    complexity: "O(N) in the keys of the database for a whole pass; a call takes less than a millisecond",
    since: "0.1.0",
    tips: "nondeterministic_output request_policy:special response_policy:special",
    args: &[
        Arg::integer("cursor"),
        Arg::one_of("what", &[Arg::text("category").after("CATEGORY"), Arg::text("tag").after("TAG")]),
        Arg::integer("count").after("COUNT").optional(),
    ],
};

/// How long one call may look, beyond its last step.
const SLICE: Duration = Duration::from_micros(250);

/// How many keys one step looks at.
const KEYS_PER_STEP: usize = 32;

const COUNT_MAX: usize = 1_000;
const COUNT_DEFAULT: usize = 100;

#[derive(Clone, Copy)]
enum Opt {
    Category,
    Tag,
    Count,
}

const OPTIONS: [(&str, Opt); 3] = [("CATEGORY", Opt::Category), ("TAG", Opt::Tag), ("COUNT", Opt::Count)];

enum What<'a> {
    Category(&'a [u8]),
    Tag(&'a [u8]),
}

impl What<'_> {
    fn has(&self, entry: &Entry) -> bool {
        match self {
            What::Category(name) => entry.category().name() == *name,
            What::Tag(name) => entry.tags().iter().any(|tag| tag.name() == *name),
        }
    }
}

/// GW.CACHELIST cursor CATEGORY category | TAG tag [COUNT count]
fn list(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let mut cursor = parse_cursor(args.bytes("cursor")?)?;
    let (mut what, mut count) = (None, COUNT_DEFAULT);
    while let Some(option) = args.option(&OPTIONS)? {
        match option {
            Opt::Category if what.is_some() => return Err(Error::conflicting_option("CATEGORY")),
            Opt::Tag if what.is_some() => return Err(Error::conflicting_option("TAG")),
            Opt::Category => what = Some(What::Category(parse_category(&mut args)?.bytes())),
            Opt::Tag => what = Some(What::Tag(parse_tag(&mut args)?.bytes())),
            Opt::Count => count = args.int("COUNT", 1..=COUNT_MAX)?,
        }
    }
    let what = what.ok_or_else(|| Error::missing_option("CATEGORY or TAG"))?;

    let (start, now_ms) = (Instant::now(), call.now_ms());
    let mut found = Vec::new();
    loop {
        let page = call.scan_page(cursor, KEYS_PER_STEP)?;
        cursor = page.next;
        found.extend(page.keys.into_iter().filter(|name| is_listed(call, name, &what, now_ms)));
        if cursor == 0 || found.len() >= count || start.elapsed() >= SLICE {
            break;
        }
    }
    let reply = call.reply();
    reply.array(2).bytes(itoa::Buffer::new().format(cursor)).array(found.len());
    for name in &found {
        reply.bytes(name.key().bytes());
    }
    Ok(())
}

/// Whether the key holds an entry that readers see, of what is asked for.
fn is_listed(call: &Call, name: &OwnedKey, what: &What, now_ms: i64) -> bool {
    call.glance::<Entry>(name.key()).is_some_and(|found| {
        let entry = found.get();
        what.has(entry) && !entry.is_cleared() && entry.state(now_ms) != State::Expired
    })
}

/// A cursor that an earlier call has replied, or 0. The server's cursors take all 64 bits.
fn parse_cursor(text: &[u8]) -> Result<u64, Error> {
    let digits = str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| Error::not_in(0..=u64::MAX, "cursor"))
}
