//! TOUCH: a hit that puts the expiry off.
//!
//! GW.CACHEGET is a command that reads, also for read-only users, scripts and replicas, and changes nothing. What it
//! touches is changed right after it, by the module itself: before its reply leaves the server, and once for however many
//! commands touched the key in the same moment.

use std::collections::HashSet;

use lazy_static::lazy_static;

use super::entry::Entry;
use super::EFFECT_NAME;
use crate::server::args::Name;
use crate::server::effect::Effect;
use crate::server::shared::MainThread;
use crate::server::{Call, Error, Key};

/// Keys that one slice changes.
const SLICE_KEYS: usize = 256;

/// How long to wait while the server lets nobody write.
const PAUSE_MS: u64 = 5;

lazy_static! {
    /// What is to be touched, by database and name.
    static ref TOUCHED: MainThread<HashSet<(i32, Box<[u8]>)>> = MainThread::new(HashSet::new());
}

pub fn soon(call: &Call, key: Key) {
    let mut touched = TOUCHED.borrow();
    if touched.is_empty() {
        call.after(0, touch_some, ());
    }
    touched.insert((call.database(), key.bytes().into()));
}

fn touch_some(call: &mut Call, (): ()) {
    if !call.is_primary() {
        TOUCHED.borrow().clear();
        return;
    }
    if !call.may_change() {
        call.after(PAUSE_MS, touch_some, ());
        return;
    }
    let some: Vec<_> = {
        let mut touched = TOUCHED.borrow();
        let some: Vec<_> = touched.iter().take(SLICE_KEYS).cloned().collect();
        some.iter().for_each(|place| {
            touched.remove(place);
        });
        some
    };
    for (database, name) in some {
        // What is no cache entry any more needs no touch.
        if call.select_database(database) {
            let _: Result<(), Error> = touch(call, Name::new(&name).key());
        }
    }
    if !TOUCHED.borrow().is_empty() {
        call.after(0, touch_some, ());
    }
}

fn touch(call: &mut Call, key: Key) -> Result<(), Error> {
    let now_ms = call.now_ms();
    let mut opened = call.open::<Entry>(key)?;
    let Some(entry) = opened.get().filter(|entry| !entry.is_cleared()) else { return Ok(()) };
    let life = entry.life().touched(now_ms);
    if life == entry.life() {
        return Ok(());
    }
    entry.set_fresh_until(life.fresh_until_ms);
    opened.expire_at(life.ends_at_ms());
    drop(opened);
    call.changed(key, c"gw.cachetouch", &Effect::of(EFFECT_NAME, b'T', [life.fresh_until_ms]));
    Ok(())
}
