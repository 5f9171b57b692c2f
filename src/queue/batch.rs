//! GW.LOGACK, GW.LOGNACK and GW.LOGEXTEND: what a consumer does with a leased batch.

use gateway_core::PERIOD_MAX_MS;
use gateway_core::queue::until_ms;

use super::args::parse_batch_id;
use super::change::change;
use super::effect::QueueChange;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::{Call, Outcome};
use crate::stats::STATS;

pub const ACK: Command = Command {
    name: "GW.LOGACK",
    handler: entry!(ack),
    flags: "write fast",
    arity: 3,
    keys: Keys::One(Access::Delete),
    summary: "Acknowledges a batch whose records are safely stored: it is forgotten. Replies 1, or 0 if there is no such \
              batch.",
    complexity: "O(log N) in the leased batches",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("batch-id")],
};

pub const NACK: Command = Command {
    name: "GW.LOGNACK",
    handler: entry!(nack),
    flags: "write fast",
    arity: -3,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Gives a leased batch back, to be delivered again now or after a delay, or with DEAD to become a dead letter. \
              Replies 1, or 0 if it is not leased.",
    complexity: "O(log N) in the leased batches",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key(),
        Arg::text("batch-id"),
        Arg::one_of("when", &[Arg::integer("delay-ms").after("DELAY"), Arg::word("dead", "DEAD")]).optional(),
    ],
};

pub const EXTEND: Command = Command {
    name: "GW.LOGEXTEND",
    handler: entry!(extend),
    flags: "write fast",
    arity: 5,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Sets the end of a batch's lease to so many milliseconds from now. Replies 1, or 0 if it is not leased.",
    complexity: "O(log N) in the leased batches",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("batch-id"), Arg::integer("lease-ms").after("LEASE")],
};

/// GW.LOGACK key batch-id
fn ack(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let (key, id) = (args.key()?, parse_batch_id(&mut args)?);
    args.end()?;
    let acked =
        change(call, key, |queue, _| queue.batch(id).map(|batch| (QueueChange::Ack(id), batch.size().records)))?;
    STATS.log_acked.add(acked.unwrap_or(0));
    call.reply().int(acked.is_some().into());
    Ok(())
}

/// GW.LOGNACK key batch-id [DELAY ms | DEAD]
fn nack(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let (key, id) = (args.key()?, parse_batch_id(&mut args)?);
    let mut delay_ms = Some(0);
    if let Some(is_dead) = args.option(&[("DELAY", false), ("DEAD", true)])? {
        delay_ms = if is_dead { None } else { Some(args.int("DELAY", 0..=PERIOD_MAX_MS)?) };
    }
    args.end()?;
    let given_back = change(call, key, |queue, now_ms| {
        queue.leased_batch(now_ms, id)?;
        let change =
            delay_ms.map_or(QueueChange::DeadLetter(id), |delay_ms| QueueChange::Nack(id, until_ms(now_ms, delay_ms)));
        Some((change, 1))
    })?;
    call.reply().int(given_back.is_some().into());
    Ok(())
}

/// GW.LOGEXTEND key batch-id LEASE ms
fn extend(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let (key, id) = (args.key()?, parse_batch_id(&mut args)?);
    args.option(&[("LEASE", ())])?;
    let lease_ms = args.int("LEASE", 1..=PERIOD_MAX_MS)?;
    args.end()?;
    let extended = change(call, key, |queue, now_ms| {
        queue.leased_batch(now_ms, id)?;
        Some((QueueChange::Extend(id, until_ms(now_ms, lease_ms)), 1))
    })?;
    call.reply().int(extended.is_some().into());
    Ok(())
}
