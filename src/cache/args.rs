//! Arguments that several cache commands take.

use gateway_core::cache::{CATEGORY_BYTES_MAX, TAG_BYTES_MAX};

use super::entry::VALUE_BYTES_MAX;
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
