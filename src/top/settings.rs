//! The setting.

use gateway_core::top::KEYS_MAX;

use crate::server::config::Number;

/// The number of keys of which each list is sure: 1 in that many refusals or amounts is never missed. With 0, nothing is
/// counted.
pub static KEYS: Number = Number::new("top-keys", 128, 0, KEYS_MAX as i64);
