//! GW.LOGPOP with BLOCK: clients that wait for a queue, as those of BLPOP do.
//!
//! The server keeps waiting clients in the order in which they came, and lets them try again when the key is signalled:
//! after a push, after a batch was given back or extended, after a rename. If records become ready by time alone,
//! because a lease ends, a timer signals the key. Each attempt that finds nothing makes sure that there is a timer for
//! the next batch to be due. So a queue has a timer only while a client waits for it, and never two for the same time.

use gateway_core::queue::Queue;
use lazy_static::lazy_static;

use super::args::PopRequest;
use super::serve::{reply_nothing, serve};
use crate::server::alarm::Alarms;
use crate::server::blocked::retry;
use crate::server::call::entry;
use crate::server::counter::Counter;
use crate::server::events::Event;
use crate::server::{Call, Error, Key, Outcome};

/// How long until a client tries again if keys must not be changed now: during CLIENT PAUSE or a failover.
const PAUSED_MS: i64 = 50;

/// Clients that wait now.
static WAITING: Counter = Counter::new();

/// How many clients wait now.
pub fn waiting() -> u64 {
    WAITING.get()
}

lazy_static! {
    /// If the clock lags behind the timer, the client tries again too early, and sets another alarm.
    static ref ALARMS: Alarms = Alarms::new(|call, key| call.wake(key));
}

/// Lets the client wait until there are records for it, for at most `timeout_ms` (0: for ever).
pub fn wait(call: &mut Call, key: Key, timeout_ms: u64) -> Outcome {
    call.wait_for_key(key, timeout_ms, retry!(try_again), entry!(time_is_up), &WAITING);
    arm_for_next(call, key)
}

/// Tries again when the key may be ready. A pop after a wait is replicated like any other.
fn try_again(call: &mut Call) -> Result<bool, Error> {
    let request = PopRequest::parse(call)?;
    if !call.may_change() {
        let soon_ms = call.now_ms() + PAUSED_MS;
        ALARMS.set(call, request.key, soon_ms);
        return Ok(false);
    }
    match serve(call, &request) {
        Ok(true) => Ok(true),
        Ok(false) => arm_for_next(call, request.key).map(|()| false),
        // The key now holds another type, but may hold a queue again later.
        Err(error) if error == Error::WRONG_TYPE => Ok(false),
        Err(error) => Err(error),
    }
}

fn time_is_up(call: &mut Call) -> Outcome {
    let request = PopRequest::parse(call)?;
    reply_nothing(call, &request);
    Ok(())
}

/// A timer waits for a time of the server's clock. If that clock is set back, leases are moved back with it, and end
/// before the timer rings.
pub fn on_server_event(call: &mut Call, event: Event) {
    if event == Event::ClockSetBack {
        ALARMS.ring_all_soon(call);
    }
}

/// Arranges for the key to be signalled when its next batch is due.
fn arm_for_next(call: &mut Call, key: Key) -> Outcome {
    let now_ms = call.now_ms();
    let due_ms = call.find::<Queue>(key)?.and_then(|queue| queue.get().next_due_ms(now_ms));
    if let Some(due_ms) = due_ms {
        ALARMS.set(call, key, due_ms);
    }
    Ok(())
}
