//! The configuration: one TOML file. Whatever is wrong in it is told with its line before anything is started.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use crate::console::settings::{self as console, Console};
use crate::metrics::settings::{self as metrics, Metrics};
use crate::nodes::Seed;
use crate::ship::settings::{self as ship, Ship};
use crate::sync::settings::{self as sync, Sync};
use crate::values::{Secret, Wrong as WrongAt, wrong};

/// What `gw run` does.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub console: Option<Console>,
    #[serde(default)]
    pub http: Http,
    #[serde(default)]
    pub metrics: Metrics,
    #[serde(default)]
    pub ship: Vec<Ship>,
    pub sync: Option<Sync>,
}

impl Config {
    /// Where the nodes are found from.
    ///
    /// # Errors
    /// If a file or variable that the checked configuration names has gone since.
    pub fn seed(&self) -> anyhow::Result<Seed> {
        self.server.seed().map_err(|(_, message)| anyhow::Error::msg(message))
    }
}

/// The server, or any node of a cluster.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// `redis://user:password@host:port/database`, `rediss://` with TLS, `redis+unix:///path`.
    pub url: Spanned<Secret>,
    /// Sentinels that know the primary, as `host:port` or a URL with a password. Of the `url`, host and port then do not
    /// matter.
    #[serde(default = "Server::default_sentinels")]
    pub sentinels: Spanned<Vec<Secret>>,
    /// The name that the sentinels have for the primary.
    pub service: Option<String>,
}

impl Server {
    fn default_sentinels() -> Spanned<Vec<Secret>> {
        Spanned::new(0..0, Vec::new())
    }

    /// Where the nodes are found from.
    ///
    /// # Errors
    /// The value that is wrong.
    fn seed(&self) -> Result<Seed, WrongAt> {
        let url = self.url.as_ref().read().map_err(|error| wrong(&self.url, format!("url: {error}")))?;
        let seed = Seed::new(&url).map_err(|_| wrong(&self.url, "url: not the URL of a Redis or Valkey server"))?;
        let sentinels = self.sentinels.as_ref().iter().map(Secret::read).collect::<Result<Vec<_>, _>>();
        let sentinels = sentinels.map_err(|error| wrong(&self.sentinels, format!("sentinels: {error}")))?;
        match &self.service {
            None if sentinels.is_empty() => Ok(seed),
            None => Err(wrong(&self.sentinels, "sentinels: without the name of a `service`")),
            Some(_) if sentinels.is_empty() => Err(wrong(&self.url, "service: without `sentinels`")),
            Some(service) => {
                let told = || wrong(&self.sentinels, "sentinels: not host:port, or the URL of a sentinel");
                seed.watched_by(&sentinels, service).map_err(|_| told())
            }
        }
    }
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
    let text = std::fs::read_to_string(file).map_err(|error| Wrong {
        file: file.to_owned(),
        line: None,
        message: error.to_string(),
    })?;
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

/// What types alone do not tell.
fn check(config: &Config) -> Result<(), WrongAt> {
    config.server.seed()?;
    if let Some(part) = &config.console {
        console::check(part, config.http.listen)?;
    }
    metrics::check(&config.metrics)?;
    ship::check(&config.ship)?;
    config.sync.as_ref().map_or(Ok(()), sync::check)
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
            ("[console]\nenable = true\n", 4, "unknown field `enable`"),
            ("[console]\noperator_token = \"short\"\n", 4, "operator_token: shorter than 16"),
            ("[console.proxy]\nheader = \"X-Groups\"\nfrom = []\n", 5, "from: none"),
            ("[http]\nlisten = \"0.0.0.0:1\"\n[console]\nenabled = true\n", 6, "only with viewer_token"),
            ("[[ship]]\nqueues = []\nto = \"out\"\n", 4, "queues: none"),
            ("[[ship]]\nqueues = [\"a\", \"a\"]\nto = \"out\"\n", 4, "queues: \"a\" is shipped twice"),
            ("[[ship]]\nqueues = [\"a\"]\nto = \"out\"\nlease = \"1 s\"\n", 6, "not a duration"),
            ("[[ship]]\nqueues = [\"a\"]\nto = \"out\"\nlease = \"1ms\"\n", 6, "lease: not between"),
            ("[[ship]]\nqueues = [\"a\"]\nto = \"out\"\nrecords = 0\n", 6, "records: not between"),
            ("[[ship]]\nqueues = [\"a\"]\nto = \"out\"\nbytes = 0\n", 6, "bytes: not between"),
            ("[[ship]]\nqueues = [\"a\"]\nto = \"out\"\nlinger = \"2h\"\n", 6, "linger: not up to"),
            ("[[ship]]\nqueues = [\"a\"]\nto = \"out\"\nthreads = 0\n", 6, "threads: not between"),
            ("[[ship]]\nqueues = [\"a\"]\nto = \"out\"\nkey = \"{day}\"\n", 6, "key: "),
            ("[[ship]]\nqueues = [\"a\"]\nto = \"postgres://host/db\"\n", 5, "to: a database needs a `table`"),
            ("[[ship]]\nqueues = [\"a\"]\nto = \"out\"\ntable = \"logs\"\n", 6, "table: only"),
            ("[[ship]]\nqueues = [\"a\"]\nto = \"out\"\ncolumns = []\n", 6, "columns: only"),
            ("[[ship]]\nqueues = [\"a\"]\nto = \"out\"\nformat = \"csv\"\n", 6, "unknown variant `csv`"),
            ("[sync]\nto = \"mysql://host\"\n", 4, "to: not postgres://"),
            ("[sync]\nto = \"sqlite:spend.sqlite\"\npause = \"1ms\"\n", 5, "pause: not between"),
        ] {
            let told = problem(&format!("{server}{rest}"));
            assert!(told.starts_with(&format!("gw.toml:{line}: ")) && told.contains(message), "{rest}: {told}");
        }
        assert!(problem("[server]\nurl = \"http://host\"\n").starts_with("gw.toml:2: url: "));
        let sentinels = problem("[server]\nurl = \"redis://host\"\nsentinels = [\"host:26379\"]\n");
        assert!(sentinels.starts_with("gw.toml:3: sentinels: without"), "{sentinels}");
        let sentinels = problem("[server]\nurl = \"redis://host\"\nservice = \"main\"\n");
        assert!(sentinels.starts_with("gw.toml:2: service: without"), "{sentinels}");
        for secret in ["{ env = \"NO_SUCH_VARIABLE\" }", "{ file = \"/no/such/file\" }"] {
            let told = problem(&format!("[server]\nurl = {secret}\n"));
            assert!(
                told.starts_with("gw.toml:2: url: ")
                    && told.contains("NO_SUCH_VARIABLE") | told.contains("/no/such/file"),
                "{told}"
            );
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
