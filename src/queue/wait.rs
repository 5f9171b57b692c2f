//! GW.LOGPOP with BLOCK: clients that wait at a queue, as BLPOP's do.
//!
//! The server keeps them in the order in which they came, and lets them try again when the key is signalled: after a
//! push, a batch given back or extended, a rename. What time alone makes ready, a lease that ends, is signalled by a timer:
//! each attempt that finds nothing sees to it that there is one for the next batch to come back. So no queue has
//! a timer that nobody waits for, and none has two for the same moment.

use std::collections::HashMap;

use gateway_core::queue::Queue;
use lazy_static::lazy_static;

use super::pop::{Request, reply_nothing, serve};
use crate::server::args::Name;
use crate::server::blocked::retry;
use crate::server::shared::MainThread;
use crate::server::{Call, Error, Key, Outcome};

/// How long a client waits on while the server may not change anything: during CLIENT PAUSE or a failover.
const PAUSED_MS: i64 = 50;

lazy_static! {
    /// When the next timer of a key fires, by database and name.
    static ref ARMED: MainThread<HashMap<(i32, Vec<u8>), i64>> = MainThread::new(HashMap::new());
}

/// Lets the client wait until there is something for it, at most `timeout_ms` (0: for ever).
pub fn wait(call: &mut Call, key: Key, timeout_ms: u64) -> Outcome {
    call.wait_for_key(key, timeout_ms, retry!(try_again), crate::server::call::entry!(time_is_up));
    arm_for_next(call, key)
}

/// The key may be ready. What is popped here is replicated as by a pop that never waited.
fn try_again(call: &mut Call) -> Result<bool, Error> {
    let request = Request::parse_pop(call)?;
    if !call.may_change() {
        let soon_ms = call.now_ms() + PAUSED_MS;
        arm(call, request.key, soon_ms);
        return Ok(false);
    }
    match serve(call, &request) {
        Ok(true) => Ok(true),
        Ok(false) => arm_for_next(call, request.key).map(|()| false),
        // Something else has taken the key's place. A queue may come again.
        Err(error) if error == Error::WRONG_TYPE => Ok(false),
        Err(error) => Err(error),
    }
}

fn time_is_up(call: &mut Call) -> Outcome {
    let request = Request::parse_pop(call)?;
    reply_nothing(call, &request);
    Ok(())
}

/// Has the key signalled when its next batch comes back.
fn arm_for_next(call: &mut Call, key: Key) -> Outcome {
    let now_ms = call.now_ms();
    let due_ms = call.find::<Queue>(key)?.and_then(|queue| queue.get().next_due_ms(now_ms));
    if let Some(due_ms) = due_ms {
        arm(call, key, due_ms);
    }
    Ok(())
}

fn arm(call: &Call, key: Key, due_ms: i64) {
    let place = (call.database(), key.bytes().to_vec());
    let mut armed = ARMED.borrow();
    if armed.get(&place).is_some_and(|armed_ms| *armed_ms <= due_ms) {
        return;
    }
    armed.insert(place.clone(), due_ms);
    let delay_ms = (due_ms - call.now_ms()).max(1).unsigned_abs();
    call.after(delay_ms, signal, (place, due_ms));
}

fn signal(call: &mut Call, (place, due_ms): ((i32, Vec<u8>), i64)) {
    {
        let mut armed = ARMED.borrow();
        // An earlier one has taken this one's place, and sees to what follows.
        if armed.get(&place) != Some(&due_ms) {
            return;
        }
        armed.remove(&place);
    }
    // Should the clock lag behind the timer, whoever tries again arms another.
    call.wake(Name::new(&place.1).key());
}
