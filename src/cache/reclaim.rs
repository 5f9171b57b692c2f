//! Frees what was cleared.
//!
//! A scan in slices deletes the entries that are marked as cleared, on the primary, and replicates each deletion. A mark is
//! in this process's memory only: an entry that is saved before it is deleted is saved as cleared, so that it stays cleared
//! whatever happens meanwhile.

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};

use gateway_core::cache::marks::NEVER_MS;
use lazy_static::lazy_static;

use super::entry::Entry;
use super::groups;
use super::marks;
use super::sweep::delete_if;
use crate::semantic::member::SemanticIndex;
use crate::semantic::sweep;
use crate::server::args::OwnedKey;
use crate::server::events::{Event, Loading, follow_keys};
use crate::server::key::Glimpse;
use crate::server::scan::Scan;
use crate::server::shared::MainThread;
use crate::server::value::LOAD_EVENT;
use crate::server::{Call, Key};

/// How long to wait while the server accepts no writes.
const WRITE_PAUSE_MS: u64 = 5;

/// The scan that deletes cleared entries.
#[derive(Default)]
struct Reclaiming {
    running: bool,
    /// More was cleared since the scan began.
    again: bool,
}

lazy_static! {
    static ref RECLAIMING: MainThread<Reclaiming> = MainThread::new(Reclaiming::default());
}

/// Whether there may be cleared entries that no scan is looking for: they were loaded as such, or cleared on a replica,
/// which deletes nothing.
static LEFT_OVER: AtomicBool = AtomicBool::new(false);

pub fn left_over() {
    follow_keys();
    LEFT_OVER.store(true, Ordering::Relaxed);
}

pub fn on_server_event(call: &mut Call, event: Event) {
    match event {
        Event::LoadingEnded | Event::RoleChanged { primary: true } if LEFT_OVER.load(Ordering::Relaxed) => {
            reclaim(call);
        }
        // A scan does not meet keys that are still being imported.
        Event::SlotsImported if marks::last_ms() > NEVER_MS => reclaim(call),
        // Entries that the scan has not reached yet may now be in a database that it has passed.
        Event::SwapDatabases(..) if RECLAIMING.borrow().running => reclaim(call),
        // The server may free the entries later: from now on they no longer count.
        Event::Flush { database: None } => free_groups(call, groups::forget_all()),
        Event::LoadingBeside(loading) => {
            let old = match loading {
                Loading::Started => {
                    groups::begin_loading();
                    None
                }
                Loading::Completed => groups::end_loading(),
                Loading::Aborted => groups::abort_loading(),
            };
            if let Some(old) = old {
                free_groups(call, old);
            }
        }
        _ => {}
    }
}

/// Finds cleared entries that the scan may miss: they get another name, or are restored from a payload that was dumped
/// before.
pub fn on_key_event(call: &mut Call, event: &CStr, key: Key) {
    if [c"restore", c"copy_to", c"move_to", c"rename_to", LOAD_EVENT].contains(&event) {
        let cleared = call.glance::<Entry>(key).is_ok_and(|found| found.is_some_and(|found| found.get().is_cleared()));
        let has_cleared = |index: &SemanticIndex| index.entries().any(|(entry, _)| entry.is_cleared());
        let found =
            call.glance::<SemanticIndex>(key).is_ok_and(|found| found.is_some_and(|found| has_cleared(found.get())));
        if cleared || found {
            reclaim(call);
        }
    }
}

/// Frees groups that no name leads to any more, in slices.
pub fn free_groups(call: &Call, old: groups::Old) {
    call.after(1, free_some, old);
}

fn free_some(call: &mut Call, mut old: groups::Old) {
    if old.free_some() {
        free_groups(call, old);
    }
}

/// Starts the scan, after entries were cleared.
pub fn reclaim(call: &mut Call) {
    left_over();
    if !call.is_primary() {
        return;
    }
    let mut reclaiming = RECLAIMING.borrow();
    if reclaiming.running {
        reclaiming.again = true;
    } else {
        *reclaiming = Reclaiming { running: true, again: false };
        LEFT_OVER.store(false, Ordering::Relaxed);
        call.after(0, reclaim_database, 0);
    }
}

/// Deletes the cleared entries of a database, and then of those after it.
fn reclaim_database(call: &mut Call, database: i32) {
    if call.is_primary() && call.select_database(database) {
        call.scan(Sweep { database, indexes: Vec::new() });
        return;
    }
    let again = {
        let mut reclaiming = RECLAIMING.borrow();
        reclaiming.running = false;
        reclaiming.again
    };
    match call.is_primary() {
        true if again => reclaim(call),
        true => {}
        false => left_over(),
    }
}

/// Deletes the cleared entries of a database.
struct Sweep {
    database: i32,
    /// The semantic indexes, which are looked through afterwards.
    indexes: Vec<OwnedKey>,
}

impl Scan for Sweep {
    const CHANGES: bool = true;

    fn wants(&mut self, _key: Key, value: &Glimpse) -> bool {
        value.value::<Entry>().is_some_and(Entry::is_cleared) || value.value::<SemanticIndex>().is_some()
    }

    fn take(&mut self, call: &mut Call, keys: &[OwnedKey]) -> bool {
        for name in keys {
            if call.glance::<SemanticIndex>(name.key()).is_ok_and(|found| found.is_some()) {
                self.indexes.push(OwnedKey::new(name.key().bytes()));
            } else {
                delete_if(call, name.key(), Entry::is_cleared);
            }
        }
        true
    }

    fn done(self, call: &mut Call) {
        let Self { database, indexes } = self;
        look_through(call, Indexes { database, indexes, end: usize::MAX });
    }
}

/// Semantic indexes of a database, the last of them up to a row.
struct Indexes {
    database: i32,
    indexes: Vec<OwnedKey>,
    end: usize,
}

/// Removes cleared entries from indexes, in slices, and goes on with the next database.
fn look_through(call: &mut Call, mut left: Indexes) {
    if !call.is_primary() || !call.select_database(left.database) {
        return reclaim_database(call, left.database + 1);
    }
    if !call.may_change() {
        call.after(WRITE_PAUSE_MS, look_through, left);
        return;
    }
    let Some(name) = left.indexes.last() else { return reclaim_database(call, left.database + 1) };
    match sweep::remove_cleared(call, name.key(), left.end) {
        Some(end) => left.end = end,
        None => {
            left.indexes.pop();
            left.end = usize::MAX;
        }
    }
    call.after(1, look_through, left);
}
