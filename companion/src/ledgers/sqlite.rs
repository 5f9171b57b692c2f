//! SQLite. It has no exact decimals, so amounts are text.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::civil::Date;
use redis_gateway_client::Amount;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::database::{Database, Spent};
use super::ledger::{Ledger, Row, Version, first_of_all, word_of};
use super::plan::{Plan, plan};

/// In the order in which they were added. One that was released is never changed.
const MIGRATIONS: [&str; 1] = [include_str!("sql/sqlite-1.sql")];

/// How long a writer waits for another one.
const BUSY_TIME: Duration = Duration::from_secs(10);

/// The tables of spend and of credits have the same columns.
const TABLES: [&str; 2] = ["gw_spend", "gw_credit"];

pub struct Sqlite {
    connection: Connection,
    /// A file beside the database, locked by the process that writes; the system unlocks it when the process ends.
    lock: File,
    leads: bool,
}

impl Sqlite {
    pub fn open(path: &Path) -> Result<Self> {
        let open = || -> Result<Self> {
            let mut connection = Connection::open(path)?;
            connection.busy_timeout(BUSY_TIME)?;
            // Readers then never wait for the writer. A commit is on the disk when it returns: the default with it is FULL.
            connection.pragma_update(None, "journal_mode", "WAL")?;
            migrate(&mut connection)?;
            let mut lock = path.as_os_str().to_owned();
            lock.push(".lock");
            let lock = File::options().create(true).append(true).open(PathBuf::from(lock))?;
            Ok(Self { connection, lock, leads: false })
        };
        open().with_context(|| format!("cannot open the database {}", path.display()))
    }
}

fn migrate(connection: &mut Connection) -> Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS gw_migration (number INTEGER PRIMARY KEY, applied TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)",
    )?;
    let applied: i64 =
        transaction.query_row("SELECT coalesce(max(number), 0) FROM gw_migration", [], |row| row.get(0))?;
    let applied = usize::try_from(applied)?;
    ensure!(applied <= MIGRATIONS.len(), "it was made by a newer version of this program");
    for (index, text) in MIGRATIONS.iter().enumerate().skip(applied) {
        transaction.execute_batch(text)?;
        transaction.execute("INSERT INTO gw_migration (number) VALUES (?1)", params![i64::try_from(index + 1)?])?;
    }
    Ok(transaction.commit()?)
}

impl Database for Sqlite {
    fn lead(&mut self) -> Result<bool> {
        self.leads = self.leads
            || match self.lock.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => false,
                Err(TryLockError::Error(error)) => return Err(error.into()),
            };
        Ok(self.leads)
    }

    fn versions(&mut self, after: Option<&str>, count: usize) -> Result<Vec<Version>> {
        let text = "SELECT name, version FROM gw_account WHERE ?1 IS NULL OR name > ?1 ORDER BY name LIMIT ?2";
        let mut statement = self.connection.prepare_cached(text)?;
        let rows = statement.query_map(params![after, i64::try_from(count)?], |row| {
            Ok(Version { account: row.get(0)?, version: row.get(1)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn store(&mut self, ledgers: &[Ledger]) -> Result<Vec<Version>> {
        if ledgers.is_empty() {
            return Ok(Vec::new());
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let known = known(&transaction, ledgers)?;
        let plan = plan(ledgers, &known);
        write(&transaction, &plan)?;
        transaction.commit()?;
        Ok(plan.newer)
    }

    fn read(&mut self, accounts: &[Version]) -> Result<Vec<Ledger>> {
        let rows_of = |table: &str, account: &str| -> Result<Vec<Row>> {
            let text = format!(
                "SELECT period, first_day, amount FROM {table} WHERE account = ?1 AND (period <> 'WEEK' OR ?2)
                 ORDER BY first_day, period"
            );
            let mut statement = self.connection.prepare_cached(&text)?;
            let rows = statement.query_map(params![account, table == "gw_credit"], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
            })?;
            rows.map(|row| {
                let (period, first_day, amount) = row?;
                Row::parse(&period, &first_day, &amount)
            })
            .collect()
        };
        let ledgers = accounts.iter().map(|Version { account, version }| {
            let [spend, credits] = TABLES.map(|table| rows_of(table, account));
            Ok(Ledger { account: account.clone(), version: *version, since: 0, spend: spend?, credits: credits? })
        });
        ledgers.collect()
    }

    fn days(&mut self, from: Date, to: Date, after: Option<&Spent>, count: usize) -> Result<Vec<Spent>> {
        let text = "SELECT account, first_day, amount FROM gw_spend
             WHERE period = 'DAY' AND first_day >= ?1 AND first_day < ?2 AND (first_day, account) > (?3, ?4)
             ORDER BY first_day, account LIMIT ?5";
        let (day, account) = after.map_or((first_of_all(), ""), |after| (after.day, &*after.account));
        let [from, to, day] = [from, to, day].map(|day| day.to_string());
        let mut statement = self.connection.prepare_cached(text)?;
        let rows = statement.query_map(params![from, to, day, account, i64::try_from(count)?], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
        })?;
        rows.map(|row| {
            let (account, day, amount) = row?;
            Ok(Spent { account, day: day.parse()?, amount: amount.parse()? })
        })
        .collect()
    }
}

fn known(transaction: &Transaction, ledgers: &[Ledger]) -> Result<HashMap<String, i64>> {
    let mut statement = transaction.prepare_cached("SELECT version FROM gw_account WHERE name = ?1")?;
    let mut known = HashMap::new();
    for Ledger { account, .. } in ledgers {
        let version = statement.query_row(params![account], |row| row.get(0)).optional()?;
        known.extend(version.map(|version| (account.clone(), version)));
    }
    Ok(known)
}

fn write(transaction: &Transaction, plan: &Plan) -> Result<()> {
    for ledger in &plan.stored {
        let text = "INSERT INTO gw_account (name, version) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE
             SET version = excluded.version";
        transaction.prepare_cached(text)?.execute(params![ledger.account, ledger.version])?;
    }
    for table in TABLES {
        for ledger in &plan.replaced {
            let text = format!("DELETE FROM {table} WHERE account = ?1 AND version < ?2");
            transaction.prepare_cached(&text)?.execute(params![ledger.account, ledger.since])?;
        }
    }
    let mut days = transaction.prepare_cached(
        "SELECT amount FROM gw_spend
         WHERE account = ?1 AND period = 'DAY' AND first_day BETWEEN ?2 AND date(?2, '+6 days')",
    )?;
    for ledger in &plan.stored {
        let Ledger { account, version, spend, credits, .. } = ledger;
        for (table, rows) in TABLES.into_iter().zip([spend, credits]) {
            for Row { period, first_day, amount } in rows {
                put(transaction, table, (account, word_of(*period), *first_day), *amount, *version)?;
            }
        }
        for monday in ledger.weeks() {
            let amounts = days.query_map(params![account, monday.to_string()], |row| row.get::<_, String>(0))?;
            let mut sum = Amount::ZERO;
            for amount in amounts {
                sum += amount?.parse::<Amount>()?;
            }
            put(transaction, "gw_spend", (account, "WEEK", monday), sum, *version)?;
        }
    }
    Ok(())
}

fn put(
    transaction: &Transaction,
    table: &str,
    (account, period, first_day): (&str, &str, Date),
    amount: Amount,
    version: i64,
) -> Result<()> {
    let text = format!(
        "INSERT INTO {table} (account, period, first_day, amount, version) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (account, period, first_day) DO UPDATE SET amount = excluded.amount, version = excluded.version"
    );
    let values = params![account, period, first_day.to_string(), amount.to_string(), version];
    transaction.prepare_cached(&text)?.execute(values)?;
    Ok(())
}
