//! The family's data types.

use gateway_core::bucket::TokenBucket;
use gateway_core::lease::Leases;
use gateway_core::stored::Stored as _;
use gateway_core::window::SlidingWindow;

use crate::server::Value;
use crate::server::reply::Reply;
use crate::server::value::{DESCRIBED_MAX, Registration};

impl Value for SlidingWindow {
    const NAME: &'static str = "gw-window";

    fn registration() -> &'static Registration {
        static REGISTRATION: Registration = Registration::new();
        &REGISTRATION
    }

    fn describe(&mut self, now_ms: i64, reply: &Reply) {
        let state = self.state(now_ms);
        reply.map(8).bytes("type").bytes(if state.rule.fixed { "fixed-window" } else { "sliding-window" });
        reply.bytes("limit").count(state.rule.limit).bytes("window_ms").count(state.rule.window_ms);
        reply.bytes("tick_ms").count(state.rule.tick_ms()).bytes("used").count(state.used);
        for (name, at_ms) in [("oldest_ms", state.oldest_ms), ("newest_ms", state.newest_ms)] {
            reply.bytes(name);
            match at_ms {
                Some(at_ms) => reply.int(at_ms),
                None => reply.null(),
            };
        }
        reply.bytes("bytes").count(self.total_bytes() as u64);
    }
}

impl Value for TokenBucket {
    const NAME: &'static str = "gw-bucket";

    fn registration() -> &'static Registration {
        static REGISTRATION: Registration = Registration::new();
        &REGISTRATION
    }

    fn describe(&mut self, now_ms: i64, reply: &Reply) {
        let state = self.state(now_ms);
        reply.map(8).bytes("type").bytes("token-bucket");
        reply.bytes("rate").count(state.flow.rate).bytes("per_ms").count(state.flow.per_ms);
        reply.bytes("burst").count(state.flow.burst);
        reply.bytes("tokens").int(state.tokens());
        // The level is exactly tokens + fraction. Most clients need only the tokens.
        reply.bytes("fraction").bytes(state.fraction());
        reply.bytes("reset_after_ms").int(state.reset_after_ms);
        reply.bytes("bytes").count(self.total_bytes() as u64);
    }
}

impl Value for Leases {
    const NAME: &'static str = "gw-leases";

    fn registration() -> &'static Registration {
        static REGISTRATION: Registration = Registration::new();
        &REGISTRATION
    }

    fn describe(&mut self, now_ms: i64, reply: &Reply) {
        let in_use = self.in_use(now_ms);
        reply.map(6).bytes("type").bytes("leases");
        reply.bytes("max").count(self.max()).bytes("in_use").count(in_use);
        reply.bytes("last_fencing_token").count(self.last_token());
        // Each holder with the milliseconds that are left to it and its token; the first slot to end comes first.
        reply
            .bytes("holders")
            .array(usize::try_from(in_use).map_or(DESCRIBED_MAX, |holders| holders.min(DESCRIBED_MAX)));
        for (holder, left_ms, token) in self.holders(now_ms).take(DESCRIBED_MAX) {
            reply.array(3).bytes(holder).int(left_ms).count(token);
        }
        reply.bytes("bytes").count(self.total_bytes() as u64);
    }
}
