//! Arguments of vectors as Rust has them.

use base64::Engine;
use redis::Value;
use redis_gateway_client::commands::{Amounts, Budget, KeyVersion, Period, Request};
use redis_gateway_client::{Amount, Error, Text};
use serde_json::{Map, Value as Json};

use super::plain::Plain;

/// A string of any bytes: a JSON string if it is UTF-8, and else base64.
pub fn any_bytes(value: &Json) -> Vec<u8> {
    match value {
        Json::String(text) => text.as_bytes().to_vec(),
        other => base64::engine::general_purpose::STANDARD.decode(other["base64"].as_str().unwrap()).unwrap(),
    }
}

/// A request without its type.
pub struct Call {
    pub words: Vec<Vec<u8>>,
    pub repeatable: bool,
    pub decode: Box<dyn Fn(Value) -> Result<Json, Error>>,
}

impl Call {
    pub fn of<T: Plain + 'static>(request: Request<T>) -> Self {
        Self {
            words: request.words().map(<[u8]>::to_vec).collect(),
            repeatable: request.is_repeatable(),
            decode: Box::new(move |reply| Ok(request.decode(reply)?.plain())),
        }
    }
}

/// The arguments of a call, by name, of which each is taken once.
pub struct Arguments(Map<String, Json>);

impl Arguments {
    pub fn of(value: &Json) -> Self {
        Self(value.as_object().cloned().unwrap_or_default())
    }

    pub fn need<T: Argument>(&mut self, name: &str) -> T {
        T::of(&self.0.remove(name).unwrap_or_else(|| panic!("needs {name}")))
    }

    pub fn take<T: Argument + Default>(&mut self, name: &str) -> T {
        self.0.remove(name).map(|value| T::of(&value)).unwrap_or_default()
    }

    pub fn finish(self) {
        assert!(self.0.is_empty(), "left: {:?}", self.0);
    }
}

pub trait Argument {
    fn of(value: &Json) -> Self;
}

impl Argument for i64 {
    fn of(value: &Json) -> Self {
        value.as_i64().unwrap()
    }
}

impl Argument for u64 {
    fn of(value: &Json) -> Self {
        value.as_u64().unwrap()
    }
}

impl Argument for bool {
    fn of(value: &Json) -> Self {
        value.as_bool().unwrap()
    }
}

impl Argument for String {
    fn of(value: &Json) -> Self {
        value.as_str().unwrap().to_owned()
    }
}

impl Argument for Text {
    fn of(value: &Json) -> Self {
        any_bytes(value).into()
    }
}

impl Argument for Vec<u8> {
    fn of(value: &Json) -> Self {
        any_bytes(value)
    }
}

impl Argument for Amount {
    fn of(value: &Json) -> Self {
        match value {
            Json::String(text) => text.parse().unwrap(),
            other => other.as_i64().unwrap().try_into().unwrap(),
        }
    }
}

impl Argument for Amounts {
    fn of(value: &Json) -> Self {
        value.as_object().unwrap().iter().map(|(meter, amount)| (meter.into(), Amount::of(amount))).collect()
    }
}

impl Argument for KeyVersion {
    fn of(value: &Json) -> Self {
        Self { key: Text::of(&value[0]), version: i64::of(&value[1]) }
    }
}

impl Argument for Budget {
    fn of(value: &Json) -> Self {
        Self { amount: Amount::of(&value[0]), period: Period::of(&value[1]) }
    }
}

impl<T: Argument> Argument for Option<T> {
    fn of(value: &Json) -> Self {
        Some(T::of(value))
    }
}

impl<T: Argument> Argument for Vec<T> {
    fn of(value: &Json) -> Self {
        match value {
            Json::Array(items) => items.iter().map(T::of).collect(),
            one => vec![T::of(one)], // One instead of several.
        }
    }
}
