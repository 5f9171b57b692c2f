//! The RDB stream as the core's [`Writer`] and [`Reader`].

use std::ffi::c_char;

use gateway_core::codec::{Corrupt, Reader, Writer};
use redis_module::raw::RedisModuleIO;

pub(super) struct Rdb(pub(super) *mut RedisModuleIO);

// SAFETY of all calls: the server hands the stream to a callback, and it lives as long as that runs.
impl Writer for Rdb {
    fn uint(&mut self, value: u64) {
        unsafe { api!(RedisModule_SaveUnsigned(self.0, value)) }
    }

    fn int(&mut self, value: i64) {
        unsafe { api!(RedisModule_SaveSigned(self.0, value)) }
    }

    fn bytes(&mut self, value: &[u8]) {
        unsafe { api!(RedisModule_SaveStringBuffer(self.0, value.as_ptr().cast::<c_char>(), value.len())) }
    }
}

impl Rdb {
    /// With HANDLE_IO_ERRORS set, a failed read is told here instead of ending the server.
    fn checked<T>(&self, value: T) -> Result<T, Corrupt> {
        match unsafe { api!(RedisModule_IsIOError(self.0)) } {
            0 => Ok(value),
            _ => Err(Corrupt("cut short, or a field of another kind")),
        }
    }
}

impl Reader for Rdb {
    fn uint(&mut self) -> Result<u64, Corrupt> {
        let value = unsafe { api!(RedisModule_LoadUnsigned(self.0)) };
        self.checked(value)
    }

    fn int(&mut self) -> Result<i64, Corrupt> {
        let value = unsafe { api!(RedisModule_LoadSigned(self.0)) };
        self.checked(value)
    }

    fn bytes(&mut self, max_len: usize) -> Result<Vec<u8>, Corrupt> {
        let mut len = 0;
        let at = unsafe { api!(RedisModule_LoadStringBuffer(self.0, &mut len)) };
        if at.is_null() {
            return Err(Corrupt("a byte string cut short"));
        }
        // SAFETY: the server gave `len` bytes at `at`, allocated with its allocator and ours to free.
        let value = unsafe { std::slice::from_raw_parts(at.cast::<u8>(), len) }.to_vec();
        unsafe { api!(RedisModule_Free(at.cast())) };
        if value.len() > max_len {
            return Err(Corrupt("a length out of bounds"));
        }
        self.checked(value)
    }
}
