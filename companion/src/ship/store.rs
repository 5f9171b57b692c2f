//! The object store: whatever `object_store` can reach.

use std::path::Path as FilePath;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use object_store::path::Path;
use object_store::{Error, ObjectStore, PutMode, PutPayload};
use tokio::runtime::{Builder, Runtime};
use url::Url;

/// The environment variables that configure a store, as its other tools read them. Others may have names such as TOKEN
/// that have nothing to do with it.
const VARIABLES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

pub struct Store {
    store: Box<dyn ObjectStore>,
    folder: Path,
    runtime: Runtime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    Now,
    Before,
}

/// Reads an address: a folder is one, too.
///
/// # Errors
/// If it is not one.
pub fn address(text: &str) -> Result<Url> {
    if text.contains("://") {
        return Ok(Url::parse(text)?);
    }
    let folder = std::path::absolute(FilePath::new(text))?;
    Url::from_directory_path(&folder).ok().with_context(|| format!("not a folder: {}", folder.display()))
}

impl Store {
    pub fn open(address: &Url) -> Result<Self> {
        let variables = std::env::vars().filter(|(name, _)| VARIABLES.iter().any(|prefix| name.starts_with(prefix)));
        let options = variables.map(|(name, value)| (name.to_ascii_lowercase(), value));
        let (store, folder) = object_store::parse_url_opts(address, options)?;
        Ok(Self { store, folder, runtime: Builder::new_current_thread().enable_all().build()? })
    }

    /// Writes the object unless one with that name exists. It is written completely or not at all.
    pub fn create(&self, name: &str, bytes: Vec<u8>, time: Duration) -> Result<Created> {
        let path = Path::parse(format!("{}/{name}", self.folder).trim_start_matches('/'))?;
        self.runtime.block_on(async { tokio::time::timeout(time, self.put(&path, bytes.into())).await })?
    }

    async fn put(&self, path: &Path, payload: PutPayload) -> Result<Created> {
        match self.store.put_opts(path, payload, PutMode::Create.into()).await {
            Ok(_) => Ok(Created::Now),
            // S3 replies this also while another client is writing the object, which may still fail.
            Err(Error::AlreadyExists { .. }) => match self.store.head(path).await {
                Ok(_) => Ok(Created::Before),
                Err(error) => bail!("being written by somebody else: {error}"),
            },
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_addresses_are_stores() {
        assert_eq!(address("/var/log/a b").unwrap().as_str(), "file:///var/log/a%20b/");
        assert!(address("shipped").unwrap().as_str().ends_with("/shipped/"));
        assert_eq!(address("s3://bucket/logs").unwrap().scheme(), "s3");
        assert!(address("://").is_err());
    }
}
