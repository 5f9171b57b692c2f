//! GW.LOGACK, GW.LOGNACK and GW.LOGEXTEND: changes of a leased batch by its consumer.

use gateway_core::PERIOD_MAX_MS;
use gateway_core::integer::parse_int;
use gateway_core::queue::{BATCH_RECORDS_MAX, Batch, BatchId, Queue, until_ms};

use super::args::{parse_batch_id, parse_delivery};
use super::change::change;
use super::effect::{LAST_ID_US, QueueChange};
use super::serve::NODE;
use crate::server::args::{Args, Short};
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::{Call, Error, Outcome, Str};
use crate::stats::STATS;

const DELIVERY: Arg = Arg::integer("delivery").after("DELIVERY").optional();

pub const ACK: Command = Command {
    name: "GW.LOGACK",
    handler: entry!(ack),
    flags: "write fast",
    arity: -3,
    keys: Keys::One(Access::Delete),
    summary: "Acknowledges a batch whose records are safely stored: it is forgotten. Replies 1, or 0 if there is no such \
              batch, or it was delivered again after that delivery.",
    complexity: "O(log N) in the leased batches",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("batch-id"), DELIVERY],
};

pub const NACK: Command = Command {
    name: "GW.LOGNACK",
    handler: entry!(nack),
    flags: "write fast",
    arity: -3,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Gives a leased batch back, to be delivered again now or after a delay, or with DEAD to become a dead letter: \
              as a whole, or some of its records. Replies 1, or 0 if it is not leased, or was delivered again after that \
              delivery.",
    complexity: "O(log N) in the leased batches; with RECORD O(M) in the batch's records",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key(),
        Arg::text("batch-id"),
        Arg::one_of(
            "when",
            &[
                Arg::integer("delay-ms").after("DELAY"),
                Arg::block(
                    "dead",
                    &[
                        Arg::word("dead", "DEAD"),
                        Arg::block("records", &[Arg::integer("index").multiple()]).after("RECORD").optional(),
                    ],
                ),
            ],
        )
        .optional(),
        DELIVERY,
    ],
};

pub const EXTEND: Command = Command {
    name: "GW.LOGEXTEND",
    handler: entry!(extend),
    flags: "write fast",
    arity: -5,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Sets the end of a batch's lease to a number of milliseconds from now. Replies 1, or 0 if it is not leased, or \
              was delivered again after that delivery.",
    complexity: "O(log N) in the leased batches",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("batch-id"), Arg::integer("lease-ms").after("LEASE"), DELIVERY],
};

/// A batch, as a consumer names it.
#[derive(Clone, Copy)]
struct Named {
    id: BatchId,
    /// The delivery that the consumer got. If there was a later one, another consumer has the batch.
    delivery: Option<u64>,
}

impl Named {
    /// The batch, in any state.
    fn find(self, queue: &Queue) -> Option<&Batch> {
        queue.batch(self.id).filter(|batch| batch.is_latest(self.delivery))
    }

    /// The batch, unless it is a dead letter.
    fn find_leased(self, queue: &Queue, now_ms: i64) -> Option<&Batch> {
        queue.leased_batch(now_ms, self.id).filter(|batch| batch.is_latest(self.delivery))
    }
}

/// GW.LOGACK key batch-id [DELIVERY n]
fn ack(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let mut batch = Named { id: parse_batch_id(&mut args)?, delivery: None };
    while let Some(()) = args.option(&[("DELIVERY", ())])? {
        batch.delivery = Some(parse_delivery(&mut args)?);
    }
    let acked = change(call, key, &[], |queue, _| {
        Ok(batch.find(queue).map(|found| (Some(QueueChange::Ack(batch.id)), found.size().records)))
    })?;
    STATS.log_acked.add(acked.unwrap_or(0));
    call.reply().int(acked.is_some().into());
    Ok(())
}

#[derive(Clone, Copy)]
enum NackOpt {
    Delay,
    Dead,
    Record,
    Delivery,
}

const NACK_OPTIONS: [(&str, NackOpt); 4] =
    [("DELAY", NackOpt::Delay), ("DEAD", NackOpt::Dead), ("RECORD", NackOpt::Record), ("DELIVERY", NackOpt::Delivery)];

/// GW.LOGNACK key batch-id [DELAY ms | DEAD [RECORD index [index …]]] [DELIVERY n]
fn nack(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let mut batch = Named { id: parse_batch_id(&mut args)?, delivery: None };
    let (mut delay_ms, mut is_dead) = (None, false);
    let (mut words, mut indexes): (&[Str], _) = (&[], Short::new());
    while let Some(option) = args.option(&NACK_OPTIONS)? {
        match option {
            NackOpt::Delay => delay_ms = Some(args.int("DELAY", 0..=PERIOD_MAX_MS)?),
            NackOpt::Dead => is_dead = true,
            NackOpt::Record => (words, indexes) = parse_indexes(&mut args)?,
            NackOpt::Delivery => batch.delivery = Some(parse_delivery(&mut args)?),
        }
    }
    if is_dead && delay_ms.is_some() {
        return Err(Error::conflicting_option("DELAY"));
    }
    if !is_dead && !indexes.is_empty() {
        return Err(Error::only_with("DEAD", "RECORD"));
    }
    let id = batch.id;
    let given_back = change(call, key, words, |queue, now_ms| {
        let Some(found) = batch.find_leased(queue, now_ms) else { return Ok(None) };
        let change = if !indexes.is_empty() {
            if !found.has_any(&indexes).map_err(|index| Error::new("no such record in the batch", index.to_string()))? {
                // The request was carried out before, and is repeated.
                return Ok(Some((None, 1)));
            }
            let new_id = queue.next_id(now_ms, LAST_ID_US.get(), *NODE);
            QueueChange::DeadRecords { id, new_id, indexes: &indexes }
        } else if is_dead {
            QueueChange::DeadLetter(id)
        } else {
            QueueChange::Nack(id, until_ms(now_ms, delay_ms.unwrap_or(0)))
        };
        Ok(Some((Some(change), 1)))
    })?;
    call.reply().int(given_back.is_some().into());
    Ok(())
}

/// Parses the indexes of records, at least one and each only once. Returns them as arguments and as numbers.
fn parse_indexes<'a>(args: &mut Args<'a>) -> Result<(&'a [Str<'a>], Short<u32>), Error> {
    let mut indexes = Short::new();
    let mut ahead = args.clone();
    while indexes.is_empty() || ahead.peek().is_some_and(|word| parse_int(word).is_some()) {
        indexes.push(ahead.int("RECORD", 0..=BATCH_RECORDS_MAX - 1)?);
        if indexes.len() > BATCH_RECORDS_MAX as usize {
            break;
        }
    }
    let mut sorted = indexes.clone();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::new("repeated record", pair[0].to_string()));
    }
    Ok((args.list(indexes.len(), "RECORD")?, indexes))
}

/// GW.LOGEXTEND key batch-id LEASE ms [DELIVERY n]
fn extend(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let mut batch = Named { id: parse_batch_id(&mut args)?, delivery: None };
    let mut lease_ms = None;
    while let Some(is_lease) = args.option(&[("LEASE", true), ("DELIVERY", false)])? {
        if is_lease {
            lease_ms = Some(args.int("LEASE", 1..=PERIOD_MAX_MS)?);
        } else {
            batch.delivery = Some(parse_delivery(&mut args)?);
        }
    }
    let lease_ms = lease_ms.ok_or_else(|| Error::missing_option("LEASE"))?;
    let extended = change(call, key, &[], |queue, now_ms| {
        let found = batch.find_leased(queue, now_ms);
        Ok(found.map(|_| (Some(QueueChange::Extend(batch.id, until_ms(now_ms, lease_ms))), 1)))
    })?;
    call.reply().int(extended.is_some().into());
    Ok(())
}
