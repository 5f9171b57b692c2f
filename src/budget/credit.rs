//! GW.CREDIT: a one-off allowance for one calendar period.

use gateway_core::admission::USD;
use gateway_core::calendar::Period;
use gateway_core::ledger::{IdState, Ledger};
use gateway_core::money::Amount;
use gateway_core::{PERIOD_MAX_MS, TIME_MAX_MS};

use super::account::{Account, AccountRead};
use super::args::{PERIODS, not_a_period, parse_id};
use super::clock;
use super::effect::{Credit, refused};
use super::settings::{day_of, next_version, stamp};
use crate::admission::args::check_meter;
use crate::admission::effect::tell_soft;
use crate::server::args::{OwnedKey, Short};
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::{Call, Error, Outcome, Str};
use crate::stats::STATS;

pub const COMMAND: Command = Command {
    name: "GW.CREDIT",
    handler: entry!(credit),
    flags: "write deny-oom fast",
    arity: -4,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Gives a ledger a one-off allowance for a day, week or month, or for good, on top of every budget over that \
              period; a negative amount takes it back. Replies the period's credit.",
    complexity: "O(1); O(N) in the credits kept for a period that had none",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key(),
        Arg::one_of("period", PERIODS),
        Arg::text("amount"),
        Arg::text("meter").after("METER").optional(),
        Arg::unix_time("unix-time-ms").after("AT").optional(),
        Arg::text("id").after("ID").optional(),
    ],
};

/// How far ahead of the server's clock the period of a credit may be, in milliseconds: 366 days.
const AHEAD_MAX_MS: i64 = PERIOD_MAX_MS.cast_signed();

#[derive(Clone, Copy)]
enum Opt {
    Meter,
    At,
    Id,
}

/// GW.CREDIT key period amount [METER meter] [AT unix-time-ms] [ID id]
fn credit(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let word = args.bytes("period")?;
    let period = Period::parse(word).ok_or_else(|| not_a_period(word))?;
    let amount = args.signed_amount("amount")?;
    let now_ms = call.now_ms();
    let (mut meter, mut at_ms, mut id) = (None::<Str>, now_ms, None::<Str>);
    while let Some(option) = args.option(&[("METER", Opt::Meter), ("AT", Opt::At), ("ID", Opt::Id)])? {
        match option {
            Opt::Meter => {
                let given = args.string("METER")?;
                check_meter(given.bytes())?;
                meter = Some(given);
            }
            Opt::At => at_ms = args.int("AT", 0..=(now_ms + AHEAD_MAX_MS).min(TIME_MAX_MS))?,
            Opt::Id => id = Some(parse_id(&mut args, "ID")?),
        }
    }
    let money = OwnedKey::new(USD);
    let meter = meter.unwrap_or(money.key());
    let day = day_of(at_ms);

    let found = AccountRead::find(call, key)?;
    let none = Ledger::new();
    let known = found.as_ref().and_then(|account| account.meter(meter.bytes()));
    let ledger = known.unwrap_or(&none);
    match id.and_then(|id| ledger.state(now_ms, id.bytes())) {
        Some(IdState::Credited { credit, .. }) => {
            STATS.budget_repeated.add(1);
            clock::follow_if(call, key, ledger.is_ahead_of(now_ms));
            call.reply().bytes(credit.to_text().as_bytes());
            return Ok(());
        }
        Some(_) => return Err(Error::new("a hold or a charge has this id", "ID")),
        None => {}
    }
    let before = ledger.credit_with(period, day, amount).map_err(refused)?;
    if amount == Amount::ZERO && id.is_none() {
        // There is nothing to give and no id to remember, so no ledger is created.
        call.reply().bytes(before.to_text().as_bytes());
        return Ok(());
    }
    let stamp = stamp(now_ms, next_version(ledger, now_ms));
    drop(found);
    let change = Credit { period, day, amount, stamp, meter: meter.bytes(), id: id.map(|id| id.bytes()) };
    let credit = change.apply(call, key)?;
    let told = Account::open(call, key)?.tell_soft(now_ms);

    let rest: Short<Str> = std::iter::once(meter).chain(id).collect();
    change.announce(call, key, &rest);
    tell_soft(call, key, day_of(now_ms), &told);
    STATS.budget_credits.add(1);
    call.reply().bytes(credit.to_text().as_bytes());
    Ok(())
}
