//! The database: amounts and versions that were stored.

use rusqlite::{Connection, Result, params};

use crate::feed::{Ledger, Version};

pub struct Database(Connection);

/// The tables of spend and of credits have the same columns.
const TABLES: [&str; 2] = ["spend", "credit"];

impl Database {
    pub fn open(path: &str) -> Result<Database> {
        let mut connection = Connection::open(path)?;
        // If the worker is killed, SQLite has the transaction completely or not at all, with its default settings.
        let transaction = connection.transaction()?;
        if !transaction.table_exists(None, "spend")? {
            transaction.execute_batch(include_str!("schema.sql"))?;
        }
        if !transaction.table_exists(None, "credit")? {
            transaction.execute_batch(include_str!("credit.sql"))?;
            // An earlier worker, which did not store credits, has acknowledged them. With version 0, GW.COSTSYNC has
            // every ledger listed completely.
            transaction.execute("UPDATE account SET version = 0", [])?;
        }
        transaction.commit()?;
        Ok(Database(connection))
    }

    /// Each account with the version of its ledger that was stored last.
    pub fn versions(&self) -> Result<Vec<Version>> {
        let mut versions = self.0.prepare("SELECT name, version FROM account")?;
        let rows = versions.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect()
    }

    /// Stores all ledgers or none. It can be repeated at any time: amounts are whole sums, and ledgers older than their
    /// account are left out. Returns those accounts, with the version that the database has.
    pub fn store(&mut self, ledgers: &[Ledger]) -> Result<Vec<Version>> {
        let mut newer = Vec::new();
        let transaction = self.0.transaction()?;
        {
            let mut stored = transaction.prepare_cached("SELECT version FROM account WHERE name = ?1")?;
            let mut account = transaction.prepare_cached(
                "INSERT INTO account VALUES (?1, ?2) ON CONFLICT (name)
                 DO UPDATE SET version = excluded.version WHERE account.version < excluded.version",
            )?;
            let delete = TABLES.map(|table| format!("DELETE FROM {table} WHERE account = ?1 AND version < ?2"));
            let store = TABLES.map(|table| {
                format!(
                    "INSERT INTO {table} SELECT ?1, ?3, ?4, ?5, ?2
                     WHERE EXISTS (SELECT 1 FROM account WHERE name = ?1 AND version = ?2)
                     ON CONFLICT (account, period, first_day)
                     DO UPDATE SET amount = excluded.amount, version = excluded.version"
                )
            });
            for Ledger { key, version, since, rows, credits } in ledgers {
                account.execute(params![key, version])?;
                let stored: i64 = stored.query_row(params![key], |row| row.get(0))?;
                if stored > *version {
                    newer.push((key.clone(), stored));
                    continue;
                }
                for ((delete, store), rows) in delete.iter().zip(&store).zip([rows, credits]) {
                    transaction.prepare_cached(delete)?.execute(params![key, since])?;
                    let mut store = transaction.prepare_cached(store)?;
                    for (period, first_day, amount) in rows {
                        store.execute(params![key, version, period, first_day, amount])?;
                    }
                }
            }
        }
        transaction.commit()?;
        Ok(newer)
    }
}
