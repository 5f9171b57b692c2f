//! One command on its way through the module.

use std::ffi::{CStr, c_char, c_int};
use std::ptr::null_mut;

use gateway_core::TIME_MAX_MS;
use redis_module::raw::{self, RedisModuleCtx, RedisModuleString};

use super::api::api;
use super::args::{Args, Key, OwnedKey, Str};
use super::effect::Effect;
use super::error::{Error, Outcome};
use super::guard::{INTERNAL_ERRORS, guarded};
use super::reply::Reply;
use super::shared::MainThread;

/// The function that the server calls for a command.
pub type RawHandler = unsafe extern "C" fn(*mut RedisModuleCtx, *mut *mut RedisModuleString, c_int) -> c_int;

/// Turns a `fn(&mut Call) -> Outcome` into a [`RawHandler`].
macro_rules! entry {
    ($handler:path) => {{
        unsafe extern "C" fn entry(
            ctx: *mut redis_module::raw::RedisModuleCtx,
            argv: *mut *mut redis_module::raw::RedisModuleString,
            argc: std::ffi::c_int,
        ) -> std::ffi::c_int {
            // SAFETY: the server calls this with the command's own context and arguments.
            unsafe { $crate::server::call::run(ctx, argv, argc, $handler) }
        }
        entry
    }};
    // For commands whose keys are not all at fixed places.
    ($handler:path, $keys:path) => {{
        unsafe extern "C" fn entry(
            ctx: *mut redis_module::raw::RedisModuleCtx,
            argv: *mut *mut redis_module::raw::RedisModuleString,
            argc: std::ffi::c_int,
        ) -> std::ffi::c_int {
            // SAFETY: the server calls this with the command's own context and arguments.
            unsafe { $crate::server::call::run_or_report_keys(ctx, argv, argc, $handler, $keys) }
        }
        entry
    }};
}
pub(crate) use entry;

/// Like [`run`]; but if the server only asks where the keys are, reports their places. The server asks before it routes
/// a command in a cluster, although it has the key specs.
///
/// # Safety
/// The same as for [`run`].
pub unsafe fn run_or_report_keys(
    ctx: *mut RedisModuleCtx,
    argv: *mut *mut RedisModuleString,
    argc: c_int,
    handler: fn(&mut Call) -> Outcome,
    keys: fn(&[Str]) -> Vec<usize>,
) -> c_int {
    let report = || {
        // SAFETY: the context is the server's.
        if unsafe { api!(RedisModule_IsKeysPositionRequest(ctx)) } == 0 {
            return false;
        }
        // SAFETY: the arguments are the command's, and live through the call.
        let argv = unsafe { Str::list(argv, usize::try_from(argc).unwrap_or(0)) };
        for place in keys(argv) {
            // SAFETY: the context is that of such a request; a place is an index into the arguments.
            unsafe { api!(RedisModule_KeyAtPos(ctx, place as c_int)) };
        }
        true
    };
    match guarded(report) {
        // SAFETY: the caller's promise is that of `run`.
        Some(false) => unsafe { run(ctx, argv, argc, handler) },
        Some(true) | None => raw::REDISMODULE_OK as c_int,
    }
}

/// Runs `handler`, and replies its error or that of a panic.
///
/// # Safety
/// The context and the arguments are those that the server called the command with.
pub unsafe fn run(
    ctx: *mut RedisModuleCtx,
    argv: *mut *mut RedisModuleString,
    argc: c_int,
    handler: impl FnOnce(&mut Call) -> Outcome,
) -> c_int {
    // SAFETY: the arguments live through the call. `handler` takes a call of any lifetime, so it cannot keep a part of
    // it.
    let argv = unsafe { Str::list(argv, usize::try_from(argc).unwrap_or(0)) };
    let mut call = Call { ctx, argv };
    match guarded(|| handler(&mut call)) {
        Some(Ok(())) => {}
        Some(Err(error)) => call.reply().error(&error),
        None => {
            INTERNAL_ERRORS.add(1);
            call.reply().error(&Error::INTERNAL);
        }
    }
    raw::REDISMODULE_OK as c_int
}

/// Runs `task` for something that the server calls without a command: a timer, an event.
///
/// # Safety
/// The context is the one that the server called with.
pub unsafe fn run_alone(ctx: *mut RedisModuleCtx, task: impl FnOnce(&mut Call)) {
    if guarded(|| task(&mut Call { ctx, argv: &[] })).is_none() {
        INTERNAL_ERRORS.add(1);
    }
}

/// The format of an effect's words and then of 0, 1, 2, … strings: see [`Call::replicate_counted`].
const WITH_STRINGS: [&CStr; 10] =
    [c"b", c"bs", c"bss", c"bsss", c"bssss", c"bsssss", c"bssssss", c"bsssssss", c"bssssssss", c"bsssssssss"];

/// The number 1 as a string of the server's. Nearly every effect on several keys is about one.
static ONE: MainThread<Option<OwnedKey>> = MainThread::new(None);

/// One call of the server's into the module. It is made by [`run`] and [`run_alone`] alone, so its context is that of the
/// call, and lives as long as it does.
pub struct Call<'a> {
    pub(super) ctx: *mut RedisModuleCtx,
    argv: &'a [Str<'a>],
}

impl<'a> Call<'a> {
    /// The arguments after the command's name.
    pub fn args(&self) -> Args<'a> {
        Args::new(self.argv.get(1..).unwrap_or_default())
    }

    pub fn reply(&self) -> Reply<'a> {
        // SAFETY: the context is the one of this call, and `'a` does not outlive it.
        unsafe { Reply::new(self.ctx) }
    }

    /// The server's clock in unix milliseconds, the same for the whole command. Read it once.
    pub fn now_ms(&self) -> i64 {
        now_ms()
    }

    /// The number of the selected database.
    pub fn database(&self) -> i32 {
        // SAFETY: the context is the one of this call.
        unsafe { api!(RedisModule_GetSelectedDb(self.ctx)) }
    }

    /// Selects a database for the rest of this call; for timers and events, not for commands. Returns whether there is such
    /// a database.
    pub fn select_database(&mut self, number: i32) -> bool {
        // SAFETY: the context is the one of this call; a number out of range is refused.
        unsafe { api!(RedisModule_SelectDb(self.ctx, number)) == raw::REDISMODULE_OK as c_int }
    }

    pub fn is_primary(&self) -> bool {
        // SAFETY: the context is the one of this call.
        unsafe { api!(RedisModule_GetContextFlags(self.ctx)) as u32 & raw::REDISMODULE_CTX_FLAGS_MASTER != 0 }
    }

    /// Whether this node may change keys of its own accord: it is a primary, and no failover or CLIENT PAUSE is under way.
    pub fn may_change(&self) -> bool {
        // SAFETY: takes no arguments.
        self.is_primary() && unsafe { api!(RedisModule_AvoidReplicaTraffic()) } == 0
    }

    /// After a change of a key: sends `effect` to the replicas and the AOF, tells clients that WATCH or track the key, and
    /// notifies of `event`.
    pub fn replicate(&self, key: Key, event: &CStr, effect: &Effect) {
        self.replicate_with(key, event, effect, &[]);
    }

    /// Like [`Self::replicate`], with `rest` as further arguments of the effect: the server's own strings, not copied.
    pub fn replicate_with(&self, key: Key, event: &CStr, effect: &Effect, rest: &[Str]) {
        let text = effect.text();
        let (name, text_at) = (effect.command().as_ptr(), text.as_ptr().cast::<c_char>());
        // SAFETY: the format takes a string object, a buffer with its length, and a vector of string objects with its
        // length; all live through the call, which copies or retains them. A `Str` is a pointer to such an object.
        unsafe {
            if rest.is_empty() {
                api!(RedisModule_Replicate(self.ctx, name, c"sb".as_ptr(), key.raw, text_at, text.len()));
            } else {
                let format = c"sbv".as_ptr();
                let (list, count) = (rest.as_ptr(), rest.len());
                api!(RedisModule_Replicate(self.ctx, name, format, key.raw, text_at, text.len(), list, count));
            }
        }
        self.signal_and_notify(key, event);
    }

    /// Like [`Self::replicate_with`], for a change of several keys by one effect: its words, the number of keys, the
    /// keys, and then `rest`.
    pub fn replicate_all(&self, keys: &[Key], event: &CStr, effect: &Effect, rest: &[Str]) {
        if keys.len() == 1 {
            let mut one = ONE.borrow();
            self.replicate_counted(effect, one.get_or_insert_with(|| OwnedKey::new(b"1")).key(), keys, rest);
        } else {
            let count = OwnedKey::new(itoa::Buffer::new().format(keys.len()).as_bytes());
            self.replicate_counted(effect, count.key(), keys, rest);
        }
        // Other modules that listen may call commands, so nothing is borrowed any more.
        keys.iter().for_each(|&key| self.signal_and_notify(key, event));
    }

    /// Replicates an effect, the number of its keys, its keys, and then `rest`.
    ///
    /// Up to nine strings are passed one by one, since for a vector the server enlarges its list of arguments; and the
    /// number as a string that is there, since for an integer it makes and frees two objects. Together that is a tenth of
    /// a GW.ADMIT.
    fn replicate_counted(&self, effect: &Effect, count: Str, keys: &[Key], rest: &[Str]) {
        let (name, text) = (effect.command().as_ptr(), effect.text());
        let (text_at, text_len) = (text.as_ptr().cast::<c_char>(), text.len());
        // SAFETY: the formats take a buffer with its length, and then string objects, or one and two vectors of them with
        // their lengths; all live through the call, which copies or retains them. Arguments that a format does not mention
        // are not read.
        unsafe {
            if let Some(format) = WITH_STRINGS.get(1 + keys.len() + rest.len()) {
                let mut strings = [null_mut(); WITH_STRINGS.len() - 1];
                let given = [count].into_iter().chain(keys.iter().chain(rest).copied());
                strings.iter_mut().zip(given).for_each(|(string, given)| *string = given.raw);
                let ([a, b, c, d, e, f, g, h, i], format) = (strings, format.as_ptr());
                api!(RedisModule_Replicate(self.ctx, name, format, text_at, text_len, a, b, c, d, e, f, g, h, i));
            } else {
                let (keys_at, rest_at, format) = (keys.as_ptr(), rest.as_ptr(), c"bsvv".as_ptr());
                let (keys_len, rest_len) = (keys.len(), rest.len());
                api!(RedisModule_Replicate(
                    self.ctx, name, format, text_at, text_len, count.raw, keys_at, keys_len, rest_at, rest_len
                ));
            }
        }
    }

    /// Like [`Self::replicate`], for a change that belongs to no single key. `name` follows the effect's words.
    pub fn replicate_keyless(&self, effect: &Effect, name: &[u8]) {
        let (command, text) = (effect.command().as_ptr(), effect.text());
        let (text_at, name_at) = (text.as_ptr().cast::<c_char>(), name.as_ptr().cast::<c_char>());
        // SAFETY: the format takes two buffers with their lengths, which the call copies.
        unsafe {
            api!(RedisModule_Replicate(self.ctx, command, c"bb".as_ptr(), text_at, text.len(), name_at, name.len()))
        };
    }

    /// After `keys` were deleted: their effect is one UNLINK. The event is the one that UNLINK has on a replica, `del`, so
    /// that it is the same everywhere.
    pub fn replicate_deletion(&self, keys: &[Key]) {
        if keys.is_empty() {
            return;
        }
        // SAFETY: the format takes a vector of string objects with its length; all live through the call.
        unsafe { api!(RedisModule_Replicate(self.ctx, c"UNLINK".as_ptr(), c"v".as_ptr(), keys.as_ptr(), keys.len())) };
        for &key in keys {
            self.signal_modified(key);
            self.notify_of_class(raw::REDISMODULE_NOTIFY_GENERIC, c"del", key);
        }
    }

    /// After an effect was applied: passes the command on as it came, to this node's own AOF and, if this node is a primary
    /// (an AOF is piped into it, or a migration tool writes to it), to its replicas.
    pub fn pass_on(&self, key: Key, event: &CStr) {
        self.pass_on_all(&[key], event);
    }

    /// Like [`Self::pass_on`], for an effect on several keys.
    pub fn pass_on_all(&self, keys: &[Key], event: &CStr) {
        self.pass_on_keyless();
        keys.iter().for_each(|&key| self.signal_and_notify(key, event));
    }

    /// Like [`Self::pass_on`], for an effect that belongs to no single key.
    pub fn pass_on_keyless(&self) {
        // SAFETY: the context is the one of this call.
        unsafe { api!(RedisModule_ReplicateVerbatim(self.ctx)) };
    }

    /// Notifies the subscribers of keyspace events of class `d`, those of modules.
    pub fn notify(&self, key: Key, event: &CStr) {
        self.notify_of_class(raw::REDISMODULE_NOTIFY_MODULE, event, key);
    }

    /// Notifies of a denial on `key`, which does not count as a change of it. `notify-keyspace-events` is checked
    /// first, because a notification that nobody gets costs 300 instructions, and denials come in storms.
    pub fn tell_denied(&self, key: Key) {
        // SAFETY: takes no arguments.
        let published = unsafe { api!(RedisModule_GetNotifyKeyspaceEvents()) };
        if published & raw::REDISMODULE_NOTIFY_MODULE != 0 {
            self.notify(key, c"gw.denied");
        }
    }

    fn signal_and_notify(&self, key: Key, event: &CStr) {
        self.signal_modified(key);
        self.notify(key, event);
    }

    fn signal_modified(&self, key: Key) {
        // SAFETY: the context and the key's name live through the call.
        unsafe { api!(RedisModule_SignalModifiedKey(self.ctx, key.raw)) };
    }

    fn notify_of_class(&self, class: c_int, event: &CStr, key: Key) {
        // SAFETY: the context and the key's name live through the call; the event's name ends in NUL.
        unsafe { api!(RedisModule_NotifyKeyspaceEvent(self.ctx, class, event.as_ptr(), key.raw)) };
    }
}

/// The server's clock in unix milliseconds. The cached one if the server has it: that one stands still within a command,
/// a transaction and a script, and costs no system call.
pub fn now_ms() -> i64 {
    // SAFETY: neither call takes arguments, and the pointers are written once, at load.
    let now_ms = unsafe {
        match raw::RedisModule_CachedMicroseconds {
            Some(cached) => cached() / 1_000,
            None => api!(RedisModule_Milliseconds()),
        }
    };
    now_ms.clamp(0, TIME_MAX_MS)
}
