//! The cache entry as a data type.

use gateway_core::TIME_MAX_MS;
use gateway_core::cache::State;
use gateway_core::stored::Stored as _;

use super::entry::Entry;
use super::reclaim::left_over;
use crate::server::Value;
use crate::server::reply::Reply;
use crate::server::value::{Registration, Rewrite};

impl Value for Entry {
    const NAME: &'static str = "gw-cached";

    fn registration() -> &'static Registration {
        static REGISTRATION: Registration = Registration::new();
        &REGISTRATION
    }

    fn loaded(&mut self) {
        if self.is_cleared() {
            left_over();
        }
    }

    /// A cleared entry is left out of the rewritten AOF.
    fn rewrite(&self, out: &mut Rewrite) {
        if !self.is_cleared() {
            out.whole(self);
        }
    }

    fn describe(&mut self, now_ms: i64, reply: &Reply) {
        let state = match (self.is_cleared(), self.state(now_ms)) {
            (true, _) => "cleared",
            (false, State::Fresh) => "fresh",
            (false, State::Stale) => "stale",
            (false, State::Expired) => "expired",
        };
        reply.map(11).bytes("type").bytes("cache-entry").bytes("state").bytes(state);
        reply.bytes("category").bytes(self.category().name());
        reply.bytes("tags").array(self.tags().len());
        self.tags().iter().for_each(|tag| {
            reply.bytes(tag.name());
        });
        reply.bytes("value_bytes").count(self.value().len() as u64);
        reply.bytes("stored_bytes").count(self.value().stored_len() as u64);
        reply.bytes("saved").bytes(self.saved().to_text().as_bytes());
        reply.bytes("age_ms").int(self.age_ms(now_ms));
        reply.bytes("fresh_ms").int((self.life().fresh_until_ms - now_ms).clamp(0, TIME_MAX_MS));
        reply.bytes("stale_ms").count(self.life().stale_ms);
        reply.bytes("bytes").count(self.total_bytes() as u64);
    }
}
