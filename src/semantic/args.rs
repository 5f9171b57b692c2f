//! Arguments that several commands of the family take.

use gateway_core::semantic::{DIMENSIONS_MAX, ID_BYTES_MAX, NotAVector, Similarity, TEXT_BYTES_MAX};

use crate::server::args::Args;
use crate::server::{Error, Str};

pub fn parse_id<'a>(args: &mut Args<'a>) -> Result<Str<'a>, Error> {
    args.name("id", ID_BYTES_MAX)
}

/// A question's text.
pub fn parse_text<'a>(args: &mut Args<'a>) -> Result<Str<'a>, Error> {
    let text = args.string("TEXT")?;
    match text.bytes().len() {
        0..=TEXT_BYTES_MAX => Ok(text),
        _ => Err(Error::longer_than(TEXT_BYTES_MAX, "TEXT")),
    }
}

pub fn parse_similarity(args: &mut Args, what: &str) -> Result<Similarity, Error> {
    if args.peek().is_none() {
        return Err(Error::missing_value(what));
    }
    let similarity = args.signed_amount(what).ok().and_then(Similarity::from_amount);
    similarity.ok_or_else(|| Error::new("not a decimal from -1 to 1 of up to 6 places", what))
}

pub fn not_a_vector(_: NotAVector) -> Error {
    Error::new(&format!("not 1 to {DIMENSIONS_MAX} finite FP32 numbers of which one is not 0"), "vector")
}

/// Checks that a vector is of an index's dimensions.
pub fn check_dimensions(index: usize, vector: usize) -> Result<(), Error> {
    if index == vector {
        return Ok(());
    }
    Err(Error::new(&format!("not of the index's {index} dimensions"), "vector"))
}
