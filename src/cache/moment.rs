//! The times of sets and clears: of two on the same node, the later one has the later time (see [`marks`]).

use super::effect;
use super::marks;
use crate::server::Call;

/// If the clock is further behind the last clear than this, it was set back.
const SET_BACK_MS: i64 = 1_000;

/// The time of an entry that is set now.
pub fn of_set(call: &Call) -> i64 {
    let now_ms = call.now_ms();
    if now_ms > marks::last_ms() {
        return now_ms;
    }
    forget_if_set_back(call, now_ms);
    now_ms.max(marks::last_ms() + 1)
}

/// The time of a clear that is made now.
pub fn of_clear(call: &Call) -> i64 {
    let now_ms = call.now_ms();
    forget_if_set_back(call, now_ms);
    now_ms.max(marks::last_ms())
}

/// After the clock was set back, times no longer tell what came first. Replicas have to know that, too.
fn forget_if_set_back(call: &Call, now_ms: i64) {
    if now_ms + SET_BACK_MS < marks::last_ms() {
        marks::forget();
        effect::replicate_forget(call);
    }
}
