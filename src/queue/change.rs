//! Changes of a queue's batches, leased or dead, by GW.LOGACK, GW.LOGNACK, GW.LOGEXTEND and GW.LOGDEAD.

use gateway_core::queue::Queue;

use super::effect::QueueChange;
use crate::server::{Call, Error, Key};
use crate::stats::STATS;

/// Makes the change that `decide` returns, replicates it, and returns the number that comes with it.
pub fn change(
    call: &mut Call,
    key: Key,
    decide: impl FnOnce(&Queue, i64) -> Option<(QueueChange, u64)>,
) -> Result<Option<u64>, Error> {
    let now_ms = call.now_ms();
    let mut opened = call.open::<Queue>(key)?;
    let Some(queue) = opened.get() else { return Ok(None) };
    let dead_lettered = queue.counts().dead_lettered;
    let decided = decide(queue, now_ms);
    // Exhausted batches become dead letters even if the command changes nothing else.
    let (change, number) = match decided {
        Some(decided) => decided,
        None if queue.has_exhausted(now_ms) => (QueueChange::MoveExhausted, 0),
        None => return Ok(None),
    };
    change.make(queue, now_ms);
    STATS.log_dead.add(queue.counts().dead_lettered.saturating_sub(dead_lettered));
    drop(opened);
    call.replicate(key, change.event(), &change.effect(now_ms));
    // Records may be ready now, or at another time than before.
    call.wake(key);
    Ok(decided.map(|_| number))
}
