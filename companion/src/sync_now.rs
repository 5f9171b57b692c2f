//! `gw sync`: brings the database of ledgers up to date, and ends.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::{config, sync};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration
    #[arg(long, env = "GW_CONFIG", default_value = "gw.toml")]
    config: PathBuf,
    /// Stores every ledger whole, also what was acknowledged before: for a new database
    #[arg(long)]
    whole: bool,
}

impl Args {
    pub fn run(&self) -> ExitCode {
        match self.catch_up() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("gw: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    fn catch_up(&self) -> Result<()> {
        let config = config::read(&self.config)?;
        let part = config.sync.as_ref().context("the configuration has no [sync]")?;
        let seed = config.seed()?;
        sync::catch_up(part, seed, self.whole)
    }
}
