//! The log queue as a data type.

use gateway_core::queue::Queue;
use gateway_core::stored::Stored as _;

use super::effect::{LAST_ID_US, rewrite};
use super::worker;
use crate::server::Value;
use crate::server::reply::Reply;
use crate::server::value::{Registration, Rewrite};

impl Value for Queue {
    const NAME: &'static str = "gw-queues";

    fn registration() -> &'static Registration {
        static REGISTRATION: Registration = Registration::new();
        &REGISTRATION
    }

    fn loaded(&mut self) {
        LAST_ID_US.raise(self.last_id_us());
        worker::submit(self);
    }

    fn free(self) {
        worker::free(self);
    }

    fn rewrite(&self, out: &mut Rewrite) {
        rewrite(self, out);
    }

    /// The main figures; GW.LOGSTATS replies all of them.
    fn describe(&mut self, now_ms: i64, reply: &Reply) {
        let counts = self.counts_at(now_ms);
        reply.map(10).bytes("type").bytes("log-queue").bytes("length").count(self.waiting(now_ms).records);
        reply.bytes("leased").count(self.leased(now_ms).size.records);
        reply.bytes("dead").count(self.dead(now_ms).size.records);
        reply.bytes("record_bytes").count(self.held(now_ms).bytes);
        reply.bytes("pushed").count(counts.pushed).bytes("popped").count(counts.popped);
        reply.bytes("acked").count(counts.acked).bytes("dropped").count(counts.dropped);
        reply.bytes("bytes").count(self.total_bytes() as u64);
    }
}
