//! Generates the load on a server: with redis-benchmark, which comes with the server, or with this program's own
//! generator.

use crate::cycles;
use crate::load::{CLIENTS, Load, UNIQUE};
use crate::result::Result;
use std::process::{Command, Stdio};

pub struct Generator {
    program: &'static str,
    /// As it reports itself.
    pub version: String,
    port: u16,
}

impl Generator {
    /// The generator on the PATH, for a server on 127.0.0.1.
    pub fn find(port: u16) -> Result<Self> {
        for program in ["redis-benchmark", "valkey-benchmark"] {
            if let Ok(output) = Command::new(program).arg("--version").output() {
                let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                return Ok(Self { program, version, port });
            }
        }
        Err("no redis-benchmark on the PATH: install the package redis-tools".into())
    }

    /// Requests per second of each command.
    ///
    /// # Errors
    /// Also if the server replied errors.
    pub fn run(&self, load: &Load) -> Result<f64> {
        let arguments = match load.commands {
            [arguments] if arguments.iter().all(|argument| !argument.contains(UNIQUE)) => arguments,
            _ => return cycles::run(self.port, load),
        };
        let options: [(&str, String); 6] = [
            ("-p", self.port.to_string()),
            ("--dbnum", load.database.to_string()),
            ("-c", CLIENTS.to_string()),
            ("-P", load.pipeline.to_string()),
            ("-n", load.requests.to_string()),
            ("-r", load.keys.to_string()),
        ];
        let mut command = Command::new(self.program);
        for (name, value) in options {
            command.arg(name).arg(value);
        }
        let output = command.arg("--csv").args(arguments).stdin(Stdio::null()).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() || text.contains("Error from server") {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{} failed: {}{}", self.program, text.trim(), errors.trim()).into());
        }
        requests_per_second(&text).ok_or_else(|| format!("cannot read {}'s output: {text}", self.program).into())
    }
}

/// Reads the output of `--csv`. Since 6.2 a header names the columns; before that there are two, name and rate. The
/// name can contain anything, so columns are counted from the end.
fn requests_per_second(csv: &str) -> Option<f64> {
    let lines: Vec<&str> = csv.lines().filter(|line| line.starts_with('"')).collect();
    let behind = match lines.first()?.strip_prefix("\"test\",") {
        Some(header) => {
            let columns: Vec<&str> = header.split(',').map(unquoted).collect();
            columns.len() - 1 - columns.iter().position(|&column| column == "rps")?
        }
        None => 0,
    };
    unquoted(lines.last()?.rsplit(',').nth(behind)?).parse().ok()
}

fn unquoted(field: &str) -> &str {
    field.trim().trim_matches('"')
}

/// Checks the parser on the output of different versions. A benchmark has no test run of its own, so it does this at
/// its start.
pub fn check_parser() -> Result<()> {
    let new =
        "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\"\n\"SET k \"x\",y\",\"81234.50\",\"0.313\",\"0.1\"\n";
    let old = "\"PING_INLINE\",\"74850.30\"\n";
    match (requests_per_second(new), requests_per_second(old), requests_per_second("WARNING\n")) {
        (Some(81_234.5), Some(74_850.3), None) => Ok(()),
        other => Err(format!("the parser of redis-benchmark's output is broken: {other:?}").into()),
    }
}
