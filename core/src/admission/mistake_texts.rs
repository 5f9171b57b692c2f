//! What is said of a mistake in a policy, by the commands and by whoever checks a document before it is sent.

use std::fmt;

use super::bounds::{BILLIONTHS_MAX, NAME_BYTES_MAX, POLICIES_MAX};
use super::document::{DOCUMENT_BYTES_MAX, Refused};
use super::form::{FORMS, Mistake};
use crate::calendar::Period;
use crate::money::Amount;

/// Without its place.
impl fmt::Display for Mistake {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Mistake::NotAnInteger(min, max) => write!(out, "not an integer from {min} to {max}"),
            Mistake::NotAnAmount(error) => error.fmt(out),
            Mistake::NegativeAmount => out.write_str("negative amount"),
            Mistake::NotAnAmountFrom(min) => {
                let [min, max] = [*min, BILLIONTHS_MAX].map(Amount::from_billionths);
                write!(out, "not an amount from {min} to {max}")
            }
            Mistake::FinerThanBillionths => out.write_str("finer than a billionth"),
            Mistake::NotAKind => write!(out, "not {}", any_of(&FORMS.iter().map(|form| form.name).collect::<Vec<_>>())),
            Mistake::NotAPeriod => write!(out, "not {}", any_of(&Period::ALL.map(Period::name))),
            Mistake::NotAName => write!(out, "not a name of 1 to {NAME_BYTES_MAX} bytes"),
            Mistake::Reserved => out.write_str("reserved name"),
            Mistake::Repeated => out.write_str("repeated name"),
            Mistake::NotAString => out.write_str("not a string"),
            Mistake::NotABoolean => out.write_str("not true or false"),
            Mistake::NotAnObject => out.write_str("not an object"),
            Mistake::NotAnArray => out.write_str("not an array"),
            Mistake::UnknownWord => out.write_str("unknown word"),
            Mistake::RepeatedWord => out.write_str("repeated word"),
            Mistake::MissingWord => out.write_str("missing word"),
            Mistake::ConflictingWord => out.write_str("conflicting word"),
            Mistake::OnlyWith(word) => write!(out, "only with {}", word.member),
        }
    }
}

/// Without its place.
impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Refused::TooLong => write!(out, "longer than {DOCUMENT_BYTES_MAX} bytes"),
            Refused::NotJson(at) => write!(out, "not valid JSON: json at byte {at}"),
            Refused::TooMany => write!(out, "more than {POLICIES_MAX} policies"),
            Refused::Wrong { mistake, shown, .. } => write!(out, "{mistake}: {}", String::from_utf8_lossy(shown)),
        }
    }
}

fn any_of(names: &[&str]) -> String {
    match names {
        [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => names.concat(),
    }
}
