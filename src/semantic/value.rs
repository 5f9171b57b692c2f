//! The index as a data type.

use gateway_core::stored::Stored as _;

use super::effect;
use super::member::SemanticIndex;
use super::worker;
use crate::cache::reclaim::left_over;
use crate::server::Value;
use crate::server::reply::Reply;
use crate::server::value::{Registration, Rewrite};

impl Value for SemanticIndex {
    const NAME: &'static str = "gw-semidx";

    fn registration() -> &'static Registration {
        static REGISTRATION: Registration = Registration::new();
        &REGISTRATION
    }

    fn loaded(&mut self) {
        if self.entries().any(|(entry, _)| entry.is_cleared()) {
            left_over();
        }
    }

    fn free(self) {
        worker::free(self);
    }

    fn rewrite(&self, out: &mut Rewrite) {
        effect::rewrite(self, out);
    }

    fn describe(&mut self, _now_ms: i64, reply: &Reply) {
        reply.map(5).bytes("type").bytes("semantic-index");
        reply.bytes("entries").count(self.len() as u64);
        reply.bytes("dimensions").count(self.dimensions() as u64);
        reply.bytes("threshold");
        match self.threshold() {
            Some(threshold) => reply.bytes(threshold.to_text().as_bytes()),
            None => reply.null(),
        };
        reply.bytes("bytes").count(self.total_bytes() as u64);
    }
}
