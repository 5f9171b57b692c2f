#![doc = include_str!("../README.md")]
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
