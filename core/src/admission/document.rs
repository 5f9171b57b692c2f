//! The policies of an account as one JSON document:
//! `{"policies":[{"name":"rpm","kind":"window","limit":100,"per_ms":60000,"meter":"requests"}, …]}`.
//!
//! Numbers are read from their text, never through a float. Nothing recurses, so deep nesting does no harm.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::bounds::POLICIES_MAX;
use super::form::{Draft, Form, Given, Mistake, Said, check_policy_name};
use super::name::ShortName;
use super::policy::Policy;
use crate::json;

/// The longest document that is read, in bytes: several times that of an account with the most policies.
pub const DOCUMENT_BYTES_MAX: usize = 65_536;

/// A policy with its name.
pub type Named = (ShortName, Policy);

/// Why a document cannot be read as the policies of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It is longer than [`DOCUMENT_BYTES_MAX`].
    TooLong,
    /// It is not JSON, from this byte on.
    NotJson(usize),
    /// It has more than [`POLICIES_MAX`] policies.
    TooMany,
    /// A part of it is wrong.
    Wrong {
        /// What is wrong.
        mistake: Mistake,
        /// The word that is wrong, or the value given for it.
        shown: Vec<u8>,
        /// The place of the mistake, such as `policies[2].period`.
        place: String,
    },
}

/// The members of an object in the document's order, with the text of their values.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reading;

        impl<'de> Visitor<'de> for Reading {
            type Value = Members<'de>;

            fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(Text(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }

        from.deserialize_map(Reading)
    }
}

/// A string, borrowed if it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reading;

        impl<'de> Visitor<'de> for Reading {
            type Value = Text<'de>;

            fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
                out.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.into())))
            }
        }

        from.deserialize_str(Reading)
    }
}

/// A place in the document.
#[derive(Clone, Copy)]
enum Place<'a> {
    Document,
    Policies,
    Policy(usize),
    Member(usize, &'a str),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Place::Document => out.write_str("json"),
            Place::Policies => out.write_str("policies"),
            Place::Policy(index) => write!(out, "policies[{index}]"),
            Place::Member(index, member) => write!(out, "policies[{index}].{member}"),
        }
    }
}

impl Place<'_> {
    fn wrong(self, mistake: Mistake, shown: &[u8]) -> Refused {
        Refused::Wrong { mistake, shown: shown.into(), place: self.to_string() }
    }

    fn object<'de>(self, value: &'de RawValue) -> Result<Members<'de>, Refused> {
        match Given::from(value) {
            // The only remaining mistake is half a surrogate pair, in a name.
            Given::Other(text) if text.starts_with('{') => {
                serde_json::from_str(text).map_err(|_| self.wrong(Mistake::NotAString, text.as_bytes()))
            }
            given => Err(self.wrong(Mistake::NotAnObject, given.shown())),
        }
    }
}

impl<'a> From<&'a RawValue> for Given<'a> {
    fn from(value: &'a RawValue) -> Self {
        let text = value.get();
        match text.as_bytes().first() {
            Some(b'"') => serde_json::from_str(text).map_or(Given::Other(text), |Text(text)| Given::Text(text)),
            Some(b'-' | b'0'..=b'9') => Given::Number(text),
            Some(b't') => Given::Flag(true),
            Some(b'f') => Given::Flag(false),
            _ => Given::Other(text),
        }
    }
}

/// Reads a document. `now_ms` is the server's time, at which a block with `for_ms` begins.
///
/// # Errors
/// Returns the first mistake, if the document cannot be read as the policies of an account.
pub fn read(document: &[u8], now_ms: i64) -> Result<Vec<Named>, Refused> {
    if document.len() > DOCUMENT_BYTES_MAX {
        return Err(Refused::TooLong);
    }
    json::check(document).map_err(|error| Refused::NotJson(error.at))?;
    let value: &RawValue = serde_json::from_slice(document).map_err(|_| Refused::NotJson(document.len()))?;
    let mut policies = None;
    for (member, value) in Place::Document.object(value)?.0 {
        match &*member {
            "policies" if policies.is_none() => policies = Some(value),
            "policies" => return Err(Place::Document.wrong(Mistake::RepeatedWord, member.as_bytes())),
            _ => return Err(Place::Document.wrong(Mistake::UnknownWord, member.as_bytes())),
        }
    }
    let policies = policies.ok_or_else(|| Place::Document.wrong(Mistake::MissingWord, b"policies"))?;
    let list: Vec<&RawValue> = serde_json::from_str(policies.get())
        .map_err(|_| Place::Policies.wrong(Mistake::NotAnArray, policies.get().as_bytes()))?;
    if list.len() > POLICIES_MAX {
        return Err(Refused::TooMany);
    }
    let mut read: Vec<Named> = Vec::with_capacity(list.len());
    for (index, value) in list.into_iter().enumerate() {
        let named = read_policy(index, Place::Policy(index).object(value)?, now_ms)?;
        if read.iter().any(|(name, _)| *name == named.0) {
            return Err(Place::Member(index, "name").wrong(Mistake::Repeated, &named.0));
        }
        read.push(named);
    }
    Ok(read)
}

fn read_policy(index: usize, Members(members): Members, now_ms: i64) -> Result<Named, Refused> {
    let place = Place::Policy(index);
    let mut seen = BTreeSet::new();
    if let Some((member, _)) = members.iter().find(|(member, _)| !seen.insert(member)) {
        return Err(place.wrong(Mistake::RepeatedWord, member.as_bytes()));
    }
    let text = |member: &'static str| {
        let found = members.iter().find(|(name, _)| name == member);
        let (_, value) = found.ok_or_else(|| place.wrong(Mistake::MissingWord, member.as_bytes()))?;
        match Given::from(*value) {
            Given::Text(text) => Ok(text),
            given => Err(Place::Member(index, member).wrong(Mistake::NotAString, given.shown())),
        }
    };
    let (name, kind) = (text("name")?, text("kind")?);
    check_policy_name(name.as_bytes())
        .map_err(|mistake| Place::Member(index, "name").wrong(mistake, name.as_bytes()))?;
    let form = Form::named(kind.as_bytes())
        .ok_or_else(|| Place::Member(index, "kind").wrong(Mistake::NotAKind, kind.as_bytes()))?;
    let mut draft = Draft::new(form);
    for (member, value) in members.iter().filter(|(member, _)| !matches!(&**member, "name" | "kind")) {
        let word = form.words.iter().position(|word| word.member == member);
        let word = word.ok_or_else(|| place.wrong(Mistake::UnknownWord, member.as_bytes()))?;
        draft.give(word, Given::from(*value));
    }
    let policy = draft.policy(now_ms).map_err(|wrong| match (wrong.mistake.is_of_the_word(), &wrong.given) {
        (false, Some(given)) => Place::Member(index, wrong.word.member).wrong(wrong.mistake, given.shown()),
        _ => place.wrong(wrong.mistake, wrong.word.member.as_bytes()),
    })?;
    Ok((ShortName::from_slice(name.as_bytes()), policy))
}

/// Writes the document of an account's policies, from which [`read`] reads the same policies.
///
/// # Errors
/// Returns the name of a policy, or of its meter, that is not UTF-8 and so cannot be written as JSON.
pub fn write<'a>(policies: impl Iterator<Item = (&'a [u8], &'a Policy)>) -> Result<String, &'a [u8]> {
    let mut out = String::from(r#"{"policies":["#);
    for (index, (name, policy)) in policies.enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(r#"{"name":"#);
        out.push_str(&quoted(name)?);
        out.push_str(r#","kind":"#);
        out.push_str(&quoted(Form::of(&policy.kind).name.to_ascii_lowercase().as_bytes()).unwrap_or_default());
        for (word, said) in policy.words() {
            let value = match said {
                Said::Word => "true".into(),
                Said::Integer(value) => value.to_string(),
                Said::Amount(amount) => format!("\"{amount}\""),
                Said::Period(period) => format!("\"{}\"", period.name().to_ascii_lowercase()),
                Said::Name(name) => quoted(name)?,
            };
            out.push_str(&format!(",\"{}\":{value}", word.member));
        }
        out.push('}');
    }
    out.push_str("]}");
    Ok(out)
}

fn quoted(name: &[u8]) -> Result<String, &[u8]> {
    let text = std::str::from_utf8(name).map_err(|_| name)?;
    Ok(serde_json::Value::from(text).to_string())
}
