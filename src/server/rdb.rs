//! The RDB stream as the core's [`Writer`] and [`Reader`].

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use std::ffi::c_char;

use gateway_core::codec::{Corrupt, Reader, Writer};
use redis_module::raw::RedisModuleIO;

use super::api::api;

pub(super) struct Rdb(*mut RedisModuleIO);

impl Rdb {
    /// # Safety
    /// The stream lives as long as this is used, and is read or written as the callback that got it may.
    pub(super) unsafe fn new(raw: *mut RedisModuleIO) -> Self {
        Self(raw)
    }

    /// With HANDLE_IO_ERRORS set, a failed read is reported here instead of ending the server.
    fn checked<T>(&self, value: T) -> Result<T, Corrupt> {
        // SAFETY: the stream lives, as `new` demands.
        match unsafe { api!(RedisModule_IsIOError(self.0)) } {
            0 => Ok(value),
            _ => Err(Corrupt("cut short, or a field of another kind")),
        }
    }
}

impl Writer for Rdb {
    fn uint(&mut self, value: u64) {
        // SAFETY: the stream lives, as `new` demands.
        unsafe { api!(RedisModule_SaveUnsigned(self.0, value)) }
    }

    fn int(&mut self, value: i64) {
        // SAFETY: the stream lives, as `new` demands.
        unsafe { api!(RedisModule_SaveSigned(self.0, value)) }
    }

    fn bytes(&mut self, value: &[u8]) {
        // SAFETY: the stream lives, as `new` demands; the server copies the buffer.
        unsafe { api!(RedisModule_SaveStringBuffer(self.0, value.as_ptr().cast::<c_char>(), value.len())) }
    }
}

impl Reader for Rdb {
    fn uint(&mut self) -> Result<u64, Corrupt> {
        // SAFETY: the stream lives, as `new` demands.
        let value = unsafe { api!(RedisModule_LoadUnsigned(self.0)) };
        self.checked(value)
    }

    fn int(&mut self) -> Result<i64, Corrupt> {
        // SAFETY: the stream lives, as `new` demands.
        let value = unsafe { api!(RedisModule_LoadSigned(self.0)) };
        self.checked(value)
    }

    fn bytes(&mut self, max_len: usize) -> Result<Vec<u8>, Corrupt> {
        let mut len = 0;
        // SAFETY: the stream lives, as `new` demands; the server writes the length.
        let at = unsafe { api!(RedisModule_LoadStringBuffer(self.0, &mut len)) };
        if at.is_null() {
            return Err(Corrupt("a byte string cut short"));
        }
        // SAFETY: the server gave `len` bytes at `at`, from its own allocator, for us to free; nothing else points to them.
        let value = unsafe {
            let value = std::slice::from_raw_parts(at.cast::<u8>(), len).to_vec();
            api!(RedisModule_Free(at.cast()));
            value
        };
        if value.len() > max_len {
            return Err(Corrupt("a length out of bounds"));
        }
        self.checked(value)
    }
}
