//! The response cache: GW.CACHESET, GW.CACHEGET, GW.CACHEDEL, GW.CACHECLEAR, GW.CACHESTATS and GW.CACHEKEY.

mod category;
pub mod clear;
pub mod entry;
pub mod flights;
pub mod get;
mod group;
mod groups;
pub mod key;
pub mod set;
pub mod stats;
mod touch;

use std::ffi::CStr;

use category::Category;
use gateway_core::cache::{Lifetimes, category_of, packed};
use lazy_static::lazy_static;

use crate::server::Key;
use crate::server::config::{Number, Text};
use crate::server::shared::MainThread;
use crate::server::stats::STATS;

/// The family's effects: `S created_at_ms ttl_ms stale_ms [saved]` with the value and its tags behind it, `C …` with the
/// category between the two where it is not the key's own; `T fresh_until_ms`. Deletions travel as UNLINK.
const EFFECT_NAME: &CStr = c"GW._CACHE";

/// What entries get that are set without it, by category.
#[derive(Default)]
struct Defaults {
    ttl: Lifetimes,
    stale: Lifetimes,
}

lazy_static! {
    static ref DEFAULTS: MainThread<Defaults> = MainThread::new(Defaults::default());
}

/// Times to live by category, for entries that are set without one.
pub static TTL: Text = Text::new("cache-ttl", "", |text| {
    DEFAULTS.borrow().ttl = Lifetimes::parse(text, 1)?;
    Ok(())
});

/// Times to be served stale by category, for entries that are set without one.
pub static STALE: Text = Text::new("cache-stale", "", |text| {
    DEFAULTS.borrow().stale = Lifetimes::parse(text, 0)?;
    Ok(())
});

/// From how many bytes on values are packed where it pays. 0: none.
pub static PACK_FROM_BYTES: Number = Number::new("cache-compress-bytes", 0, 0, packed::PACKED_MAX as i64).in_bytes();

/// A command on a key was refused.
fn count_error(key: Key) {
    STATS.cache_errors.add(1);
    Category::asked_for(category_of(key.bytes())).counters().errors.add(1);
}
