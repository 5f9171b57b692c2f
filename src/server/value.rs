//! Data types: a type implements [`Value`], and the server's callbacks for all of them are written once, here.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use gateway_core::codec::{Corrupt, Decoder, Encoded, Reader};
use gateway_core::stored::{Stored, load_versioned};
use redis_module::raw::{
    self, RedisModuleCtx, RedisModuleDefragCtx, RedisModuleDigest, RedisModuleIO, RedisModuleKeyOptCtx,
    RedisModuleString, RedisModuleType, RedisModuleTypeMethods,
};

use super::api::api;
use super::digest::Digest;
use super::effect::Effect;
use super::guard::guarded;
use super::log;
use super::rdb::Rdb;
use super::reply::Reply;

/// The most holds, or holders of slots, that a description lists: 10,000 would take longer than a millisecond.
pub const DESCRIBED_MAX: usize = 1_000;

/// The command that stores a whole value, as a rewritten AOF has it.
pub const LOAD: &CStr = c"GW._LOAD";

/// The keyspace event of a value, or a part of one, that an AOF brought.
pub const LOAD_EVENT: &CStr = c"gw.load";

/// A stored value that the server keeps under a key, as a data type of its own. The server may free it on another thread,
/// hence `Send`.
pub trait Value: Stored + Clone + Send + 'static {
    /// Nine characters, as the RDB file has it; what `TYPE` and `SCAN … TYPE` show.
    const NAME: &'static str;

    /// Where the server's handle for this type is kept.
    fn registration() -> &'static Registration;

    /// Called after a value was loaded, before the server has it: for what this node keeps outside its values.
    fn loaded(&mut self) {}

    /// Frees the value, on whatever thread the server does. DEL waits for it unless `lazyfree-lazy-user-del` says
    /// otherwise: a type whose values can take long hands them to a thread of its own.
    fn free(self) {}

    /// Writes the value as commands. A value that can be large does so in several; all others as one `GW._LOAD`.
    fn rewrite(&self, out: &mut Rewrite) {
        out.whole(self);
    }

    /// Replies a map of the value's state, for `GW.DESCRIBE`. May move hints that are no part of the value.
    fn describe(&mut self, now_ms: i64, reply: &Reply);
}

/// Where a type keeps the server's handle for it.
pub struct Registration(AtomicPtr<RedisModuleType>);

impl Registration {
    pub const fn new() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    pub(super) fn raw(&self) -> *mut RedisModuleType {
        self.0.load(Ordering::Relaxed)
    }
}

/// A type, as the module declares it.
pub struct Type {
    pub name: &'static str,
    registration: fn() -> &'static Registration,
    register: unsafe fn(*mut RedisModuleCtx) -> bool,
    decode: fn(&mut Decoder, i32) -> Result<*mut c_void, Corrupt>,
    free: unsafe extern "C" fn(*mut c_void),
    describe: unsafe fn(*mut c_void, i64, &Reply),
}

impl Type {
    pub const fn of<T: Value>() -> Self {
        Self {
            name: T::NAME,
            registration: T::registration,
            register: register::<T>,
            decode: |from, encoding| Ok(Box::into_raw(Box::new(load::<T>(from, encoding)?)).cast()),
            free: free::<T>,
            describe: describe::<T>,
        }
    }

    /// # Safety
    /// Only while the module loads, with its context.
    pub(super) unsafe fn register(&self, ctx: *mut RedisModuleCtx) -> bool {
        // SAFETY: the caller's promise is the same.
        unsafe { (self.register)(ctx) }
    }

    pub(super) fn raw(&self) -> *mut RedisModuleType {
        (self.registration)().raw()
    }

    /// Reads what [`Rewrite::whole`] wrote; the box is the caller's.
    pub(super) fn decode(&self, payload: &[u8], encoding: i32) -> Result<*mut c_void, Corrupt> {
        let mut from = Decoder::new(payload);
        let value = (self.decode)(&mut from, encoding)?;
        // SAFETY: the box was just made for this type, and nobody else has it.
        from.finish().map(|()| value).inspect_err(|_| unsafe { (self.free)(value) })
    }

    /// # Safety
    /// `value` is a live value of this type, and nothing else uses it meanwhile.
    pub(super) unsafe fn describe(&self, value: *mut c_void, now_ms: i64, reply: &Reply) {
        // SAFETY: the caller's promise is the same.
        unsafe { (self.describe)(value, now_ms, reply) }
    }
}

unsafe fn describe<T: Value>(value: *mut c_void, now_ms: i64, reply: &Reply) {
    // SAFETY: as `Type::describe` demands.
    unsafe { (*value.cast::<T>()).describe(now_ms, reply) }
}

unsafe fn register<T: Value>(ctx: *mut RedisModuleCtx) -> bool {
    let Ok(name) = CString::new(T::NAME) else { return false };
    // Version 4 of the struct is what Redis 7.0 reads; later servers take it as well.
    let mut methods = RedisModuleTypeMethods {
        version: 4,
        rdb_load: Some(rdb_load::<T>),
        rdb_save: Some(rdb_save::<T>),
        aof_rewrite: Some(aof_rewrite::<T>),
        mem_usage: None,
        digest: Some(digest::<T>),
        free: Some(free::<T>),
        aux_load: None,
        aux_save: None,
        aux_save_triggers: 0,
        free_effort: Some(free_effort::<T>),
        unlink: None,
        copy: Some(copy::<T>),
        defrag: Some(defrag::<T>),
        mem_usage2: Some(mem_usage::<T>),
        free_effort2: None,
        unlink2: None,
        copy2: None,
        aux_save2: None,
    };
    let encoding = T::ENCODING.cast_signed();
    // SAFETY: the context is that of the load, as the caller promises; the server copies the name and the methods.
    let handle = unsafe { api!(RedisModule_CreateDataType(ctx, name.as_ptr(), encoding, &mut methods)) };
    T::registration().0.store(handle, Ordering::Relaxed);
    !handle.is_null()
}

/// Reads a value of any encoding up to ours. The log says why one does not load: only an operator can do something about it.
fn load<T: Value>(from: &mut dyn Reader, encoding: i32) -> Result<T, Corrupt> {
    let loaded = match u32::try_from(encoding) {
        Ok(encoding) => load_versioned::<T>(from, encoding),
        Err(_) => Err(Corrupt("an encoding that never was")),
    };
    match loaded {
        Ok(mut value) => {
            value.loaded();
            Ok(value)
        }
        Err(corrupt) => {
            log::warning(&format!("a {} value does not load: {corrupt}", T::NAME));
            Err(corrupt)
        }
    }
}

// SAFETY of all callbacks: the server passes values that `Opened::insert`, `rdb_load`, `copy` or GW._LOAD made for this
// very type, and contexts that live through the call. Only `free` may run on another thread, when nobody else has the
// value any more.

unsafe extern "C" fn rdb_load<T: Value>(io: *mut RedisModuleIO, encoding: c_int) -> *mut c_void {
    // SAFETY: see above; the stream is to be read.
    let load = || load::<T>(&mut unsafe { Rdb::new(io) }, encoding).map(|value| Box::into_raw(Box::new(value)));
    match guarded(load) {
        Some(Ok(value)) => value.cast(),
        Some(Err(_)) | None => std::ptr::null_mut(),
    }
}

unsafe extern "C" fn rdb_save<T: Value>(io: *mut RedisModuleIO, value: *mut c_void) {
    // SAFETY: see above; the stream is to be written.
    guarded(|| unsafe { (*value.cast::<T>()).save(&mut Rdb::new(io)) });
}

unsafe extern "C" fn aof_rewrite<T: Value>(io: *mut RedisModuleIO, key: *mut RedisModuleString, value: *mut c_void) {
    // SAFETY: see above.
    guarded(|| unsafe { (*value.cast::<T>()).rewrite(&mut Rewrite { io, key }) });
}

unsafe extern "C" fn digest<T: Value>(digest: *mut RedisModuleDigest, value: *mut c_void) {
    guarded(|| {
        // SAFETY: see above.
        let (value, mut out) = unsafe { (&*value.cast::<T>(), Digest::new(digest)) };
        value.digest(&mut out);
        out.end();
    });
}

unsafe extern "C" fn free<T: Value>(value: *mut c_void) {
    // SAFETY: see above; the server frees a value once, and does not use it afterwards.
    guarded(|| unsafe { Box::from_raw(value.cast::<T>()) }.free());
}

unsafe extern "C" fn free_effort<T: Value>(_key: *mut RedisModuleString, value: *const c_void) -> usize {
    // SAFETY: see above.
    guarded(|| unsafe { &*value.cast::<T>() }.allocations()).unwrap_or(1)
}

unsafe extern "C" fn copy<T: Value>(
    _from: *mut RedisModuleString,
    _to: *mut RedisModuleString,
    value: *const c_void,
) -> *mut c_void {
    // SAFETY: see above.
    let copied = guarded(|| Box::into_raw(Box::new(unsafe { &*value.cast::<T>() }.clone())));
    copied.map_or(std::ptr::null_mut(), |value| value.cast())
}

unsafe extern "C" fn mem_usage<T: Value>(
    _ctx: *mut RedisModuleKeyOptCtx,
    value: *const c_void,
    _samples: usize,
) -> usize {
    // SAFETY: see above.
    guarded(|| unsafe { &*value.cast::<T>() }.total_bytes()).unwrap_or(0)
}

/// Moves the value's box and buffers to where the server wants them. Returns 1 if the time given was too short; the server
/// then calls again, and the cursor says where to go on.
unsafe extern "C" fn defrag<T: Value>(
    ctx: *mut RedisModuleDefragCtx,
    _key: *mut RedisModuleString,
    value: *mut *mut c_void,
) -> c_int {
    const OK: c_int = raw::REDISMODULE_OK as c_int;
    let done = guarded(|| {
        let mut cursor = 0;
        // SAFETY: see above; the server writes the cursor.
        let resumed = unsafe { api!(RedisModule_DefragCursorGet(ctx, &mut cursor)) == OK } && cursor > 0;
        if !resumed {
            // SAFETY: see above. A block that is not null has the box's bytes, and the old one is freed.
            unsafe {
                let moved = api!(RedisModule_DefragAlloc(ctx, *value));
                if !moved.is_null() {
                    *value = moved;
                }
            }
        }
        // SAFETY: see above; nothing else uses the value during the callback.
        let value = unsafe { &mut *(*value).cast::<T>() };
        let next = value.buffers(cursor as usize, &mut |buffer| {
            // SAFETY: the context is the callback's.
            unsafe {
                defrag_buffer(ctx, buffer);
                api!(RedisModule_DefragShouldStop(ctx)) == 0
            }
        });
        match next {
            // SAFETY: the context is the callback's. A cursor that is not kept ends the value's turn.
            Some(next) => unsafe { api!(RedisModule_DefragCursorSet(ctx, next as std::ffi::c_ulong)) != OK },
            None => true,
        }
    });
    c_int::from(!done.unwrap_or(true))
}

/// # Safety
/// The context is that of a defragmentation callback.
unsafe fn defrag_buffer(ctx: *mut RedisModuleDefragCtx, buffer: &mut Vec<u8>) {
    if buffer.capacity() == 0 {
        return;
    }
    let (len, capacity) = (buffer.len(), buffer.capacity());
    // SAFETY: the buffer's block came from the server's allocator. If the server moves it, the new block has the same size
    // and bytes, and the old one is freed: it is forgotten here without being freed again.
    unsafe {
        let moved = api!(RedisModule_DefragAlloc(ctx, buffer.as_mut_ptr().cast()));
        if !moved.is_null() {
            let old = std::mem::replace(buffer, Vec::from_raw_parts(moved.cast::<u8>(), len, capacity));
            std::mem::forget(old);
        }
    }
}

/// Writes commands into an AOF that is being rewritten without an RDB preamble.
pub struct Rewrite {
    io: *mut RedisModuleIO,
    key: *mut RedisModuleString,
}

impl Rewrite {
    /// The whole value as one command, [`LOAD`], which reads it back.
    pub fn whole<T: Value>(&mut self, value: &T) {
        let mut payload = Encoded::default();
        value.save(&mut payload);
        let (Ok(name), bytes) = (CString::new(T::NAME), &payload.0) else { return };
        // SAFETY: the stream and the key's name live through the callback. The format takes a string object, a NUL-terminated
        // string, an integer and a buffer with its length.
        unsafe {
            api!(RedisModule_EmitAOF(
                self.io,
                LOAD.as_ptr(),
                c"sclb".as_ptr(),
                self.key,
                name.as_ptr(),
                std::ffi::c_longlong::from(T::ENCODING),
                bytes.as_ptr().cast::<c_char>(),
                bytes.len()
            ));
        }
    }

    /// An effect with further arguments, for values that are written in pieces.
    pub fn effect<'a>(&mut self, effect: &Effect, arguments: impl Iterator<Item = &'a [u8]>) {
        let text = effect.text();
        // SAFETY: the stream and the key's name live through the callback. The format takes a string object, a buffer with its
        // length, and a vector of string objects with its length. The strings are ours to free afterwards.
        unsafe {
            let null = std::ptr::null_mut();
            let new = |bytes: &[u8]| api!(RedisModule_CreateString(null, bytes.as_ptr().cast::<c_char>(), bytes.len()));
            let strings: Vec<*mut RedisModuleString> = arguments.map(new).collect();
            api!(RedisModule_EmitAOF(
                self.io,
                effect.command().as_ptr(),
                c"sbv".as_ptr(),
                self.key,
                text.as_ptr().cast::<c_char>(),
                text.len(),
                strings.as_ptr(),
                strings.len()
            ));
            strings.into_iter().for_each(|string| api!(RedisModule_FreeString(null, string)));
        }
    }
}
