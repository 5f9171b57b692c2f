//! The reply, written straight to the client. Maps are maps in RESP3 and flat arrays in RESP2.

use std::ffi::{CString, c_char, c_long};
use std::marker::PhantomData;

use redis_module::raw::RedisModuleCtx;

use super::api::api;
use super::error::Error;

/// Writes the reply of one call, and lives no longer than that.
#[derive(Clone, Copy)]
pub struct Reply<'a> {
    ctx: *mut RedisModuleCtx,
    call: PhantomData<&'a ()>,
}

// SAFETY of all blocks: `new` demands that the context lives as long as the reply. Buffers and texts live through each
// call, which copies them.
impl Reply<'_> {
    /// # Safety
    /// The context is that of a call which lives as long as the reply is used.
    pub(super) unsafe fn new(ctx: *mut RedisModuleCtx) -> Self {
        Self { ctx, call: PhantomData }
    }

    /// The start of an array; `len` replies follow.
    pub fn array(&self, len: usize) -> &Self {
        // SAFETY: see above.
        unsafe { api!(RedisModule_ReplyWithArray(self.ctx, len as c_long)) };
        self
    }

    /// The start of a map; `len` pairs of replies follow.
    pub fn map(&self, len: usize) -> &Self {
        // SAFETY: see above.
        unsafe { api!(RedisModule_ReplyWithMap(self.ctx, len as c_long)) };
        self
    }

    pub fn int(&self, value: i64) -> &Self {
        // SAFETY: see above.
        unsafe { api!(RedisModule_ReplyWithLongLong(self.ctx, value)) };
        self
    }

    /// An unsigned count; one beyond the largest `i64`, which no count comes near, is shown as that.
    pub fn count(&self, value: u64) -> &Self {
        self.int(i64::try_from(value).unwrap_or(i64::MAX))
    }

    pub fn bytes(&self, value: impl AsRef<[u8]>) -> &Self {
        let value = value.as_ref();
        // SAFETY: see above.
        unsafe { api!(RedisModule_ReplyWithStringBuffer(self.ctx, value.as_ptr().cast::<c_char>(), value.len())) };
        self
    }

    pub fn null(&self) -> &Self {
        // SAFETY: see above.
        unsafe { api!(RedisModule_ReplyWithNull(self.ctx)) };
        self
    }

    pub fn ok(&self) -> &Self {
        // SAFETY: see above.
        unsafe { api!(RedisModule_ReplyWithSimpleString(self.ctx, c"OK".as_ptr())) };
        self
    }

    pub fn error(&self, error: &Error) {
        // Error texts are printable ASCII, so there is no NUL in them.
        let text = CString::new(error.text()).unwrap_or_default();
        // SAFETY: see above.
        unsafe { api!(RedisModule_ReplyWithError(self.ctx, text.as_ptr())) };
    }
}
