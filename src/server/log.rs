//! The server's log.

use std::ffi::CString;

use redis_module::raw;

/// Something an operator should act on. One line; control characters are replaced by spaces.
pub fn warning(text: &str) {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    // SAFETY: the function pointers are written once, while the module loads, before anything is logged.
    let log = unsafe { raw::RedisModule_Log };
    if let (Ok(line), Some(log)) = (CString::new(line), log) {
        // SAFETY: both strings end in NUL, and "%s" takes exactly one. A null context is allowed: the server then does
        // not know which module logs, so the line names it.
        unsafe { log(std::ptr::null_mut(), c"warning".as_ptr(), c"<gw> %s".as_ptr(), line.as_ptr()) };
    }
}
