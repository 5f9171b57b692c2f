//! The family's effects, of the command `GW._SEM`. The deletion of an index travels as UNLINK.
//!
//! | operation | words | event |
//! |---|---|---|
//! | `S` | `created_at_ms expires_at_ms tags removed threshold saved`: set, and so many others were removed to make room; the id, the vector's integers, the value, the text, the tags and the ids of those removed follow | `gw.semset` |
//! | `D` | none: removed; the ids follow | `gw.semdel` |
//! | `R` | `millionths`: rejected at that similarity; the id follows | `gw.semreject` |
//! | `P` | none: a piece of an index that is rewritten; its encoding follows | `gw.load` |

use std::ffi::CStr;

use gateway_core::TIME_MAX_MS;
use gateway_core::cache::{TAG_BYTES_MAX, TAGS_MAX, category_of};
use gateway_core::money::Amount;
use gateway_core::semantic::{ID_BYTES_MAX, New, REMOVED_MAX, Similarity, TEXT_BYTES_MAX, Vector};

use super::member::SemanticIndex;
use super::removal::{DEL_EVENT, NAME, REMOVE, settle};
use crate::cache::args::parse_value;
use crate::cache::reclaim;
use crate::cache::settings::PACK_FROM_BYTES;
use crate::server::args::Args;
use crate::server::call::entry;
use crate::server::command::{self, Access, Arg, Command, Keys};
use crate::server::effect::{Effect, Words, malformed, newer};
use crate::server::value::{LOAD_EVENT, Rewrite};
use crate::server::{Call, Error, Key, Outcome, Str};

pub const COMMAND: Command = Command {
    name: command::name(NAME),
    handler: entry!(apply),
    flags: "write admin",
    arity: -4,
    keys: Keys::One(Access::Insert),
    summary: "Internal: sets, removes or rejects entries of a semantic index, on replicas and from the AOF.",
    complexity: "O(N) in the entries of the index",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("effect"), Arg::text("argument").multiple()],
};

pub const SET_EVENT: &CStr = c"gw.semset";
pub const REJECT_EVENT: &CStr = c"gw.semreject";

/// An index without a threshold of its own.
const NO_THRESHOLD: &[u8] = b"-";

/// The words of a set.
pub struct Set {
    pub created_at_ms: i64,
    pub expires_at_ms: i64,
    /// The number of tags.
    pub tags: usize,
    /// The number of entries that were removed.
    pub removed: usize,
    pub threshold: Option<Similarity>,
    pub saved: Amount,
}

impl Set {
    pub fn write(&self) -> Effect {
        let mut effect = Effect::of(NAME, b'S', [self.created_at_ms, self.expires_at_ms]);
        // Both are small: see TAGS_MAX and REMOVED_MAX.
        effect.int(self.tags as i64);
        effect.int(self.removed as i64);
        match self.threshold {
            Some(threshold) => effect.int(threshold.millionths()),
            None => effect.word(NO_THRESHOLD),
        }
        effect.word(self.saved.to_text().as_bytes());
        effect
    }

    fn read(mut words: Words) -> Result<Self, Error> {
        let set = Self {
            created_at_ms: words.int(0..=TIME_MAX_MS)?,
            expires_at_ms: words.int(0..=TIME_MAX_MS)?,
            tags: words.int(0..=TAGS_MAX as i64)? as usize,
            removed: words.int(0..=REMOVED_MAX as i64)? as usize,
            threshold: match words.word()? {
                NO_THRESHOLD => None,
                word => Some(read_similarity(word)?),
            },
            saved: Amount::parse(words.word()?).ok().filter(|saved| *saved >= Amount::ZERO).ok_or_else(malformed)?,
        };
        words.end().map(|()| set)
    }
}

pub fn rejected(similarity: Similarity) -> Effect {
    Effect::of(NAME, b'R', [similarity.millionths()])
}

fn read_similarity(word: &[u8]) -> Result<Similarity, Error> {
    gateway_core::integer::parse_int(word).and_then(Similarity::from_millionths).ok_or_else(malformed)
}

/// GW._SEM key effect argument [argument …]
fn apply(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let (operation, words) = Words::new(args.bytes("effect")?)?;
    let event = match operation {
        b'S' => apply_set(call, key, Set::read(words)?, args)?,
        REMOVE => apply_removal(call, key, words, args)?,
        b'R' => apply_rejection(call, key, words, args)?,
        b'P' => apply_piece(call, key, words, args)?,
        _ => return Err(newer()),
    };
    call.pass_on(key, event);
    call.reply().ok();
    Ok(())
}

fn name<'a>(args: &mut Args<'a>, what: &str, max_bytes: usize) -> Result<&'a [u8], Error> {
    args.name(what, max_bytes).map(|name| name.bytes()).map_err(|_| malformed())
}

fn apply_set(call: &mut Call, key: Key, set: Set, mut args: Args) -> Result<&'static CStr, Error> {
    let id = name(&mut args, "id", ID_BYTES_MAX)?;
    let vector = Vector::from_codes(args.bytes("vector")?).map_err(|_| malformed())?;
    let value = parse_value(&mut args)?.bytes();
    let text = args.bytes("text")?;
    if text.len() > TEXT_BYTES_MAX {
        return Err(malformed());
    }
    let tags = (0..set.tags).map(|_| name(&mut args, "tag", TAG_BYTES_MAX)).collect::<Result<Vec<_>, _>>()?;
    let removed = args.list(set.removed, "id").map_err(|_| malformed())?;
    args.end()?;
    let new = New {
        id,
        value,
        pack_from_bytes: PACK_FROM_BYTES.get() as usize,
        created_at_ms: set.created_at_ms,
        expires_at_ms: set.expires_at_ms,
        saved: set.saved,
        text,
        category: category_of(key.bytes()),
        tags,
    };
    let mut opened = call.open::<SemanticIndex>(key)?;
    if opened.get().is_some_and(|index| index.dimensions() != vector.dimensions()) {
        return Err(malformed());
    }
    let index = opened.get_or_insert_with(|| SemanticIndex::new(vector.dimensions()));
    index.set(&vector, new);
    if let Some(threshold) = set.threshold {
        index.set_threshold(threshold);
    }
    // The node that hands a slot over may not have been told of a clear yet.
    let is_cleared = index.get(id).is_some_and(|(entry, _)| entry.is_cleared());
    removed.iter().for_each(|id| drop(index.remove(id.bytes())));
    settle(&mut opened);
    drop(opened);
    if is_cleared {
        reclaim::reclaim(call);
    }
    Ok(SET_EVENT)
}

fn apply_removal(call: &mut Call, key: Key, words: Words, mut args: Args) -> Result<&'static CStr, Error> {
    words.end()?;
    let ids: &[Str] = args.rest("id")?;
    let mut opened = call.open::<SemanticIndex>(key)?;
    let index = opened.get().ok_or_else(malformed)?;
    ids.iter().for_each(|id| drop(index.remove(id.bytes())));
    settle(&mut opened);
    Ok(DEL_EVENT)
}

fn apply_rejection(call: &mut Call, key: Key, mut words: Words, mut args: Args) -> Result<&'static CStr, Error> {
    let similarity = read_similarity(words.word()?)?;
    words.end()?;
    let id = name(&mut args, "id", ID_BYTES_MAX)?;
    args.end()?;
    let mut opened = call.open::<SemanticIndex>(key)?;
    opened.get().ok_or_else(malformed)?.reject(id, similarity);
    Ok(REJECT_EVENT)
}

fn apply_piece(call: &mut Call, key: Key, words: Words, mut args: Args) -> Result<&'static CStr, Error> {
    words.end()?;
    let piece = SemanticIndex::load_piece(args.bytes("piece")?).map_err(|_| malformed())?;
    args.end()?;
    let mut opened = call.open::<SemanticIndex>(key)?;
    if piece.is_empty() || opened.get().is_some_and(|index| index.dimensions() != piece.dimensions()) {
        return Err(malformed());
    }
    let is_cleared = piece.entries().any(|(entry, _)| entry.is_cleared());
    match opened.get() {
        Some(index) => index.append(piece),
        None => {
            opened.insert(piece);
        }
    }
    drop(opened);
    if is_cleared {
        reclaim::left_over();
    }
    Ok(LOAD_EVENT)
}

/// Rewrites an index in pieces.
pub fn rewrite(index: &SemanticIndex, out: &mut Rewrite) {
    index.save_pieces(&mut |piece| out.effect(&Effect::new(NAME, b'P'), std::iter::once(piece.0.as_slice())));
}
