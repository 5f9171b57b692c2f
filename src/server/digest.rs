//! DEBUG DIGEST as a [`Writer`]: what a value writes is what makes it equal to another.

use std::ffi::c_char;

use gateway_core::codec::Writer;
use redis_module::raw::RedisModuleDigest;

pub(super) struct Digest(pub(super) *mut RedisModuleDigest);

// SAFETY of all calls: the server hands the digest to a callback, and it lives as long as that runs. The server does not
// write through the buffer's pointer, for all that its type says.
impl Writer for Digest {
    fn uint(&mut self, value: u64) {
        unsafe { api!(RedisModule_DigestAddLongLong(self.0, value as i64)) }
    }

    fn int(&mut self, value: i64) {
        unsafe { api!(RedisModule_DigestAddLongLong(self.0, value)) }
    }

    fn bytes(&mut self, value: &[u8]) {
        unsafe { api!(RedisModule_DigestAddStringBuffer(self.0, value.as_ptr().cast::<c_char>(), value.len())) }
    }
}

impl Digest {
    /// Fields are digested in order; this ends the sequence.
    pub(super) fn end(&mut self) {
        unsafe { api!(RedisModule_DigestEndSequence(self.0)) }
    }
}
