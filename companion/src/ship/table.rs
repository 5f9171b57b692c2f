//! Batches in a table of PostgreSQL: each in one transaction, in which its id is stored, too. A batch whose id is there is
//! not stored again.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;
use gateway_core::queue::BatchId;
use jiff::Timestamp;
use postgres::Client;
use postgres::error::SqlState;

use super::put::{Poison, Put, Stored};
use crate::postgresql::Address;

/// The address of a database.
///
/// # Errors
/// If it is not one. The message does not show it: it may have a password.
pub fn parse_address(text: &str) -> Result<Address, String> {
    Address::parse(text, "gw ship")
}

/// A name that can be written as it is, and under which the second table's name fits, too.
///
/// # Errors
/// If it is not one.
pub fn check_name(name: &str) -> Result<(), String> {
    let parts: Vec<&str> = name.split('.').collect();
    let is_plain = |part: &&str| {
        let starts = part.starts_with(|c: char| c == '_' || c.is_ascii_lowercase());
        starts && part.len() <= 50 && part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
    };
    if parts.len() > 2 || !parts.iter().all(is_plain) {
        return Err(format!("not `name` or `schema.name` in lower-case letters, digits and `_`: {name:?}"));
    }
    Ok(())
}

pub struct Table {
    address: Address,
    name: String,
    /// None before the first batch, and after an error.
    client: Option<Client>,
}

impl Table {
    /// # Errors
    /// If it is not the address of a database.
    pub fn new(address: &str, name: &str) -> Result<Self> {
        let address = parse_address(address).map_err(anyhow::Error::msg)?;
        Ok(Self { address, name: name.to_owned(), client: None })
    }

    /// Stores a batch unless it is stored already. Some of the records may be refused: then nothing is stored.
    ///
    /// # Errors
    /// If the database is away, or not as it should be.
    pub fn put(&mut self, queue: &str, batch: &BatchId, records: &[&[u8]], time: Duration) -> Result<Put> {
        let mut client = match self.client.take() {
            Some(client) if !client.is_closed() => client,
            _ => self.connect(time)?,
        };
        let put = match insert(&mut client, &self.name, queue, batch, records) {
            Err(error) if error.downcast_ref().is_some_and(is_refusal) => {
                let refused = refused(&mut client, records)?;
                if refused.is_empty() {
                    return Err(error.context("not because of any one of the records"));
                }
                Put::Refused(refused)
            }
            done => Put::Stored(done?),
        };
        self.client = Some(client);
        Ok(put)
    }

    /// Connects, and makes the tables if there are none.
    fn connect(&self, time: Duration) -> Result<Client> {
        let mut client = self.address.connect_within(time)?;
        client.batch_execute(&format!("SET statement_timeout = {}", time.as_millis().max(1)))?;
        let name = &self.name;
        let is_there = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&format!("{name}_batches")])?;
        if !is_there.get::<_, bool>(0) {
            // Two that do so at once would otherwise be told that the other one has.
            client.batch_execute(&format!(
                "BEGIN;
                 SELECT pg_advisory_xact_lock(7236021);
                 CREATE TABLE IF NOT EXISTS {name} (
                     batch text NOT NULL, number integer NOT NULL, queue text NOT NULL, at timestamptz NOT NULL,
                     record jsonb NOT NULL);
                 CREATE TABLE IF NOT EXISTS {name}_batches (
                     batch text PRIMARY KEY, queue text NOT NULL, at timestamptz NOT NULL, records integer NOT NULL);
                 COMMIT"
            ))?;
        }
        Ok(client)
    }
}

fn insert(client: &mut Client, table: &str, queue: &str, batch: &BatchId, records: &[&[u8]]) -> Result<Stored> {
    // Ids have times up to the year 9999.
    let us = i64::try_from(batch.time_us()).unwrap_or(i64::MAX);
    let at = Timestamp::from_microsecond(us).unwrap_or(Timestamp::MAX).to_string();
    let (id, count) = (batch.to_string(), i32::try_from(records.len()).unwrap_or(i32::MAX));
    let mut transaction = client.transaction()?;
    // If another process is storing the same batch, this waits until it has or has not.
    let new = transaction.execute(
        &format!(
            "INSERT INTO {table}_batches (batch, queue, at, records)
             VALUES ($1, $2, $3::text::timestamptz, $4) ON CONFLICT DO NOTHING"
        ),
        &[&id, &queue, &at, &count],
    )?;
    if new == 0 {
        return Ok(Stored::Before);
    }
    let mut rows = Vec::with_capacity(records.iter().map(|record| record.len() + 100).sum());
    let mut start = String::new();
    for (number, record) in records.iter().enumerate() {
        start.clear();
        let _ = write!(start, "{id}\t{number}\t");
        rows.extend_from_slice(start.as_bytes());
        escape(&mut rows, queue.as_bytes());
        rows.push(b'\t');
        rows.extend_from_slice(at.as_bytes());
        rows.push(b'\t');
        escape(&mut rows, record);
        rows.push(b'\n');
    }
    let mut copy = transaction.copy_in(&format!("COPY {table} (batch, number, queue, at, record) FROM STDIN"))?;
    let written = copy.write_all(&rows);
    // If something goes wrong on the way, this tells what.
    copy.finish()?;
    written?;
    transaction.commit()?;
    Ok(Stored::Now)
}

/// As COPY's text format wants it.
fn escape(rows: &mut Vec<u8>, text: &[u8]) {
    for &byte in text {
        match byte {
            b'\\' => rows.extend_from_slice(b"\\\\"),
            b'\n' => rows.extend_from_slice(b"\\n"),
            b'\r' => rows.extend_from_slice(b"\\r"),
            b'\t' => rows.extend_from_slice(b"\\t"),
            _ => rows.push(byte),
        }
    }
}

/// Whether the data is at fault, and not the database: some JSON is refused by PostgreSQL, such as `"\u0000"`, or is nested
/// too deeply.
fn is_refusal(error: &postgres::Error) -> bool {
    let Some(code) = error.code() else { return false };
    code.code().starts_with("22")
        || *code == SqlState::STATEMENT_TOO_COMPLEX
        || *code == SqlState::PROGRAM_LIMIT_EXCEEDED
}

/// The records that PostgreSQL refuses, each tried alone.
fn refused(client: &mut Client, records: &[&[u8]]) -> Result<Vec<Poison>, postgres::Error> {
    let attempt = client.prepare("SELECT pg_column_size($1::text::jsonb)")?;
    let mut refused = Vec::new();
    for (index, record) in records.iter().enumerate() {
        let text = std::str::from_utf8(record).unwrap_or_default();
        match client.query(&attempt, &[&text]) {
            Ok(_) => {}
            Err(error) if is_refusal(&error) => {
                let reason = error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
                refused.push(Poison { index, reason });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tables_are_plain() {
        for name in ["logs", "gateway.request_logs2", "_x"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "Logs", "a-b", "a.b.c", "a;drop table b", "2x", "a.", &"x".repeat(51)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn addresses_of_databases_are_told_apart() {
        assert!(parse_address("postgres://user:word@host:5432/database?sslmode=disable").is_ok());
        assert!(parse_address("postgres://host?nonsense=1").is_err());
    }

    #[test]
    fn rows_are_escaped() {
        let mut rows = Vec::new();
        escape(&mut rows, b"{\"a\\nb\":\t1}\r\n");
        assert_eq!(rows, b"{\"a\\\\nb\":\\t1}\\r\\n");
    }
}
