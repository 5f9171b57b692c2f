//! The object store: whatever `object_store` can reach.

use anyhow::{Result, bail};
use object_store::path::Path;
use object_store::{Error, ObjectStore, PutMode, PutPayload};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use url::Url;

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

impl Store {
    pub fn open(address: &Url) -> Result<Self> {
        // Only these variables: others may have names such as TOKEN that have nothing to do with S3.
        let variables = std::env::vars().filter(|(name, _)| name.starts_with("AWS_"));
        let options = variables.map(|(name, value)| (name.to_ascii_lowercase(), value));
        let (store, folder) = object_store::parse_url_opts(address, options)?;
        Ok(Self { store, folder, runtime: Builder::new_current_thread().enable_all().build()? })
    }

    pub fn path(&self, name: &str) -> Path {
        self.folder.child(name)
    }

    /// Writes the object unless one with that name exists. It is written completely or not at all.
    pub fn create(&self, name: &str, bytes: Vec<u8>, time: Duration) -> Result<Created> {
        let path = self.path(name);
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
