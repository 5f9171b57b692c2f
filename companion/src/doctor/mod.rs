//! `gw doctor`: holds a server or cluster against what the book advises.

mod checks;
mod finding;
mod kinds;
mod look;
mod roles;

use std::process::ExitCode;

use serde::Serialize;

use crate::target::Target;
use finding::{Finding, Severity};
use look::Found;

/// Checks a server or cluster against what the book advises. Exit codes: 0 without findings, 1 with problems or
/// warnings, 2 if no node could be asked
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

const FINDINGS: u8 = 1;
const NOT_REACHED: u8 = 2;

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    nodes: Vec<&'a str>,
    findings: &'a [Finding],
}

impl Args {
    pub fn run(&self) -> ExitCode {
        let found = match self.target.seed() {
            Ok(seed) => look::look(&seed, &roles::all()),
            Err(error) => {
                eprintln!("gw: {error:#}");
                return ExitCode::from(NOT_REACHED);
            }
        };
        if found.nodes.is_empty() {
            found.away.iter().for_each(|(node, reason)| eprintln!("gw: {node}: {reason}"));
            return ExitCode::from(NOT_REACHED);
        }
        let findings = checks::check(&found);
        if self.json {
            print_json(&found, &findings)
        } else {
            print_text(&found, &findings)
        }
        let is_well = findings.iter().all(|finding| finding.severity == Severity::Note);
        if is_well { ExitCode::SUCCESS } else { ExitCode::from(FINDINGS) }
    }
}

fn print_text(found: &Found, findings: &[Finding]) {
    findings.iter().for_each(|finding| println!("{finding}\n"));
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (problems, warnings, notes) = (count(Severity::Problem), count(Severity::Warning), count(Severity::Note));
    println!("{} nodes: {problems} problems, {warnings} warnings, {notes} notes", found.nodes.len());
}

fn print_json(found: &Found, findings: &[Finding]) {
    let report = Report { nodes: found.nodes.iter().map(|node| &*node.name).collect(), findings };
    match serde_json::to_string_pretty(&report) {
        Ok(text) => println!("{text}"),
        Err(error) => eprintln!("gw: {error}"),
    }
}
