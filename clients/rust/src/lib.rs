// The README's programs need these.
#![cfg_attr(all(feature = "opentelemetry", feature = "testing"), doc = include_str!("../README.md"))]
#![cfg_attr(
    not(all(feature = "opentelemetry", feature = "testing")),
    doc = "Rate limits, budgets, admission, a response cache and a log queue for LLM gateways: the client of redis-gateway."
)]
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod amount;
mod cache_key;
pub mod commands;
mod error;
mod error_texts;
#[cfg(feature = "gateway")]
mod gateway;
mod headers;
mod reply_errors;
#[cfg(feature = "testing")]
pub mod testing;
mod text;

pub use amount::{Amount, AmountError};
pub use cache_key::{KeyError, cache_key, canonical};
pub use commands::Amounts;
pub use error::{Error, ReplyError, ReplyErrorKind, UnexpectedReply};
#[cfg(feature = "gateway")]
pub use gateway::*;
pub use headers::{HeaderFamily, HeaderOptions, admission_headers, verdict_headers};
pub use text::Text;
