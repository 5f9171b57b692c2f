//! The family's effects. Deletions travel as UNLINK.
//!
//! | command | operation | words | event |
//! |---|---|---|---|
//! | `GW._CACHE` | `S` | `created_at_ms ttl_ms stale_ms [saved]`: set; the value and the tags follow | `gw.cacheset` |
//! | `GW._CACHE` | `C` | the same, with another category than the key's own: it follows the value | `gw.cacheset` |
//! | `GW._CACHE` | `T` | `fresh_until_ms`: touched | `gw.cachetouch` |
//! | `GW._CACHECLEAR` | `C` `T` `A` | `[at_ms]`: a category, a tag or all entries were cleared; the name follows | none |
//! | `GW._CACHECLEAR` | `F` | none: the times of clears are forgotten; an empty name follows | none |

use std::ffi::CStr;

use gateway_core::cache::clears::Kind;
use gateway_core::cache::marks::NEVER_MS;
use gateway_core::cache::{Life, TAGS_MAX, category_of};
use gateway_core::money::Amount;
use gateway_core::{PERIOD_MAX_MS, TIME_MAX_MS};

use super::args::{parse_category, parse_tag, parse_value};
use super::entry::{Entry, New};
use super::store::{keep_fresh, store};
use super::{flights, groups, marks, reclaim};
use crate::server::args::Args;
use crate::server::call::entry;
use crate::server::command::{self, Access, Arg, Command, Keys};
use crate::server::effect::{Effect, Words, malformed, newer};
use crate::server::{Call, Error, Key, Outcome};

const NAME: &CStr = c"GW._CACHE";

pub const COMMAND: Command = Command {
    name: command::name(NAME),
    handler: entry!(apply),
    flags: "write admin fast",
    arity: -3,
    keys: Keys::One(Access::Overwrite),
    summary: "Internal: sets or touches a cache entry, on replicas and from the AOF.",
    complexity: "O(1)",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("effect"), Arg::text("argument").multiple().optional()],
};

const CLEAR_NAME: &CStr = c"GW._CACHECLEAR";

pub const CLEAR_COMMAND: Command = Command {
    name: command::name(CLEAR_NAME),
    handler: entry!(apply_clear),
    flags: "write admin",
    arity: 3,
    keys: Keys::None,
    summary: "Internal: clears a category, a tag or all entries, on replicas and from the AOF.",
    complexity: "O(1)",
    since: "0.1.0",
    tips: "",
    args: &[Arg::text("effect"), Arg::text("name")],
};

pub const SET_EVENT: &CStr = c"gw.cacheset";
pub const TOUCH_EVENT: &CStr = c"gw.cachetouch";

/// The effect of a set. The value follows, then the category, if one was given, then the tags.
pub fn set(created_at_ms: i64, ttl_ms: u64, stale_ms: u64, saved: Amount, has_category: bool) -> Effect {
    let operation = if has_category { b'C' } else { b'S' };
    let mut effect = Effect::of(NAME, operation, [created_at_ms, ttl_ms.cast_signed(), stale_ms.cast_signed()]);
    if saved != Amount::ZERO {
        effect.word(saved.to_text().as_bytes());
    }
    effect
}

pub fn touch(fresh_until_ms: i64) -> Effect {
    Effect::of(NAME, b'T', [fresh_until_ms])
}

/// GW._CACHE key effect [argument …]
fn apply(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let (operation, words) = Words::new(args.bytes("effect")?)?;
    let event = match operation {
        b'S' => apply_set(call, key, false, words, args)?,
        b'C' => apply_set(call, key, true, words, args)?,
        b'T' => apply_touch(call, key, words, args)?,
        _ => return Err(newer()),
    };
    call.pass_on(key, event);
    call.reply().ok();
    Ok(())
}

fn apply_set(
    call: &mut Call,
    key: Key,
    has_category: bool,
    mut words: Words,
    mut args: Args,
) -> Result<&'static CStr, Error> {
    let created_at_ms = words.int(0..=TIME_MAX_MS)?;
    let (ttl_ms, stale_ms) = (words.int(0..=PERIOD_MAX_MS)?, words.int(0..=PERIOD_MAX_MS)?);
    let saved = match words.optional() {
        Some(text) => Amount::parse(text).ok().filter(|saved| *saved >= Amount::ZERO).ok_or_else(malformed)?,
        None => Amount::ZERO,
    };
    words.end()?;
    let value = parse_value(&mut args)?.bytes();
    let category = if has_category { parse_category(&mut args)?.bytes() } else { category_of(key.bytes()) };
    let mut tags = Vec::new();
    while args.first().is_some() {
        tags.push(parse_tag(&mut args)?.bytes());
    }
    if tags.len() > TAGS_MAX {
        return Err(malformed());
    }
    let life = Life::new(created_at_ms, ttl_ms, stale_ms);
    let new = New { value, created_at_ms, life, saved, category, tags };
    // The node that hands a slot over may not have been told of a clear yet.
    let cleared = new.is_cleared();
    store(call, key, new)?;
    if cleared {
        reclaim::reclaim(call);
    }
    flights::filled(call, key);
    Ok(SET_EVENT)
}

fn apply_touch(call: &mut Call, key: Key, mut words: Words, args: Args) -> Result<&'static CStr, Error> {
    let fresh_until_ms = words.int(0..=TIME_MAX_MS)?;
    words.end()?;
    args.end()?;
    keep_fresh(&mut call.open::<Entry>(key)?, fresh_until_ms);
    Ok(TOUCH_EVENT)
}

/// Entries that are cleared together.
#[derive(Clone, Copy)]
pub enum Clear<'a> {
    Category(&'a [u8]),
    Tag(&'a [u8]),
    All,
}

impl Clear<'_> {
    /// Clears them. Returns how many entries there were. With a time, the clear leaves a mark for entries that come from
    /// other nodes later.
    pub fn make(self, call: &Call, marked_at_ms: Option<i64>) -> u64 {
        if let Some(at_ms) = marked_at_ms {
            let of = match self {
                Clear::Category(name) => Some((Kind::Category, name)),
                Clear::Tag(name) => Some((Kind::Tag, name)),
                Clear::All => None,
            };
            marks::add(of, at_ms);
        }
        let cleared = match self {
            Clear::Category(name) => groups::clear_category(name),
            Clear::Tag(name) => groups::clear_tag(name),
            Clear::All => {
                let (cleared, old) = groups::clear_all();
                reclaim::free_groups(call, old);
                cleared
            }
        };
        // A value that is being computed names its tags, and perhaps its category, only when it is set.
        match self {
            Clear::Category(name) => flights::cleared(Kind::Category, name),
            Clear::Tag(name) => flights::cleared(Kind::Tag, name),
            Clear::All => {}
        }
        flights::revoked_where(call, |_, _, scope| match self {
            Clear::Category(name) => *scope.category == *name,
            Clear::Tag(_) => scope.tags.iter().any(|tag| tag.is_cleared()),
            Clear::All => true,
        });
        cleared
    }

    pub fn replicate(self, call: &Call, marked_at_ms: Option<i64>) {
        let (operation, name) = match self {
            Clear::Category(name) => (b'C', name),
            Clear::Tag(name) => (b'T', name),
            Clear::All => (b'A', &b""[..]),
        };
        let mut effect = Effect::new(CLEAR_NAME, operation);
        if let Some(at_ms) = marked_at_ms {
            effect.int(at_ms);
        }
        call.replicate_keyless(&effect, name);
    }
}

/// After the times of all clears were forgotten.
pub fn replicate_forget(call: &Call) {
    call.replicate_keyless(&Effect::new(CLEAR_NAME, b'F'), b"");
}

/// GW._CACHECLEAR effect name
fn apply_clear(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let (operation, mut words) = Words::new(args.bytes("effect")?)?;
    let clear = match operation {
        b'C' => Some(Clear::Category(parse_category(&mut args)?.bytes())),
        b'T' => Some(Clear::Tag(parse_tag(&mut args)?.bytes())),
        b'A' | b'F' => {
            args.string("name")?;
            (operation == b'A').then_some(Clear::All)
        }
        _ => return Err(newer()),
    };
    let marked_at_ms = words.int_or(NEVER_MS..=TIME_MAX_MS, NEVER_MS)?;
    words.end()?;
    args.end()?;
    match clear {
        Some(clear) => {
            clear.make(call, (marked_at_ms > NEVER_MS).then_some(marked_at_ms));
        }
        None => marks::forget(),
    }
    call.pass_on_keyless();
    reclaim::reclaim(call);
    call.reply().ok();
    Ok(())
}
