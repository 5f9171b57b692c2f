//! INFO: the server's own fields, read, and the section `gw` with the module's counters, written.

use std::ffi::{CStr, CString, c_int};
use std::sync::OnceLock;

use redis_module::raw::{self, RedisModuleCtx, RedisModuleInfoCtx};

use super::api::api;
use super::call::Call;
use super::counter::Counter;
use super::guard::guarded;

/// Counters by name, in the order in which they are shown.
pub type Counters = &'static [(&'static str, &'static Counter)];

/// What the module has declared. Set once, while it loads.
static SHOWN: OnceLock<Counters> = OnceLock::new();

/// Shows `counters` in `INFO gw`, `INFO everything` and crash reports.
///
/// # Safety
/// Only while the module loads, with its context.
pub(super) unsafe fn show(ctx: *mut RedisModuleCtx, counters: Counters) -> bool {
    // A second load, which the server does not do, would find the same counters.
    SHOWN.get_or_init(|| counters);
    // SAFETY: the caller passes the context of the load; the callback lives for ever.
    unsafe { api!(RedisModule_RegisterInfoFunc(ctx, Some(write_section))) == raw::REDISMODULE_OK as c_int }
}

unsafe extern "C" fn write_section(info: *mut RedisModuleInfoCtx, _for_crash_report: c_int) {
    guarded(|| {
        // SAFETY: the server passes a context that lives through the call. A null name adds the module's own section.
        unsafe { api!(RedisModule_InfoAddSection(info, std::ptr::null())) };
        for (name, counter) in SHOWN.get().copied().unwrap_or_default() {
            if let Ok(name) = CString::new(*name) {
                // SAFETY: as above; the name ends in NUL and is copied.
                unsafe { api!(RedisModule_InfoAddFieldULongLong(info, name.as_ptr(), counter.get())) };
            }
        }
    });
}

impl Call<'_> {
    /// A field of a section of INFO, as text; `None` if this server does not have it.
    pub fn server_info(&self, section: &CStr, field: &CStr) -> Option<String> {
        // SAFETY: the context is the one of this call, the names end in NUL. The text belongs to the info, which is freed
        // only after the text has been copied.
        unsafe {
            let info = api!(RedisModule_GetServerInfo(self.ctx, section.as_ptr()));
            let text = api!(RedisModule_ServerInfoGetFieldC(info, field.as_ptr()));
            let text = (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned());
            api!(RedisModule_FreeServerInfo(self.ctx, info));
            text
        }
    }
}
