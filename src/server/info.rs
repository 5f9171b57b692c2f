//! INFO: the server's own fields, read, and the section `gw` with the module's counters and gauges, written.

use std::ffi::{CStr, CString, c_int};
use std::sync::OnceLock;

use redis_module::raw::{self, RedisModuleCtx, RedisModuleInfoCtx};

use super::api::api;
use super::call::Call;
use super::counter::Counter;
use super::guard::guarded;

/// Counters by name, in the order in which they are shown.
pub type Counters = &'static [(&'static str, &'static Counter)];

/// Figures that tell how many of something there are now, by name, in the order in which they are shown. They are read on
/// the main thread.
pub type Gauges = &'static [(&'static str, fn() -> u64)];

/// What the module has declared. Set once, while it loads.
static SHOWN: OnceLock<(Counters, Gauges)> = OnceLock::new();

/// Shows `counters` and then `gauges` in `INFO gw`, `INFO everything` and crash reports.
///
/// # Safety
/// Only while the module loads, with its context.
pub(super) unsafe fn show(ctx: *mut RedisModuleCtx, counters: Counters, gauges: Gauges) -> bool {
    // A second load, which the server does not do, would find the same figures.
    SHOWN.get_or_init(|| (counters, gauges));
    // SAFETY: the caller passes the context of the load; the callback lives for ever.
    unsafe { api!(RedisModule_RegisterInfoFunc(ctx, Some(write_section))) == raw::REDISMODULE_OK as c_int }
}

unsafe extern "C" fn write_section(info: *mut RedisModuleInfoCtx, _for_crash_report: c_int) {
    guarded(|| {
        // SAFETY: the server passes a context that lives through the call. A null name adds the module's own section.
        unsafe { api!(RedisModule_InfoAddSection(info, std::ptr::null())) };
        let (counters, gauges) = SHOWN.get().copied().unwrap_or_default();
        let counts = counters.iter().map(|(name, counter)| (name, counter.get()));
        for (name, figure) in counts.chain(gauges.iter().map(|(name, now)| (name, now()))) {
            if let Ok(name) = CString::new(*name) {
                // SAFETY: as above; the name ends in NUL and is copied.
                unsafe { api!(RedisModule_InfoAddFieldULongLong(info, name.as_ptr(), figure)) };
            }
        }
    });
}

impl Call<'_> {
    /// A field of a section of INFO, as text; `None` if this server does not have it.
    pub fn server_info(&self, section: &CStr, field: &CStr) -> Option<String> {
        // SAFETY: the context is the one of this call.
        unsafe { server_info(self.ctx, section, field) }
    }
}

/// Like [`Call::server_info`].
///
/// # Safety
/// The context is one that the server called with.
pub(super) unsafe fn server_info(ctx: *mut RedisModuleCtx, section: &CStr, field: &CStr) -> Option<String> {
    // SAFETY: the context is the server's, the names end in NUL. The text belongs to the info, which is freed only after
    // the text has been copied.
    unsafe {
        let info = api!(RedisModule_GetServerInfo(ctx, section.as_ptr()));
        let text = api!(RedisModule_ServerInfoGetFieldC(info, field.as_ptr()));
        let text = (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned());
        api!(RedisModule_FreeServerInfo(ctx, info));
        text
    }
}
