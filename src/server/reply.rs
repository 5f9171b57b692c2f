//! The reply, written straight to the client. Maps are maps in RESP3 and flat arrays in RESP2.

use std::ffi::{CString, c_char, c_long};

use redis_module::raw::RedisModuleCtx;

use super::error::Error;

#[derive(Clone, Copy)]
pub struct Reply {
    ctx: *mut RedisModuleCtx,
}

impl Reply {
    pub(super) fn new(ctx: *mut RedisModuleCtx) -> Self {
        Self { ctx }
    }

    /// The start of an array; `len` replies follow.
    pub fn array(&self, len: usize) -> &Self {
        // SAFETY, here and below: the context is of the command being replied to, buffers live through the call.
        unsafe { api!(RedisModule_ReplyWithArray(self.ctx, len as c_long)) };
        self
    }

    /// The start of a map; `len` pairs of replies follow.
    pub fn map(&self, len: usize) -> &Self {
        unsafe { api!(RedisModule_ReplyWithMap(self.ctx, len as c_long)) };
        self
    }

    pub fn int(&self, value: i64) -> &Self {
        unsafe { api!(RedisModule_ReplyWithLongLong(self.ctx, value)) };
        self
    }

    /// An unsigned count. None is near the end of i64; one that is says the largest.
    pub fn count(&self, value: u64) -> &Self {
        self.int(i64::try_from(value).unwrap_or(i64::MAX))
    }

    pub fn bytes(&self, value: impl AsRef<[u8]>) -> &Self {
        let value = value.as_ref();
        unsafe { api!(RedisModule_ReplyWithStringBuffer(self.ctx, value.as_ptr().cast::<c_char>(), value.len())) };
        self
    }

    pub fn null(&self) -> &Self {
        unsafe { api!(RedisModule_ReplyWithNull(self.ctx)) };
        self
    }

    pub fn ok(&self) -> &Self {
        unsafe { api!(RedisModule_ReplyWithSimpleString(self.ctx, c"OK".as_ptr())) };
        self
    }

    pub fn error(&self, error: &Error) {
        // Error texts are printable ASCII, so there is no NUL in them.
        let text = CString::new(error.text()).unwrap_or_default();
        unsafe { api!(RedisModule_ReplyWithError(self.ctx, text.as_ptr())) };
    }
}
