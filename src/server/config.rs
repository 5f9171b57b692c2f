//! Settings: `gw.<name>` lines in redis.conf, `CONFIG GET` and `CONFIG SET`.

use std::cell::Cell;
use std::ffi::{CString, c_char, c_int, c_longlong, c_void};
use std::sync::atomic::{AtomicI64, Ordering};

use redis_module::raw::{self, RedisModuleCtx, RedisModuleString};

use super::api::api;
use super::args::Str;
use super::guard::guarded;
use super::shared::MainThread;

/// One setting, as the module declares it.
pub enum Setting {
    Number(&'static Number),
    Text(&'static Text),
}

/// An integer setting.
pub struct Number {
    pub name: &'static str,
    pub default: i64,
    pub min: i64,
    pub max: i64,
    /// Shown and taken with units such as `256mb`.
    pub bytes: bool,
    value: AtomicI64,
}

impl Number {
    pub const fn new(name: &'static str, default: i64, min: i64, max: i64) -> Self {
        Self { name, default, min, max, bytes: false, value: AtomicI64::new(default) }
    }

    pub const fn in_bytes(self) -> Self {
        Self { bytes: true, ..self }
    }

    pub fn get(&self) -> i64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// A text setting that some state is made from.
pub struct Text {
    pub name: &'static str,
    pub default: &'static str,
    /// Checks a new text and puts it into force, or says what is wrong with it. Called for the default as well.
    apply: fn(&str) -> Result<(), String>,
    value: MainThread<String>,
}

impl Text {
    pub const fn new(name: &'static str, default: &'static str, apply: fn(&str) -> Result<(), String>) -> Self {
        Self { name, default, apply, value: MainThread::new(String::new()) }
    }
}

impl Setting {
    /// # Safety
    /// Only while the module loads, with its context.
    pub(super) unsafe fn register(&'static self, ctx: *mut RedisModuleCtx) -> bool {
        match self {
            // SAFETY: the caller's promise is the same.
            Setting::Number(number) => unsafe { number.register(ctx) },
            // SAFETY: the caller's promise is the same.
            Setting::Text(text) => unsafe { text.register(ctx) },
        }
    }
}

impl Number {
    /// # Safety
    /// Only while the module loads, with its context.
    unsafe fn register(&'static self, ctx: *mut RedisModuleCtx) -> bool {
        let Ok(name) = CString::new(self.name) else { return false };
        let flags = if self.bytes { raw::REDISMODULE_CONFIG_MEMORY } else { raw::REDISMODULE_CONFIG_DEFAULT };
        // SAFETY: the context is that of the load. The server copies the name; the callbacks and `self` live for ever.
        let status = unsafe {
            api!(RedisModule_RegisterNumericConfig(
                ctx,
                name.as_ptr(),
                self.default,
                flags,
                self.min,
                self.max,
                Some(get_number),
                Some(set_number),
                None,
                std::ptr::from_ref(self).cast_mut().cast()
            ))
        };
        status == raw::REDISMODULE_OK as c_int
    }
}

impl Text {
    /// # Safety
    /// Only while the module loads, with its context.
    unsafe fn register(&'static self, ctx: *mut RedisModuleCtx) -> bool {
        let (Ok(name), Ok(default)) = (CString::new(self.name), CString::new(self.default)) else { return false };
        // SAFETY: the context is that of the load. The server copies the texts; the callbacks and `self` live for ever.
        let status = unsafe {
            api!(RedisModule_RegisterStringConfig(
                ctx,
                name.as_ptr(),
                default.as_ptr(),
                raw::REDISMODULE_CONFIG_DEFAULT,
                Some(get_text),
                Some(set_text),
                None,
                std::ptr::from_ref(self).cast_mut().cast()
            ))
        };
        status == raw::REDISMODULE_OK as c_int
    }
}

// SAFETY of all callbacks: the private data is the `&'static` that was registered, and the server calls on its main
// thread.

unsafe extern "C" fn get_number(_name: *const c_char, number: *mut c_void) -> c_longlong {
    // SAFETY: see above.
    unsafe { &*number.cast::<Number>() }.get()
}

unsafe extern "C" fn set_number(
    _name: *const c_char,
    value: c_longlong,
    number: *mut c_void,
    _error: *mut *mut RedisModuleString,
) -> c_int {
    // SAFETY: see above. The server has checked the bounds.
    unsafe { &*number.cast::<Number>() }.value.store(value, Ordering::Relaxed);
    raw::REDISMODULE_OK as c_int
}

thread_local! {
    /// The text that `get_text` returned last. The server copies it right after the call but does not free it, so it is
    /// kept until the next call.
    static SHOWN: Cell<*mut RedisModuleString> = const { Cell::new(std::ptr::null_mut()) };
}

unsafe extern "C" fn get_text(_name: *const c_char, text: *mut c_void) -> *mut RedisModuleString {
    guarded(|| {
        // SAFETY: see above.
        let text = unsafe { &*text.cast::<Text>() };
        let shown = new_string(text.value.borrow().as_bytes());
        let previous = SHOWN.replace(shown);
        if !previous.is_null() {
            // SAFETY: the string was made without a context, and the server has copied it.
            unsafe { api!(RedisModule_FreeString(std::ptr::null_mut(), previous)) };
        }
        shown
    })
    .unwrap_or(std::ptr::null_mut())
}

unsafe extern "C" fn set_text(
    _name: *const c_char,
    value: *mut RedisModuleString,
    text: *mut c_void,
    error: *mut *mut RedisModuleString,
) -> c_int {
    let set = || {
        // SAFETY: see above; the value lives through the call.
        let (text, value) = unsafe { (&*text.cast::<Text>(), Str::of(value)) };
        let value = std::str::from_utf8(value.bytes()).map_err(|_| "not UTF-8".to_owned())?;
        (text.apply)(value)?;
        *text.value.borrow() = value.to_owned();
        Ok(())
    };
    match guarded(set).unwrap_or_else(|| Err("internal error: see the server log".to_owned())) {
        Ok(()) => raw::REDISMODULE_OK as c_int,
        Err(reason) => {
            let reason = guarded(|| new_string(reason.as_bytes())).unwrap_or(std::ptr::null_mut());
            // SAFETY: the server passes a place for an error's text, which it frees.
            unsafe { *error = reason };
            raw::REDISMODULE_ERR as c_int
        }
    }
}

/// A string without a context: whoever gets it frees it.
fn new_string(bytes: &[u8]) -> *mut RedisModuleString {
    // SAFETY: the buffer lives through the call, which copies it.
    unsafe { api!(RedisModule_CreateString(std::ptr::null_mut(), bytes.as_ptr().cast::<c_char>(), bytes.len())) }
}
