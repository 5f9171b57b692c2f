//! GW.SEMREJECT: an answer was wrong for a question.

use super::args::{parse_id, parse_similarity};
use super::effect;
use super::member::SemanticIndex;
use crate::cache::category::count_error;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::{Call, Outcome};
use crate::stats::STATS;

pub const COMMAND: Command = Command {
    name: "GW.SEMREJECT",
    handler: entry!(reject),
    flags: "write fast",
    arity: 4,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Lets an entry of a semantic index no longer answer questions of this similarity or less, because it was wrong for \
              one. Replies 1, or 0 if there is no such entry.",
    complexity: "O(1)",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key_as("index"), Arg::text("id"), Arg::text("similarity")],
};

fn reject(call: &mut Call) -> Outcome {
    let key = call.args().key()?;
    reject_entry(call).inspect_err(|_| count_error(key))
}

/// GW.SEMREJECT index id similarity
fn reject_entry(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let (key, id) = (args.key()?, parse_id(&mut args)?);
    let similarity = parse_similarity(&mut args, "similarity")?;
    args.end()?;
    let now_ms = call.now_ms();
    let mut opened = call.open::<SemanticIndex>(key)?;
    let (mut is_there, mut is_new) = (false, false);
    if let Some(index) = opened.get() {
        is_there = index.get(id.bytes()).is_some_and(|(entry, at_ms)| at_ms > now_ms && !entry.is_cleared());
        is_new = is_there && index.reject(id.bytes(), similarity);
    }
    drop(opened);
    if is_new {
        STATS.sem_rejects.add(1);
        call.replicate_with(key, effect::REJECT_EVENT, &effect::rejected(similarity), &[id]);
    }
    call.reply().int(is_there.into());
    Ok(())
}
