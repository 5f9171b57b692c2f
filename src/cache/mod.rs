//! The response cache: GW.CACHESET, GW.CACHEGET, GW.CACHEDEL and GW.CACHESTATS.

mod category;
pub mod entry;
pub mod get;
pub mod set;
pub mod stats;

use std::ffi::CStr;

use gateway_core::cache::Lifetimes;
use lazy_static::lazy_static;

use crate::server::config::Text;
use crate::server::shared::MainThread;

/// The family's effects: `S created_at_ms expires_at_ms` with the value behind it, and the category where it is not the
/// key's own. Deletions travel as UNLINK.
const EFFECT_NAME: &CStr = c"GW._CACHE";

lazy_static! {
    static ref LIFETIMES: MainThread<Lifetimes> = MainThread::new(Lifetimes::default());
}

/// Times to live by category, for entries that are set without one.
pub static TTL: Text = Text::new("cache-ttl", "", |text| {
    *LIFETIMES.borrow() = Lifetimes::parse(text)?;
    Ok(())
});
