//! Changes of a queue's batches, leased or dead letters, by GW.LOGACK, GW.LOGNACK, GW.LOGEXTEND and GW.LOGDEAD.

use gateway_core::queue::Queue;

use super::effect::{QueueChange, due};
use crate::server::{Call, Error, Key, Str};
use crate::stats::STATS;

/// Makes the change that `decide` returns, replicates it, and returns the number that comes with it. `decide` may
/// return a number alone, if the request was carried out before. `rest` are further arguments of the effect.
pub fn change<'a>(
    call: &mut Call,
    key: Key,
    rest: &[Str],
    decide: impl FnOnce(&Queue, i64) -> Result<Option<(Option<QueueChange<'a>>, u64)>, Error>,
) -> Result<Option<u64>, Error> {
    let now_ms = call.now_ms();
    let mut opened = call.open::<Queue>(key)?;
    let Some(queue) = opened.get() else { return Ok(None) };
    let dead_lettered = queue.counts().dead_lettered;
    let decided = decide(queue, now_ms)?;
    let number = decided.map(|(_, number)| number);
    // Changes that are due are made even if the command changes nothing.
    let (change, rest) = match decided.and_then(|(change, _)| change) {
        Some(change) => (change, rest),
        None => match due(queue, now_ms) {
            Some(change) => (change, &[][..]),
            None => return Ok(number),
        },
    };
    let effect = change.decide(queue, now_ms);
    STATS.log_dead.add(queue.counts().dead_lettered.saturating_sub(dead_lettered));
    drop(opened);
    call.replicate_with(key, change.event(), &effect, rest);
    // Records may be ready now, or the time at which they are ready may have changed.
    call.wake(key);
    Ok(number)
}
