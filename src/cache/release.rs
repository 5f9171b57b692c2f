//! GW.CACHERELEASE: gives up a fill lease.

use super::args::parse_token;
use super::category::count_error;
use super::entry::Entry;
use super::flights;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::{Call, Outcome};

pub const COMMAND: Command = Command {
    name: "GW.CACHERELEASE",
    handler: entry!(release),
    flags: "write fast",
    arity: 3,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Gives up the fill lease of that token, so that the next caller that waits leads. A stale value stays.",
    complexity: "O(1)",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::integer("token")],
};

/// GW.CACHERELEASE key token
fn release(call: &mut Call) -> Outcome {
    let key = call.args().key()?;
    release_lease(call).inspect_err(|_| count_error(key))
}

fn release_lease(call: &Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let token = parse_token(&mut args, "token")?;
    args.end()?;
    call.find::<Entry>(key)?;
    let released = flights::released(call, key, token);
    call.reply().count(released.into());
    Ok(())
}
