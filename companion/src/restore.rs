//! `gw restore`: ledgers that a server has lost are made again from the database, each by one call, under the version that
//! the database has. A ledger that has changed after that version is left alone.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use gateway_core::ledger::{KEEP_DAYS_MAX, KEEP_MONTHS, KEEP_WEEKS};
use redis_gateway_client::commands::{CostRestoreOptions, Description, Period, cost_restore, describe};
use redis_gateway_client::{Amount, Error};
use serde::Serialize;

use crate::caller::Caller;
use crate::ledgers::{self, Ledger, Row, key_of, word_of};
use crate::{config, sync};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration: the server, and the database in [sync]
    #[arg(long, env = "GW_CONFIG", default_value = "gw.toml")]
    config: PathBuf,
    /// Only tells what would be done
    #[arg(long)]
    dry_run: bool,
    /// Tells it as JSON
    #[arg(long)]
    json: bool,
}

/// The accounts that are read at a time, so that memory does not grow with their number.
const PAGE: usize = 100;

#[derive(Debug, Default, Serialize)]
struct Report {
    /// Accounts whose ledgers were set to what the database has.
    set: usize,
    /// Accounts whose ledgers had it already.
    in_step: usize,
    left: Vec<Left>,
}

#[derive(Debug, Serialize)]
struct Left {
    account: String,
    reason: String,
}

/// What became of a ledger.
enum Outcome {
    Set,
    InStep,
    Left(String),
}

const NEWER: &str = "it is newer at the server";

impl Args {
    pub fn run(&self) -> ExitCode {
        match self.restore() {
            Ok(report) => {
                self.print(&report);
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("gw: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    fn restore(&self) -> Result<Report> {
        let config = config::read(&self.config)?;
        let part = config.sync.as_ref().context("the configuration has no [sync]")?;
        let mut database = ledgers::open(&part.address().map_err(anyhow::Error::msg)?)?;
        if !self.dry_run {
            // The companions stand by meanwhile: what they would store of half a server would replace what it lacks.
            sync::await_lead(&mut *database)?;
        }
        let mut server = Caller::new(config.seed()?, Duration::ZERO);
        let (mut report, mut after) = (Report::default(), None);
        loop {
            let page = database.versions(after.as_deref(), PAGE)?;
            let Some(last) = page.last() else { return Ok(report) };
            after = Some(last.account.clone());
            for ledger in database.read(&page)? {
                let account = ledger.account.clone();
                let key = key_of(&account).with_context(|| format!("not the name of an account: {account}"))?;
                let outcome =
                    if self.dry_run { look(&mut server, &key, &ledger) } else { set(&mut server, &key, &ledger) };
                match outcome.with_context(|| format!("the account {account}"))? {
                    Outcome::Set => report.set += 1,
                    Outcome::InStep => report.in_step += 1,
                    Outcome::Left(reason) => report.left.push(Left { account, reason }),
                }
            }
        }
    }

    fn print(&self, report: &Report) {
        if self.json {
            println!("{}", serde_json::to_string(report).unwrap_or_default());
            return;
        }
        let would = if self.dry_run { "would be set" } else { "set" };
        println!("{would}: {} accounts", report.set);
        println!("in step: {} accounts", report.in_step);
        println!("left: {} accounts", report.left.len());
        for Left { account, reason } in &report.left {
            println!("  {account}: {reason}");
        }
    }
}

fn set(server: &mut Caller, key: &[u8], ledger: &Ledger) -> Result<Outcome> {
    let call = cost_restore(key, ledger.version, &words(ledger), &CostRestoreOptions::default());
    match server.ask(&call) {
        Ok(1) => Ok(Outcome::Set),
        Ok(0) => Ok(Outcome::InStep),
        Ok(_) => Ok(Outcome::Left(NEWER.to_owned())),
        Err(error) => refused(error),
    }
}

/// What [`set`] would do, as far as a description tells: that of an account does not tell the version of its ledger.
fn look(server: &mut Caller, key: &[u8], ledger: &Ledger) -> Result<Outcome> {
    let described = match server.ask(&describe(key)) {
        Ok(described) => described,
        Err(error) => return refused(error),
    };
    Ok(match described {
        None => Outcome::Set,
        Some(Description::Ledger(there)) if there.version < ledger.version => Outcome::Set,
        Some(Description::Ledger(there)) if there.version == ledger.version => Outcome::InStep,
        Some(Description::Ledger(_)) => Outcome::Left(NEWER.to_owned()),
        Some(Description::Account(account)) => {
            let total = ledger.spend.iter().find(|row| row.period == Period::Total).map(|row| row.amount);
            match account.ledgers.get(&b"usd"[..]) {
                Some(money) if Some(money.total) == total => Outcome::InStep,
                Some(money) if money.total != Amount::ZERO => {
                    Outcome::Left("an account that has spent since".to_owned())
                }
                _ => Outcome::Set,
            }
        }
        Some(_) => Outcome::Left(OTHER_TYPE.to_owned()),
    })
}

const OTHER_TYPE: &str = "its key has a value of another type";

/// An error about this account leaves it; any other one would be that of the next account, too.
fn refused(error: Error) -> Result<Outcome> {
    match error {
        Error::Reply(reply) if reply.code == "WRONGTYPE" => Ok(Outcome::Left(OTHER_TYPE.to_owned())),
        Error::Reply(reply) if reply.code == "ERR" => Ok(Outcome::Left(reply.to_string())),
        error => Err(error.into()),
    }
}

/// All rows that a ledger can keep, as the server takes them.
fn words(ledger: &Ledger) -> Vec<String> {
    let mut words = Vec::new();
    for (kind, rows) in [("SPEND", &ledger.spend), ("CREDIT", &ledger.credits)] {
        for (period, keep) in
            [(Period::Total, 1), (Period::Month, KEEP_MONTHS), (Period::Week, KEEP_WEEKS), (Period::Day, KEEP_DAYS_MAX)]
        {
            let mut rows: Vec<&Row> = rows.iter().filter(|row| row.period == period).collect();
            rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.first_day));
            for Row { period, first_day, amount } in rows.into_iter().take(keep as usize) {
                words.extend([kind.to_owned(), word_of(*period).to_owned(), first_day.to_string(), amount.to_string()]);
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_rows_are_sent_and_no_weeks_of_spend_are_among_them() {
        let row = |period, day: &str, amount: &str| Row::parse(period, day, amount).unwrap();
        let spend =
            vec![row("DAY", "2026-11-02", "1.5"), row("TOTAL", "0001-01-01", "2"), row("DAY", "2026-11-03", "0")];
        let mut credits = vec![row("WEEK", "2026-11-02", "7")];
        let ledger = |credits| Ledger { account: "a".into(), version: 1, since: 0, spend: spend.clone(), credits };
        let expected =
            "SPEND TOTAL 0001-01-01 2 SPEND DAY 2026-11-03 0 SPEND DAY 2026-11-02 1.5 CREDIT WEEK 2026-11-02 7";
        assert_eq!(words(&ledger(credits.clone())).join(" "), expected);
        let monday = |number| jiff::civil::date(2000, 1, 3) + jiff::Span::new().weeks(number);
        credits = (0..600).map(|number| row("WEEK", &monday(number).to_string(), "1")).collect();
        let words = words(&ledger(credits));
        assert_eq!(words.len(), 4 * (3 + 520));
        assert!(words.contains(&monday(599).to_string()) && !words.contains(&monday(79).to_string()));
    }
}
