//! The object store: whatever `object_store` can reach.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use object_store::path::Path;
use object_store::{Error, ObjectStore, PutMode, PutPayload};
use tokio::runtime::{Builder, Runtime};
use url::Url;

use super::put::Stored;

/// The environment variables that configure a store, as its other tools read them. Others may have names such as TOKEN
/// that have nothing to do with it.
const VARIABLES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

pub struct Store {
    store: Box<dyn ObjectStore>,
    folder: Path,
    runtime: Runtime,
    /// Of a local folder, where it is.
    disk: Option<PathBuf>,
    /// The folder below it whose own entry is on the disk.
    kept: RefCell<PathBuf>,
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
        let disk = address.to_file_path().ok().filter(|_| address.scheme() == "file");
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { store, folder, runtime, disk, kept: RefCell::default() })
    }

    /// Writes the object unless one with that name exists. It is written completely or not at all, and stays.
    pub fn create(&self, name: &str, bytes: Vec<u8>, time: Duration) -> Result<Stored> {
        let path = self.path(name)?;
        let stored =
            self.runtime.block_on(async { tokio::time::timeout(time, self.put(&path, bytes.into())).await })??;
        if let Some(disk) = &self.disk {
            self.keep(disk, name).with_context(|| format!("cannot sync {name}"))?;
        }
        Ok(stored)
    }

    /// What is acknowledged is gone from the server, so it must not be lost with this machine's memory. An object that was
    /// there before may be that of a process which died before this.
    fn keep(&self, disk: &FilePath, name: &str) -> io::Result<()> {
        let object = disk.join(name);
        File::open(&object)?.sync_all()?;
        for folder in object.ancestors().skip(1).take_while(|folder| folder.starts_with(disk)) {
            File::open(folder)?.sync_all()?;
            if *folder == **self.kept.borrow() {
                break;
            }
        }
        *self.kept.borrow_mut() = object.parent().unwrap_or(disk).to_owned();
        Ok(())
    }

    /// The bytes of an object; `None` if there is none.
    pub fn read(&self, name: &str, time: Duration) -> Result<Option<Vec<u8>>> {
        let path = self.path(name)?;
        let read = async {
            match self.store.get(&path).await {
                Ok(object) => Ok(Some(object.bytes().await?.to_vec())),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        self.runtime.block_on(async { tokio::time::timeout(time, read).await })?
    }

    fn path(&self, name: &str) -> Result<Path> {
        Ok(Path::parse(format!("{}/{name}", self.folder).trim_start_matches('/'))?)
    }

    async fn put(&self, path: &Path, payload: PutPayload) -> Result<Stored> {
        match self.store.put_opts(path, payload, PutMode::Create.into()).await {
            Ok(_) => Ok(Stored::Now),
            // S3 replies this also while another client is writing the object, which may still fail.
            Err(Error::AlreadyExists { .. }) => match self.store.head(path).await {
                Ok(_) => Ok(Stored::Before),
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
