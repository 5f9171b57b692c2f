//! Budgets with their periods, as commands take them, and the verdict as they reply it.

use gateway_core::calendar::Period;
use gateway_core::ledger::Verdict;
use gateway_core::money::Amount;

use super::{not_a_period, reset_after_ms};
use crate::server::args::Args;
use crate::server::command::Arg;
use crate::server::reply::Reply;
use crate::server::{Error, Outcome};

pub const PERIODS: &[Arg] =
    &[Arg::word("day", "DAY"), Arg::word("week", "WEEK"), Arg::word("month", "MONTH"), Arg::word("total", "TOTAL")];

/// Further budgets, each with its period.
pub const MORE: &[Arg] = &[Arg::text("budget"), Arg::one_of("period", PERIODS)];

/// More budgets than there are periods make no sense; this leaves room for every way to write them.
const BUDGETS_MAX: usize = 16;

/// Budgets with their periods, on the stack: this is on the path of every request.
pub struct Budgets {
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

    pub fn as_slice(&self) -> &[(Amount, Period)] {
        self.list.get(..self.len).unwrap_or_default()
    }

    /// budget [period] [budget period …], up to the end or to one of the command's options, which is given back.
    pub fn parse<T: Copy>(args: &mut Args, options: &[(&'static str, T)]) -> Result<(Budgets, Option<T>), Error> {
        let mut budgets = Budgets { list: [(Amount::ZERO, Period::Month); BUDGETS_MAX], len: 0 };
        loop {
            let budget = args.amount("budget")?;
            let period = args.peek().and_then(Period::parse);
            if period.is_some() {
                args.string("period")?;
            } else if budgets.len > 0 {
                return Err(args.peek().map_or_else(|| Error::new("missing value", "period"), not_a_period));
            }
            budgets.push(budget, period.unwrap_or(Period::Month))?;
            if let Some(option) = args.option_if_any(options)? {
                return Ok((budgets, Some(option)));
            }
            match args.peek() {
                None => return Ok((budgets, None)),
                // A first budget without a period stands alone.
                Some(given) if period.is_none() => return Err(not_a_period(given)),
                Some(_) => {}
            }
        }
    }

    /// The tightest budget: period, budget, spent, held, remaining, reset_after_ms.
    pub fn reply(&self, verdict: &Verdict, now_ms: i64, reply: &Reply) {
        let period = self.as_slice().get(verdict.tightest).map_or(Period::Total, |&(_, period)| period);
        reply
            .bytes(period.name())
            .bytes(verdict.budget.to_text().as_bytes())
            .bytes(verdict.spent.to_text().as_bytes())
            .bytes(verdict.held.to_text().as_bytes())
            .bytes(verdict.remaining.to_text().as_bytes())
            .int(reset_after_ms(period, now_ms));
    }
}
