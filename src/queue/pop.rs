//! GW.LOGPOP: takes records out, for good or on a lease.

use super::args::PopRequest;
use super::serve::{reply_nothing, serve};
use super::wait::wait;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::{Call, Outcome};

pub const COMMAND: Command = Command {
    name: "GW.LOGPOP",
    handler: entry!(pop),
    flags: "write blocking",
    arity: -2,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Takes the oldest records out of a log queue and replies them, oldest first: up to COUNT \
              of them and up to MAXBYTES, but at least one. With LEASE as a batch that is delivered again unless it is \
              acknowledged in time; with BLOCK it waits if there is nothing.",
    complexity: "O(N) in the records replied",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key(),
        Arg::integer("count").after("COUNT").optional(),
        Arg::integer("max-bytes").after("MAXBYTES").optional(),
        Arg::integer("timeout-ms").after("BLOCK").optional(),
        Arg::integer("lease-ms").after("LEASE").optional(),
        Arg::integer("deliveries").after("MAXDELIVERIES").optional(),
    ],
};

/// GW.LOGPOP key [COUNT records] [MAXBYTES bytes] [BLOCK ms] [LEASE ms [MAXDELIVERIES n]]
fn pop(call: &mut Call) -> Outcome {
    let request = PopRequest::parse(call)?;
    if serve(call, &request)? {
        return Ok(());
    }
    match request.block_ms {
        Some(timeout_ms) if call.may_wait() => wait(call, request.key, timeout_ms),
        _ => {
            reply_nothing(call, &request);
            Ok(())
        }
    }
}
