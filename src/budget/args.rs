//! The family's arguments: ids, budgets with their periods, and the reply to a question about budgets.

use gateway_core::calendar::Period;
use gateway_core::ledger::{BudgetCheck, ID_BYTES_MAX, Overflow};
use gateway_core::money::Amount;

use super::settings::reset_after_ms;
use crate::server::args::Args;
use crate::server::command::Arg;
use crate::server::reply::Reply;
use crate::server::{Error, Outcome, Str};

pub const PERIODS: &[Arg] =
    &[Arg::word("day", "DAY"), Arg::word("week", "WEEK"), Arg::word("month", "MONTH"), Arg::word("total", "TOTAL")];

/// Further budgets, each with its period.
pub const MORE: &[Arg] = &[Arg::text("budget"), Arg::one_of("period", PERIODS)];

/// The most budgets in a question. More than one for each period is rarely useful.
const BUDGETS_MAX: usize = 16;

/// Budgets with their periods, on the stack because every request is parsed here.
pub struct Budgets {
    list: [(Amount, Period); BUDGETS_MAX],
    len: usize,
}

impl Budgets {
    fn push(&mut self, budget: Amount, period: Period) -> Outcome {
        let slot = self.list.get_mut(self.len).ok_or_else(|| Error::more_than(BUDGETS_MAX, "budgets", "budget"))?;
        *slot = (budget, period);
        self.len += 1;
        Ok(())
    }

    pub fn as_slice(&self) -> &[(Amount, Period)] {
        self.list.get(..self.len).unwrap_or_default()
    }

    /// Parses `budget [period] [budget period …]`, up to the end or to one of the command's options, which is returned.
    pub fn parse<T: Copy>(args: &mut Args, options: &[(&'static str, T)]) -> Result<(Budgets, Option<T>), Error> {
        let mut budgets = Budgets { list: [(Amount::ZERO, Period::Month); BUDGETS_MAX], len: 0 };
        loop {
            let budget = args.amount("budget")?;
            let period = args.peek().and_then(Period::parse);
            if period.is_some() {
                args.string("period")?;
            } else if budgets.len > 0 {
                return Err(args.peek().map_or_else(|| Error::missing_value("period"), not_a_period));
            }
            budgets.push(budget, period.unwrap_or(Period::Month))?;
            if let Some(option) = args.option_if_any(options)? {
                return Ok((budgets, Some(option)));
            }
            match args.peek() {
                None => return Ok((budgets, None)),
                // Only a single budget may have no period.
                Some(given) if period.is_none() => return Err(not_a_period(given)),
                Some(_) => {}
            }
        }
    }

    /// Replies the tightest budget: period, budget, spent, held, remaining, reset_after_ms.
    pub fn reply(&self, check: &BudgetCheck, now_ms: i64, reply: &Reply) {
        let period = self.as_slice().get(check.tightest).map_or(Period::Total, |&(_, period)| period);
        reply
            .bytes(period.name())
            .bytes(check.budget.to_text().as_bytes())
            .bytes(check.spent.to_text().as_bytes())
            .bytes(check.held.to_text().as_bytes())
            .bytes(check.remaining.to_text().as_bytes())
            .int(reset_after_ms(period, now_ms));
    }
}

/// The names of periods, as errors list them.
pub const PERIOD_NAMES: &str = "DAY, WEEK, MONTH or TOTAL";

pub fn not_a_period(given: &[u8]) -> Error {
    Error::new(&format!("not {PERIOD_NAMES}"), given)
}

/// The id of a hold or of a charge.
pub fn parse_id<'a>(args: &mut Args<'a>, name: &str) -> Result<Str<'a>, Error> {
    args.name(name, ID_BYTES_MAX)
}

/// A sum would leave the range of amounts, so nothing was charged. `argument` is the name of the amount.
pub fn out_of_range(overflow: Overflow, argument: &str) -> Error {
    Error::new(&overflow.to_string(), argument)
}
