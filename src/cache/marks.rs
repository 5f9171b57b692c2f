//! This node's marks of clears, for entries that come from other nodes of a cluster (see the core's `cache::marks`).
//!
//! What a mark covers depends on the times of clears and sets alone. These are in the effects, so that replicas decide as
//! their primary does. An entry that is set after a clear, on the same node, always has a later time: the clock is rounded
//! up to that.

use std::sync::atomic::{AtomicI64, Ordering};

use gateway_core::cache::clears::Kind;
use gateway_core::cache::marks::{Marks, NEVER_MS};
use lazy_static::lazy_static;

use super::groups;
use crate::server::Call;
use crate::server::events::{Event, Loading};
use crate::server::shared::MainThread;

lazy_static! {
    static ref MARKS: MainThread<Marks> = MainThread::new(Marks::default());
}

/// [`Marks::last_ms`], for a look without the lock.
static LAST_MS: AtomicI64 = AtomicI64::new(NEVER_MS);

/// The time of the last clear; [`NEVER_MS`] if there was none.
pub fn last_ms() -> i64 {
    LAST_MS.load(Ordering::Relaxed)
}

/// Remembers that all entries of a name, or with `None` all entries, were cleared at `at_ms`.
pub fn add(of: Option<(Kind, &[u8])>, at_ms: i64) {
    let mut marks = MARKS.borrow();
    marks.add(of, at_ms);
    LAST_MS.store(marks.last_ms(), Ordering::Relaxed);
}

/// Forgets all clears. Entries from elsewhere that they would have cleared are no longer recognised.
pub fn forget() {
    *MARKS.borrow() = Marks::default();
    LAST_MS.store(NEVER_MS, Ordering::Relaxed);
}

/// Whether an entry that comes from elsewhere, and was set at `set_at_ms`, has been cleared here since.
pub fn covers<'a>(set_at_ms: i64, category: &'a [u8], tags: impl Iterator<Item = &'a [u8]>) -> bool {
    set_at_ms <= last_ms() && !groups::is_loading() && MARKS.borrow().covers(set_at_ms, category, tags)
}

/// Keys that are loaded as a whole are those of a primary, which knows what it has cleared, and may know of fewer clears:
/// those of a node that has failed may be lost.
pub fn on_server_event(_call: &mut Call, event: Event) {
    match event {
        Event::LoadingStarted if !groups::is_loading() => forget(),
        Event::LoadingBeside(Loading::Completed) => forget(),
        _ => {}
    }
}
