//! `gw spend`: what was spent, from the database of ledgers, in forms that other programs read.

mod focus;
mod parquet;

use std::fs::File;
use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Subcommand;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::{config, ledgers};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    form: Form,
}

#[derive(Debug, Subcommand)]
enum Form {
    /// As CSV or Parquet with the columns of FOCUS 1.2, a row for each account and day
    Focus(Focus),
}

#[derive(Debug, clap::Args)]
struct Focus {
    /// The configuration: the database in [sync]
    #[arg(long, env = "GW_CONFIG", default_value = "gw.toml")]
    config: PathBuf,
    /// The first day, yyyy-mm-dd
    #[arg(long)]
    from: Date,
    /// The day after the last one, yyyy-mm-dd
    #[arg(long)]
    to: Date,
    /// The time zone of the ledgers' days: gw.timezone of the server
    #[arg(long, default_value = "UTC")]
    timezone: String,
    /// The form of the file
    #[arg(long, value_enum, default_value_t = FileForm::Csv)]
    format: FileForm,
    /// A file, which is complete when it appears; without it, the standard output
    #[arg(long)]
    output: Option<PathBuf>,
    #[command(flatten)]
    names: focus::Names,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum FileForm {
    Csv,
    Parquet,
}

/// The rows that are read at a time, so that memory does not grow with their number.
const PAGE: usize = 10_000;

impl Args {
    pub fn run(&self) -> ExitCode {
        let Form::Focus(focus) = &self.form;
        match focus.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("gw: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

impl Focus {
    fn run(&self) -> Result<()> {
        ensure!(self.from < self.to, "--to is not after --from");
        let Some(output) = &self.output else { return self.write(stdout()) };
        let mut part = output.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part).with_context(|| format!("cannot write {}", part.display()))?;
        self.write(&file)?;
        file.sync_all()?;
        std::fs::rename(&part, output).with_context(|| format!("cannot make {}", output.display()))
    }

    fn write(&self, to: impl Write + Send) -> Result<()> {
        match self.format {
            FileForm::Csv => {
                let mut to = csv::Writer::from_writer(to);
                to.write_record(focus::COLUMNS.map(|(name, _)| name))?;
                self.each_page(|rows| {
                    rows.iter().try_for_each(|row| to.write_record(row.each_ref().map(focus::Value::text)))?;
                    Ok(())
                })?;
                Ok(to.flush()?)
            }
            FileForm::Parquet => {
                let mut to = parquet::File::new(to)?;
                self.each_page(|rows| to.write(rows))?;
                to.finish()
            }
        }
    }

    fn each_page(&self, mut write: impl FnMut(&[[focus::Value; focus::COLUMNS.len()]]) -> Result<()>) -> Result<()> {
        let config = config::read(&self.config)?;
        let sync = config.sync.as_ref().context("the configuration has no [sync]")?;
        let mut database = ledgers::open(&sync.address().map_err(anyhow::Error::msg)?)?;
        let zone = TimeZone::get(&self.timezone).with_context(|| format!("not a time zone: {}", self.timezone))?;
        let mut after = None;
        loop {
            let page = database.days(self.from, self.to, after.as_ref(), PAGE)?;
            let rows = page.iter().map(|spent| focus::row(spent, &self.names, &zone)).collect::<Result<Vec<_>>>()?;
            let Some(last) = page.into_iter().last() else { return Ok(()) };
            write(&rows)?;
            after = Some(last);
        }
    }
}
