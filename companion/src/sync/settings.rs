//! The part `[sync]` of the configuration.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::ledgers::Address;
use crate::values::{Secret, Wrong, spanned_duration, wrong};

/// The database that is kept in step with all ledgers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sync {
    /// `postgres://user:password@host/database` or `sqlite:path`.
    pub to: Spanned<Secret>,
    /// The pause after nothing had changed.
    #[serde(default = "Sync::default_pause", deserialize_with = "spanned_duration")]
    pub pause: Spanned<Duration>,
}

impl Sync {
    fn default_pause() -> Spanned<Duration> {
        Spanned::new(0..0, Duration::from_secs(1))
    }

    /// Where the database is.
    ///
    /// # Errors
    /// If the secret cannot be read, or is not the address of a database.
    pub fn address(&self) -> Result<Address, String> {
        Address::parse(&self.to.as_ref().read()?)
    }
}

/// What types alone do not tell.
///
/// # Errors
/// The first value that is wrong.
pub fn check(part: &Sync) -> Result<(), Wrong> {
    part.address().map_err(|error| wrong(&part.to, format!("to: {error}")))?;
    if !(Duration::from_millis(10)..=Duration::from_secs(3_600)).contains(part.pause.as_ref()) {
        return Err(wrong(&part.pause, "pause: not between 10ms and 1h"));
    }
    Ok(())
}
