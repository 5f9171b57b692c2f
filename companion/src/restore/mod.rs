//! `gw restore`: ledgers that a server has lost are made again from the database.
//!
//! Each ledger is brought to what the database has by charges, refunds and credits, in one transaction that goes through only
//! if nobody has changed it meanwhile. A ledger that has changed after the database's version is left alone.

mod difference;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::ledgers::{self, Version, key_of};
use crate::{config, sync};
use difference::Sums;
use server::{Outcome, Server};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration: the server, and the database in [sync]
    #[arg(long, env = "GW_CONFIG", default_value = "gw.toml")]
    config: PathBuf,
    /// Only tells what would be done
    #[arg(long)]
    dry_run: bool,
    /// The time zone of the days in the database; that of the server, gw.timezone, if none is named
    #[arg(long)]
    timezone: Option<String>,
    /// Tells it as JSON
    #[arg(long)]
    json: bool,
}

/// The accounts that are read at a time, so that memory does not grow with their number.
const PAGE: usize = 100;

#[derive(Debug, Default, Serialize)]
struct Report {
    /// Accounts whose ledgers were brought to what the database has.
    set: usize,
    /// Of these, those of which the database did not have every day.
    set_without_all_days: usize,
    /// Accounts whose ledgers had it already.
    in_step: usize,
    left: Vec<Left>,
}

#[derive(Debug, Serialize)]
struct Left {
    account: String,
    reason: &'static str,
}

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
        let seed = config.seed()?;
        let mut server = Server::connect(seed, self.timezone.as_deref())?;
        let (mut report, mut after) = (Report::default(), None);
        loop {
            let page = database.versions(after.as_deref(), PAGE)?;
            let Some(last) = page.last() else { return Ok(report) };
            after = Some(last.account.clone());
            let mut seeded = Vec::new();
            for ledger in database.read(&page)? {
                let Version { account, version } = Version { account: ledger.account.clone(), version: ledger.version };
                let key = key_of(&account).with_context(|| format!("not the name of an account: {account}"))?;
                let wanted = Sums::of_database(&ledger);
                let outcome = server.restore(&key, version, &wanted, self.dry_run);
                match outcome.with_context(|| format!("the account {account}"))? {
                    Outcome::Set { rests } => {
                        report.set += 1;
                        report.set_without_all_days += usize::from(rests > 0);
                        seeded.push(account);
                    }
                    Outcome::InStep { is_newer } => {
                        report.in_step += 1;
                        seeded.extend(is_newer.then_some(account));
                    }
                    Outcome::Left(reason) => report.left.push(Left { account, reason }),
                }
            }
            if !self.dry_run {
                database.seeded(&seeded)?;
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
        if report.set_without_all_days > 0 {
            println!("  of which the database does not have every day: {}", report.set_without_all_days);
        }
        println!("in step: {} accounts", report.in_step);
        println!("left: {} accounts", report.left.len());
        for Left { account, reason } in &report.left {
            println!("  {account}: {reason}");
        }
    }
}
