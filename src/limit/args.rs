//! Arguments that several limiter commands take.

use gateway_core::lease::HOLDER_BYTES_MAX;
use gateway_core::{PERIOD_MAX_MS, UNITS_MAX};

use crate::server::args::Args;
use crate::server::{Error, Outcome, Str};

/// The largest cost, and the largest number of units given back.
pub const COST_MAX: i64 = UNITS_MAX.cast_signed();

/// What a command does with its cost.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Takes it if the limit allows.
    Admit,
    /// Only reports whether the limit allows it.
    Peek,
    /// Takes it whatever the limit is, or gives it back if it is negative: for usage that is known only afterwards.
    Force,
}

impl Mode {
    /// Sets PEEK or FORCE. A command takes one of them.
    pub fn set(&mut self, mode: Mode) -> Outcome {
        match *self {
            Mode::Admit => *self = mode,
            Mode::Peek | Mode::Force => return Err(Error::conflicting_option("PEEK with FORCE")),
        }
        Ok(())
    }

    /// A negative cost gives units back, which only FORCE does.
    pub fn check_cost(self, cost: i64) -> Outcome {
        if cost < 0 && self != Mode::Force {
            return Err(Error::not_in(0..=COST_MAX, "COST"));
        }
        Ok(())
    }
}

/// The name of a slot's holder.
pub fn parse_holder<'a>(args: &mut Args<'a>) -> Result<Str<'a>, Error> {
    args.name("holder", HOLDER_BYTES_MAX)
}

/// `TTL ms`, and nothing after it.
pub fn parse_ttl_ms(mut args: Args) -> Result<u64, Error> {
    const TTL: [(&str, ()); 1] = [("TTL", ())];
    args.option(&TTL)?.ok_or_else(|| Error::missing_option("TTL"))?;
    let ttl_ms = args.int("TTL", 1..=PERIOD_MAX_MS)?;
    // A further argument is a repeated TTL or an unknown option.
    args.option(&TTL)?;
    Ok(ttl_ms)
}
