//! One command on its way through the module.

use std::ffi::{CStr, c_char, c_int, c_longlong};

use gateway_core::TIME_MAX_MS;
use redis_module::raw::{self, RedisModuleCtx, RedisModuleString};

use super::args::{Args, Key, Str};
use super::effect::Effect;
use super::error::{Error, Outcome};
use super::guard::guarded;
use super::reply::Reply;
use super::stats::STATS;

/// What the server calls for a command.
pub type RawHandler = unsafe extern "C" fn(*mut RedisModuleCtx, *mut *mut RedisModuleString, c_int) -> c_int;

/// Turns a `fn(&mut Call) -> Outcome` into what the server calls.
macro_rules! entry {
    ($handler:path) => {{
        unsafe extern "C" fn entry(
            ctx: *mut redis_module::raw::RedisModuleCtx,
            argv: *mut *mut redis_module::raw::RedisModuleString,
            argc: std::ffi::c_int,
        ) -> std::ffi::c_int {
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
            unsafe { $crate::server::call::run_or_tell_keys(ctx, argv, argc, $handler, $keys) }
        }
        entry
    }};
}
pub(crate) use entry;

/// As [`run`], or tells the server where the keys are. It has the key specs, but before it routes a command in a cluster,
/// it asks.
///
/// # Safety
/// The arguments are those the server called the command with.
pub unsafe fn run_or_tell_keys(
    ctx: *mut RedisModuleCtx,
    argv: *mut *mut RedisModuleString,
    argc: c_int,
    handler: fn(&mut Call) -> Outcome,
    keys: fn(&[Str]) -> Vec<usize>,
) -> c_int {
    unsafe {
        if api!(RedisModule_IsKeysPositionRequest(ctx)) == 0 {
            return run(ctx, argv, argc, handler);
        }
        let places = guarded(|| keys(Str::list(argv, usize::try_from(argc).unwrap_or(0))));
        for place in places.unwrap_or_default() {
            api!(RedisModule_KeyAtPos(ctx, place as c_int));
        }
        raw::REDISMODULE_OK as c_int
    }
}

/// # Safety
/// The arguments are those the server called the command with.
pub unsafe fn run(
    ctx: *mut RedisModuleCtx,
    argv: *mut *mut RedisModuleString,
    argc: c_int,
    handler: impl FnOnce(&mut Call) -> Outcome,
) -> c_int {
    unsafe {
        let argv = Str::list(argv, usize::try_from(argc).unwrap_or(0));
        let mut call = Call { ctx, argv };
        match guarded(|| handler(&mut call)) {
            Some(Ok(())) => {}
            Some(Err(error)) => call.reply().error(&error),
            None => {
                STATS.internal_errors.add(1);
                call.reply().error(&Error::coded("ERR internal error: see the server log"));
            }
        }
        raw::REDISMODULE_OK as c_int
    }
}

/// Runs `task` where the server calls without a command: a timer, an event.
///
/// # Safety
/// The context is the one that the server called with.
pub unsafe fn run_alone(ctx: *mut RedisModuleCtx, task: impl FnOnce(&mut Call)) {
    if guarded(|| task(&mut Call { ctx, argv: &[] })).is_none() {
        STATS.internal_errors.add(1);
    }
}

pub struct Call<'a> {
    pub(super) ctx: *mut RedisModuleCtx,
    argv: &'a [Str<'a>],
}

impl<'a> Call<'a> {
    /// The arguments after the command's name.
    pub fn args(&self) -> Args<'a> {
        Args::new(self.argv.get(1..).unwrap_or_default())
    }

    pub fn reply(&self) -> Reply {
        Reply::new(self.ctx)
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

    /// Selects a database for what this call still does; for timers and events, not for commands. Returns whether there is
    /// such a database.
    pub fn select_database(&mut self, number: i32) -> bool {
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

    /// After a change: sends `effect` to the replicas and the AOF, tells WATCHing and tracking clients, and those who
    /// listen to keyspace events of module types.
    pub fn changed(&self, key: Key, event: &CStr, effect: &Effect) {
        self.changed_with(key, event, effect, &[]);
    }

    /// As [`Self::changed`], with `rest` as further arguments of the effect: the server's own strings, not copied.
    pub fn changed_with(&self, key: Key, event: &CStr, effect: &Effect, rest: &[Str]) {
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
        self.touched(key, event);
    }

    /// As [`Self::changed_with`] for a change to several keys: one effect of them all, its words, the keys' number and the
    /// keys before `rest`.
    pub fn changed_all(&self, keys: &[Key], event: &CStr, effect: &Effect, rest: &[Str]) {
        let text = effect.text();
        // SAFETY: the format takes a buffer with its length, an integer, and two vectors of string objects with their
        // lengths.
        unsafe {
            api!(RedisModule_Replicate(
                self.ctx,
                effect.command().as_ptr(),
                c"blvv".as_ptr(),
                text.as_ptr().cast::<c_char>(),
                text.len(),
                keys.len() as c_longlong,
                keys.as_ptr(),
                keys.len(),
                rest.as_ptr(),
                rest.len()
            ));
        }
        keys.iter().for_each(|&key| self.touched(key, event));
    }

    /// Tells those who listen to keyspace events of module types.
    pub fn tell(&self, key: Key, event: &CStr) {
        self.notify(raw::REDISMODULE_NOTIFY_MODULE, event, key);
    }

    /// After `keys` were deleted: one UNLINK of them all is their effect.
    pub fn deleted(&self, keys: &[Key], event: &CStr) {
        if keys.is_empty() {
            return;
        }
        // SAFETY: the format takes a vector of string objects with its length.
        unsafe { api!(RedisModule_Replicate(self.ctx, c"UNLINK".as_ptr(), c"v".as_ptr(), keys.as_ptr(), keys.len())) };
        for &key in keys {
            self.touched(key, event);
            // What UNLINK itself tells on the replica: listeners for deletions hear of it on the primary too.
            self.notify(raw::REDISMODULE_NOTIFY_GENERIC, c"del", key);
        }
    }

    /// After a change made by an effect: hands the command on as it came, to this node's own AOF and, where this node is
    /// a primary (an AOF piped in, a migration tool), to its replicas.
    pub fn applied(&self, key: Key, event: &CStr) {
        self.applied_all(&[key], event);
    }

    /// As [`Self::applied`], for an effect on several keys.
    pub fn applied_all(&self, keys: &[Key], event: &CStr) {
        // SAFETY: the context is the one of this call.
        unsafe { api!(RedisModule_ReplicateVerbatim(self.ctx)) };
        keys.iter().for_each(|&key| self.touched(key, event));
    }

    /// After a change that is not one of a single key: sends `effect` to the replicas and the AOF, with a name behind it.
    pub fn changed_everywhere(&self, effect: &Effect, name: &[u8]) {
        let (command, text) = (effect.command().as_ptr(), effect.text());
        let (text_at, name_at) = (text.as_ptr().cast::<c_char>(), name.as_ptr().cast::<c_char>());
        // SAFETY: the format takes two buffers with their lengths, which the call copies.
        unsafe {
            api!(RedisModule_Replicate(self.ctx, command, c"bb".as_ptr(), text_at, text.len(), name_at, name.len()))
        };
    }

    /// As [`Self::applied`], for an effect that is not one of a single key.
    pub fn applied_everywhere(&self) {
        // SAFETY: the context is the one of this call.
        unsafe { api!(RedisModule_ReplicateVerbatim(self.ctx)) };
    }

    fn touched(&self, key: Key, event: &CStr) {
        // SAFETY: the context and the key's name live through the call.
        unsafe { api!(RedisModule_SignalModifiedKey(self.ctx, key.raw)) };
        self.notify(raw::REDISMODULE_NOTIFY_MODULE, event, key);
    }

    fn notify(&self, class: c_int, event: &CStr, key: Key) {
        // SAFETY: the context and the key's name live through the call; the event's name ends in NUL.
        unsafe { api!(RedisModule_NotifyKeyspaceEvent(self.ctx, class, event.as_ptr(), key.raw)) };
    }
}

/// The server's clock in unix milliseconds. The cached one where the server has it: it stands still within a command, a
/// transaction and a script, and costs no system call.
pub fn now_ms() -> i64 {
    // SAFETY: neither call takes arguments.
    let now_ms = unsafe {
        match raw::RedisModule_CachedMicroseconds {
            Some(cached) => cached() / 1_000,
            None => api!(RedisModule_Milliseconds()),
        }
    };
    now_ms.clamp(0, TIME_MAX_MS)
}
