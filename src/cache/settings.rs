//! The family's settings.

use gateway_core::cache::{DEFAULT_TTL_MS, Lifetimes, packed};
use lazy_static::lazy_static;

use crate::server::config::{Number, Text};
use crate::server::shared::MainThread;

/// Times by category, for entries that are set without their own.
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

/// For how long to serve a value stale, by category, for entries that are set without STALE.
pub static STALE: Text = Text::new("cache-stale", "", |text| {
    DEFAULTS.borrow().stale = Lifetimes::parse(text, 0)?;
    Ok(())
});

/// The shortest value in bytes that is packed if that pays. With 0, none is.
pub static PACK_FROM_BYTES: Number = Number::new("cache-compress-bytes", 0, 0, packed::PACKED_MAX as i64).in_bytes();

/// An entry's time to live and its stale time: those that were given, or else those of its category.
pub fn lifetimes_ms(ttl_ms: Option<u64>, stale_ms: Option<u64>, category: &[u8]) -> (u64, u64) {
    let defaults = DEFAULTS.borrow();
    let ttl_ms = ttl_ms.or_else(|| defaults.ttl.of_ms(category)).unwrap_or(DEFAULT_TTL_MS);
    (ttl_ms, stale_ms.or_else(|| defaults.stale.of_ms(category)).unwrap_or(0))
}
