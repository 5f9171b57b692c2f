//! Which server a command is about.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::caller::Caller;
use crate::fleet::Fleet;
use crate::nodes::Seed;

#[derive(Debug, clap::Args)]
pub struct Target {
    /// The server, or any node of a cluster: redis://user:password@host:port/database, rediss:// with TLS. Others on this
    /// machine can read a password on the command line, but not one in GW_URL
    #[arg(long, env = "GW_URL", hide_env_values = true, default_value = "redis://127.0.0.1:6379")]
    url: String,
}

impl Target {
    /// For calls about a key.
    ///
    /// # Errors
    /// If the URL is not one of a server.
    pub fn caller(&self) -> Result<Caller> {
        Ok(Caller::new(self.seed()?, Duration::ZERO))
    }

    /// For calls to all primaries.
    ///
    /// # Errors
    /// If the URL is not one of a server.
    pub fn fleet(&self) -> Result<Fleet> {
        Ok(Fleet::new(self.seed()?))
    }

    /// # Errors
    /// If the URL is not one of a server.
    pub fn seed(&self) -> Result<Seed> {
        // The error does not show the URL, which may have a password in it.
        Seed::new(&self.url).context("--url is not the URL of a Redis or Valkey server")
    }
}
