//! GW.LOGPUSH: appends records, within bounds.

use gateway_core::json;
use gateway_core::queue::{COUNT_MAX, PushError, Queue, WhenFull};

use super::args::ID_BYTES_MAX;
use super::settings::{ID_MS, limits};
use super::{effect, worker};
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::{Call, Error, Outcome, Str};
use crate::stats::STATS;

pub const COMMAND: Command = Command {
    name: "GW.LOGPUSH",
    handler: entry!(push),
    flags: "write deny-oom fast",
    arity: -3,
    keys: Keys::One(Access::Insert),
    summary: "Appends records to a bounded log queue, all or none. Replies its length and how many of the oldest were \
              dropped to make room; with REJECT a full queue replies the error QUEUEFULL instead. Under an ID that was \
              pushed before it stores nothing.",
    complexity: "O(N) in the records pushed and dropped",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key(),
        Arg::integer("max-records").after("MAXLEN").optional(),
        Arg::integer("max-bytes").after("MAXBYTES").optional(),
        Arg::word("reject", "REJECT").optional(),
        Arg::word("json", "JSON").optional(),
        Arg::text("id").after("ID").optional(),
        Arg::word("records", "RECORDS").optional(),
        Arg::text("record").multiple(),
    ],
};

const QUEUE_FULL: Error = Error::coded("QUEUEFULL the queue is full: nothing was stored");

#[derive(Clone, Copy)]
enum Opt {
    MaxLen,
    MaxBytes,
    Reject,
    Json,
    Id,
    Records,
}

const OPTIONS: [(&str, Opt); 6] = [
    ("MAXLEN", Opt::MaxLen),
    ("MAXBYTES", Opt::MaxBytes),
    ("REJECT", Opt::Reject),
    ("JSON", Opt::Json),
    ("ID", Opt::Id),
    ("RECORDS", Opt::Records),
];

/// GW.LOGPUSH key [MAXLEN records] [MAXBYTES bytes] [REJECT] [JSON] [ID id] [RECORDS] record [record …]
fn push(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let mut limits = limits();
    let (mut when_full, mut json, mut id) = (WhenFull::DropOldest, false, None);
    while let Some(option) = args.option_if_any(&OPTIONS)? {
        match option {
            Opt::MaxLen => limits.max_records = args.int("MAXLEN", 1..=COUNT_MAX)?,
            Opt::MaxBytes => limits.max_bytes = args.int("MAXBYTES", 1..=COUNT_MAX)?,
            Opt::Reject => when_full = WhenFull::Reject,
            Opt::Json => json = true,
            Opt::Id => id = Some(args.name("ID", ID_BYTES_MAX)?),
            Opt::Records => break,
        }
    }
    let records = args.rest("record")?;
    if json {
        check_json(records)?;
    }

    let now_ms = call.now_ms();
    let mut opened = call.open::<Queue>(key)?;
    if let (Some(id), Some(queue)) = (id, opened.get())
        && queue.is_repeated(now_ms, id.bytes())
    {
        STATS.log_repeated.add(records.len() as u64);
        queue.count_repeated(now_ms, records.len() as u64);
        let len = queue.waiting(now_ms).records;
        drop(opened);
        call.reply().array(2).count(len).count(0);
        return Ok(());
    }
    let empty = Queue::new();
    let lens = records.iter().map(|record| record.bytes().len());
    let plan = match opened.get().map_or(&empty, |queue| queue).plan_push(now_ms, lens, limits, when_full) {
        Ok(plan) => plan,
        Err(PushError::Full) => {
            STATS.log_rejected.add(records.len() as u64);
            if let Some(queue) = opened.get() {
                queue.count_rejected(now_ms, records.len() as u64);
            }
            return Err(QUEUE_FULL);
        }
        Err(PushError::TooLarge { index }) => {
            return Err(Error::new("larger than MAXBYTES", format!("record {index}")));
        }
    };
    let stored = records.get(plan.skip_new..).unwrap_or_default();
    let skipped = plan.skip_new as u64;
    let queue = opened.get_or_insert_with(Queue::new);
    let dead_lettered = queue.counts().dead_lettered;
    queue.push(now_ms, plan.drop_oldest, stored.iter().map(|record| record.bytes()), skipped);
    let id_ms = id.map(|_| ID_MS.get().unsigned_abs());
    if let (Some(id), Some(id_ms)) = (id, id_ms) {
        queue.remember(now_ms, id.bytes(), id_ms);
    }
    STATS.log_dead.add(queue.counts().dead_lettered.saturating_sub(dead_lettered));
    let dead_dropped = effect::drop_excess_dead(queue);
    worker::submit(queue);
    let len = queue.waiting(now_ms).records;
    drop(opened);

    let dropped = plan.drop_oldest + skipped;
    STATS.log_pushed.add(records.len() as u64);
    STATS.log_dropped.add(dropped);
    let effect = effect::pushed(now_ms, plan, id_ms, dead_dropped);
    match id {
        None => call.replicate_with(key, effect::PUSH_EVENT, &effect, stored),
        Some(id) => {
            let rest: Vec<Str> = std::iter::once(id).chain(stored.iter().copied()).collect();
            call.replicate_with(key, effect::PUSH_EVENT, &effect, &rest);
        }
    }
    call.wake(key);
    call.reply().array(2).count(len).count(dropped);
    Ok(())
}

fn check_json(records: &[Str]) -> Outcome {
    for (index, record) in records.iter().enumerate() {
        json::check(record.bytes())
            .map_err(|error| Error::new("not valid JSON", format!("record {index} at byte {}", error.at)))?;
    }
    Ok(())
}
