//! Where batches go: objects of a store, or rows of a table. Under one id, each is stored once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use gateway_core::queue::BatchId;

use super::columns::{self, Column};
use super::key::Template;
use super::object;
use super::put::{Put, Stored};
use super::rows;
use super::settings::{Format, Ship};
use super::store::{self, Store};
use super::table::Table;
use crate::postgresql::is_address;

/// The object that holds the inferred columns. Readers of the folder pass over names that begin so.
const COLUMNS: &str = "_gw-columns.json";

pub enum Target {
    Objects(Box<Objects>),
    Table(Box<Table>),
}

/// The columns of Parquet objects, which the jobs of a part have in common; `None` if they are not inferred yet.
pub type Columns = Arc<Mutex<Option<Vec<Column>>>>;

pub struct Objects {
    store: Store,
    format: Format,
    key: Template,
    columns: Columns,
}

impl Target {
    /// # Errors
    /// If the configuration was not checked.
    pub fn open(part: &Ship, columns: Columns) -> Result<Self> {
        let to = part.to.as_ref().read().map_err(anyhow::Error::msg)?;
        if is_address(&to) {
            let name = part.table.as_ref().context("no table")?;
            return Ok(Self::Table(Box::new(Table::new(&to, name.as_ref())?)));
        }
        let store = Store::open(&store::address(&to)?).with_context(|| format!("cannot use the store {to}"))?;
        let key = Template::parse(part.key.as_ref()).map_err(anyhow::Error::msg)?;
        Ok(Self::Objects(Box::new(Objects { store, format: part.format, key, columns })))
    }

    /// Stores a batch, if it takes no longer than this; whole or not at all.
    ///
    /// # Errors
    /// If the store or database is away, which may pass.
    pub fn put(&mut self, queue: &str, batch: &BatchId, records: &[&[u8]], time: Duration) -> Result<Put> {
        match self {
            Self::Table(table) => table.put(queue, batch, records, time),
            Self::Objects(objects) => Ok(Put::Stored(objects.put(queue, batch, records, time)?)),
        }
    }
}

impl Objects {
    fn put(&self, queue: &str, batch: &BatchId, records: &[&[u8]], time: Duration) -> Result<Stored> {
        let object = match self.format {
            Format::NdjsonZst => object::encode_lines(false, records)?,
            Format::NdjsonGz => object::encode_lines(true, records)?,
            Format::Parquet => rows::encode(&self.columns(records, time)?, records)?,
        };
        let name = format!("{}.{}", self.key.name(queue, batch), self.format.ending());
        self.store.create(&name, object, time)
    }

    /// The columns of the configuration, or else those that the first batch of all had: whichever process stored them
    /// first. So all objects of a folder have the same.
    fn columns(&self, records: &[&[u8]], time: Duration) -> Result<Vec<Column>> {
        let mut known = self.columns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(columns) = &*known {
            return Ok(columns.clone());
        }
        if self.store.read(COLUMNS, time)?.is_none() {
            let inferred = serde_json::to_vec_pretty(&columns::infer(records))?;
            self.store.create(COLUMNS, inferred, time)?;
        }
        let stored = self.store.read(COLUMNS, time)?.with_context(|| format!("{COLUMNS} is gone"))?;
        let columns: Vec<Column> = serde_json::from_slice(&stored).with_context(|| format!("cannot read {COLUMNS}"))?;
        Ok(known.insert(columns).clone())
    }
}
