//! A ledger's restoration: its rows, and its effect.

use std::ffi::CStr;

use gateway_core::admission::USD;
use gateway_core::calendar::{CivilDate, Period};
use gateway_core::ledger::feed::VERSION_MAX;
use gateway_core::ledger::{KEEP_DAYS_MAX, KEEP_DAYS_MIN, Ledger, Row, RowKind, RowsError, Sums};

use super::account::Account;
use super::args::not_a_period;
use super::listing;
use super::settings::saw_version;
use super::words::NAME;
use crate::admission::accounts;
use crate::admission::args::check_name;
use crate::server::args::Args;
use crate::server::effect::{Effect, Words};
use crate::server::{Call, Error, Key, Outcome, Str};

/// The operation's letter.
pub const OPERATION: u8 = b'R';

const EVENT: &CStr = c"gw.costrestore";

/// More rows than any ledger has: 3,600 days, 120 months and a total of spend, the same of credits, and 520 weeks of
/// credits.
const ROWS_MAX: usize = 8_000;

/// The arguments of a row: kind, period, first day, amount.
const ROW_ARGS: usize = 4;

/// The restoration of a meter's ledger. The node that first makes it decides all of it.
pub struct Restoration<'a> {
    pub version: u64,
    pub keep_days: u32,
    pub meter: Str<'a>,
}

impl Restoration<'_> {
    /// Replaces what the ledger has; creates it if there is none.
    ///
    /// # Errors
    /// If the account cannot have a ledger of the meter. Nothing has changed then.
    pub fn apply(&self, call: &mut Call, key: Key, sums: Sums) -> Outcome {
        let restore = |ledger: &mut Ledger| {
            ledger.restore(sums, self.version);
            saw_version(self.version);
        };
        if self.meter.bytes() == USD {
            let mut account = Account::open(call, key)?;
            restore(account.ledger_or_new());
            account.stay();
            return Ok(());
        }
        accounts::make(accounts::open_to_make(call, key)?, |account| {
            restore(account.open_ledger(self.meter.bytes()).map_err(accounts::exceeded)?);
            account.stay();
            Ok(())
        })
    }

    /// After [`Self::apply`]: sends the change to replicas and the AOF, to listeners, and to the feed.
    pub fn announce(&self, call: &Call, key: Key, rows: &[Str]) {
        let effect = Effect::of(NAME, OPERATION, [self.version.cast_signed(), self.keep_days.into()]);
        let rest: Vec<Str> = std::iter::once(self.meter).chain(rows.iter().copied()).collect();
        call.replicate_with(key, EVENT, &effect, &rest);
        listing::changed(call, key);
    }
}

/// Applies the operation's effect.
pub fn apply_effect(call: &mut Call, key: Key, mut words: Words, mut args: Args) -> Outcome {
    let version = words.int(1..=VERSION_MAX)?;
    let keep_days = words.int(KEEP_DAYS_MIN..=KEEP_DAYS_MAX)?;
    words.end()?;
    let meter = args.string("meter")?;
    check_name(meter.bytes(), "meter")?;
    let sums = parse_rows(&mut args, keep_days)?;
    args.end()?;
    Restoration { version, keep_days, meter }.apply(call, key, sums)?;
    call.pass_on(key, EVENT);
    listing::changed(call, key);
    call.reply().ok();
    Ok(())
}

/// The rows of a call or of an effect, which are all arguments that are left.
///
/// # Errors
/// If they are not those of a ledger.
pub fn parse_rows(args: &mut Args, keep_days: u32) -> Result<Sums, Error> {
    let count = args.all().len().div_ceil(ROW_ARGS);
    if count > ROWS_MAX {
        return Err(Error::more_than(ROWS_MAX, "rows", "ROWS"));
    }
    let mut rows = Vec::with_capacity(count);
    for _ in 0..count {
        rows.push(parse_row(args)?);
    }
    Sums::new(&rows, keep_days).map_err(|error| match error {
        RowsError::Week => Error::new("a week of spend, which is the sum of its days", "period"),
        RowsError::FirstDay => Error::new("not the first day of the period", "first-day"),
        RowsError::BelowZero => Error::new("negative credit", "amount"),
        RowsError::Repeated => Error::new("repeated period", "ROWS"),
        RowsError::NoTotal => Error::new("no SPEND TOTAL", "ROWS"),
        RowsError::Contradiction(contradiction) => Error::new(contradiction, "ROWS"),
    })
}

fn parse_row(args: &mut Args) -> Result<Row, Error> {
    let kind = match args.bytes("kind")? {
        word if word.eq_ignore_ascii_case(b"SPEND") => RowKind::Spend,
        word if word.eq_ignore_ascii_case(b"CREDIT") => RowKind::Credit,
        word => return Err(Error::new("not SPEND or CREDIT", word)),
    };
    let period = args.bytes("period")?;
    let period = Period::parse(period).ok_or_else(|| not_a_period(period))?;
    match CivilDate::parse(args.bytes("first-day")?) {
        Ok(CivilDate::Day(first_day)) => Ok(Row { kind, period, first_day, amount: args.signed_amount("amount")? }),
        _ => Err(Error::new("not a date as yyyy-mm-dd", "first-day")),
    }
}
