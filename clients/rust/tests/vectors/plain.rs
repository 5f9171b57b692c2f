//! Results as the vectors write them.

use std::collections::BTreeMap;

use base64::Engine;
use redis_gateway_client::commands::Quantity;
use redis_gateway_client::{Amount, Text};
use serde_json::{Value as Json, json};

pub trait Plain {
    fn plain(&self) -> Json;
}

impl Plain for i64 {
    fn plain(&self) -> Json {
        json!(self)
    }
}

impl Plain for u64 {
    fn plain(&self) -> Json {
        json!(self)
    }
}

impl Plain for bool {
    fn plain(&self) -> Json {
        json!(self)
    }
}

impl Plain for () {
    fn plain(&self) -> Json {
        Json::Null
    }
}

impl Plain for Vec<u8> {
    fn plain(&self) -> Json {
        match std::str::from_utf8(self) {
            Ok(text) => json!(text),
            Err(_) => json!({ "base64": base64::engine::general_purpose::STANDARD.encode(self) }),
        }
    }
}

impl Plain for Text {
    fn plain(&self) -> Json {
        self.as_bytes().to_vec().plain()
    }
}

impl Plain for Amount {
    fn plain(&self) -> Json {
        json!(self.to_string())
    }
}

impl Plain for Quantity {
    fn plain(&self) -> Json {
        match self {
            Self::Whole(units) => json!(units),
            Self::Decimal(amount) => amount.plain(),
        }
    }
}

impl<T: Plain> Plain for Box<T> {
    fn plain(&self) -> Json {
        (**self).plain()
    }
}

impl<T: Plain> Plain for Option<T> {
    fn plain(&self) -> Json {
        self.as_ref().map_or(Json::Null, Plain::plain)
    }
}

impl<T: Plain> Plain for Vec<T> {
    fn plain(&self) -> Json {
        self.iter().map(Plain::plain).collect()
    }
}

impl<T: Plain> Plain for BTreeMap<Text, T> {
    fn plain(&self) -> Json {
        self.iter().map(|(name, value)| (name.to_string(), value.plain())).collect::<serde_json::Map<_, _>>().into()
    }
}
