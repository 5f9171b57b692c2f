//! The log queue: GW.LOGPUSH, GW.LOGPOP, GW.LOGPEEK, GW.LOGLEN.

pub mod pop;
pub mod push;
mod value;

use std::ffi::CStr;

use gateway_core::queue::{Queue, COUNT_MAX};

use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::config::Number;
use crate::server::effect::{malformed, Words};
use crate::server::{Call, Outcome};

/// The family's effects: `P drop_oldest dropped_new` with the records behind it for a push, `D count` for a pop, and
/// `C popped dropped` for the counts of a queue that is written anew.
const EFFECT_NAME: &CStr = c"GW._QUEUE";

pub const EFFECT: Command = Command {
    name: "GW._QUEUE",
    handler: entry!(apply),
    flags: "write admin",
    arity: -3,
    keys: Keys::One(Access::Insert),
    summary: "Internal: what a push or pop did to a log queue, for replicas and the AOF.",
    complexity: "O(N) in the records pushed",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("effect"), Arg::text("record").optional().multiple()],
};

/// The bounds of a queue whose pushes name none.
pub static MAX_RECORDS: Number = Number::new("log-max-records", 100_000, 1, 1 << 40);
pub static MAX_BYTES: Number = Number::new("log-max-bytes", 256 << 20, 1, 1 << 50).in_bytes();

fn apply(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let (operation, mut words) = Words::new(args.bytes("effect")?)?;
    let mut opened = call.open::<Queue>(key)?;
    match operation {
        b'P' => {
            let (drop_oldest, dropped_new) = (words.int(0..=COUNT_MAX)?, words.int(0..=COUNT_MAX)?);
            words.end()?;
            let records = args.rest("record")?;
            let queue = opened.get_or_insert_with(Queue::new);
            queue.apply_push(drop_oldest, records.iter().map(|record| record.bytes()), dropped_new);
        }
        b'D' => {
            let count = words.int(1..=COUNT_MAX)?;
            words.end()?;
            args.end()?;
            opened.get().ok_or_else(malformed)?.drop_front(count);
        }
        b'C' => {
            let (popped, dropped) = (words.int(0..=COUNT_MAX)?, words.int(0..=COUNT_MAX)?);
            words.end()?;
            args.end()?;
            opened.get_or_insert_with(Queue::new).set_counts(popped, dropped).map_err(|_| malformed())?;
        }
        _ => return Err(malformed()),
    }
    drop(opened);
    call.applied(key, c"gw.queue");
    call.reply().ok();
    Ok(())
}
