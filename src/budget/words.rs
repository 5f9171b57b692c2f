//! The words that the family's effects have in common.

use std::ffi::CStr;

use gateway_core::calendar::Day;
use gateway_core::ledger::feed::VERSION_MAX;
use gateway_core::ledger::{KEEP_DAYS_MAX, KEEP_DAYS_MIN, Stamp};
use gateway_core::money::Amount;
use gateway_core::{PERIOD_MAX_MS, TIME_MAX_MS};

use crate::server::Error;
use crate::server::effect::{Effect, Words, malformed};

/// The internal command.
pub const NAME: &CStr = c"GW._BUDGET";

pub fn with_amount(operation: u8, day: Option<Day>, amount: Amount) -> Effect {
    let mut effect = Effect::new(NAME, operation);
    if let Some(day) = day {
        effect.int(day.number().into());
    }
    effect.word(amount.to_text().as_bytes());
    effect
}

pub fn with_stamp(mut effect: Effect, stamp: &Stamp) -> Effect {
    effect.int(stamp.at_ms);
    effect.int(stamp.keep_days.into());
    effect.int(stamp.remember_ms.cast_signed());
    effect.int(stamp.version.cast_signed());
    effect
}

pub fn with_spent(mut effect: Effect, spent_ms: Option<i64>) -> Effect {
    if let Some(spent_ms) = spent_ms {
        effect.int(spent_ms);
    }
    effect
}

pub fn parse_spent(words: &mut Words) -> Result<Option<i64>, Error> {
    let spent_ms = words.int_or(0..=TIME_MAX_MS, -1)?;
    Ok((spent_ms >= 0).then_some(spent_ms))
}

pub fn parse_day(words: &mut Words) -> Result<Day, Error> {
    Day::from_number(words.int(i32::MIN..=i32::MAX)?).ok_or_else(malformed)
}

pub fn parse_amount(words: &mut Words) -> Result<Amount, Error> {
    Amount::parse(words.word()?).map_err(|_| malformed())
}

pub fn parse_version(words: &mut Words) -> Result<u64, Error> {
    words.int(0..=VERSION_MAX)
}

pub fn parse_stamp(words: &mut Words) -> Result<Stamp, Error> {
    Ok(Stamp {
        at_ms: words.int(0..=TIME_MAX_MS)?,
        keep_days: words.int(KEEP_DAYS_MIN..=KEEP_DAYS_MAX)?,
        remember_ms: words.int(0..=PERIOD_MAX_MS)?,
        version: parse_version(words)?,
    })
}
