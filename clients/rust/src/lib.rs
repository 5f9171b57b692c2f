#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod amount;
mod cache_key;
pub mod commands;
mod error;
mod headers;
mod reply_errors;
mod text;

pub use amount::{Amount, AmountError};
pub use cache_key::{KeyError, cache_key, canonical};
pub use commands::Amounts;
pub use error::{Error, ReplyError, ReplyErrorKind, UnexpectedReply};
pub use headers::{HeaderFamily, HeaderOptions, admission_headers, verdict_headers};
pub use text::Text;
