//! TOUCH: a hit that puts the expiry off.
//!
//! GW.CACHEGET is a command that reads, also for read-only users, scripts and replicas, and changes nothing. What it
//! touches is changed right after it, by the module itself: before its reply leaves the server, and once for however many
//! commands touched the key in the same moment.

use std::collections::HashSet;

use lazy_static::lazy_static;

use super::EFFECT_NAME;
use super::entry::Entry;
use crate::server::args::Name;
use crate::server::effect::Effect;
use crate::server::shared::MainThread;
use crate::server::{Call, Error, Key};

/// Keys that one slice changes.
const SLICE_KEYS: usize = 256;

/// How long to wait while the server lets nobody write.
const PAUSE_MS: u64 = 5;

/// Bytes that waiting keys take at most, names and all. It takes a long pause of all writes to get there; touches beyond
/// are lost.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// What a waiting key takes beside its name.
const PLACE_BYTES: usize = 64;

/// What is to be touched.
#[derive(Default)]
struct Waiting {
    /// By database and name.
    places: HashSet<(i32, Box<[u8]>)>,
    bytes: usize,
}

lazy_static! {
    static ref WAITING: MainThread<Waiting> = MainThread::new(Waiting::default());
}

pub fn soon(call: &Call, key: Key) {
    let Waiting { places, bytes } = &mut *WAITING.borrow();
    let more_bytes = key.bytes().len() + PLACE_BYTES;
    if *bytes + more_bytes > WAITING_BYTES_MAX {
        return;
    }
    if places.is_empty() {
        call.after(0, touch_some, ());
    }
    if places.insert((call.database(), key.bytes().into())) {
        *bytes += more_bytes;
    }
}

impl Waiting {
    /// A slice of what is to be touched.
    fn take_some(&mut self) -> Vec<(i32, Box<[u8]>)> {
        let some: Vec<_> = self.places.iter().take(SLICE_KEYS).cloned().collect();
        for place in &some {
            self.places.remove(place);
            self.bytes -= place.1.len() + PLACE_BYTES;
        }
        some
    }
}

fn touch_some(call: &mut Call, (): ()) {
    if !call.is_primary() {
        *WAITING.borrow() = Waiting::default();
        return;
    }
    if !call.may_change() {
        call.after(PAUSE_MS, touch_some, ());
        return;
    }
    let some = WAITING.borrow().take_some();
    for (database, name) in some {
        // What is no cache entry any more needs no touch.
        if call.select_database(database) {
            let _: Result<(), Error> = touch(call, Name::new(&name).key());
        }
    }
    if !WAITING.borrow().places.is_empty() {
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
