//! Waiting for what must happen, without a word on how soon.

use crate::error::Error;
use std::time::{Duration, Instant};

/// How long a test waits for what has to happen before it fails. No test judges how fast something is: this is far
/// beyond what any of them takes on a busy machine, and short enough for a hang to show.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Waits until `condition` holds, asking every few milliseconds.
///
/// # Errors
/// If it does not within `deadline`; `what` names it in the message.
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

/// How much of a long test is run: `full` with GW_LIVE=full, as before a release, else `short`.
pub fn live(short: u64, full: u64) -> u64 {
    match std::env::var("GW_LIVE") {
        Ok(given) if given == "full" => full,
        _ => short,
    }
}
