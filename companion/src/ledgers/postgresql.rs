//! PostgreSQL. Each batch is a handful of statements over arrays, whatever its size.

use std::collections::HashMap;

use ::postgres::{Client, Statement, Transaction};
use anyhow::{Context, Result, ensure};
use jiff::civil::Date;

use super::database::{Database, Spent};
use super::ledger::{Ledger, Row, Version, first_of_all, word_of};
use super::plan::{Plan, plan};
use crate::postgresql::Address;

/// In the order in which they were added. One that was released is never changed.
const MIGRATIONS: [&str; 1] = [include_str!("sql/postgresql-1.sql")];

/// Every statement looks up rows by the key. What the planner knows of tables that grow from nothing would have it read them
/// whole.
const BY_KEY: &str = "SET plan_cache_mode = force_custom_plan; SET enable_seqscan = off; SET enable_hashjoin = off;
     SET enable_mergejoin = off";

/// Keys of advisory locks, in this schema alone.
const MIGRATE: &str = "gw ledgers: migrations";
const LEAD: &str = "gw ledgers: the one that writes";

pub struct Postgresql {
    client: Client,
    statements: Statements,
}

struct Statements {
    known: Statement,
    account: Statement,
    /// Of spend and of credits, in this order.
    delete: [Statement; 2],
    store: [Statement; 2],
    weeks: Statement,
}

/// The tables of spend and of credits have the same columns.
const TABLES: [&str; 2] = ["gw_spend", "gw_credit"];

impl Statements {
    fn prepare(client: &mut Client) -> Result<Self, ::postgres::Error> {
        let mut of_both = |text: &str| -> Result<[Statement; 2], ::postgres::Error> {
            let [spend, credit] = TABLES.map(|table| client.prepare(&text.replace("{table}", table)));
            Ok([spend?, credit?])
        };
        let delete = of_both(
            "DELETE FROM {table} t USING unnest($1::text[], $2::bigint[]) AS l (account, since)
             WHERE t.account = l.account AND t.version < l.since",
        )?;
        let store = of_both(
            "INSERT INTO {table} AS t (account, period, first_day, amount, version)
             SELECT account, period, first_day::date, amount::numeric, version
             FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])
               AS l (account, period, first_day, amount, version)
             ON CONFLICT (account, period, first_day) DO UPDATE SET amount = excluded.amount, version = excluded.version",
        )?;
        Ok(Self {
            known: client.prepare(
                "SELECT name, version FROM gw_account WHERE name = ANY($1::text[]) ORDER BY name FOR UPDATE",
            )?,
            account: client.prepare(
                "INSERT INTO gw_account AS a (name, version) SELECT * FROM unnest($1::text[], $2::bigint[])
                 ON CONFLICT (name) DO UPDATE SET version = excluded.version
                 WHERE a.version <= excluded.version",
            )?,
            delete,
            store,
            // Each day is looked up by itself: for a range of days the planner would choose the index by day, which has the
            // days of all accounts.
            weeks: client.prepare(
                "INSERT INTO gw_spend AS t (account, period, first_day, amount, version)
                 SELECT l.account, 'WEEK', l.monday::date, w.amount, l.version
                 FROM unnest($1::text[], $2::text[], $3::bigint[]) AS l (account, monday, version)
                 CROSS JOIN LATERAL (
                   SELECT sum(d.amount) AS amount FROM generate_series(0, 6) AS after JOIN gw_spend d
                     ON d.account = l.account AND d.period = 'DAY' AND d.first_day = l.monday::date + after
                 ) AS w
                 ON CONFLICT (account, period, first_day) DO UPDATE SET amount = excluded.amount, version = excluded.version",
            )?,
        })
    }
}

impl Postgresql {
    pub fn open(address: &Address) -> Result<Self> {
        let mut client = address.connect()?;
        migrate(&mut client).context("cannot make the tables")?;
        client.batch_execute(BY_KEY)?;
        let statements = Statements::prepare(&mut client)?;
        Ok(Self { client, statements })
    }
}

fn migrate(client: &mut Client) -> Result<()> {
    let mut transaction = client.transaction()?;
    // Whoever comes second waits here, and finds the tables made.
    transaction.execute("SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || $1, 0))", &[&MIGRATE])?;
    transaction.batch_execute(
        "CREATE TABLE IF NOT EXISTS gw_migration (number integer PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())",
    )?;
    let applied: i32 = transaction.query_one("SELECT coalesce(max(number), 0) FROM gw_migration", &[])?.get(0);
    let applied = usize::try_from(applied)?;
    ensure!(applied <= MIGRATIONS.len(), "they were made by a newer version of this program");
    for (index, text) in MIGRATIONS.iter().enumerate().skip(applied) {
        transaction.batch_execute(text)?;
        transaction.execute("INSERT INTO gw_migration (number) VALUES ($1)", &[&i32::try_from(index + 1)?])?;
    }
    Ok(transaction.commit()?)
}

impl Database for Postgresql {
    fn lead(&mut self) -> Result<bool> {
        // The lock is the connection's: whoever loses the connection can no longer write either.
        let text = "SELECT pg_try_advisory_lock(hashtextextended(current_schema() || $1, 0))";
        Ok(self.client.query_one(text, &[&LEAD])?.get(0))
    }

    fn versions(&mut self, after: Option<&str>, count: usize) -> Result<Vec<Version>> {
        let text = "SELECT name, version FROM gw_account WHERE $1::text IS NULL OR name > $1 ORDER BY name LIMIT $2";
        let rows = self.client.query(text, &[&after, &i64::try_from(count)?])?;
        Ok(rows.iter().map(|row| Version { account: row.get(0), version: row.get(1) }).collect())
    }

    fn store(&mut self, ledgers: &[Ledger]) -> Result<Vec<Version>> {
        if ledgers.is_empty() {
            return Ok(Vec::new());
        }
        let Self { client, statements } = self;
        let mut transaction = client.transaction()?;
        let names: Vec<&str> = ledgers.iter().map(|ledger| &*ledger.account).collect();
        let known = transaction.query(&statements.known, &[&names])?;
        let known: HashMap<String, i64> = known.iter().map(|row| (row.get(0), row.get(1))).collect();
        let plan = plan(ledgers, &known);
        write(&mut transaction, statements, &plan)?;
        transaction.commit()?;
        Ok(plan.newer)
    }

    fn read(&mut self, accounts: &[Version]) -> Result<Vec<Ledger>> {
        let names: Vec<&str> = accounts.iter().map(|account| &*account.account).collect();
        let [mut spend, mut credits] = [HashMap::new(), HashMap::new()];
        for (rows_of, table) in [&mut spend, &mut credits].into_iter().zip(TABLES) {
            let text = format!(
                "SELECT account, period, first_day::text, amount::text FROM {table}
                 WHERE account = ANY($1::text[]) AND (period <> 'WEEK' OR $2) ORDER BY account, first_day, period"
            );
            for row in self.client.query(&text, &[&names, &(table == "gw_credit")])? {
                let (account, period, first_day, amount): (String, &str, &str, &str) =
                    (row.get(0), row.get(1), row.get(2), row.get(3));
                rows_of.entry(account).or_insert_with(Vec::new).push(Row::parse(period, first_day, amount)?);
            }
        }
        let ledgers = accounts.iter().map(|Version { account, version }| Ledger {
            account: account.clone(),
            version: *version,
            since: 0,
            spend: spend.remove(account).unwrap_or_default(),
            credits: credits.remove(account).unwrap_or_default(),
        });
        Ok(ledgers.collect())
    }

    fn days(&mut self, from: Date, to: Date, after: Option<&Spent>, count: usize) -> Result<Vec<Spent>> {
        let text = "SELECT account, first_day::text, amount::text FROM gw_spend
             WHERE period = 'DAY' AND first_day >= $1::text::date AND first_day < $2::text::date
               AND (first_day, account) > ($3::text::date, $4) ORDER BY first_day, account LIMIT $5";
        let (day, account) = after.map_or((first_of_all(), ""), |after| (after.day, &*after.account));
        let values: [String; 3] = [from, to, day].map(|day| day.to_string());
        let count = i64::try_from(count)?;
        let rows = self.client.query(text, &[&values[0], &values[1], &values[2], &account, &count])?;
        let spent = rows.iter().map(|row| {
            let (account, day, amount): (String, &str, &str) = (row.get(0), row.get(1), row.get(2));
            Ok(Spent { account, day: day.parse()?, amount: amount.parse()? })
        });
        spent.collect()
    }
}

/// The rows of several ledgers, as arrays.
#[derive(Default)]
struct Columns<'a> {
    accounts: Vec<&'a str>,
    periods: Vec<&'static str>,
    first_days: Vec<String>,
    amounts: Vec<String>,
    versions: Vec<i64>,
}

fn write(transaction: &mut Transaction, statements: &Statements, plan: &Plan) -> Result<()> {
    let names: Vec<&str> = plan.stored.iter().map(|ledger| &*ledger.account).collect();
    let versions: Vec<i64> = plan.stored.iter().map(|ledger| ledger.version).collect();
    let written = transaction.execute(&statements.account, &[&names, &versions])?;
    // Rows are locked since they were read; only an account that was new could have come from elsewhere meanwhile.
    ensure!(written == names.len() as u64, "another process writes at the same time");
    if !plan.replaced.is_empty() {
        let names: Vec<&str> = plan.replaced.iter().map(|ledger| &*ledger.account).collect();
        let since: Vec<i64> = plan.replaced.iter().map(|ledger| ledger.since).collect();
        for statement in &statements.delete {
            transaction.execute(statement, &[&names, &since])?;
        }
    }
    let of_spend: fn(&Ledger) -> &[Row] = |ledger| &ledger.spend;
    let of_credits: fn(&Ledger) -> &[Row] = |ledger| &ledger.credits;
    for (statement, rows_of) in statements.store.iter().zip([of_spend, of_credits]) {
        let mut columns = Columns::default();
        for ledger in &plan.stored {
            for row in rows_of(ledger) {
                columns.accounts.push(&ledger.account);
                columns.periods.push(word_of(row.period));
                columns.first_days.push(row.first_day.to_string());
                columns.amounts.push(row.amount.to_string());
                columns.versions.push(ledger.version);
            }
        }
        let Columns { accounts, periods, first_days, amounts, versions } = columns;
        if !accounts.is_empty() {
            transaction.execute(statement, &[&accounts, &periods, &first_days, &amounts, &versions])?;
        }
    }
    let mut weeks: (Vec<&str>, Vec<String>, Vec<i64>) = Default::default();
    for ledger in &plan.stored {
        for monday in ledger.weeks() {
            weeks.0.push(&ledger.account);
            weeks.1.push(monday.to_string());
            weeks.2.push(ledger.version);
        }
    }
    if !weeks.0.is_empty() {
        transaction.execute(&statements.weeks, &[&weeks.0, &weeks.1, &weeks.2])?;
    }
    Ok(())
}
