//! GW.WITHINBUDGET and GW.SPENT: what a ledger says.

use gateway_core::calendar::{CivilDate, Day, Period};
use gateway_core::ledger::Ledger;
use gateway_core::money::Amount;

use super::{day_of, not_a_period, reset_after_ms};
use crate::server::args::Args;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::stats::STATS;
use crate::server::{Call, Error, Outcome};

const PERIODS: &[Arg] =
    &[Arg::word("day", "DAY"), Arg::word("week", "WEEK"), Arg::word("month", "MONTH"), Arg::word("total", "TOTAL")];

pub const WITHIN_BUDGET: Command = Command {
    name: "GW.WITHINBUDGET",
    handler: entry!(within_budget),
    flags: "readonly fast",
    arity: -3,
    keys: Keys::One(Access::Read),
    summary:
        "Tells whether a ledger is within its budgets, with COST whether that much still fits. Replies within, and of \
              the tightest budget: period, budget, spent, held, remaining, reset_after_ms.",
    complexity: "O(N) in the budgets named",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key(),
        Arg::text("budget"),
        Arg::one_of("period", PERIODS).optional(),
        Arg::block("more", &[Arg::text("budget"), Arg::one_of("period", PERIODS)]).optional().multiple(),
        Arg::text("estimate").after("COST").optional(),
    ],
};

pub const SPENT: Command = Command {
    name: "GW.SPENT",
    handler: entry!(spent),
    flags: "readonly fast",
    arity: -2,
    keys: Keys::One(Access::Read),
    summary: "Replies what was spent in the current day, week or month, in that of a date, or in total.",
    complexity: "O(1)",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::one_of("period", PERIODS).optional(), Arg::text("date").after("DATE").optional()],
};

/// More budgets than there are periods make no sense; this leaves room for every way to write them.
const BUDGETS_MAX: usize = 16;

/// GW.WITHINBUDGET key budget [DAY|WEEK|MONTH|TOTAL] [budget period …] [COST estimate]
fn within_budget(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let mut budgets = Budgets { list: [(Amount::ZERO, Period::Month); BUDGETS_MAX], len: 0 };
    let cost = budgets.parse(args)?;

    let now_ms = call.now_ms();
    let found = call.find::<Ledger>(key)?;
    let empty = Ledger::new();
    let ledger = found.as_ref().map_or(&empty, |ledger| ledger.get());
    let verdict = ledger.within(now_ms, day_of(now_ms), budgets.as_slice(), cost).ok_or(Error::ARITY)?;
    let period = budgets.as_slice().get(verdict.tightest).map_or(Period::Total, |&(_, period)| period);
    let counter = if verdict.within { &STATS.budget_within } else { &STATS.budget_exceeded };
    counter.add(1);
    call.reply()
        .array(7)
        .int(verdict.within.into())
        .bytes(period.name())
        .bytes(verdict.budget.to_text().as_bytes())
        .bytes(verdict.spent.to_text().as_bytes())
        .bytes(verdict.held.to_text().as_bytes())
        .bytes(verdict.remaining.to_text().as_bytes())
        .int(reset_after_ms(period, now_ms));
    Ok(())
}

/// Budgets with their periods, on the stack: this is on the path of every request.
struct Budgets {
    list: [(Amount, Period); BUDGETS_MAX],
    len: usize,
}

impl Budgets {
    fn push(&mut self, budget: Amount, period: Period) -> Outcome {
        let place = self.list.get_mut(self.len).ok_or_else(|| Error::new("more than 16 budgets", "budget"))?;
        *place = (budget, period);
        self.len += 1;
        Ok(())
    }

    fn as_slice(&self) -> &[(Amount, Period)] {
        self.list.get(..self.len).unwrap_or_default()
    }

    /// budget [period] [budget period …] [COST estimate]. Returns the estimate.
    fn parse(&mut self, mut args: Args) -> Result<Option<Amount>, Error> {
        const COST: [(&str, ()); 1] = [("COST", ())];
        loop {
            let budget = args.amount("budget")?;
            let period = args.peek().and_then(Period::parse);
            if period.is_some() {
                args.string("period")?;
            } else if self.len > 0 {
                return Err(args.peek().map_or_else(|| Error::new("missing value", "period"), not_a_period));
            }
            self.push(budget, period.unwrap_or(Period::Month))?;
            if let Some(()) = args.option_if_any(&COST)? {
                let cost = args.amount("COST")?;
                // Whatever follows is an error: a second COST, or no option at all.
                args.option(&COST)?;
                return Ok(Some(cost));
            }
            match args.peek() {
                None => return Ok(None),
                // A first budget without a period stands alone.
                Some(given) if period.is_none() => return Err(not_a_period(given)),
                Some(_) => {}
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Opt {
    In(Period),
    Date,
}

const OPTIONS: [(&str, Opt); 5] = [
    ("DAY", Opt::In(Period::Day)),
    ("WEEK", Opt::In(Period::Week)),
    ("MONTH", Opt::In(Period::Month)),
    ("TOTAL", Opt::In(Period::Total)),
    ("DATE", Opt::Date),
];

/// GW.SPENT key [DAY|WEEK|MONTH|TOTAL] [DATE yyyy-mm[-dd]]
fn spent(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let (mut period, mut date) = (None, None);
    while let Some(option) = args.option(&OPTIONS)? {
        match option {
            Opt::In(given) if period.is_some() => return Err(Error::new("conflicting option", given.name())),
            Opt::In(given) => period = Some(given),
            Opt::Date => {
                let given = CivilDate::parse(args.bytes("DATE")?);
                date = Some(given.map_err(|_| Error::new("not a date as yyyy-mm or yyyy-mm-dd", "DATE"))?);
            }
        }
    }
    let period = period.unwrap_or(Period::Month);
    let day = asked_day(period, date, call.now_ms())?;

    let spent = call.find::<Ledger>(key)?.map_or(Amount::ZERO, |ledger| ledger.get().spent(period, day));
    call.reply().bytes(spent.to_text().as_bytes());
    Ok(())
}

/// A day of the period that is asked about.
fn asked_day(period: Period, date: Option<CivilDate>, now_ms: i64) -> Result<Day, Error> {
    match (period, date) {
        (_, None) => Ok(day_of(now_ms)),
        (Period::Total, Some(_)) => Err(Error::new("conflicting option", "DATE with TOTAL")),
        (_, Some(CivilDate::Day(day))) => Ok(day),
        (Period::Month, Some(CivilDate::Month(month))) => Ok(month.first_day()),
        (_, Some(CivilDate::Month(_))) => Err(Error::new("not a date as yyyy-mm-dd", "DATE")),
    }
}
