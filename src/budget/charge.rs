//! GW.ADDCOST: charges an amount.

use gateway_core::calendar::Period;
use gateway_core::ledger::IdState;
use gateway_core::ledger::feed::KeyPlace;
use gateway_core::money::Amount;
use gateway_core::top::Meter;

use super::account::Account;
use super::args::{out_of_range, parse_id};
use super::clock;
use super::effect::LedgerChange;
use super::settings::{KEEP_DAYS, day_of, next_version, stamp};
use crate::admission::effect::tell_soft;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::{Call, Error, Outcome, Str};
use crate::stats::STATS;
use crate::top::count;

pub const COMMAND: Command = Command {
    name: "GW.ADDCOST",
    handler: entry!(add_cost),
    flags: "write deny-oom fast",
    arity: -3,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Adds an amount to a ledger, exactly, in the day and month of the spend. Replies that month's new total.",
    complexity: "O(1); O(N) in the days kept for late charges",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key(),
        Arg::text("amount"),
        Arg::unix_time("unix-time-ms").after("AT").optional(),
        Arg::text("id").after("ID").optional(),
        Arg::word("refund", "REFUND").optional(),
    ],
};

/// How far ahead of the server's clock a charge may be dated, in milliseconds: enough for a wrong time zone or a skewed
/// clock. A charge dated further ahead is a mistake.
const AHEAD_MAX_MS: i64 = 24 * 3_600_000;

#[derive(Clone, Copy)]
enum Opt {
    At,
    Id,
    Refund,
}

/// GW.ADDCOST key amount [AT unix-time-ms] [ID id] [REFUND]
fn add_cost(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let amount = args.signed_amount("amount")?;
    let now_ms = call.now_ms();
    let (mut at_ms, mut id, mut refund) = (now_ms, None::<Str>, false);
    while let Some(option) = args.option(&[("AT", Opt::At), ("ID", Opt::Id), ("REFUND", Opt::Refund)])? {
        match option {
            Opt::At => at_ms = args.int("AT", 0..=now_ms + AHEAD_MAX_MS)?,
            Opt::Id => id = Some(parse_id(&mut args, "ID")?),
            Opt::Refund => refund = true,
        }
    }
    if amount < Amount::ZERO && !refund {
        return Err(Error::new("negative amount", "amount"));
    }
    if amount > Amount::ZERO && refund {
        return Err(Error::new("REFUND requires a negative amount", "amount"));
    }

    let day = day_of(at_ms);
    let database = call.database();
    let mut account = Account::open(call, key)?;
    let mut version = None;
    // Without an amount to charge or an id to remember, no ledger is created.
    let nothing = amount == Amount::ZERO && id.is_none();
    if let Some(ledger) = account.ledger() {
        // An amount that was charged under this id is not charged again. The reply is the total of the month that the
        // first call charged.
        let seen = match id.and_then(|id| ledger.state(now_ms, id.bytes())) {
            Some(IdState::Charged { day, .. } | IdState::Committed { day, .. }) => Some(day),
            Some(IdState::Credited { .. }) => return Err(Error::new("a credit has this id", "ID")),
            Some(_) => return Err(Error::new("a hold has this id", "ID")),
            None => None,
        };
        if seen.is_some() || nothing {
            STATS.budget_repeated.add(seen.is_some().into());
            let spent = ledger.spent(Period::Month, seen.unwrap_or(day));
            let is_ahead = ledger.is_ahead_of(now_ms);
            drop(account);
            clock::follow_if(call, key, is_ahead);
            call.reply().bytes(spent.to_text().as_bytes());
            return Ok(());
        }
        ledger.totals_with(day, amount).map_err(|overflow| out_of_range(overflow, "amount"))?;
        version = Some(next_version(ledger, now_ms));
    } else if nothing {
        call.reply().bytes("0");
        return Ok(());
    }
    let ledger = account.ledger_or_new();
    let version = version.unwrap_or_else(|| next_version(ledger, now_ms));
    let has_due = ledger.has_due(now_ms);
    let spent_ms = account.counts_money().then_some(at_ms);
    let change = match id {
        Some(_) => LedgerChange::ChargeOnce { day, amount, stamp: stamp(now_ms, version), spent_ms },
        None => LedgerChange::Charge {
            day,
            amount,
            keep_days: KEEP_DAYS.get() as u32,
            version,
            // The effect has a time also if policies count the money at that time.
            forget_at_ms: (has_due || spent_ms.is_some()).then_some(now_ms),
            spent_ms,
        },
    };
    let place = || KeyPlace::new(database, key.bytes());
    let totals = change.apply(&mut account, id.map_or(&[], |id| id.bytes()), place);
    let month = totals.map_or(Amount::ZERO, |totals| totals.month);
    let told = account.tell_soft(now_ms);
    drop(account);
    let counter = if refund { &STATS.budget_refunds } else { &STATS.budget_charges };
    counter.add(1);
    change.announce(call, key, id);
    tell_soft(call, key, day_of(now_ms), &told);
    count::used(now_ms, key, Meter::Usd, amount);
    call.reply().bytes(month.to_text().as_bytes());
    Ok(())
}
