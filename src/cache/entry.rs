//! A cache entry as a data type.

use gateway_core::cache::CATEGORY_BYTES_MAX;
use gateway_core::codec::{Corrupt, Reader, Writer};
use gateway_core::memory::allocated_bytes;

use super::category::Category;
use crate::server::reply::Reply;
use crate::server::value::Registration;
use crate::server::Value;

/// The longest value in bytes: what the server takes as one argument by default.
const VALUE_BYTES_MAX: usize = 512 << 20;

/// A cached value. When it expires is the key's own expiry, so that TTL and PEXPIREAT mean what they say.
#[derive(Debug)]
pub struct Entry {
    value: Vec<u8>,
    created_at_ms: i64,
    category: Category,
}

impl Entry {
    pub fn new(value: &[u8], created_at_ms: i64, category: Category) -> Self {
        category.counters().entry_made(value.len());
        Self { value: value.to_vec(), created_at_ms, category }
    }

    pub fn value(&self) -> &[u8] {
        &self.value
    }

    pub fn category(&self) -> Category {
        self.category
    }
}

impl Clone for Entry {
    fn clone(&self) -> Self {
        Self::new(&self.value, self.created_at_ms, self.category)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.category.counters().entry_gone(self.value.len());
    }
}

static REGISTRATION: Registration = Registration::new();

impl Value for Entry {
    const NAME: &'static str = "gw-cached";
    const ENCODING: i32 = 0;

    fn registration() -> &'static Registration {
        &REGISTRATION
    }

    fn save(&self, out: &mut dyn Writer) {
        out.int(self.created_at_ms);
        out.bytes(&self.category.name());
        out.bytes(&self.value);
    }

    fn load(from: &mut dyn Reader, _encoding: i32) -> Result<Self, Corrupt> {
        let created_at_ms = from.time_ms("created at")?;
        let category = from.bytes(CATEGORY_BYTES_MAX)?;
        let value = from.bytes(VALUE_BYTES_MAX)?;
        let category = Category::named(&category);
        category.counters().entry_made(value.len());
        Ok(Self { value, created_at_ms, category })
    }

    fn memory_bytes(&self) -> usize {
        allocated_bytes(self.value.capacity())
    }

    fn allocations(&self) -> usize {
        2
    }

    fn buffers(&mut self, from: usize, visit: &mut dyn FnMut(&mut Vec<u8>) -> bool) -> Option<usize> {
        if from == 0 {
            visit(&mut self.value);
        }
        None
    }

    fn describe(&mut self, now_ms: i64, reply: &Reply) {
        reply.map(5).bytes("type").bytes("cache-entry");
        reply.bytes("category").bytes(self.category.name());
        reply.bytes("value_bytes").count(self.value.len() as u64);
        reply.bytes("age_ms").int((now_ms - self.created_at_ms).max(0));
        reply.bytes("bytes").count(self.total_bytes() as u64);
    }
}
