//! `gw apply`: accounts get the policies of their plans.

use std::collections::BTreeSet;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use gateway_core::admission::document;
use indicatif::{ProgressBar, ProgressStyle};
use redis_gateway_client::Error;
use redis_gateway_client::commands::{Description, PolicyPutOptions, describe, policy_document, policy_put};
use serde::Serialize;

use super::diff::{Account, Change};
use super::file::{self, Plan};
use crate::caller::Caller;
use crate::out;
use crate::target::Target;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// The plans, and the accounts that have them
    file: PathBuf,
    /// Only shows what would change
    #[arg(long)]
    dry_run: bool,
    /// Does not ask
    #[arg(long, short)]
    yes: bool,
    /// Prints what changes as JSON
    #[arg(long)]
    json: bool,
}

/// The exit code of a file that is wrong, or of changes that nobody agreed to.
const WRONG: u8 = 2;

#[derive(Serialize)]
struct Report<'a> {
    /// How many accounts were changed.
    applied: usize,
    accounts: &'a [Account],
    refused: &'a [Refused],
}

/// An account that the server did not look up or change.
#[derive(Serialize)]
struct Refused {
    account: String,
    error: String,
}

impl Args {
    pub fn run(&self) -> ExitCode {
        let text = match std::fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(error) => return wrong(&format!("{}: {error}", self.file.display())),
        };
        match file::parse(&text) {
            Err((line, message)) => wrong(&format!("{}:{line}: {message}", self.file.display())),
            Ok(plans) => self.apply(&plans).unwrap_or_else(|error| {
                eprintln!("gw: {error:#}");
                ExitCode::FAILURE
            }),
        }
    }

    fn apply(&self, plans: &[Plan]) -> Result<ExitCode> {
        let mut caller = self.target.caller()?;
        let (mut accounts, mut refused) = (Vec::new(), Vec::new());
        let wanted = || plans.iter().flat_map(|plan| plan.accounts.iter().map(move |account| (plan, account)));
        let bar = bar(wanted().count(), "looking up");
        for (plan, account) in wanted() {
            match compare(&mut caller, plan, account) {
                Ok(difference) => accounts.push(difference),
                Err(error) => refused.push(passed_over(account, error)?),
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let count = |change| accounts.iter().filter(|account| account.change == change).count();
        let (new, changed, same) = (count(Change::New), count(Change::Changed), count(Change::Same));
        if !self.json {
            let differing = accounts.iter().filter(|account| account.change != Change::Same);
            let lines: String = differing.map(ToString::to_string).collect();
            out::print(&format!("{lines}{new} new, {changed} changed, {same} as they are to be\n"))?;
        }
        let mut applied = 0;
        if !self.dry_run && new + changed > 0 {
            if !self.yes && !agreed()? {
                return Ok(wrong("nothing was changed"));
            }
            applied = put(&mut caller, wanted(), &accounts, &mut refused)?;
            if !self.json {
                println!("{applied} applied");
            }
        }
        if self.json {
            let report = Report { applied, accounts: &accounts, refused: &refused };
            out::print(&(serde_json::to_string_pretty(&report)? + "\n"))?;
        }
        refused.iter().for_each(|Refused { account, error }| eprintln!("gw: {account}: {error}"));
        Ok(if refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn wrong(message: &str) -> ExitCode {
    eprintln!("gw: {message}");
    ExitCode::from(WRONG)
}

/// What the server refuses of one account says nothing of the others. Any other error ends the command.
fn passed_over(account: &str, error: anyhow::Error) -> Result<Refused> {
    match error.downcast_ref::<Error>() {
        Some(Error::Reply(reply)) if !reply.away => {
            Ok(Refused { account: account.to_owned(), error: reply.to_string() })
        }
        _ => Err(error.context(format!("at {account}; what was applied stays, and the command can be repeated"))),
    }
}

fn compare(caller: &mut Caller, plan: &Plan, account: &str) -> Result<Account> {
    let present = caller.ask(&policy_document(account))?;
    let present = present.map(|document| {
        // Of a newer server, perhaps.
        document::read(document.as_bytes(), 0)
            .map_err(|refused| anyhow!("{account} has policies that are not known here: {refused}"))
    });
    let present = present.transpose()?;
    let idle_ms = match (plan.idle_ms, &present) {
        (Some(wanted), Some(_)) => Some((idle_ms(caller, account)?, wanted)),
        (Some(wanted), None) => Some((0, wanted)),
        (None, _) => None,
    };
    Ok(Account::new(account, &plan.name, present.as_deref(), &plan.policies, idle_ms))
}

/// How long an account outlives its last admission; 0 if it stays.
pub fn idle_ms(caller: &mut Caller, account: &str) -> Result<i64> {
    match caller.ask(&describe(account))? {
        Some(Description::Account(state)) => Ok(state.idle_ms.unwrap_or(0)),
        _ => Ok(0),
    }
}

/// Sets what differs. Returns how many accounts that were.
fn put<'a>(
    caller: &mut Caller,
    wanted: impl Iterator<Item = (&'a Plan, &'a String)>,
    accounts: &[Account],
    refused: &mut Vec<Refused>,
) -> Result<usize> {
    let differing = accounts.iter().filter(|account| account.change != Change::Same);
    let differing: BTreeSet<&str> = differing.map(|account| &*account.account).collect();
    let wanted: Vec<_> = wanted.filter(|(_, account)| differing.contains(account.as_str())).collect();
    let bar = bar(wanted.len(), "applying");
    let mut applied = 0;
    for (plan, account) in wanted {
        let options = PolicyPutOptions { idle_ms: plan.idle_ms, ..Default::default() };
        match caller.ask(&policy_put(account, &plan.document, &options)) {
            Ok(_) => applied += 1,
            Err(error) => refused.push(passed_over(account, error.into())?),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(applied)
}

/// On stderr, and only if that is a terminal.
fn bar(length: usize, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
    let bar = ProgressBar::new(length as u64).with_message(what);
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

fn agreed() -> Result<bool> {
    if !io::stdin().is_terminal() {
        eprintln!("gw: nobody can be asked: give --yes");
        return Ok(false);
    }
    eprint!("Apply? [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
