//! The server's log.

use std::ffi::CString;

/// Something an operator should act on. One line; control characters are replaced.
pub fn warning(text: &str) {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    // SAFETY: both strings end in NUL, and "%s" takes exactly one. A null context is allowed: the line then names the
    // module by our own prefix.
    if let (Ok(line), Some(log)) = (CString::new(line), unsafe { redis_module::raw::RedisModule_Log }) {
        unsafe { log(std::ptr::null_mut(), c"warning".as_ptr(), c"<gw> %s".as_ptr(), line.as_ptr()) };
    }
}
