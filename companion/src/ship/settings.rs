//! The part `[[ship]]` of the configuration.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::columns::{self, Column};
use super::key::Template;
use super::{queues, store, table};
use crate::postgresql::is_address;
use crate::values::{Secret, Wrong, spanned_duration, wrong};

/// Log queues, and where their records go.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ship {
    /// Keys of queues, and patterns such as `logs:*`.
    pub queues: Spanned<Vec<String>>,
    /// A folder, an address such as `s3://bucket/folder`, `gs://…`, `az://…`, or a database: `postgres://…`.
    pub to: Spanned<Secret>,
    #[serde(default)]
    pub format: Format,
    /// The names of objects, without their ending.
    #[serde(default = "Ship::default_key")]
    pub key: Spanned<String>,
    /// The columns of Parquet objects; inferred if there are none.
    pub columns: Option<Spanned<Vec<Column>>>,
    /// The table of a database.
    pub table: Option<Spanned<String>>,
    /// The most records in an object.
    #[serde(default = "Ship::default_records")]
    pub records: Spanned<u32>,
    /// The most bytes of records in an object.
    #[serde(default = "Ship::default_bytes")]
    pub bytes: Spanned<u32>,
    /// How long records wait for others, so that objects are not too small.
    #[serde(default = "Ship::default_linger", deserialize_with = "spanned_duration")]
    pub linger: Spanned<Duration>,
    /// After this time a batch goes to another instance, if this one has died.
    #[serde(default = "Ship::default_lease", deserialize_with = "spanned_duration")]
    pub lease: Spanned<Duration>,
    /// How many queues are shipped at the same time.
    #[serde(default = "Ship::default_threads")]
    pub threads: Spanned<usize>,
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
    /// A Parquet file, its columns compressed with zstd.
    #[serde(rename = "parquet")]
    Parquet,
}

impl Format {
    /// The ending of an object's name.
    pub fn ending(self) -> &'static str {
        match self {
            Format::NdjsonZst => "jsonl.zst",
            Format::NdjsonGz => "jsonl.gz",
            Format::Parquet => "parquet",
        }
    }
}

impl Ship {
    /// The queues that are named by their keys, not by a pattern.
    pub fn named_queues(&self) -> Vec<String> {
        self.queues.as_ref().iter().filter(|queue| !queues::is_pattern(queue)).cloned().collect()
    }

    fn default_key() -> Spanned<String> {
        Spanned::new(0..0, "date={date}/hour={hour}/{queue}-{batch}".to_owned())
    }

    fn default_records() -> Spanned<u32> {
        Spanned::new(0..0, 10_000)
    }

    fn default_bytes() -> Spanned<u32> {
        Spanned::new(0..0, 1_048_576)
    }

    fn default_linger() -> Spanned<Duration> {
        Spanned::new(0..0, Duration::ZERO)
    }

    fn default_lease() -> Spanned<Duration> {
        Spanned::new(0..0, Duration::from_secs(60))
    }

    fn default_threads() -> Spanned<usize> {
        Spanned::new(0..0, 4)
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
        if !(1..=1_048_576).contains(part.bytes.as_ref()) {
            return Err(wrong(&part.bytes, "bytes: not between 1 and 1048576"));
        }
        if *part.linger.as_ref() > Duration::from_secs(3_600) {
            return Err(wrong(&part.linger, "linger: not up to 1h"));
        }
        if !(Duration::from_millis(100)..=Duration::from_secs(86_400)).contains(part.lease.as_ref()) {
            return Err(wrong(&part.lease, "lease: not between 100ms and 24h"));
        }
        if !(1..=64).contains(part.threads.as_ref()) {
            return Err(wrong(&part.threads, "threads: not between 1 and 64"));
        }
        Template::parse(part.key.as_ref()).map_err(|error| wrong(&part.key, format!("key: {error}")))?;
        check_target(part)?;
    }
    Ok(())
}

fn check_target(part: &Ship) -> Result<(), Wrong> {
    let to = part.to.as_ref().read().map_err(|error| wrong(&part.to, format!("to: {error}")))?;
    if let Some(columns) = &part.columns {
        if part.format != Format::Parquet {
            return Err(wrong(columns, "columns: only with format = \"parquet\""));
        }
        columns::check(columns.as_ref()).map_err(|error| wrong(columns, format!("columns: {error}")))?;
    }
    match (&part.table, is_address(&to)) {
        (Some(name), true) => {
            table::check_name(name.as_ref()).map_err(|error| wrong(name, format!("table: {error}")))?;
            table::parse_address(&to).map(drop).map_err(|error| wrong(&part.to, format!("to: {error}")))
        }
        (None, true) => Err(wrong(&part.to, "to: a database needs a `table`")),
        (Some(name), false) => Err(wrong(name, "table: only with a database as `to`")),
        (None, false) => store::address(&to).map(drop).map_err(|error| wrong(&part.to, format!("to: {error:#}"))),
    }
}
