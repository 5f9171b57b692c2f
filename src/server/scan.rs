//! A pass over all keys of a database, in slices, so that other clients are served in between; or one step of a pass whose
//! cursor a client keeps.

use std::ffi::{c_char, c_longlong, c_void};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use redis_module::raw::{
    RedisModuleCallReply, RedisModuleCtx, RedisModuleKey, RedisModuleScanCursor, RedisModuleString,
};

use super::api::api;
use super::args::{Key, OwnedKey, Str};
use super::call::Call;
use super::error::Error;
use super::guard::guarded;
use super::key::Glimpse;

/// How long one slice holds the server, and the pause after it.
const SLICE: Duration = Duration::from_micros(250);
const PAUSE_MS: u64 = 1;

/// How long to wait while the server accepts no writes.
const WRITE_PAUSE_MS: u64 = 5;

/// The most keys that one slice hands to [`Scan::take`], which takes time as well.
const KEYS_PER_SLICE_MAX: usize = 128;

/// What is done with the keys. As with SCAN, a key that exists from the start to the end is met at least once.
pub trait Scan: 'static + Sized {
    /// Whether it changes keys: then it pauses while the server accepts no writes, and ends on a replica.
    const CHANGES: bool;

    /// Whether this key is to be handed to [`Self::take`]. Nothing may be changed or opened here.
    fn wants(&mut self, key: Key, value: &Glimpse) -> bool;

    /// Takes the keys that were wanted; each may have changed since. False ends the scan.
    fn take(&mut self, call: &mut Call, keys: &[OwnedKey]) -> bool;

    /// Called at the end: all keys have been met, or the scan was ended.
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
        // SAFETY: the cursor was made by `Running::new`, and nobody else has it.
        unsafe { api!(RedisModule_ScanCursorDestroy(self.0)) };
    }
}

impl Call<'_> {
    /// Starts a scan of the selected database; its first slice comes after this command. If the database is swapped
    /// meanwhile, the scan goes on in the one that took its place.
    pub fn scan<S: Scan>(&self, scan: S) {
        self.after(0, slice::<S>, Running::new(scan));
    }

    /// As [`Self::scan`], with the first slice at once: the scan of a small database ends before this returns.
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
        // SAFETY: the context is the one of this call, the cursor is ours. `visit` gets `found` back, which nothing else uses
        // until the call returns.
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

/// What one SCAN has found.
pub struct Page {
    /// 0 at the end of the pass.
    pub next: u64,
    pub keys: Vec<OwnedKey>,
}

/// Owns a reply of a command that the module has called.
struct CallReply(NonNull<RedisModuleCallReply>);

impl Drop for CallReply {
    fn drop(&mut self) {
        // SAFETY: the reply is ours, and nobody uses it or a part of it afterwards.
        unsafe { api!(RedisModule_FreeCallReply(self.0.as_ptr())) };
    }
}

impl Call<'_> {
    /// One SCAN of the selected database, of about `count` keys. The cursor is the server's own: a module has no other way to
    /// go on in a later command.
    pub fn scan_page(&self, cursor: u64, count: usize) -> Result<Page, Error> {
        let mut buffer = itoa::Buffer::new();
        let cursor = buffer.format(cursor);
        // SAFETY: the context is the one of this call; the format takes a buffer with its length, a text that ends in NUL and
        // an integer, which live through the call.
        let reply = unsafe {
            api!(RedisModule_Call(
                self.ctx,
                c"SCAN".as_ptr(),
                c"bcl".as_ptr(),
                cursor.as_ptr().cast::<c_char>(),
                cursor.len(),
                c"COUNT".as_ptr(),
                count as c_longlong
            ))
        };
        let reply = NonNull::new(reply).map(CallReply).ok_or(NO_SCAN)?;
        let next =
            element(reply.0, 0).and_then(|next| str::from_utf8(text(next)?).ok()?.parse().ok()).ok_or(NO_SCAN)?;
        let names = element(reply.0, 1).ok_or(NO_SCAN)?;
        let names = (0..).map_while(|index| element(names, index)).filter_map(text);
        Ok(Page { next, keys: names.map(OwnedKey::new).collect() })
    }
}

/// The server has renamed the command or taken it away.
const NO_SCAN: Error = Error::coded("ERR the server's own SCAN fails");

fn element(reply: NonNull<RedisModuleCallReply>, index: usize) -> Option<NonNull<RedisModuleCallReply>> {
    // SAFETY: the reply is alive; the server returns null if it is no array, or has no such element.
    NonNull::new(unsafe { api!(RedisModule_CallReplyArrayElement(reply.as_ptr(), index)) })
}

fn text<'a>(reply: NonNull<RedisModuleCallReply>) -> Option<&'a [u8]> {
    let mut len = 0;
    // SAFETY: the reply is alive; the server returns null if it is no string. The text lives as long as the whole reply,
    // which the only caller keeps until it has copied it.
    unsafe {
        let at = api!(RedisModule_CallReplyStringPtr(reply.as_ptr(), &mut len));
        (!at.is_null()).then(|| std::slice::from_raw_parts(at.cast::<u8>(), len))
    }
}

struct Found<'a, S> {
    scan: &'a mut S,
    names: Vec<OwnedKey>,
}

unsafe extern "C" fn visit<S: Scan>(
    _: *mut RedisModuleCtx,
    name: *mut RedisModuleString,
    key: *mut RedisModuleKey,
    found: *mut c_void,
) {
    guarded(|| {
        // Some servers pass no key if its value is not at hand; that is never so for our types.
        let Some(key) = NonNull::new(key) else { return };
        // SAFETY: the name and the open key live through the call; `found` is what `slice` passed, and nothing else uses it
        // meanwhile.
        let (name, key, found) = unsafe { (Str::of(name), Glimpse::new(key), &mut *found.cast::<Found<S>>()) };
        if found.scan.wants(name, &key) {
            found.names.push(OwnedKey::new(name.bytes()));
        }
    });
}
