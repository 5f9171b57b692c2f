//! Settings: `gw.<name>` lines in redis.conf, `CONFIG GET` and `CONFIG SET`.

use std::ffi::{CString, c_char, c_int, c_longlong, c_void};
use std::sync::atomic::{AtomicI64, Ordering};

use redis_module::raw::{self, RedisModuleCtx, RedisModuleString};

use super::args::string_bytes;
use super::guard::guarded;
use super::shared::MainThread;

/// One setting, as the module's list has it.
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

/// A text setting that something else is made of.
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
        unsafe {
            let status = match self {
                Setting::Number(number) => {
                    let Ok(name) = CString::new(number.name) else { return false };
                    let flags =
                        if number.bytes { raw::REDISMODULE_CONFIG_MEMORY } else { raw::REDISMODULE_CONFIG_DEFAULT };
                    api!(RedisModule_RegisterNumericConfig(
                        ctx,
                        name.as_ptr(),
                        number.default,
                        flags,
                        number.min,
                        number.max,
                        Some(get_number),
                        Some(set_number),
                        None,
                        std::ptr::from_ref(*number).cast_mut().cast()
                    ))
                }
                Setting::Text(text) => {
                    let (Ok(name), Ok(default)) = (CString::new(text.name), CString::new(text.default)) else {
                        return false;
                    };
                    api!(RedisModule_RegisterStringConfig(
                        ctx,
                        name.as_ptr(),
                        default.as_ptr(),
                        raw::REDISMODULE_CONFIG_DEFAULT,
                        Some(get_text),
                        Some(set_text),
                        None,
                        std::ptr::from_ref(*text).cast_mut().cast()
                    ))
                }
            };
            status == raw::REDISMODULE_OK as c_int
        }
    }
}

// SAFETY of all callbacks: the private data is the `&'static` that was registered, and the server calls on its main
// thread.

unsafe extern "C" fn get_number(_name: *const c_char, number: *mut c_void) -> c_longlong {
    unsafe { (*number.cast::<Number>()).get() }
}

unsafe extern "C" fn set_number(
    _name: *const c_char,
    value: c_longlong,
    number: *mut c_void,
    _error: *mut *mut RedisModuleString,
) -> c_int {
    unsafe {
        // The server has checked the bounds.
        (*number.cast::<Number>()).value.store(value, Ordering::Relaxed);
        raw::REDISMODULE_OK as c_int
    }
}

unsafe extern "C" fn get_text(_name: *const c_char, text: *mut c_void) -> *mut RedisModuleString {
    unsafe {
        thread_local! {
            /// The server copies the string right after the call, but does not free it: it is kept until the next.
            static SHOWN: std::cell::Cell<*mut RedisModuleString> = const { std::cell::Cell::new(std::ptr::null_mut()) };
        }
        guarded(|| {
            let shown = new_string((*text.cast::<Text>()).value.borrow().as_bytes());
            let previous = SHOWN.replace(shown);
            if !previous.is_null() {
                api!(RedisModule_FreeString(std::ptr::null_mut(), previous));
            }
            shown
        })
        .unwrap_or(std::ptr::null_mut())
    }
}

unsafe extern "C" fn set_text(
    _name: *const c_char,
    value: *mut RedisModuleString,
    text: *mut c_void,
    error: *mut *mut RedisModuleString,
) -> c_int {
    unsafe {
        let text = &*text.cast::<Text>();
        let applied = guarded(|| {
            let value = std::str::from_utf8(string_bytes(value)).map_err(|_| "not UTF-8".to_owned())?;
            (text.apply)(value)?;
            *text.value.borrow() = value.to_owned();
            Ok(())
        });
        match applied.unwrap_or_else(|| Err("internal error: see the server log".to_owned())) {
            Ok(()) => raw::REDISMODULE_OK as c_int,
            Err(reason) => {
                *error = new_string(reason.as_bytes());
                raw::REDISMODULE_ERR as c_int
            }
        }
    }
}

unsafe fn new_string(bytes: &[u8]) -> *mut RedisModuleString {
    unsafe { api!(RedisModule_CreateString(std::ptr::null_mut(), bytes.as_ptr().cast::<c_char>(), bytes.len())) }
}
