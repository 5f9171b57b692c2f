//! TOUCH: a hit that postpones the expiry.
//!
//! GW.CACHEGET only reads, also for read-only users, in scripts and on replicas, and changes nothing itself. A timer makes
//! the change right after the command: before its reply leaves the server, and once, however many commands have touched
//! the key in the same moment.

use std::collections::HashSet;

use lazy_static::lazy_static;

use super::effect;
use super::entry::Entry;
use super::store::keep_fresh;
use crate::server::args::OwnedKey;
use crate::server::shared::MainThread;
use crate::server::{Call, Error, Key};

/// The most keys that one slice changes.
const SLICE_KEYS: usize = 256;

/// How long to wait while the server accepts no writes.
const PAUSE_MS: u64 = 5;

/// The most memory for waiting keys. It takes a long pause of all writes to fill it; further touches are lost.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// The memory of a waiting key beside its name.
const KEY_BYTES: usize = 64;

/// The keys to be touched.
#[derive(Default)]
struct Waiting {
    /// By database and name.
    keys: HashSet<(i32, Box<[u8]>)>,
    bytes: usize,
}

lazy_static! {
    static ref WAITING: MainThread<Waiting> = MainThread::new(Waiting::default());
}

/// Has the entry under `key` touched after this command.
pub fn soon(call: &Call, key: Key) {
    let Waiting { keys, bytes } = &mut *WAITING.borrow();
    let more_bytes = key.bytes().len() + KEY_BYTES;
    if *bytes + more_bytes > WAITING_BYTES_MAX {
        return;
    }
    if keys.is_empty() {
        call.after(0, touch_some, ());
    }
    if keys.insert((call.database(), key.bytes().into())) {
        *bytes += more_bytes;
    }
}

impl Waiting {
    /// Removes the keys of one slice.
    fn take_some(&mut self) -> Vec<(i32, Box<[u8]>)> {
        let some: Vec<_> = self.keys.iter().take(SLICE_KEYS).cloned().collect();
        for key in &some {
            self.keys.remove(key);
            self.bytes -= key.1.len() + KEY_BYTES;
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
        // A key that no longer holds an entry needs no touch.
        if call.select_database(database) {
            let _: Result<(), Error> = touch(call, OwnedKey::new(&name).key());
        }
    }
    if !WAITING.borrow().keys.is_empty() {
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
    keep_fresh(&mut opened, life.fresh_until_ms);
    drop(opened);
    call.replicate(key, effect::TOUCH_EVENT, &effect::touch(life.fresh_until_ms));
    Ok(())
}
