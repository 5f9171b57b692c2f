//! `gw export`: a server's accounts as the file that `gw apply` takes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::process::ExitCode;

use anyhow::{Result, anyhow};
use gateway_core::admission::Kind;
use gateway_core::admission::document::{self, Named};
use redis_gateway_client::Error;
use redis_gateway_client::commands::policy_document;

use super::apply::idle_ms;
use super::words::members;
use crate::caller::Caller;
use crate::out;
use crate::scan::{self, Scan};
use crate::target::Target;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Only accounts whose keys match this, as in SCAN
    #[arg(default_value = "*")]
    pattern: String,
}

/// Equal plans are one: their policies as a document, and how long their accounts outlive their last admission.
type Plans = BTreeMap<(String, i64), Vec<String>>;

impl Args {
    pub fn run(&self) -> ExitCode {
        let done = self.export().and_then(|(text, passed_over)| {
            out::print(&text)?;
            Ok(passed_over)
        });
        match done {
            Ok(passed_over) => {
                passed_over.iter().for_each(|line| eprintln!("gw: {line}"));
                if passed_over.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            }
            Err(error) => {
                eprintln!("gw: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    /// The file, and what could not be in it.
    fn export(&self) -> Result<(String, Vec<String>)> {
        let (mut plans, mut passed_over) = (Plans::new(), Vec::new());
        let mut caller = self.target.caller()?;
        for key in self.keys()? {
            match String::from_utf8(key) {
                Err(error) => passed_over.push(format!("{:?}: not UTF-8", String::from_utf8_lossy(error.as_bytes()))),
                Ok(account) => match plan_of(&mut caller, &account) {
                    Ok(Some(plan)) => plans.entry(plan).or_default().push(account),
                    // It has expired.
                    Ok(None) => {}
                    Err(error) => match error.downcast_ref::<Error>() {
                        Some(Error::Reply(reply)) => passed_over.push(format!("{account}: {reply}")),
                        _ => return Err(error),
                    },
                },
            }
        }
        Ok((write(&plans)?, passed_over))
    }

    /// The keys of accounts on all primaries.
    fn keys(&self) -> Result<BTreeSet<Vec<u8>>> {
        let mut keys = BTreeSet::new();
        self.target.fleet()?.each(|primary| {
            let mut scan = Scan::of(scan::ACCOUNT).matching(&self.pattern);
            while let Some(found) = scan.next(&mut primary.connection)? {
                keys.extend(found);
            }
            Ok(())
        })?;
        Ok(keys)
    }
}

fn plan_of(caller: &mut Caller, account: &str) -> Result<Option<(String, i64)>> {
    let Some(document) = caller.ask(&policy_document(account))? else { return Ok(None) };
    let document = document.as_str().ok_or_else(|| anyhow!("{account}: its document is not UTF-8"))?.to_owned();
    // An account with a budget stays.
    let stays = read(&document)?.iter().any(|(_, policy)| matches!(policy.kind, Kind::Budget { .. }));
    let idle_ms = if stays { 0 } else { idle_ms(caller, account)? };
    Ok(Some((document, idle_ms)))
}

fn read(document: &str) -> Result<Vec<Named>> {
    document::read(document.as_bytes(), 0).map_err(|refused| anyhow!("policies that are not known here: {refused}"))
}

/// The plan that most accounts have comes first.
fn write(plans: &Plans) -> Result<String> {
    let mut sorted: Vec<_> = plans.iter().collect();
    sorted.sort_by_key(|(_, accounts)| usize::MAX - accounts.len());
    let mut out = String::from(if sorted.is_empty() { "plans: {}\n" } else { "plans:\n" });
    for (number, ((document, idle_ms), accounts)) in (1..).zip(sorted) {
        writeln!(out, "  plan-{number}:")?;
        let policies = read(document)?;
        out.push_str(if policies.is_empty() { "    policies: []\n" } else { "    policies:\n" });
        for (name, policy) in &policies {
            let members = members(policy).into_iter().map(|(member, value)| format!(", {member}: {value}"));
            let name = quoted(&String::from_utf8_lossy(name));
            writeln!(out, "      - {{name: {name}{}}}", members.collect::<String>())?;
        }
        if *idle_ms > 0 {
            writeln!(out, "    idle_ms: {idle_ms}")?;
        }
        out.push_str("    accounts:\n");
        for account in accounts {
            writeln!(out, "      - {}", quoted(account))?;
        }
    }
    Ok(out)
}

/// In double quotes, in which YAML reads what JSON writes. What does not print is escaped.
fn quoted(text: &str) -> String {
    let mut out = String::new();
    for c in serde_json::Value::from(text).to_string().chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plans::file::parse;

    #[test]
    fn what_is_written_is_read() {
        let document = r#"{"policies":[{"name":"a\"b: #é\u2028","kind":"window","limit":"1.5","per_ms":1000,"decimal":true,"meter":"usd"},{"name":"no","kind":"block","until_ms":5}]}"#;
        let accounts = ["null", "- x", "a: b", "{t}:1", "\u{1}\u{7f}\u{2028}\"\\", "", "é"].map(String::from).to_vec();
        let plans = Plans::from([
            ((document.to_owned(), 7), accounts.clone()),
            ((r#"{"policies":[]}"#.to_owned(), 0), vec!["b".into()]),
        ]);
        let text = write(&plans).unwrap();
        let read_back = parse(&text).unwrap();
        assert_eq!((&read_back[0].accounts, read_back[0].idle_ms), (&accounts, Some(7)), "{text}");
        let named = |policies: &[Named]| policies.iter().map(crate::plans::words::line).collect::<Vec<_>>();
        assert_eq!(named(&read_back[0].policies), named(&read(document).unwrap()));
        assert_eq!((read_back[1].policies.len(), &*read_back[1].accounts), (0, &["b".to_owned()][..]));
        assert!(parse(&write(&Plans::new()).unwrap()).unwrap().is_empty());
    }
}
