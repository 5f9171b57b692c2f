//! GW.WITHINBUDGET and GW.SPENT: queries on a ledger.

use gateway_core::calendar::{CivilDate, Day, Period};
use gateway_core::ledger::Ledger;
use gateway_core::money::Amount;

use super::account::AccountRead;
use super::args::{Budgets, MORE, PERIODS};
use super::clock;
use super::settings::day_of;
use crate::server::args::Args;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::{Call, Error, Key, Outcome};
use crate::stats::STATS;

pub const WITHIN_BUDGET: Command = Command {
    name: "GW.WITHINBUDGET",
    handler: entry!(within_budget),
    flags: "readonly fast",
    arity: -3,
    keys: Keys::One(Access::Read),
    summary: "Tells whether a ledger is within budgets, or with COST whether that much still fits. Replies within, and the \
              tightest budget's period, budget, spent, held, remaining and reset_after_ms.",
    complexity: "O(N) in the budgets named",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key(),
        Arg::text("budget"),
        Arg::one_of("period", PERIODS).optional(),
        Arg::block("more", MORE).optional().multiple(),
        Arg::text("estimate").after("COST").optional(),
    ],
};

const ROW_PERIODS: &[Arg] = &[Arg::word("day", "DAY"), Arg::word("week", "WEEK"), Arg::word("month", "MONTH")];

pub const SPENT: Command = Command {
    name: "GW.SPENT",
    handler: entry!(spent),
    flags: "readonly fast",
    arity: -2,
    keys: Keys::One(Access::Read),
    summary: "Replies the spend of the current day, week or month, of that of a date, or in total; or of each of the last \
              days, weeks or months.",
    complexity: "O(1), O(N) in the rows of a history",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key(),
        Arg::one_of("period", PERIODS).optional(),
        Arg::text("date").after("DATE").optional(),
        Arg::block("rows", &[Arg::one_of("rows-period", ROW_PERIODS), Arg::integer("count")])
            .after("HISTORY")
            .optional(),
    ],
};

/// GW.WITHINBUDGET key budget [DAY|WEEK|MONTH|TOTAL] [budget period …] [COST estimate]
fn within_budget(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    const COST: [(&str, ()); 1] = [("COST", ())];
    let (budgets, option) = Budgets::parse(&mut args, &COST)?;
    let mut cost = None;
    if let Some(()) = option {
        cost = Some(args.amount("COST")?);
        // Any further argument is an error: a second COST, or an unknown option.
        args.option(&COST)?;
    }

    let now_ms = call.now_ms();
    let found = AccountRead::find(call, key)?;
    let empty = Ledger::new();
    let ledger = found.as_ref().map_or(&empty, |account| account.ledger());
    let check = ledger.within(now_ms, day_of(now_ms), budgets.as_slice(), cost).ok_or(Error::ARITY)?;
    let counter = if check.within { &STATS.budget_within } else { &STATS.budget_exceeded };
    counter.add(1);
    clock::follow_if(call, key, ledger.is_ahead_of(now_ms));
    let reply = call.reply();
    reply.array(7).int(check.within.into());
    budgets.reply(&check, now_ms, &reply);
    Ok(())
}

#[derive(Clone, Copy)]
enum Opt {
    In(Period),
    Date,
    History,
}

const OPTIONS: [(&str, Opt); 6] = [
    ("DAY", Opt::In(Period::Day)),
    ("WEEK", Opt::In(Period::Week)),
    ("MONTH", Opt::In(Period::Month)),
    ("TOTAL", Opt::In(Period::Total)),
    ("DATE", Opt::Date),
    ("HISTORY", Opt::History),
];

/// The most rows of a history: more than two years of days.
const HISTORY_MAX: usize = 1_000;

/// GW.SPENT key [DAY|WEEK|MONTH|TOTAL] [DATE yyyy-mm[-dd]] [HISTORY DAY|WEEK|MONTH count]
fn spent(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let (mut period, mut date, mut history) = (None, None, None);
    while let Some(option) = args.option(&OPTIONS)? {
        match option {
            Opt::In(given) if period.is_some() => return Err(Error::conflicting_option(given.name())),
            Opt::In(given) => period = Some(given),
            Opt::Date => {
                let given = CivilDate::parse(args.bytes("DATE")?);
                date = Some(given.map_err(|_| Error::new("not a date as yyyy-mm or yyyy-mm-dd", "DATE"))?);
            }
            Opt::History => history = Some(parse_history(&mut args)?),
        }
    }
    if let Some((period_of_rows, count)) = history {
        if period.is_some() || date.is_some() {
            return Err(Error::conflicting_option("HISTORY"));
        }
        return spent_history(call, key, period_of_rows, count);
    }
    let period = period.unwrap_or(Period::Month);
    let day = asked_day(period, date, call.now_ms())?;

    let spent = AccountRead::find(call, key)?.map_or(Amount::ZERO, |account| account.ledger().spent(period, day));
    call.reply().bytes(spent.to_text().as_bytes());
    Ok(())
}

/// A period and a count.
fn parse_history(args: &mut Args) -> Result<(Period, usize), Error> {
    let given = args.bytes("period")?;
    let period = Period::parse(given).filter(|period| *period != Period::Total);
    let period = period.ok_or_else(|| Error::new("not DAY, WEEK or MONTH", given))?;
    Ok((period, args.int("count", 1..=HISTORY_MAX as i64)? as usize))
}

/// Replies a row for each of the last periods, the current one first: its first day, and the spend.
fn spent_history(call: &mut Call, key: Key, period: Period, count: usize) -> Outcome {
    let first = period.first_day(day_of(call.now_ms()));
    let before = |day: &Day| Some(period.first_day(Day::from_number(day.number() - 1)?));
    let days: Vec<Day> = std::iter::successors(Some(first), before).take(count).collect();

    let found = AccountRead::find(call, key)?;
    let spent = |day| found.as_ref().map_or(Amount::ZERO, |account| account.ledger().spent(period, day));
    let reply = call.reply();
    reply.array(days.len());
    for day in days {
        reply.array(2).bytes(day.to_string()).bytes(spent(day).to_text().as_bytes());
    }
    Ok(())
}

/// A day in the period that is asked for.
fn asked_day(period: Period, date: Option<CivilDate>, now_ms: i64) -> Result<Day, Error> {
    match (period, date) {
        (_, None) => Ok(day_of(now_ms)),
        (Period::Total, Some(_)) => Err(Error::conflicting_option("DATE with TOTAL")),
        (_, Some(CivilDate::Day(day))) => Ok(day),
        (Period::Month, Some(CivilDate::Month(month))) => Ok(month.first_day()),
        (_, Some(CivilDate::Month(_))) => Err(Error::new("not a date as yyyy-mm-dd", "DATE")),
    }
}
