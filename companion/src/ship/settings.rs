//! The part `[[ship]]` of the configuration.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::key::Template;
use super::store;
use crate::values::{Wrong, spanned_duration, wrong};

/// Log queues, and the object store that their records go to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ship {
    /// Keys of queues.
    pub queues: Spanned<Vec<String>>,
    /// A folder, or an address such as `s3://bucket/folder`, `gs://…`, `az://…`.
    pub to: Spanned<String>,
    #[serde(default)]
    pub format: Format,
    /// The names of objects, without their ending.
    #[serde(default = "Ship::default_key")]
    pub key: Spanned<String>,
    /// The most records in an object.
    #[serde(default = "Ship::default_records")]
    pub records: Spanned<u32>,
    /// After this time a batch goes to another instance, if this one has died.
    #[serde(default = "Ship::default_lease", deserialize_with = "spanned_duration")]
    pub lease: Spanned<Duration>,
}

/// The form of an object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Format {
    /// A JSON text in each line, compressed with zstd.
    #[default]
    #[serde(rename = "ndjson.zst")]
    NdjsonZst,
    /// The same, compressed with gzip.
    #[serde(rename = "ndjson.gz")]
    NdjsonGz,
}

impl Ship {
    fn default_key() -> Spanned<String> {
        Spanned::new(0..0, "date={date}/hour={hour}/{queue}-{batch}".to_owned())
    }

    fn default_records() -> Spanned<u32> {
        Spanned::new(0..0, 10_000)
    }

    fn default_lease() -> Spanned<Duration> {
        Spanned::new(0..0, Duration::from_secs(60))
    }
}

/// What types alone do not tell.
///
/// # Errors
/// The first value that is wrong.
pub fn check(parts: &[Ship]) -> Result<(), Wrong> {
    let mut queues = BTreeSet::new();
    for part in parts {
        if part.queues.as_ref().is_empty() {
            return Err(wrong(&part.queues, "queues: none"));
        }
        for queue in part.queues.as_ref() {
            if !queues.insert(queue) {
                return Err(wrong(&part.queues, format!("queues: {queue:?} is shipped twice")));
            }
        }
        if !(1..=10_000).contains(part.records.as_ref()) {
            return Err(wrong(&part.records, "records: not between 1 and 10000"));
        }
        if !(Duration::from_millis(100)..=Duration::from_secs(86_400)).contains(part.lease.as_ref()) {
            return Err(wrong(&part.lease, "lease: not between 100ms and 24h"));
        }
        Template::parse(part.key.as_ref()).map_err(|error| wrong(&part.key, format!("key: {error}")))?;
        store::address(part.to.as_ref()).map_err(|error| wrong(&part.to, format!("to: {error:#}")))?;
    }
    Ok(())
}
