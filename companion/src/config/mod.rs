//! The configuration: one TOML file. Whatever is wrong in it is told with its line before anything is started.

mod duration;
mod secret;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

pub use secret::Secret;

use crate::ship::key::Template;

/// What `gw run` does.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    #[serde(default)]
    pub http: Http,
    #[serde(default)]
    pub ship: Vec<Ship>,
}

/// The server, or any node of a cluster.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// `redis://user:password@host:port/database`, `rediss://` with TLS, `redis+unix:///path`.
    pub url: Spanned<Secret>,
}

/// Where health and metrics are served.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    #[serde(default = "Http::default_listen")]
    pub listen: SocketAddr,
}

impl Http {
    fn default_listen() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 9_464))
    }
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: Self::default_listen() }
    }
}

/// Log queues, and the object store that their records go to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ship {
    /// Keys of queues.
    pub queues: Spanned<Vec<String>>,
    /// A folder, or an address such as `s3://bucket/folder`, `gs://…`, `az://…`.
    pub to: Spanned<String>,
    #[serde(default)]
    pub format: Format,
    /// The names of objects, without their ending.
    #[serde(default = "Ship::default_key")]
    pub key: Spanned<String>,
    /// The most records in an object.
    #[serde(default = "Ship::default_records")]
    pub records: Spanned<u32>,
    /// After this time a batch goes to another instance, if this one has died.
    #[serde(default = "Ship::default_lease", deserialize_with = "spanned_duration")]
    pub lease: Spanned<Duration>,
}

/// The form of an object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Format {
    /// A JSON text in each line, compressed with zstd.
    #[default]
    #[serde(rename = "ndjson.zst")]
    NdjsonZst,
    /// The same, compressed with gzip.
    #[serde(rename = "ndjson.gz")]
    NdjsonGz,
}

fn spanned_duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Spanned<Duration>, D::Error> {
    #[derive(Deserialize)]
    struct Written(#[serde(deserialize_with = "duration::deserialize")] Duration);
    let written = Spanned::<Written>::deserialize(deserializer)?;
    let span = written.span();
    Ok(Spanned::new(span, written.into_inner().0))
}

impl Ship {
    fn default_key() -> Spanned<String> {
        Spanned::new(0..0, "date={date}/hour={hour}/{queue}-{batch}".to_owned())
    }

    fn default_records() -> Spanned<u32> {
        Spanned::new(0..0, 10_000)
    }

    fn default_lease() -> Spanned<Duration> {
        Spanned::new(0..0, Duration::from_secs(60))
    }
}

/// What is wrong with a configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    file: PathBuf,
    /// From 1; `None` if the file cannot be read.
    line: Option<usize>,
    message: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file.display(), self.message),
            None => write!(f, "{}: {}", self.file.display(), self.message),
        }
    }
}

impl std::error::Error for Wrong {}

/// Reads a configuration and checks it whole, without connecting to anything.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub fn read(file: &Path) -> Result<Config, Wrong> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Wrong { file: file.to_owned(), line: None, message: error.to_string() })?;
    parse(file, &text)
}

fn parse(file: &Path, text: &str) -> Result<Config, Wrong> {
    let line_of = |offset: usize| 1 + text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count();
    let wrong = |at: usize, message: String| Wrong { file: file.to_owned(), line: Some(line_of(at)), message };
    let config: Config = toml::from_str(text)
        .map_err(|error| wrong(error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
    check(&config).map_err(|(at, message)| wrong(at, message))?;
    Ok(config)
}

/// What types alone do not tell: the place in the file, and what is wrong there.
fn check(config: &Config) -> Result<(), (usize, String)> {
    fn at<T>(value: &Spanned<T>, message: impl Into<String>) -> (usize, String) {
        (value.span().start, message.into())
    }
    let url = config.server.url.as_ref().read().map_err(|error| at(&config.server.url, format!("url: {error}")))?;
    crate::nodes::Seed::new(&url).map_err(|_| at(&config.server.url, "url: not the URL of a Redis or Valkey server"))?;
    let mut queues = BTreeSet::new();
    for ship in &config.ship {
        if ship.queues.as_ref().is_empty() {
            return Err(at(&ship.queues, "queues: none"));
        }
        for queue in ship.queues.as_ref() {
            if !queues.insert(queue) {
                return Err(at(&ship.queues, format!("queues: {queue:?} is shipped twice")));
            }
        }
        if !(1..=10_000).contains(ship.records.as_ref()) {
            return Err(at(&ship.records, "records: not between 1 and 10000"));
        }
        if !(Duration::from_millis(100)..=Duration::from_secs(86_400)).contains(ship.lease.as_ref()) {
            return Err(at(&ship.lease, "lease: not between 100ms and 24h"));
        }
        Template::parse(ship.key.as_ref()).map_err(|error| at(&ship.key, format!("key: {error}")))?;
        crate::ship::store::address(ship.to.as_ref()).map_err(|error| at(&ship.to, format!("to: {error:#}")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        parse(Path::new("gw.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn a_small_file_is_enough() {
        let config = parse(Path::new("gw.toml"), "[server]\nurl = \"redis://127.0.0.1\"\n").unwrap();
        assert_eq!(config.http.listen, SocketAddr::from(([127, 0, 0, 1], 9_464)));
        assert!(config.ship.is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let server = "[server]\nurl = \"redis://127.0.0.1\"\n";
        for (rest, line, message) in [
            ("[serve]\n", 3, "unknown field `serve`"),
            ("[http]\nlisten = \"here\"\n", 4, "invalid socket address"),
            ("[[ship]]\nqueues = []\nto = \"out\"\n", 4, "queues: none"),
            ("[[ship]]\nqueues = [\"a\", \"a\"]\nto = \"out\"\n", 4, "queues: \"a\" is shipped twice"),
            ("[[ship]]\nqueues = [\"a\"]\nto = \"out\"\nlease = \"1 s\"\n", 6, "not a duration"),
            ("[[ship]]\nqueues = [\"a\"]\nto = \"out\"\nlease = \"1ms\"\n", 6, "lease: not between"),
            ("[[ship]]\nqueues = [\"a\"]\nto = \"out\"\nrecords = 0\n", 6, "records: not between"),
            ("[[ship]]\nqueues = [\"a\"]\nto = \"out\"\nkey = \"{day}\"\n", 6, "key: "),
            ("[[ship]]\nqueues = [\"a\"]\nto = \"out\"\nformat = \"csv\"\n", 6, "unknown variant `csv`"),
        ] {
            let told = problem(&format!("{server}{rest}"));
            assert!(told.starts_with(&format!("gw.toml:{line}: ")) && told.contains(message), "{rest}: {told}");
        }
        assert!(problem("[server]\nurl = \"http://host\"\n").starts_with("gw.toml:2: url: "));
        for secret in ["{ env = \"NO_SUCH_VARIABLE\" }", "{ file = \"/no/such/file\" }"] {
            let told = problem(&format!("[server]\nurl = {secret}\n"));
            assert!(told.starts_with("gw.toml:2: url: ") && told.contains("NO_SUCH_VARIABLE") | told.contains("/no/such/file"), "{told}");
        }
        assert!(problem("").contains("missing field `server`"));
        let unreadable = read(Path::new("/no/such/gw.toml")).unwrap_err().to_string();
        assert!(unreadable.starts_with("/no/such/gw.toml: "), "{unreadable}");
    }

    #[test]
    fn secrets_are_not_shown() {
        let config = parse(Path::new("gw.toml"), "[server]\nurl = \"redis://:hidden@127.0.0.1\"\n").unwrap();
        assert!(!format!("{config:?}").contains("hidden"));
    }
}
