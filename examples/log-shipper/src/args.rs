//! The command line.

use anyhow::{Context, Result};
use clap::Parser;
use std::path::Path;
use url::Url;

/// Ships the JSON records of log queues to an object store: each leased batch becomes one object of compressed,
/// newline-delimited JSON, named by the batch's id. Run as many of them as you like.
#[derive(Debug, Parser)]
#[command(name = "gw-log-shipper", after_help = AFTER_HELP)]
pub struct Args {
    /// The queues; each is shipped by a thread of its own
    #[arg(required = true, value_name = "KEY")]
    pub keys: Vec<String>,

    /// Where objects go: a folder, or an address such as s3://bucket/folder
    #[arg(long, env = "GW_STORE", default_value = "shipped", value_parser = parse_store)]
    pub store: Url,

    /// The server, or any node of a cluster; the queues are followed to the nodes that have them
    #[arg(long, env = "GW_REDIS", default_value = "redis://127.0.0.1:6379")]
    pub redis: String,

    /// The most records in an object; a mebibyte of records is the other bound
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub count: u32,

    /// After this time a batch goes to another shipper, if this one has died
    #[arg(long, default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(100..=86_400_000))]
    pub lease_ms: u64,
}

const AFTER_HELP: &str = "\
S3 is configured as its other tools are: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL ...
In a cluster, spread the load over queues in different slots: 'log:{0}' 'log:{1}' ...
The server should run with `appendfsync always`: a lease that it forgets in a crash is given again under another name.";

/// A folder is accepted as a store, too.
fn parse_store(text: &str) -> Result<Url> {
    if text.contains("://") {
        return Ok(Url::parse(text)?);
    }
    let folder = std::path::absolute(Path::new(text))?;
    Url::from_directory_path(&folder).ok().with_context(|| format!("not a folder: {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_declaration_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn folders_and_addresses_are_stores() {
        assert_eq!(parse_store("/var/log/a b").unwrap().as_str(), "file:///var/log/a%20b/");
        assert!(parse_store("shipped").unwrap().as_str().ends_with("/shipped/"));
        assert_eq!(parse_store("s3://bucket/logs").unwrap().scheme(), "s3");
        assert!(parse_store("://").is_err());
    }
}
