//! GW.COSTRESTORE: a ledger that was lost is made again of the rows of a database.

use gateway_core::admission::USD;
use gateway_core::ledger::Ledger;
use gateway_core::ledger::feed::VERSION_MAX;

use super::account::{Account, AccountRead};
use super::args::PERIODS;
use super::restoration::{Restoration, parse_rows};
use super::settings::{KEEP_DAYS, VERSION_AHEAD_MAX_US, day_of};
use crate::admission::args::check_meter;
use crate::admission::effect::tell_soft;
use crate::server::args::OwnedKey;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::{Call, Error, Outcome, Str};

const KINDS: &[Arg] = &[Arg::word("spend", "SPEND"), Arg::word("credit", "CREDIT")];

const ROW: &[Arg] =
    &[Arg::one_of("kind", KINDS), Arg::one_of("period", PERIODS), Arg::text("first-day"), Arg::text("amount")];

pub const COMMAND: Command = Command {
    name: "GW.COSTRESTORE",
    handler: entry!(cost_restore),
    flags: "write deny-oom",
    arity: -8,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Makes a ledger again of all its rows, under the version that a database has of it, unless the ledger has \
              that version or a newer one. Replies 1 if it was made, 0 if it has that version, -1 if it is newer.",
    complexity: "O(N log N) in the rows",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key(),
        Arg::integer("version"),
        Arg::text("meter").after("METER").optional(),
        Arg::word("rows-follow", "ROWS"),
        Arg::block("rows", ROW).multiple(),
    ],
};

/// GW.COSTRESTORE key version [METER meter] ROWS SPEND|CREDIT period first-day amount [SPEND|CREDIT …]
fn cost_restore(call: &mut Call) -> Outcome {
    // Whether the rows follow, which are the last arguments.
    const OPTIONS: [(&str, bool); 2] = [("METER", false), ("ROWS", true)];
    let mut args = call.args();
    let key = args.key()?;
    let version: u64 = args.int("version", 1..=VERSION_MAX)?;
    let mut meter = None::<Str>;
    while !args.option(&OPTIONS)?.ok_or(Error::ARITY)? {
        let given = args.string("METER")?;
        check_meter(given.bytes())?;
        meter = Some(given);
    }
    let keep_days = KEEP_DAYS.get() as u32;
    let rows = args.all();
    let sums = parse_rows(&mut args, keep_days)?;
    args.end()?;
    let now_ms = call.now_ms();
    let money = OwnedKey::new(USD);
    let meter = meter.unwrap_or(money.key());

    let found = AccountRead::find(call, key)?;
    let known = found.as_ref().and_then(|account| account.meter(meter.bytes())).map_or(0, Ledger::version);
    if known >= version {
        call.reply().int(if known == version { 0 } else { -1 });
        return Ok(());
    }
    // A version from the future would force all later versions to be even larger.
    if version > now_ms.unsigned_abs() * 1_000 + VERSION_AHEAD_MAX_US {
        return Err(Error::new("version from the future", "version"));
    }
    drop(found);
    let change = Restoration { version, keep_days, meter };
    change.apply(call, key, sums)?;
    let told = Account::open(call, key)?.tell_soft(now_ms);

    change.announce(call, key, rows);
    tell_soft(call, key, day_of(now_ms), &told);
    call.reply().int(1);
    Ok(())
}
