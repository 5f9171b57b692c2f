//! GW.TOP: the keys that are refused most, or use most of a meter.

use gateway_core::admission::NAME_BYTES_MAX;
use gateway_core::money::Amount;
use gateway_core::top::{By, KEYS_MAX, Row};

use super::count::{List, heaviest};
use crate::server::call::entry;
use crate::server::command::{Arg, Command, Keys};
use crate::server::reply::Reply;
use crate::server::{Call, Error, Outcome};

pub const COMMAND: Command = Command {
    name: "GW.TOP",
    handler: entry!(top),
    // It shows keys that the user may not be allowed to read.
    flags: "readonly admin",
    arity: -2,
    keys: Keys::None,
    summary: "Replies the keys of this node that were refused most, or used most of a meter: for each the policy or the \
              meter, its count in the last minute, in the last hour, and how much less each of them may be.",
    complexity: "O(N) in gw.top-keys",
    since: "0.1.0",
    tips: "nondeterministic_output request_policy:all_shards response_policy:special",
    args: &[
        Arg::one_of("what", &[Arg::word("denied", "DENIED"), Arg::text("meter").after("METER")]),
        Arg::one_of("by", &[Arg::word("minute", "MINUTE"), Arg::word("hour", "HOUR")]).after("BY").optional(),
        Arg::integer("count").after("COUNT").optional(),
    ],
};

const COUNT_DEFAULT: usize = 10;

#[derive(Clone, Copy)]
enum Opt {
    Denied,
    Meter,
    By,
    Count,
}

const OPTIONS: [(&str, Opt); 4] =
    [("DENIED", Opt::Denied), ("METER", Opt::Meter), ("BY", Opt::By), ("COUNT", Opt::Count)];

/// GW.TOP DENIED | METER meter [BY MINUTE|HOUR] [COUNT count]
fn top(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let (mut list, mut by, mut count) = (None, By::Minute, COUNT_DEFAULT);
    while let Some(option) = args.option(&OPTIONS)? {
        match option {
            Opt::Denied | Opt::Meter if list.is_some() => return Err(Error::conflicting_option("DENIED with METER")),
            Opt::Denied => list = Some(List::Denied),
            Opt::Meter => list = Some(List::Meter(args.name("METER", NAME_BYTES_MAX)?.bytes())),
            Opt::By => by = parse_by(args.bytes("BY")?)?,
            Opt::Count => count = args.int("COUNT", 1..=KEYS_MAX)?,
        }
    }
    let list = list.ok_or_else(|| Error::missing_option("DENIED or METER"))?;
    let Some(rows) = heaviest(call.now_ms(), list, by, count) else {
        return Err(Error::new("nothing is counted with 0", "gw.top-keys"));
    };
    let reply = call.reply();
    reply.array(rows.len());
    rows.iter().for_each(|row| send(&reply, list, row));
    Ok(())
}

fn parse_by(word: &[u8]) -> Result<By, Error> {
    match word {
        word if word.eq_ignore_ascii_case(b"MINUTE") => Ok(By::Minute),
        word if word.eq_ignore_ascii_case(b"HOUR") => Ok(By::Hour),
        word => Err(Error::new("not MINUTE or HOUR", word)),
    }
}

fn send(reply: &Reply, list: List, row: &Row) {
    let counts = [row.minute, row.hour, row.error];
    reply.array(5).bytes(&row.key);
    match list {
        List::Denied => {
            reply.bytes(&row.label);
            // A node does not refuse 2^63 requests in an hour.
            for count in counts {
                reply.count(u64::try_from(count).unwrap_or(u64::MAX));
            }
        }
        List::Meter(meter) => {
            reply.bytes(meter);
            for picos in counts {
                // More than the largest amount is replied as that amount.
                let amount = i128::try_from(picos).ok().and_then(Amount::from_picos).unwrap_or(Amount::MAX);
                reply.bytes(amount.to_text().as_bytes());
            }
        }
    }
}
