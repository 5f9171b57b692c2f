//! What the server says about itself in INFO.

use std::ffi::CStr;

use super::call::Call;

impl Call<'_> {
    /// A field of a section of INFO, as text. `None` where this server does not have it.
    pub fn server_info(&self, section: &CStr, field: &CStr) -> Option<String> {
        // SAFETY: the names end in NUL; the text is part of the info, which is freed once it is copied.
        unsafe {
            let info = api!(RedisModule_GetServerInfo(self.ctx, section.as_ptr()));
            let text = api!(RedisModule_ServerInfoGetFieldC(info, field.as_ptr()));
            let text = (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned());
            api!(RedisModule_FreeServerInfo(self.ctx, info));
            text
        }
    }
}
