//! DEBUG DIGEST as a [`Writer`]: two values are equal if they write the same.

use std::ffi::c_char;

use gateway_core::codec::Writer;
use redis_module::raw::RedisModuleDigest;

use super::api::api;

pub(super) struct Digest(*mut RedisModuleDigest);

impl Digest {
    /// # Safety
    /// The digest lives as long as this is used.
    pub(super) unsafe fn new(raw: *mut RedisModuleDigest) -> Self {
        Self(raw)
    }

    /// Ends the sequence: fields are digested in order.
    pub(super) fn end(&mut self) {
        // SAFETY: the digest lives, as `new` demands.
        unsafe { api!(RedisModule_DigestEndSequence(self.0)) }
    }
}

impl Writer for Digest {
    fn uint(&mut self, value: u64) {
        // Any bijection does: equal values give equal digests.
        self.int(value.cast_signed());
    }

    fn int(&mut self, value: i64) {
        // SAFETY: the digest lives, as `new` demands.
        unsafe { api!(RedisModule_DigestAddLongLong(self.0, value)) }
    }

    fn bytes(&mut self, value: &[u8]) {
        // SAFETY: the digest lives, as `new` demands. The server reads the buffer and does not write to it, although the
        // parameter's type would allow it.
        unsafe { api!(RedisModule_DigestAddStringBuffer(self.0, value.as_ptr().cast::<c_char>(), value.len())) }
    }
}
