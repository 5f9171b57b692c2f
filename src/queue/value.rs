//! The log queue as a data type.

use gateway_core::codec::{Corrupt, Reader, Writer};
use gateway_core::queue::{Queue, VERSION};

use super::EFFECT_NAME;
use crate::server::effect::Effect;
use crate::server::reply::Reply;
use crate::server::value::{Registration, Rewrite};
use crate::server::Value;

static REGISTRATION: Registration = Registration::new();

impl Value for Queue {
    const NAME: &'static str = "gw-queues";
    const ENCODING: i32 = VERSION as i32;

    fn registration() -> &'static Registration {
        &REGISTRATION
    }

    fn save(&self, out: &mut dyn Writer) {
        self.save(out);
    }

    fn load(from: &mut dyn Reader, encoding: i32) -> Result<Self, Corrupt> {
        Queue::load(from, encoding.unsigned_abs())
    }

    fn digest(&self, out: &mut dyn Writer) {
        self.digest(out);
    }

    fn memory_bytes(&self) -> usize {
        self.memory_bytes()
    }

    fn allocations(&self) -> usize {
        self.allocations()
    }

    fn buffers(&mut self, from: usize, visit: &mut dyn FnMut(&mut Vec<u8>) -> bool) -> Option<usize> {
        self.buffers(from, visit)
    }

    /// A queue can be larger than one command should be: the counts, then the records in portions.
    fn rewrite(&self, out: &mut Rewrite) {
        let counts = Effect::of(EFFECT_NAME, b'C', [self.popped() as i64, self.dropped() as i64]);
        out.effect(&counts, std::iter::empty());
        for chunk in self.chunks() {
            out.effect(&Effect::of(EFFECT_NAME, b'P', [0, 0]), chunk);
        }
    }

    fn describe(&mut self, _now_ms: i64, reply: &Reply) {
        reply.map(7).bytes("type").bytes("log-queue");
        reply.bytes("length").count(self.len()).bytes("record_bytes").count(self.bytes());
        reply.bytes("pushed").count(self.pushed()).bytes("popped").count(self.popped());
        reply.bytes("dropped").count(self.dropped()).bytes("bytes").count(self.total_bytes() as u64);
    }
}
