//! The ledger as a data type.

use gateway_core::calendar::Period;
use gateway_core::ledger::Ledger;
use gateway_core::stored::Stored as _;

use super::feed::reply_row;
use super::settings::{day_of, saw_version};
use crate::server::Value;
use crate::server::reply::Reply;
use crate::server::value::{DESCRIBED_MAX, Registration};

static REGISTRATION: Registration = Registration::new();

/// Replies a ledger's credits, each with its period and the period's first day.
pub fn reply_credits(reply: &Reply, ledger: &Ledger) {
    reply.bytes("credits").array(ledger.credits().count());
    ledger.credits().for_each(|row| reply_row(reply, &row));
}

impl Value for Ledger {
    const NAME: &'static str = "gw-ledger";

    fn registration() -> &'static Registration {
        &REGISTRATION
    }

    fn loaded(&mut self) {
        saw_version(self.version());
    }

    fn describe(&mut self, now_ms: i64, reply: &Reply) {
        let today = day_of(now_ms);
        reply.map(16).bytes("type").bytes("ledger");
        for (name, period) in
            [("day", Period::Day), ("week", Period::Week), ("month", Period::Month), ("total", Period::Total)]
        {
            reply.bytes(name).bytes(self.spent(period, today).to_text().as_bytes());
        }
        reply.bytes("held").bytes(self.held(now_ms, Period::Total, today).to_text().as_bytes());
        reply.bytes("version").count(self.version()).bytes("acknowledged").count(self.last_acknowledged());
        reply.bytes("since").count(self.since());
        // Each hold with its id, day, estimate and milliseconds left; the first to expire first.
        let open = self.open_holds(now_ms);
        reply.bytes("open_holds").count(open as u64).bytes("holds").array(open.min(DESCRIBED_MAX));
        for (id, day, estimate, left_ms) in self.holds(now_ms).take(DESCRIBED_MAX) {
            reply.array(4).bytes(id).bytes(day.to_string()).bytes(estimate.to_text().as_bytes()).int(left_ms);
        }
        reply.bytes("ids_remembered").count(self.remembered(now_ms) as u64);
        reply.bytes("months").map(self.months().count());
        for (month, spent) in self.months() {
            reply.bytes(month.to_string()).bytes(spent.to_text().as_bytes());
        }
        reply.bytes("days").map(self.days().count());
        for (day, spent) in self.days() {
            reply.bytes(day.to_string()).bytes(spent.to_text().as_bytes());
        }
        reply_credits(reply, self);
        reply.bytes("bytes").count(self.total_bytes() as u64);
    }
}
