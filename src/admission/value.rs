//! The account as a data type.

use gateway_core::admission::{Account, Count};
use gateway_core::breaker::State;
use gateway_core::calendar::Period;
use gateway_core::stored::Stored as _;

use super::policy_words::{reply_tally, reply_words};
use crate::budget::settings;
use crate::budget::value::reply_credits;
use crate::server::Value;
use crate::server::reply::Reply;
use crate::server::value::{DESCRIBED_MAX, Registration};

static REGISTRATION: Registration = Registration::new();

impl Value for Account {
    const NAME: &'static str = "gw-accnts";

    fn registration() -> &'static Registration {
        &REGISTRATION
    }

    fn loaded(&mut self) {
        settings::saw_version(self.ledger().version());
    }

    fn describe(&mut self, now_ms: i64, reply: &Reply) {
        let today = settings::day_of(now_ms);
        reply.map(13).bytes("type").bytes("account");
        reply.bytes("policies").array(self.policies().len());
        self.policies().iter().for_each(|own| reply_words(reply, &own.name, &own.policy));
        // By policy name: the units in windows and the tokens in buckets, which are negative in debt.
        let counts = self.counts(now_ms);
        reply.bytes("counts").map(counts.len());
        for (name, count) in counts {
            reply.bytes(name);
            match count {
                Count::Units(units) => reply.int(units),
                Count::Money(amount) => reply.bytes(amount.to_text().as_bytes()),
            };
        }
        reply.bytes("ledgers").map(self.ledgers().count());
        for (meter, ledger) in self.ledgers() {
            reply.bytes(meter).map(6);
            for (name, period) in
                [("day", Period::Day), ("week", Period::Week), ("month", Period::Month), ("total", Period::Total)]
            {
                reply.bytes(name).bytes(ledger.spent(period, today).to_text().as_bytes());
            }
            reply.bytes("held").bytes(ledger.held(now_ms, Period::Total, today).to_text().as_bytes());
            reply_credits(reply, ledger);
        }
        // Each lease in flight with the milliseconds left, the first to end first.
        let in_flight = self.in_flight(now_ms);
        reply.bytes("in_flight").count(in_flight);
        reply
            .bytes("leases")
            .array(usize::try_from(in_flight).map_or(DESCRIBED_MAX, |leases| leases.min(DESCRIBED_MAX)));
        for (id, left_ms) in self.leases(now_ms).take(DESCRIBED_MAX) {
            reply.array(2).bytes(id).int(left_ms);
        }
        // By policy name: a breaker's state, the failures that count while it is closed, the milliseconds until it is
        // half-open or its probe's lease ends, and the probe.
        let breakers = self.breakers(now_ms);
        reply.bytes("breakers").map(breakers.len());
        for (name, state) in breakers {
            let (word, failures, left_ms, probe) = match state {
                State::Closed(failures) => ("closed", failures, 0, &[][..]),
                State::Open(left_ms) => ("open", 0, left_ms, &[][..]),
                State::HalfOpen => ("half-open", 0, 0, &[][..]),
                State::Probing(id, left_ms) => ("half-open", 0, left_ms, id),
            };
            reply.bytes(name).array(4).bytes(word).count(failures).int(left_ms);
            if probe.is_empty() {
                reply.null()
            } else {
                reply.bytes(probe)
            };
        }
        reply.bytes("cooldown_ms").int(self.cooldown_ms(now_ms));
        // The average time of calls; nil if no settlement has said one.
        reply.bytes("latency_ms");
        match self.latency_ms() {
            Some(latency_ms) => reply.count(latency_ms),
            None => reply.null(),
        };
        // By policy name: the tallies of this node.
        reply.bytes("stats").map(self.policies().len());
        for own in self.policies() {
            reply.bytes(&own.name);
            reply_tally(reply, own.tally());
        }
        // How long the account outlives its last admission; nil if it does not expire.
        reply.bytes("idle_ms");
        match self.idle_ms() {
            Some(idle_ms) => reply.count(idle_ms),
            None => reply.null(),
        };
        reply.bytes("remembered").count(self.remembered() as u64);
        reply.bytes("bytes").count(self.total_bytes() as u64);
    }
}
