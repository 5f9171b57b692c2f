//! Arguments that several limiter commands take.

use gateway_core::lease::{Grant, HOLDER_BYTES_MAX, Leases};
use gateway_core::{PERIOD_MAX_MS, UNITS_MAX};

use crate::server::args::Args;
use crate::server::{Call, Error, Key, Outcome, Str};

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

#[derive(Clone, Copy)]
enum Opt {
    Ttl,
    Block,
}

const ACQUIRE_OPTIONS: [(&str, Opt); 2] = [("TTL", Opt::Ttl), ("BLOCK", Opt::Block)];

/// A call of GW.ACQUIRE.
pub struct AcquireRequest<'a> {
    pub key: Key<'a>,
    pub max: u64,
    pub holder: Str<'a>,
    pub ttl_ms: u64,
    /// 0 is for ever.
    pub block_ms: Option<u64>,
    pub now_ms: i64,
}

impl<'a> AcquireRequest<'a> {
    /// key max holder TTL ms [BLOCK ms]
    pub fn parse(call: &Call<'a>) -> Result<Self, Error> {
        let mut args = call.args();
        let key = args.key()?;
        let max = args.int("max", 0..=UNITS_MAX)?;
        let holder = parse_holder(&mut args)?;
        let (mut ttl_ms, mut block_ms) = (None, None);
        while let Some(option) = args.option(&ACQUIRE_OPTIONS)? {
            match option {
                Opt::Ttl => ttl_ms = Some(args.int("TTL", 1..=PERIOD_MAX_MS)?),
                Opt::Block => block_ms = Some(args.int("BLOCK", 0..=PERIOD_MAX_MS)?),
            }
        }
        let ttl_ms = ttl_ms.ok_or_else(|| Error::missing_option("TTL"))?;
        Ok(Self { key, max, holder, ttl_ms, block_ms, now_ms: call.now_ms() })
    }

    /// The reply to a holder without a slot, as of now. It grants none, even if one is free.
    pub fn look(&self, call: &Call) -> Result<Grant, Error> {
        let none = Leases::default();
        let found = call.find::<Leases>(self.key)?;
        let slots = found.as_ref().map_or(&none, |found| found.get());
        let in_use = slots.in_use(self.now_ms);
        let grant = slots.decide_new(self.now_ms, self.max, in_use);
        let retry_after_ms = if grant.acquired { 1 } else { grant.retry_after_ms };
        Ok(Grant { acquired: false, in_use, max: self.max, retry_after_ms, token: 0 })
    }
}
