//! Arguments that several cache commands take.

use gateway_core::UNITS_MAX;
use gateway_core::cache::flight::HOLDER_BYTES_MAX;
use gateway_core::cache::{CATEGORY_BYTES_MAX, TAG_BYTES_MAX, VALUE_BYTES_MAX};

use crate::server::args::Args;
use crate::server::{Error, Str};

pub fn parse_value<'a>(args: &mut Args<'a>) -> Result<Str<'a>, Error> {
    let value = args.string("value")?;
    match value.bytes().len() {
        0..=VALUE_BYTES_MAX => Ok(value),
        _ => Err(Error::longer_than(VALUE_BYTES_MAX, "value")),
    }
}

pub fn parse_category<'a>(args: &mut Args<'a>) -> Result<Str<'a>, Error> {
    args.name("CATEGORY", CATEGORY_BYTES_MAX)
}

pub fn parse_tag<'a>(args: &mut Args<'a>) -> Result<Str<'a>, Error> {
    args.name("TAG", TAG_BYTES_MAX)
}

/// The name of one call that asks for a fill lease.
pub fn parse_holder<'a>(args: &mut Args<'a>) -> Result<Str<'a>, Error> {
    args.name("HOLDER", HOLDER_BYTES_MAX)
}

/// The token of a fill lease. `what` is its name in errors.
pub fn parse_token(args: &mut Args, what: &str) -> Result<u64, Error> {
    args.int(what, 1..=UNITS_MAX)
}
