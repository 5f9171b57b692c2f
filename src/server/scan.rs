//! All keys of a database, in slices between which others are served.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use redis_module::raw::{RedisModuleCtx, RedisModuleKey, RedisModuleScanCursor, RedisModuleString};

use super::args::{Key, Name, Str};
use super::call::Call;
use super::guard::guarded;
use super::key::Glimpse;

/// How long one slice holds the server, and how long others have it in between.
const SLICE: Duration = Duration::from_micros(250);
const PAUSE_MS: u64 = 1;

/// How long to wait while the server lets nobody write.
const WRITE_PAUSE_MS: u64 = 5;

/// Keys that one slice hands on at most, since what is done with them takes time as well.
const KEYS_PER_SLICE_MAX: usize = 128;

/// What goes through the keys. As with SCAN, a key that is there from the start to the end is met at least once.
pub trait Scan: 'static + Sized {
    /// Whether it changes keys: no slice comes while the server lets nobody write, and on a replica the scan ends.
    const CHANGES: bool;

    /// Is this a key to be handed to [`Self::take`]? Nothing may be changed or opened here.
    fn wants(&mut self, key: Key, value: &Glimpse) -> bool;

    /// The keys that were wanted, as they may be now. False ends the scan.
    fn take(&mut self, call: &mut Call, keys: &[Name]) -> bool;

    /// The end: all keys have been met, or it was ended.
    fn done(self, call: &mut Call);
}

struct Running<S> {
    scan: S,
    cursor: Cursor,
}

impl<S> Running<S> {
    fn new(scan: S) -> Self {
        // SAFETY: takes no arguments.
        Running { scan, cursor: Cursor(unsafe { api!(RedisModule_ScanCursorCreate()) }) }
    }
}

/// Owns the server's cursor.
struct Cursor(*mut RedisModuleScanCursor);

impl Drop for Cursor {
    fn drop(&mut self) {
        // SAFETY: the cursor is the one that `Call::scan` made.
        unsafe { api!(RedisModule_ScanCursorDestroy(self.0)) };
    }
}

impl Call<'_> {
    /// Starts a scan of the selected database; its first slice comes after this command. A database that is swapped
    /// meanwhile is left for the one in its place.
    pub fn scan<S: Scan>(&self, scan: S) {
        self.after(0, slice::<S>, Running::new(scan));
    }

    /// As [`Self::scan`], with the first slice at once: a small database is done before this returns.
    pub fn scan_from_now<S: Scan>(&mut self, scan: S) {
        slice(self, Running::new(scan));
    }
}

fn slice<S: Scan>(call: &mut Call, mut running: Running<S>) {
    if S::CHANGES && !call.may_change() {
        if call.is_primary() {
            call.after(WRITE_PAUSE_MS, slice::<S>, running);
        } else {
            running.scan.done(call);
        }
        return;
    }
    let start = Instant::now();
    let mut found = Found { scan: &mut running.scan, names: Vec::new() };
    let mut more = true;
    while more && found.names.len() < KEYS_PER_SLICE_MAX && start.elapsed() < SLICE {
        let to: *mut Found<S> = &mut found;
        // SAFETY: `visit` gets `found` back, while this call alone has it.
        more = unsafe { api!(RedisModule_Scan(call.ctx, running.cursor.0, Some(visit::<S>), to.cast())) } != 0;
    }
    let names = found.names;
    let goes_on = names.is_empty() || running.scan.take(call, &names);
    if more && goes_on {
        call.after(PAUSE_MS, slice::<S>, running);
    } else {
        running.scan.done(call);
    }
}

struct Found<'a, S> {
    scan: &'a mut S,
    names: Vec<Name>,
}

unsafe extern "C" fn visit<S: Scan>(
    _: *mut RedisModuleCtx,
    name: *mut RedisModuleString,
    key: *mut RedisModuleKey,
    found: *mut c_void,
) {
    unsafe {
        guarded(|| {
            // SAFETY: the name lives through the call; `found` is what `slice` passed. Some servers pass no key where its value
            // is not at hand; none of our types is such.
            let (name, found) = (Str::of(name), &mut *found.cast::<Found<S>>());
            if let Some(key) = NonNull::new(key) {
                if found.scan.wants(name, &Glimpse::new(key)) {
                    found.names.push(Name::new(name.bytes()));
                }
            }
        });
    }
}
