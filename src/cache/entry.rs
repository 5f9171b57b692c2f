//! A cache entry as a data type.

use std::borrow::Cow;

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
    /// The category's name where this node's table has no room for it.
    surplus_name: Option<Box<[u8]>>,
}

impl Entry {
    pub fn new(value: Vec<u8>, created_at_ms: i64, category_name: &[u8]) -> Self {
        let category = Category::named(category_name);
        category.counters().entry_made(value.len());
        let surplus_name = (!category.has_name()).then(|| category_name.into());
        Self { value, created_at_ms, category, surplus_name }
    }

    fn category_name(&self) -> Cow<'_, [u8]> {
        match &self.surplus_name {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned(self.category.name()),
        }
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
        Self::new(self.value.clone(), self.created_at_ms, &self.category_name())
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
        out.bytes(&self.category_name());
        out.bytes(&self.value);
    }

    fn load(from: &mut dyn Reader, _encoding: i32) -> Result<Self, Corrupt> {
        let created_at_ms = from.time_ms("created at")?;
        let category = from.bytes(CATEGORY_BYTES_MAX)?;
        let value = from.bytes(VALUE_BYTES_MAX)?;
        Ok(Self::new(value, created_at_ms, &category))
    }

    fn memory_bytes(&self) -> usize {
        allocated_bytes(self.value.capacity())
            + self.surplus_name.as_ref().map_or(0, |name| allocated_bytes(name.len()))
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
        reply.bytes("category").bytes(self.category_name());
        reply.bytes("value_bytes").count(self.value.len() as u64);
        reply.bytes("age_ms").int((now_ms - self.created_at_ms).max(0));
        reply.bytes("bytes").count(self.total_bytes() as u64);
    }
}
