//! The server binaries on this machine.

use crate::error::Error;
use crate::paths::project_root;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The two families of servers that load the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    Redis,
    Valkey,
}

/// A server executable, asked for its version.
///
/// The environment variable `GW_SERVER` chooses it: `system` (the default) is the `redis-server` on the PATH, or else
/// the `valkey-server`; any other name stands for the binary that `scripts/servers.sh` put into `.servers/<name>/`; a
/// value with a slash is the path of an executable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    pub path: PathBuf,
    pub flavour: Flavour,
    /// Major, minor, patch.
    pub version: (u32, u32, u32),
}

const NAMES: [&str; 2] = ["redis-server", "valkey-server"];

impl Binary {
    /// The binary that `GW_SERVER` names.
    ///
    /// # Errors
    /// If there is none; the error has the remedy.
    pub fn chosen() -> Result<Self, Error> {
        match std::env::var("GW_SERVER") {
            Ok(name) => Self::named(&name),
            Err(_) => Self::named("system"),
        }
    }

    /// The binary of a name that `GW_SERVER` could have.
    ///
    /// # Errors
    /// If there is none; the error has the remedy.
    pub fn named(name: &str) -> Result<Self, Error> {
        if name.contains('/') {
            return Self::at(Path::new(name));
        }
        if name == "system" {
            // If the server was installed without a name on the PATH, scripts/install.sh has linked it here.
            let fallback = project_root().join(".servers/system");
            let path = std::env::var_os("PATH").unwrap_or_default();
            let directories: Vec<PathBuf> = std::env::split_paths(&path).chain([fallback]).collect();
            return find_in(&NAMES, &directories)
                .ok_or_else(|| Error::new("no redis-server on the PATH: run scripts/install.sh"))
                .and_then(|path| Self::at(&path));
        }
        find_in(&NAMES, &[project_root().join(".servers").join(name)])
            .ok_or_else(|| Error::new(format!("no server in .servers/{name}: run scripts/servers.sh")))
            .and_then(|path| Self::at(&path))
    }

    /// All servers on this machine, the system's first: the matrix for `make test`.
    pub fn all() -> Vec<Self> {
        let mut names: Vec<String> = std::fs::read_dir(project_root().join(".servers"))
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name != "system")
            .collect();
        names.sort();
        names.insert(0, "system".into());
        names.iter().filter_map(|name| Self::named(name).ok()).collect()
    }

    /// The command line client: the server's own beside it, or else one on the PATH. All of them speak to all servers.
    pub fn cli(&self) -> PathBuf {
        let names = match self.flavour {
            Flavour::Redis => ["redis-cli", "valkey-cli"],
            Flavour::Valkey => ["valkey-cli", "redis-cli"],
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let beside = self.path.parent().map(Path::to_owned);
        let directories: Vec<PathBuf> = beside.into_iter().chain(std::env::split_paths(&path)).collect();
        find_in(&names, &directories).unwrap_or_else(|| names[0].into())
    }

    fn at(path: &Path) -> Result<Self, Error> {
        let output = Command::new(path)
            .arg("--version")
            .output()
            .map_err(|error| Error::new(format!("cannot run {}: {error}", path.display())))?;
        let text = String::from_utf8_lossy(&output.stdout);
        parse_version(&text).map(|(flavour, version)| Self { path: path.into(), flavour, version }).ok_or_else(|| {
            Error::new(format!("{} is no Redis or Valkey server; it says: {}", path.display(), text.trim()))
        })
    }
}

impl std::fmt::Display for Binary {
    /// As in `Redis 7.0.15`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (major, minor, patch) = self.version;
        write!(f, "{:?} {major}.{minor}.{patch}", self.flavour)
    }
}

/// The first program in `directories`: the first name anywhere before the second.
fn find_in(names: &[&str], directories: &[PathBuf]) -> Option<PathBuf> {
    names.iter().find_map(|name| directories.iter().map(|directory| directory.join(name)).find(|path| path.is_file()))
}

/// Reads `Redis server v=7.0.15 sha=...` or `Valkey server v=8.1.8 sha=...`.
fn parse_version(text: &str) -> Option<(Flavour, (u32, u32, u32))> {
    let (flavour, rest) = match text.trim_start().split_once(" server v=")? {
        ("Redis", rest) => (Flavour::Redis, rest),
        ("Valkey", rest) => (Flavour::Valkey, rest),
        _ => return None,
    };
    let mut parts = rest.split_whitespace().next()?.splitn(3, '.').map(|part| {
        // A release candidate reads 8.0.0-rc1.
        part.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok())
    });
    Some((flavour, (parts.next()??, parts.next()??, parts.next()??)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let redis = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4d7c971a948f0\n";
        assert_eq!(parse_version(redis), Some((Flavour::Redis, (7, 0, 15))));
        let valkey = "Valkey server v=9.1.0-rc2 sha=00000000:1 malloc=libc bits=64 build=1536df31c0395150\n";
        assert_eq!(parse_version(valkey), Some((Flavour::Valkey, (9, 1, 0))));
        for other in ["", "bash 5.2", "Redis server v=7", "Memcached server v=1.2.3"] {
            assert_eq!(parse_version(other), None, "{other}");
        }
    }

    #[test]
    fn other_programs_are_refused() {
        assert!(Binary::named("/bin/true").unwrap_err().to_string().contains("no Redis or Valkey server"));
        assert!(Binary::named("no-such-server").unwrap_err().to_string().contains("scripts/servers.sh"));
    }
}
