//! Where the project and the module are.

use crate::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The workspace's root directory, in which this crate was built.
pub fn project_root() -> &'static Path {
    let manifest_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest_dir.parent().unwrap_or(manifest_dir)
}

/// The module to load: `GW_MODULE`, or the release build in the target directory (`CARGO_TARGET_DIR`, or `target`).
///
/// # Errors
/// If there is no such file.
pub fn module_path() -> Result<PathBuf, Error> {
    let path = match std::env::var_os("GW_MODULE") {
        Some(path) => PathBuf::from(path),
        None => {
            let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
            project_root().join(target).join("release").join("libredis_gateway.so")
        }
    };
    // The server resolves the path in its own working directory, so it needs an absolute one.
    path.canonicalize().map_err(|error| {
        Error::new(format!("no module at {}: {error}. Build it with `cargo build --release`", path.display()))
    })
}

/// A new temporary directory.
pub(crate) fn new_dir() -> Result<PathBuf, Error> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("gw-server-{}-{count}", std::process::id()));
    // Left behind by a process of the same id that was killed.
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir)?;
    Ok(dir)
}
