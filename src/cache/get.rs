//! GW.CACHEGET: replies the cached value, or nil.

use super::answer::{Meta, Question, reply_found, reply_miss};
use super::category::count_error;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::{Call, Outcome};

pub const COMMAND: Command = Command {
    name: "GW.CACHEGET",
    handler: entry!(get),
    flags: "readonly fast",
    arity: -2,
    keys: Keys::One(Access::Read),
    summary: "Replies a cached value or nil; with META, also its state, its age and the time that it has left.",
    complexity: "O(1)",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::word("meta", "META").optional()],
};

const OPTIONS: [(&str, ()); 1] = [("META", ())];

/// GW.CACHEGET key [META]
fn get(call: &mut Call) -> Outcome {
    let key = call.args().key()?;
    get_entry(call).inspect_err(|_| count_error(key))
}

fn get_entry(call: &Call) -> Outcome {
    let mut args = call.args();
    let mut question = Question { key: args.key()?, detailed: false, category: None };
    while let Some(()) = args.option(&OPTIONS)? {
        question.detailed = true;
    }
    match reply_found(call, &question, |_| 0)? {
        true => Ok(()),
        false => reply_miss(call, &question, Meta::MISS),
    }
}
