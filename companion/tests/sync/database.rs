//! The databases, as somebody else reads them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::postgres::Postgres;

/// By account, table, period and first day: the amount.
pub type Rows = BTreeMap<(String, String, String, String), String>;

pub enum Database {
    Sqlite(PathBuf),
    Postgres(Postgres),
}

impl Database {
    pub fn sqlite(folder: &Path) -> Database {
        Database::Sqlite(folder.join("spend.sqlite"))
    }

    /// `None` if PostgreSQL is not installed.
    pub fn postgres() -> Option<Database> {
        Postgres::start().map(Database::Postgres)
    }

    /// Its address, for the configuration.
    pub fn address(&self) -> String {
        match self {
            Database::Sqlite(path) => format!("sqlite:{}", path.display()),
            Database::Postgres(postgres) => postgres.url(),
        }
    }

    /// Ends it in the middle, and starts it again. SQLite has no process that could end.
    pub fn crash(&mut self) {
        if let Database::Postgres(postgres) = self {
            postgres.kill();
            postgres.start_again();
        }
    }

    pub fn execute(&self, text: &str) {
        match self {
            Database::Sqlite(path) => rusqlite::Connection::open(path).unwrap().execute_batch(text).unwrap(),
            Database::Postgres(postgres) => postgres.connect().batch_execute(text).unwrap(),
        }
    }

    /// All rows; none if there are no tables yet.
    pub fn rows(&self) -> Rows {
        let [spend, credit] = ["spend", "credit"].map(|table| match self {
            Database::Sqlite(_) => format!("SELECT account, '{table}', period, first_day, amount FROM gw_{table}"),
            Database::Postgres(_) => {
                format!("SELECT account, '{table}', period, first_day::text, trim_scale(amount)::text FROM gw_{table}")
            }
        });
        let text = format!("{spend} UNION ALL {credit}");
        match self {
            Database::Sqlite(path) => {
                let database = rusqlite::Connection::open(path).unwrap();
                let Ok(mut rows) = database.prepare(&text) else { return Rows::new() };
                let rows =
                    rows.query_map([], |row| Ok(((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?), row.get(4)?)));
                rows.unwrap().map(Result::unwrap).collect()
            }
            Database::Postgres(postgres) => {
                let Ok(rows) = postgres.connect().query(&text, &[]) else { return Rows::new() };
                rows.iter().map(|row| ((row.get(0), row.get(1), row.get(2), row.get(3)), row.get(4))).collect()
            }
        }
    }
}
