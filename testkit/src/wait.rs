//! Waiting for what must happen, without judging how soon.

use crate::error::Error;
use std::time::{Duration, Instant};

/// How long a test waits for something before it fails. No test judges how fast something is: this is far more than any
/// test needs on a busy machine, and short enough to show a hang.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Waits until `condition` holds, asking every few milliseconds.
///
/// # Errors
/// If it does not hold within `deadline`; `what` names it in the message.
pub fn await_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) -> Result<(), Error> {
    const PAUSE: Duration = Duration::from_millis(3);
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > deadline {
            return Err(Error::new(format!("after {deadline:?} still waiting for: {what}")));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// The length of a long test: `full` with GW_LIVE=full, as before a release, else `short`.
pub fn live(short: u64, full: u64) -> u64 {
    match std::env::var("GW_LIVE") {
        Ok(given) if given == "full" => full,
        _ => short,
    }
}
