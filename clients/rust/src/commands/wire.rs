//! What arguments are written with, and replies are read with.

use std::collections::BTreeMap;

use redis::{Cmd, ToSingleRedisArg, Value};

use super::budget::Budget;
use super::request::{Decode, Request};
use super::values::{Amounts, KeyVersion, Quantity};
use crate::amount::Amount;
use crate::error::UnexpectedReply;
use crate::text::Text;

/// The words of a call.
pub(super) struct Words {
    cmd: Cmd,
    has_key: bool,
}

impl Words {
    /// Of a command whose first argument is a key.
    pub(super) fn keyed(name: &str) -> Self {
        Self { cmd: redis::cmd(name), has_key: true }
    }

    pub(super) fn keyless(name: &str) -> Self {
        Self { cmd: redis::cmd(name), has_key: false }
    }

    pub(super) fn request<T>(self, decode: Decode<T>, repeatable: bool) -> Request<T> {
        Request::new(self.cmd, decode, repeatable, self.has_key)
    }

    pub(super) fn add(&mut self, value: impl ToSingleRedisArg) {
        self.cmd.arg(value);
    }

    pub(super) fn flag(&mut self, token: &str, set: bool) {
        if set {
            self.cmd.arg(token);
        }
    }

    pub(super) fn option<T: ToSingleRedisArg + Clone>(&mut self, token: &str, value: &Option<T>) {
        if let Some(value) = value {
            self.cmd.arg(token).arg(value.clone());
        }
    }

    pub(super) fn maybe<T: ToSingleRedisArg + Clone>(&mut self, value: &Option<T>) {
        if let Some(value) = value {
            self.cmd.arg(value.clone());
        }
    }

    pub(super) fn all(&mut self, values: &[impl AsRef<[u8]>]) {
        for value in values {
            self.cmd.arg(value.as_ref());
        }
    }

    /// The token before each value.
    pub(super) fn each(&mut self, token: &str, values: &[impl AsRef<[u8]>]) {
        for value in values {
            self.cmd.arg(token).arg(value.as_ref());
        }
    }

    /// The token once, before all values.
    pub(super) fn list<T: ToSingleRedisArg + Clone>(&mut self, token: &str, values: &[T]) {
        if !values.is_empty() {
            self.cmd.arg(token);
        }
        for value in values {
            self.cmd.arg(value.clone());
        }
    }

    /// The first key, and the others after `WITH <count>`. Without any the server says what is missing.
    pub(super) fn keys(&mut self, keys: &[impl AsRef<[u8]>]) {
        let Some((first, others)) = keys.split_first() else { return };
        self.cmd.arg(first.as_ref());
        if !others.is_empty() {
            self.cmd.arg("WITH").arg(others.len());
            self.all(others);
        }
    }

    pub(super) fn amounts(&mut self, amounts: &Amounts) {
        for (meter, amount) in amounts {
            self.cmd.arg(&meter[..]).arg(*amount);
        }
    }

    pub(super) fn versions(&mut self, versions: &[KeyVersion]) {
        for one in versions {
            self.cmd.arg(&one.key[..]).arg(one.version);
        }
    }

    pub(super) fn budgets(&mut self, budgets: &[Budget]) {
        for one in budgets {
            self.cmd.arg(one.amount).arg(one.period);
        }
    }
}

/// What can be read from a reply. Later servers may add fields: what is not known is ignored.
pub(crate) trait FromReply: Sized {
    fn from_reply(reply: Value) -> Result<Self, UnexpectedReply>;
}

impl FromReply for i64 {
    fn from_reply(reply: Value) -> Result<Self, UnexpectedReply> {
        match reply {
            Value::Int(found) => Ok(found),
            other => Err(UnexpectedReply::new("an integer", &other)),
        }
    }
}

impl FromReply for bool {
    fn from_reply(reply: Value) -> Result<Self, UnexpectedReply> {
        match reply {
            Value::Boolean(found) => Ok(found),
            other => Ok(i64::from_reply(other)? != 0),
        }
    }
}

impl FromReply for Vec<u8> {
    fn from_reply(reply: Value) -> Result<Self, UnexpectedReply> {
        match reply {
            Value::BulkString(found) => Ok(found),
            Value::SimpleString(found) => Ok(found.into_bytes()),
            Value::VerbatimString { text, .. } => Ok(text.into_bytes()),
            Value::Okay => Ok(b"OK".to_vec()),
            other => Err(UnexpectedReply::new("a string", &other)),
        }
    }
}

impl FromReply for Text {
    fn from_reply(reply: Value) -> Result<Self, UnexpectedReply> {
        Vec::from_reply(reply).map(Text::from)
    }
}

impl FromReply for Amount {
    fn from_reply(reply: Value) -> Result<Self, UnexpectedReply> {
        let unexpected = UnexpectedReply::new("an amount", &reply);
        let found = Text::from_reply(reply).ok();
        found.and_then(|found| Amount::replied(found.as_str()?)).ok_or(unexpected)
    }
}

impl FromReply for Quantity {
    fn from_reply(reply: Value) -> Result<Self, UnexpectedReply> {
        match reply {
            Value::Int(found) => Ok(Self::Whole(found)),
            other => Amount::from_reply(other).map(Self::Decimal),
        }
    }
}

/// A cursor: a string of digits.
impl FromReply for u64 {
    fn from_reply(reply: Value) -> Result<Self, UnexpectedReply> {
        let unexpected = UnexpectedReply::new("a cursor", &reply);
        match reply {
            Value::Int(found) => found.try_into().map_err(|_| unexpected),
            other => {
                let found = Text::from_reply(other).ok();
                found.and_then(|found| found.as_str()?.parse().ok()).ok_or(unexpected)
            }
        }
    }
}

/// `OK`.
impl FromReply for () {
    fn from_reply(reply: Value) -> Result<Self, UnexpectedReply> {
        match reply {
            Value::Okay => Ok(()),
            other => Err(UnexpectedReply::new("OK", &other)),
        }
    }
}

/// `OK`, or nil if nothing was stored.
pub(super) fn stored(reply: Value) -> Result<bool, UnexpectedReply> {
    Ok(Option::<()>::from_reply(reply)?.is_some())
}

impl<T: FromReply> FromReply for Option<T> {
    fn from_reply(reply: Value) -> Result<Self, UnexpectedReply> {
        if reply == Value::Nil { Ok(None) } else { T::from_reply(reply).map(Some) }
    }
}

impl<T: FromReply> FromReply for Box<T> {
    fn from_reply(reply: Value) -> Result<Self, UnexpectedReply> {
        T::from_reply(reply).map(Box::new)
    }
}

impl<T: FromReply> FromReply for Vec<T> {
    fn from_reply(reply: Value) -> Result<Self, UnexpectedReply> {
        match reply {
            Value::Array(items) | Value::Set(items) => items.into_iter().map(T::from_reply).collect(),
            other => Err(UnexpectedReply::new("an array", &other)),
        }
    }
}

impl<T: FromReply> FromReply for BTreeMap<Text, T> {
    fn from_reply(reply: Value) -> Result<Self, UnexpectedReply> {
        pairs(reply)?.into_iter().map(|(name, value)| Ok((Text::from_reply(name)?, T::from_reply(value)?))).collect()
    }
}

/// A map of RESP3, or the flat array of names and values that RESP2 has instead.
fn pairs(reply: Value) -> Result<Vec<(Value, Value)>, UnexpectedReply> {
    match reply {
        Value::Map(pairs) => Ok(pairs),
        Value::Array(items) if items.len() % 2 == 0 => {
            let mut made = Vec::with_capacity(items.len() / 2);
            let mut items = items.into_iter();
            while let (Some(name), Some(value)) = (items.next(), items.next()) {
                made.push((name, value));
            }
            Ok(made)
        }
        other => Err(UnexpectedReply::new("names and values", &other)),
    }
}

/// The fields of a record by place.
pub(super) struct Items {
    items: std::vec::IntoIter<Value>,
}

impl Items {
    pub(super) fn of(reply: Value) -> Result<Self, UnexpectedReply> {
        match reply {
            Value::Array(items) => Ok(Self { items: items.into_iter() }),
            other => Err(UnexpectedReply::new("an array", &other)),
        }
    }

    pub(super) fn next<T: FromReply>(&mut self) -> Result<T, UnexpectedReply> {
        match self.items.next() {
            Some(item) => T::from_reply(item),
            None => Err(UnexpectedReply { expected: "a longer array".to_owned(), got: "its end" }),
        }
    }

    /// A field that only some replies have, at their end.
    pub(super) fn tail<T: FromReply>(&mut self) -> Result<Option<T>, UnexpectedReply> {
        self.items.next().map(T::from_reply).transpose()
    }

    /// All that is left.
    pub(super) fn rest<T: FromReply>(&mut self) -> Result<Vec<T>, UnexpectedReply> {
        self.items.by_ref().map(T::from_reply).collect()
    }
}

/// The fields of a record by name.
pub(super) struct Fields(BTreeMap<Text, Value>);

impl Fields {
    pub(super) fn of(reply: Value) -> Result<Self, UnexpectedReply> {
        let named = pairs(reply)?.into_iter().map(|(name, value)| Ok((Text::from_reply(name)?, value)));
        Ok(Self(named.collect::<Result<_, _>>()?))
    }

    pub(super) fn take<T: FromReply>(&mut self, name: &str) -> Result<T, UnexpectedReply> {
        match self.0.remove(name.as_bytes()) {
            Some(value) => T::from_reply(value),
            None => Err(UnexpectedReply { expected: format!("a field {name}"), got: "none" }),
        }
    }

    /// A field of a reply that is read as a whole afterwards.
    pub(super) fn peek(reply: &Value, name: &str) -> Result<Text, UnexpectedReply> {
        let found = match reply {
            Value::Map(pairs) => pairs.iter().find(|(key, _)| is(key, name)).map(|(_, value)| value),
            Value::Array(items) => items.chunks_exact(2).find(|pair| is(&pair[0], name)).map(|pair| &pair[1]),
            other => return Err(UnexpectedReply::new("a map", other)),
        };
        Text::from_reply(found.cloned().unwrap_or_default())
    }
}

fn is(value: &Value, name: &str) -> bool {
    match value {
        Value::BulkString(found) => found == name.as_bytes(),
        Value::SimpleString(found) => found == name,
        _ => false,
    }
}

/// A set of words, by their variants.
macro_rules! words {
    ($name:ident $($variant:ident = $word:literal,)+) => {
        impl $name {
            /// The word, as the server has it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl FromReply for $name {
            fn from_reply(reply: redis::Value) -> Result<Self, UnexpectedReply> {
                let unexpected = UnexpectedReply::new(concat!("one of", $(" ", $word),+), &reply);
                match crate::text::Text::from_reply(reply)?.as_str() {
                    $(Some($word) => Ok(Self::$variant),)+
                    _ => Err(unexpected),
                }
            }
        }

        impl redis::ToRedisArgs for $name {
            fn write_redis_args<W: ?Sized + redis::RedisWrite>(&self, out: &mut W) {
                out.write_arg(self.as_str().as_bytes());
            }
        }

        impl redis::ToSingleRedisArg for $name {}

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

/// A record that is an array.
macro_rules! by_place {
    ($name:ident $($field:ident: $take:ident,)+) => {
        impl FromReply for $name {
            fn from_reply(reply: redis::Value) -> Result<Self, UnexpectedReply> {
                let mut items = super::wire::Items::of(reply)?;
                Ok(Self { $($field: items.$take()?,)+ })
            }
        }
    };
}

/// A record that is a map.
macro_rules! by_name {
    ($name:ident $($field:ident = $text:literal,)+) => {
        impl FromReply for $name {
            fn from_reply(reply: redis::Value) -> Result<Self, UnexpectedReply> {
                let mut fields = Fields::of(reply)?;
                Ok(Self { $($field: fields.take($text)?,)+ })
            }
        }
    };
}

pub(super) use {by_name, by_place, words};
